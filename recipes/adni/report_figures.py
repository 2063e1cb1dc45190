"""Figures that every task has: arms as points per fold, lines between arms on one fold, controls, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.adni.tasks import Task
from recipes.common.figures import COLOURS, FAINT, INK, MARKERS, STYLE, blank

CHANCE = {"auc": 0.5, "c_index": 0.5}  # what a constant answer reaches


def colour_of(arms: Sequence[str]) -> dict[str, str]:
    """A colour for each arm."""
    return {arm: COLOURS[i % len(COLOURS)] for i, arm in enumerate(arms)}


def marker_of(arms: Sequence[str]) -> dict[str, str]:
    """A marker for each arm, for those who print without colour."""
    return {arm: MARKERS[i % len(MARKERS)] for i, arm in enumerate(arms)}


def name_of(metric: str, task: Task) -> str:
    """A metric as an axis calls it, with its unit where it has one, and which way is better."""
    unit = f" (in the unit of {task.target})" if task.target else ""
    several = len(task.queries) > 2
    return {
        "auc": "AUC (mean of one class against the rest)" if several else "AUC",
        "balanced_accuracy": "balanced accuracy",
        "mae": f"mean absolute error{unit}; less is better",
        "r2": "R²",
        "pearson": "Pearson's r",
        "c_index": "concordance index (Harrell)",
    }.get(metric, metric)


def chance(metric: str, task: Task) -> float | None:
    """What a constant answer reaches, where that is known without the data."""
    return 1 / len(task.queries) if metric == "balanced_accuracy" else CHANCE.get(metric)


def true_rows(results: pd.DataFrame) -> pd.DataFrame:
    """Results with the true covariates."""
    return results[results["control"] == "true"]


@mpl.rc_context(STYLE)
def draw_arms(results: pd.DataFrame, summary: pd.DataFrame, metric: str, task: Task, arms: Sequence[str]) -> Figure:
    """Each arm's value on every fold as a point, and their mean with its interval (``summary.per_arm``)."""
    figure = blank(6.2, 0.75 + 0.42 * len(arms))
    axes: Axes = figure.subplots()
    colours, random = colour_of(arms), np.random.default_rng(0)
    means = summary.set_index("arm")
    for row, arm in enumerate(arms):
        values = true_rows(results).query("arm == @arm")[metric].dropna()
        height = row + 0.24 + random.uniform(-0.08, 0.08, len(values))
        axes.plot(values, height, ".", color=colours[arm], alpha=0.5, markersize=7, markeredgewidth=0)
        mean, low, high = (means.loc[arm, f"{metric}{end}"] for end in ("", " low", " high"))
        if np.isfinite(low):
            axes.plot((low, high), (row, row), color=colours[arm], linewidth=2.5, solid_capstyle="butt")
        axes.plot(mean, row, "D", color=colours[arm], markeredgecolor="white", markersize=7)
        text = "not defined" if np.isnan(mean) else f"{mean:.3f}  (n = {len(values)} folds)"
        axes.annotate(text, (1.015, row), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                      annotation_clip=False)  # fmt: skip
    _rows(axes, arms)
    if (constant := chance(metric, task)) is not None:  # from 0 to 1; the interval of a few folds may go beyond
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -0.02), min(high, 1.02))
    _constant(axes, constant)
    axes.set_xlabel(name_of(metric, task))
    return figure


@mpl.rc_context(STYLE)
def draw_paired(
    results: pd.DataFrame, against: pd.DataFrame, metric: str, task: Task, arms: Sequence[str], reference: str
) -> Figure:
    """Left: a line for each fold, from arm to arm. Right: each arm less the reference, per fold, with the interval."""
    figure = blank(9.2, 0.9 + max(2.3, 0.42 * len(arms)))
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    wide = true_rows(results).pivot(index="fold", columns="arm", values=metric).reindex(columns=list(arms))
    colours = colour_of(arms)
    for _, fold in wide.iterrows():
        left.plot(range(len(arms)), fold, color="#9aa3ad", linewidth=0.8, alpha=0.7, zorder=1)
    for column, arm in enumerate(arms):
        left.plot([column] * len(wide), wide[arm], ".", color=colours[arm], markersize=8, alpha=0.8)
        left.plot(column, wide[arm].mean(), "_", color=colours[arm], markersize=22, markeredgewidth=2.5)
    turned = {"rotation": 25, "ha": "right"} if len(arms) > 3 else {}
    left.set_xticks(range(len(arms)), arms, **turned)
    left.set(ylabel=name_of(metric, task).replace("; ", "\n"), title=f"one line for each of {len(wide)} folds")
    left.grid(axis="y", color=FAINT, linewidth=0.7)
    others = [arm for arm in arms if arm != reference]
    found = against[against["metric"] == metric].set_index("arm") if len(against) else against
    right.axvline(0, color=INK, linewidth=0.8)
    for row, arm in enumerate(others):
        difference = (wide[arm] - wide[reference]).dropna() if reference in wide else pd.Series(dtype=float)
        right.plot(difference, [row + 0.22] * len(difference), ".", color=colours[arm], alpha=0.5, markersize=7)
        note = "no fold in common"
        if len(difference):
            each = found.loc[arm]
            if np.isfinite(each["low"]):
                right.plot((each["low"], each["high"]), (row, row), color=colours[arm], linewidth=2.5)
            right.plot(each["difference"], row, "D", color=colours[arm], markeredgecolor="white", markersize=7)
            p = each["p"]
            tested = "one fold: no test" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            note = f"{each['difference']:+.3f}, {tested}"
        right.annotate(note, (1.015, row), xycoords=("axes fraction", "data"), va="center", fontsize=8,
                       annotation_clip=False)  # fmt: skip
    _rows(right, others)
    right.set(title=f"less {reference}, same fold", xlabel=f"difference in {name_of(metric, task).split(' (')[0]}")
    return figure


