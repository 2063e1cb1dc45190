"""Figures of a study, each a matplotlib Figure; an arm has the same colour in every figure of every report."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.study.tasks import Task

__all__ = ["answer_figure", "arm_colour", "curves_figure", "diagnostic_figures", "difference_figure", "subgroup_figure"]

_FIXED = {
    "image": "#4c4c4c", "covariates": "#9e9e9e", "stacked": "#8c6d31", "concat": "#e69f00", "concat-mlp": "#b35900",
    "hybrid-first": "#0072b2", "hybrid-last": "#56b4e9", "hybrid-all": "#003f7f", "film-first": "#e377c2",
    "film-last": "#cc79a7", "daft-last": "#009e73", "scale-last": "#d55e00", "attention-last": "#7f3c8d",
}  # fmt: skip


def arm_colour(arm: str) -> str:
    """The colour of an arm by its name; of one that has none of its own, a colour that its name decides."""
    if arm in _FIXED:
        return _FIXED[arm]
    number = int(hashlib.sha256(arm.encode()).hexdigest()[:8], 16)
    red, green, blue = colorsys.hls_to_rgb((number % 360) / 360, 0.42 + (number // 360 % 20) / 100, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    return Figure(figsize=(width, height), layout="constrained")


def answer_figure(results: pd.DataFrame, metric: str, reference: str) -> Any:
    """Every arm's mean over folds with its interval; the dotted line is the reference."""
    rows = results[results["metric"] == metric].iloc[::-1].reset_index(drop=True)
    figure = _figure(7, 0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    for at, row in rows.iterrows():
        colour = arm_colour(row["arm"])
        if np.isfinite(row["low"]):
            axes.plot([row["low"], row["high"]], [at, at], color=colour, lw=2)
        axes.plot(row["mean"], at, "o", color=colour, ms=8)
        axes.annotate(
            f"{row['mean']:.3g}", (row["mean"], at), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    base = rows.loc[rows["arm"] == reference, "mean"]
    if len(base):
        axes.axvline(float(base.iloc[0]), color="0.5", ls=":", lw=1)
    axes.set_yticks(range(len(rows)), rows["arm"])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    axes.set_xlabel(f"{metric}: mean over folds, 95 % interval (Nadeau and Bengio)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def difference_figure(comparisons: pd.DataFrame, metric: str, reference: str) -> Any:
    """Each arm minus the reference by both tests; the bar below is what the study could have told apart."""
    rows = comparisons[comparisons["metric"] == metric]
    arms = list(dict.fromkeys(rows["arm"]))[::-1]
    figure = _figure(7, 1.1 + 0.55 * len(arms))
    axes = figure.subplots()
    for at, arm in enumerate(arms):
        for shift, (_, row) in zip((0.12, -0.12), rows[rows["arm"] == arm].iterrows(), strict=False):
            filled = bool(row["quote"])
            axes.plot(
                [row["low"], row["high"]], [at + shift] * 2, color=arm_colour(arm), lw=2, alpha=1 if filled else 0.45
            )
            axes.plot(row["difference"], at + shift, "o" if "t-test" in row["test"] else "s", color=arm_colour(arm),
                      mfc=arm_colour(arm) if filled else "white")  # fmt: skip
            if filled and np.isfinite(row["smallest_difference"]):
                s = row["smallest_difference"]
                axes.plot([-s, s], [at - 0.33] * 2, color="0.75", lw=4, solid_capstyle="butt")
    axes.axvline(0, color="0.5", lw=1)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(-0.5, len(arms) - 0.5)
    axes.set_xlabel(f"{metric}: arm minus {reference}. Circle: over folds; square: by subject; filled: the one to "
                    f"quote.\n"
                    "Grey: differences inside could not have been told apart (80 % power)", fontsize=8)  # fmt: skip
    axes.grid(axis="x", alpha=0.3)
    return figure


def subgroup_figure(subgroups: pd.DataFrame, metric: str) -> Any:
    """The metric of every arm in every group."""
    rows = subgroups[subgroups["value"].notna()]
    groups = list(dict.fromkeys(zip(rows["covariate"], rows["group"], strict=True)))[::-1]
    arms = list(dict.fromkeys(rows["arm"]))
    figure = _figure(7, 1.2 + 0.3 * len(groups) * max(1, len(arms) / 4))
    axes = figure.subplots()
    for number, arm in enumerate(arms):
        own = rows[rows["arm"] == arm].set_index(["covariate", "group"])
        shift = 0.6 * (number / max(len(arms) - 1, 1) - 0.5)
        for at, key in enumerate(groups):
            if key in own.index:
                row = own.loc[key]
                axes.plot([row["low"], row["high"]], [at - shift] * 2, color=arm_colour(arm), lw=1)
                axes.plot(row["value"], at - shift, "o", ms=4, color=arm_colour(arm), label=arm if at == 0 else None)
    sizes = rows.drop_duplicates(["covariate", "group"]).set_index(["covariate", "group"])["n"]
    names = [f"{c}: {g} (n = {sizes[c, g]})" if c != "all" else f"all (n = {sizes[c, g]})" for c, g in groups]
    axes.set_yticks(range(len(groups)), names, fontsize=8)
    axes.set_xlabel(f"{metric}, 95 % interval by subject")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(*_unique(axes), fontsize=7, loc="best")
    return figure


def _unique(axes: Any) -> tuple[list[Any], list[str]]:
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def curves_figure(curves: dict[str, list[pd.DataFrame]], metric: str, fine_tuning: int | None = None) -> Any:
    """Training and validation loss, and the metric on validation, of every run (thin) by arm.

    A dashed line marks the epoch at which frozen parts begin to be trained.
    """
    columns = [
        c for c in ("train/loss", "val/loss", f"val/{metric}") if any(c in f for fs in curves.values() for f in fs)
    ]
    figure = _figure(3.6 * len(columns), 3)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        for arm, frames in curves.items():
            for number, frame in enumerate(frames):
                shown = frame[["epoch", column]].dropna() if column in frame else frame.iloc[:0].assign(epoch=0)
                if len(shown):
                    marker = "o" if len(shown) == 1 else None
                    axes.plot(shown["epoch"], shown[column], color=arm_colour(arm), lw=0.9, alpha=0.8, marker=marker,
                              label=arm if number == 0 else None)  # fmt: skip
        axes.set(title=column, xlabel="epoch")
        axes.grid(alpha=0.3)
        if fine_tuning is not None:
            axes.axvline(fine_tuning - 0.5, color="0.4", ls="--", lw=1, label="fine-tuning begins")
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(fontsize=7)
    return figure


def diagnostic_figures(predictions: pd.DataFrame, task: Task, arms: Sequence[str]) -> dict[str, Any]:
    """What belongs to the task: ROC, precision-recall, calibration and confusion, or predicted against true."""
    true = predictions[predictions["control"] == "true"]
    each = {arm: true[true["arm"] == arm] for arm in arms}
    if task.NAME == "binary":
        return {"roc": _roc(each), "calibration": _calibration(each), "confusion": _confusion(each, task)}
    if task.NAME == "multiclass":
        return {"confusion": _confusion(each, task)}
    if task.NAME == "regression":
        return {"agreement": _agreement(each, task)}
    if task.NAME == "survival":
        return {"survival": _survival(each)}
    return {}


def _roc(each: dict[str, pd.DataFrame]) -> Any:
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure = _figure(8, 3.8)
    left, right = figure.subplots(1, 2)
    at = np.linspace(0, 1, 201)
    for arm, rows in each.items():
        curves = []
        for _, own in rows.groupby("fold"):  # a curve ranks scores, which one network gave
            if own["target"].nunique() == 2:
                wrong, found, _ = roc_curve(own["target"], own["probability"])
                precision, recall, _ = precision_recall_curve(own["target"], own["probability"])
                curves.append((np.interp(at, wrong, found), np.interp(at, recall[::-1], precision[::-1])))
        if curves:
            sensitivity, precision = np.mean(curves, axis=0)
            left.plot([0, *at], [0, *sensitivity], color=arm_colour(arm), label=arm)
            right.plot(at, precision, color=arm_colour(arm))
    left.plot([0, 1], [0, 1], color="0.7", ls=":")
    share = next(iter(each.values()))["target"].mean()
    right.axhline(share, color="0.7", ls=":")
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC, mean over folds")
    right.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.02))
    left.legend(fontsize=8)
    return figure


def _calibration(each: dict[str, pd.DataFrame]) -> Any:
    from fusionconv.evaluation import expected_calibration_error, reliability_table

    figure = _figure(4.6, 4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", ls=":")
    for arm, rows in each.items():
        table = reliability_table(rows["target"].to_numpy(), rows["probability"].to_numpy(), bins=10)
        error = expected_calibration_error(rows["target"].to_numpy(), rows["probability"].to_numpy())
        axes.plot(
            table["probability"], table["observed"], "o-", ms=4, color=arm_colour(arm), label=f"{arm} (ECE {error:.3f})"
        )
    axes.set(xlabel="predicted probability", ylabel="share of positives", title="calibration, ten bins")
    axes.legend(fontsize=8)
    return figure


def _confusion(each: dict[str, pd.DataFrame], task: Task) -> Any:
    names = list(getattr(task, "names", ["0", "1"]))
    figure = _figure(min(2.6 * len(each), 13), 2.9)
    panels = np.atleast_1d(figure.subplots(1, len(each)))
    for axes, (arm, rows) in zip(panels, each.items(), strict=True):
        target, said = (
            (np.array(names)[rows[c].to_numpy(int)] if task.NAME == "binary" else rows[c].astype(str).to_numpy())
            for c in ("target", "decision")
        )
        counts = np.array([[int(((target == t) & (said == p)).sum()) for p in names] for t in names])
        axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for i, line in enumerate(counts):
            for j, count in enumerate(line):
                dark = count > 0.6 * line.sum()
                axes.text(j, i, f"{count}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axes.set_xticks(range(len(names)), names, fontsize=7, rotation=45 if len(names) > 2 else 0)
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names), fontsize=7)
        axes.set_title(arm, fontsize=9)
        axes.set_xlabel("decision", fontsize=8)
    panels[0].set_ylabel("true", fontsize=8)
    return figure


def _agreement(each: dict[str, pd.DataFrame], task: Task) -> Any:
    figure = _figure(min(2.9 * len(each), 14), 5.2)
    panels = figure.subplots(2, len(each), squeeze=False, sharey="row")
    low = min(min(r["target"].min(), r["prediction"].min()) for r in each.values())
    high = max(max(r["target"].max(), r["prediction"].max()) for r in each.values())
    for at, (arm, rows) in enumerate(each.items()):
        top, below = panels[:, at]
        error = rows["prediction"] - rows["target"]
        top.plot([low, high], [low, high], color="0.7", ls=":")
        top.plot(rows["target"], rows["prediction"], ".", ms=3, color=arm_colour(arm))
        top.set_title(arm, fontsize=9)
        top.set_xlabel(f"true {task.columns[0]}", fontsize=8)
        below.plot((rows["prediction"] + rows["target"]) / 2, error, ".", ms=3, color=arm_colour(arm))
        for line, style in (
            (error.mean(), "-"),
            (error.mean() - 1.96 * error.std(), "--"),
            (error.mean() + 1.96 * error.std(), "--"),
        ):
            below.axhline(line, color="0.4", ls=style, lw=0.8)
        below.set_xlabel("mean of true and predicted", fontsize=8)
    panels[0, 0].set_ylabel("predicted", fontsize=8)
    panels[1, 0].set_ylabel("predicted - true\n(lines: bias, limits of agreement)", fontsize=8)
    return figure


def _survival(each: dict[str, pd.DataFrame]) -> Any:
    figure = _figure(min(3.2 * len(each), 14), 3)
    panels = np.atleast_1d(figure.subplots(1, len(each), sharey=True))
    for axes, (arm, rows) in zip(panels, each.items(), strict=True):
        risk = rows.groupby("fold")["log_hazard"].rank(method="first", pct=True)  # among those of the same network
        third = pd.cut(risk, [0, 1 / 3, 2 / 3, 1], labels=["low", "middle", "high"])
        for name, alpha in (("low", 0.35), ("middle", 0.65), ("high", 1.0)):
            times, share = kaplan_meier(rows["time"][third == name].to_numpy(), rows["event"][third == name].to_numpy())
            axes.step(times, share, where="post", color=arm_colour(arm), alpha=alpha, label=f"{name} risk")
        axes.set(title=arm, xlabel="time", ylim=(0, 1.02))
        axes.legend(fontsize=7)
    panels[0].set_ylabel("without the event (Kaplan-Meier)")
    return figure


def kaplan_meier(time: Any, event: Any) -> tuple[Any, Any]:
    """Times of events and the product-limit estimate after each, from (0, 1) on (Kaplan & Meier 1958).

    >>> kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([1, 0, 1, 0]))[1].tolist()
    [1.0, 0.75, 0.375]
    """
    times, share, left = [0.0], [1.0], 1.0
    for t in np.unique(time[event == 1]):
        left *= 1 - ((time == t) & (event == 1)).sum() / (time >= t).sum()
        times.append(float(t))
        share.append(float(left))
    return np.array(times), np.array(share)