@mpl.rc_context(STYLE)
def draw_controls(results: pd.DataFrame, metric: str, task: Task, arms: Sequence[str]) -> Figure | None:
    """The same networks and images with the true covariates, other subjects', and the training mean."""
    kinds = results["control"].str.replace(r"-\d+$", "", regex=True)
    means = results.assign(kind=kinds).groupby(["arm", "kind", "fold"])[metric].mean().unstack("kind")
    order = [kind for kind in ("true", "permuted", "constant") if kind in means]
    shown = [arm for arm in arms if means.loc[arm].notna().sum().reindex(order).gt(0).sum() > 1]
    if len(order) < 2 or not shown:
        return None
    figure = blank(0.6 + 2.1 * len(shown), 2.6)
    colours = colour_of(arms)
    for axes, arm in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False).flat, shown, strict=True):
        folds = means.loc[arm][order]
        for _, fold in folds.iterrows():
            axes.plot(range(len(order)), fold, ".-", color=colours[arm], linewidth=0.7, alpha=0.4)
        axes.plot(range(len(order)), folds.mean(), "_", color=colours[arm], markersize=24, markeredgewidth=2.5)
        axes.set_xticks(range(len(order)), order)
        axes.set(title=f"{arm} (n = {len(folds)})", xlim=(-0.45, len(order) - 0.55))
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        if (constant := chance(metric, task)) is not None:
            axes.axhline(constant, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    figure.axes[0].set_ylabel(name_of(metric, task).replace("; ", "\n"))
    return figure


@mpl.rc_context(STYLE)
def draw_learning(curves: Mapping[str, Mapping[str, pd.DataFrame]], column: str, label: str) -> Figure | None:
    """One column of metrics.csv against the epoch: a panel for each arm, a thin line for each fold, their mean bold.

    Args:
        curves: arm -> fold -> metrics.csv.
        column: such as ``val/auc``; None comes back where no fold has it.
        label: of the axis.
    """
    kept = {
        arm: {fold: table[["epoch", column]].dropna() for fold, table in folds.items() if column in table}
        for arm, folds in curves.items()
    }
    kept = {arm: {f: t for f, t in folds.items() if len(t)} for arm, folds in kept.items()}
    kept = {arm: folds for arm, folds in kept.items() if folds}
    if not kept:
        return None
    colours = colour_of(list(curves))
    figure, panels = panels_of(list(kept), 2.6, 2.1)
    for axes, (arm, folds) in zip(panels, kept.items(), strict=True):
        lines = [table.groupby("epoch")[column].mean() for table in folds.values()]
        for line in lines:
            axes.plot(line.index + 1, line, color=colours[arm], linewidth=0.7, alpha=0.4)
        mean = pd.concat(lines, axis=1).mean(axis=1)
        axes.plot(mean.index + 1, mean, color=colours[arm], linewidth=2.2, marker="o" if len(mean) < 8 else None)
        axes.set_title(f"{arm} (n = {len(lines)} folds)")
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel(label, fontsize=9)
    return figure


def panels_of(names: Sequence[str], width: float, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each name, at most ``columns`` beside each other, on the same axes."""
    columns = 2 if len(names) == 4 else min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = blank(0.5 + width * columns, 0.5 + height * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for above in panels[max(0, len(names) - columns) : len(names)]:
        above.tick_params(labelbottom=True)
    return figure, panels[: len(names)]


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set(ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)


def _constant(axes: Axes, value: float | None) -> None:
    if value is not None:
        axes.axvline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate("constant answer", (value, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                      fontsize=7.5)  # fmt: skip
