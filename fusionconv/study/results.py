"""Tables of a study from its runs: arms, differences, controls, subgroups. All tests are fusionconv.evaluation's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import EvaluationError, StudyError
from fusionconv.evaluation import (
    bootstrap_interval,
    corrected_resampled_ttest,
    fold_interval,
    holm,
    paired_bootstrap,
    smallest_difference,
    smallest_difference_by_subject,
    subgroup_table,
)
from fusionconv.study.arms import parse_arm
from fusionconv.study.files import read_json, write_csv
from fusionconv.study.folder import read_study
from fusionconv.study.sequences import SUBSET
from fusionconv.study.settings import Settings, make_settings
from fusionconv.study.tasks import Metric, Task
from fusionconv.study.written_tables import read_predictions, read_rows_in_use, read_texts

__all__ = ["MANY_FOLDS", "QUOTE", "Results", "read_runs", "summarise"]

#: from so many folds (of all repeats) on, the test over folds is the one to quote; below, the bootstrap by subject
MANY_FOLDS = 10
#: whether there are so many folds -> the test's name in comparisons.csv
QUOTE = {True: "corrected t-test", False: "bootstrap by subject"}


@dataclass(frozen=True)
class Results:
    """The tables of a comparison."""

    arms: pd.DataFrame
    comparisons: pd.DataFrame
    controls: pd.DataFrame
    subgroups: pd.DataFrame
    predictions: pd.DataFrame
    runs: pd.DataFrame


def summarise(out: Path, task: Task, settings: Settings) -> Results:
    """Read the runs and write predictions.csv, results.csv, comparisons.csv, controls.csv and subgroups.csv.

    Several seeds of an arm on a fold are averaged (their probabilities, numbers or log hazards) before anything is
    measured: an arm is then the mean of its networks.

    Raises:
        StudyError: no run is finished.
    """
    runs, predictions = read_runs(out, task)
    metric = task.metric(settings.metric)
    order = list(dict.fromkeys(runs["arm"]))
    reference = settings.reference or order[0]
    if reference not in order:
        raise StudyError(f"reference: expected one of the finished arms {', '.join(order)}, got {reference!r}")
    folds = measured(predictions, task)
    sizes = float(runs["n_train"].mean()), float(runs["n_test"].mean())
    arms = per_arm(predictions, folds, task, metric, settings, sizes)
    comparisons = compared(predictions, folds, task, metric, settings, reference, sizes)
    controls = controlled(predictions, folds, task, metric, settings, sizes)
    rows = read_rows_in_use(out)
    subgroups = by_group(predictions, rows, task, metric, settings)
    for name, table in {"results": arms, "comparisons": comparisons, "controls": controls, "subgroups": subgroups,
                        "predictions": predictions, "runs": runs, **by_subject(predictions, task)}.items():  # fmt: skip
        write_csv(out / f"{name}.csv", table)
    return Results(arms, comparisons, controls, subgroups, predictions, runs)


def read_runs(out: Path, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per finished run, and the test rows of all arms, those of several seeds averaged."""
    subject = read_texts(out / "rows.csv").set_index("id")["subject"]
    facts, frames = [], []
    saved = read_study(out)
    order = [parse_arm(arm).name for arm in saved["arms"]]  # the arms as they were asked for, one after another
    folds = pd.read_csv(out / "folds.csv", nrows=0).columns
    seeds = make_settings(saved["settings"]).seeds
    for path in sorted((out / "runs").glob("*/*/result.json")):
        result = read_json(path)
        assert result is not None
        if result["arm"] not in order or result["fold"] not in folds or result["number"] >= seeds:
            continue  # of an earlier call with more arms, repeats or seeds
        facts.append({
            "arm": result["arm"], "fold": result["fold"], "repeat": _repeat(result["fold"]), "number": result["number"],
            "seed": result["seed"], "n_train": result["counts"]["train"], "n_test": result["counts"]["test"],
            "parameters": result["parameters"], "covariate_parameters": result["covariate_parameters"],
            "epochs": result["epochs"], "best_epoch": result["best_epoch"], "threshold": result["threshold"],
            "seconds": result["seconds"], "hardware": result["hardware"], "chosen": str(result["chosen"] or ""),
            "trials": len(result["tuned"]) or 1, "unknown": sum(result["unknown"].values()),
        })  # fmt: skip
        frame = read_predictions(path.parent / "predictions.csv")
        frame = frame[frame["part"] == "test"].drop(columns="part")
        frames.append(frame.assign(arm=result["arm"], fold=result["fold"], threshold=result["threshold"]))
    if not facts:
        raise StudyError(
            f"{out}: expected a finished run (runs/ARM/FOLD/result.json), got none; run fusionconv compare"
        )
    runs = pd.DataFrame(facts)
    runs = runs.sort_values(["arm", "fold", "number"], key=lambda c: c.map(order.index) if c.name == "arm" else c)
    every = pd.concat(frames, ignore_index=True)
    scores = task.score_columns(every)
    keys = ["arm", "fold", "control", "id"]
    counts = every.groupby(keys, sort=False).size().rename("seeds")
    kept = every.drop_duplicates(keys).set_index(keys)
    means = every.groupby(keys, sort=False)[[*scores, "threshold"]].mean()
    kept[[*scores, "threshold"]] = means.loc[kept.index]
    frame = kept.join(counts).reset_index()
    frame = pd.concat([task.decide(part, float(part["threshold"].iloc[0])) for _, part in
                       frame.groupby(["arm", "fold"], sort=False)], ignore_index=True)  # fmt: skip
    frame = frame.assign(repeat=frame["fold"].map(_repeat), subject=frame["id"].map(subject))
    if frame["subject"].isna().any():
        raise StudyError(
            f"{out}: expected every predicted id in rows.csv, got {frame.loc[frame['subject'].isna(), 'id'].iloc[0]!r}"
        )
    first = ["arm", "fold", "repeat", "control", "id", "subject"]
    frame = frame[[*first, *(c for c in frame.columns if c not in first)]]
    places = frame["arm"].map(order.index)
    frame = frame.assign(_at=places).sort_values(["_at", "fold", "control", "id"], kind="stable").drop(columns="_at")
    return runs.reset_index(drop=True), frame.reset_index(drop=True)


def _repeat(fold: str) -> int:
    return int(fold.split("-")[0].removeprefix("repeat")) if fold.startswith("repeat") else 0


def measured(predictions: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Every metric of each arm, fold and control."""
    rows = [
        {"arm": arm, "fold": fold, "control": control, **task.measure(part)}
        for (arm, fold, control), part in predictions.groupby(["arm", "fold", "control"], sort=False)
    ]
    return pd.DataFrame(rows)


def per_arm(
    predictions: pd.DataFrame, folds: pd.DataFrame, task: Task, main: Metric, settings: Settings,
    sizes: tuple[float, float],
) -> pd.DataFrame:  # fmt: skip
    """Each arm and metric: the mean over folds with its interval, and the figure of all out-of-fold rows.

    ``pooled`` is computed from all rows at once where a metric allows it, see `Metric.out_of_fold`.
    """
    rows = []
    true = folds[folds["control"] == "true"]
    for arm, own in true.groupby("arm", sort=False):
        given = predictions[(predictions["arm"] == arm) & (predictions["control"] == "true")]
        for metric in task.metrics:
            values = own[metric.name].dropna()
            row: dict[str, Any] = {"arm": arm, "metric": metric.name, "mean": values.mean(), "low": math.nan,
                                   "high": math.nan, "n": len(values)}  # fmt: skip
            if len(values):
                found = fold_interval(values.to_numpy(), *sizes, bounds=_bounds(metric))
                row |= {"low": found.low, "high": found.high}
            figure = _pooled(given, metric)
            row["pooled"] = figure(np.arange(len(_subjects(given))))
            row |= {"pooled_low": math.nan, "pooled_high": math.nan}
            if metric.name == main.name and math.isfinite(row["pooled"]):
                row |= _interval(given, figure, settings)
            rows.append(row)
    return pd.DataFrame(rows)


def _interval(given: pd.DataFrame, figure: Callable[[Any], float], settings: Settings) -> dict[str, float]:
    """The pooled figure's bootstrap interval by subject."""
    ids, groups = _subjects(given).index, _subjects(given).to_numpy()
    at = np.arange(len(ids))
    try:
        found = bootstrap_interval(lambda target, prediction: figure(prediction), at, at, groups=groups,
                                   n_resamples=settings.resamples, seed=settings.seed)  # fmt: skip
    except EvaluationError:
        return {}
    return {"pooled_low": found.low, "pooled_high": found.high}


def _subjects(given: pd.DataFrame) -> pd.Series:
    """id -> subject, of one arm; a row per id."""
    return given.drop_duplicates("id").set_index("id")["subject"].sort_index()


def _pooled(given: pd.DataFrame, metric: Metric) -> Callable[[Any], float]:
    """Row numbers (of ids in sorted order) -> the metric of these ids' out-of-fold rows, the mean over repeats."""
    ids = _subjects(given).index
    repeats = [part.set_index("id").reindex(ids) for _, part in given.groupby("repeat")]
    there = [part["subject"].notna().to_numpy() for part in repeats]  # all, but for a repeat that is not finished

    def figure(rows: Any) -> float:
        rows = np.asarray(rows, dtype=int)
        chosen = [part.iloc[rows[has[rows]]] for part, has in zip(repeats, there, strict=True) if has[rows].any()]
        return float(np.mean([metric.out_of_fold(part) for part in chosen]))

    return figure


def compared(
    predictions: pd.DataFrame, folds: pd.DataFrame, task: Task, main: Metric, settings: Settings, reference: str,
    sizes: tuple[float, float],
) -> pd.DataFrame:  # fmt: skip
    """Each arm minus the reference, by both tests, with Holm's correction over the arms within each test and metric.

    The test over folds (Nadeau & Bengio 2003) asks whether the way to train is better; the bootstrap by subject whether
    these very networks are, on subjects such as these. ``quote`` marks the one to quote here.
    """
    true = folds[folds["control"] == "true"]
    base = true[true["arm"] == reference].set_index("fold")
    rows: list[dict[str, Any]] = []
    for arm, own in true.groupby("arm", sort=False):
        if arm == reference:
            continue
        both = own.set_index("fold").reindex(base.index)
        for metric in task.metrics:
            difference = (both[metric.name] - base[metric.name]).dropna()
            rows.append(_over_folds(str(arm), reference, metric, difference, sizes))
        rows.append(_over_subjects(predictions, str(arm), reference, main, settings))
    table = pd.DataFrame(rows, columns=["arm", "reference", "metric", "difference", "low", "high", "p", "test",
                                        "smallest_difference", "n", "note"])  # fmt: skip
    corrected = table.groupby(["test", "metric"])["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    table.insert(7, "p_holm", corrected)
    return table.assign(quote=table["test"] == QUOTE[len(base) >= MANY_FOLDS])


def _over_folds(
    arm: str, reference: str, metric: Metric, difference: pd.Series, sizes: tuple[float, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {"arm": arm, "reference": reference, "metric": metric.name, "test": QUOTE[True]}
    row |= {"difference": difference.mean() if len(difference) else math.nan, "n": len(difference)}
    try:
        found = corrected_resampled_ttest(difference.to_numpy(), *sizes)
        row |= {"low": found.low, "high": found.high, "p": found.p_value}
        row["smallest_difference"] = smallest_difference(difference.to_numpy(), *sizes)
    except EvaluationError as error:
        row["note"] = str(error).split(";")[0]
    return row


def _over_subjects(
    predictions: pd.DataFrame, arm: str, reference: str, metric: Metric, settings: Settings
) -> dict[str, Any]:
    true = predictions[predictions["control"] == "true"]
    one, other = true[true["arm"] == arm], true[true["arm"] == reference]
    keys = ["fold", "id"]
    shared = one[keys].merge(other[keys])
    one, other = (part.merge(shared, on=keys) for part in (one, other))
    row: dict[str, Any] = {"arm": arm, "reference": reference, "metric": metric.name, "test": QUOTE[False]}
    figures = _pooled(one, metric), _pooled(other, metric)
    groups = _subjects(one).to_numpy()
    count = len(groups)
    row |= {"n": len(np.unique(groups)), "difference": figures[0](np.arange(count)) - figures[1](np.arange(count))}

    def figure(target: Any, prediction: Any) -> float:  # numbers below count are the one arm's, the others the other's
        rows = np.asarray(prediction)
        return figures[0](rows) if rows[0] < count else figures[1](rows - count)

    at = np.arange(count)
    try:
        found = paired_bootstrap(figure, at, at, at + count, groups=groups, n_resamples=settings.resamples,
                                 seed=settings.seed)  # fmt: skip
        row |= {"low": found.low, "high": found.high, "p": found.p_value}
        row["smallest_difference"] = smallest_difference_by_subject(found)
    except EvaluationError as error:
        row["note"] = str(error).split(";")[0]
    return row


def controlled(
    predictions: pd.DataFrame, folds: pd.DataFrame, task: Task, metric: Metric, settings: Settings,
    sizes: tuple[float, float],
) -> pd.DataFrame:  # fmt: skip
    """What is left of an arm with other subjects' covariates, or their training mean; same networks, same images."""
    rows = []
    kinds = folds.assign(kind=folds["control"].str.replace(r"-\d+$", "", regex=True))
    for arm, own in kinds.groupby("arm", sort=False):
        means = own.groupby(["kind", "fold"])[metric.name].mean().unstack(0)
        for kind in ("permuted", "constant"):
            if kind not in means:
                continue
            difference = (means[kind] - means["true"]).dropna()
            row: dict[str, Any] = {"arm": arm, "metric": metric.name, "control": kind, "n": len(difference)}
            row |= {"value": means[kind].mean(), "true": means["true"].mean(), "difference": difference.mean()}
            try:
                found = corrected_resampled_ttest(difference.to_numpy(), *sizes)
                row |= {"low": found.low, "high": found.high, "p": found.p_value}
            except EvaluationError as error:
                row["note"] = str(error).split(";")[0]
            rows.append(row)
    columns = ["arm", "metric", "control", "value", "true", "difference", "low", "high", "p", "n", "note"]
    return pd.DataFrame(rows, columns=columns)


def by_group(
    predictions: pd.DataFrame, rows: pd.DataFrame, task: Task, metric: Metric, settings: Settings
) -> pd.DataFrame:
    """The main metric of each arm in groups of every covariate (numbers are cut at their thirds)."""
    names = [
        n
        for n in dict.fromkeys([*(settings.subgroups or settings.covariates), SUBSET])
        if n in rows and rows[n].notna().any()
    ]
    edges = {}
    for name in list(names):
        column = rows[name]
        if pd.api.types.is_numeric_dtype(column) and column.nunique() > 10:
            cuts = sorted({float(f"{v:.3g}") for v in column.quantile([1 / 3, 2 / 3]).dropna()})
            edges[name] = [c for c in cuts if column.min() < c <= column.max()]
            if not edges[name]:
                names.remove(name)
        elif column.nunique() > 20:
            names.remove(name)
    frames = []
    true = predictions[(predictions["control"] == "true") & (predictions["repeat"] == predictions["repeat"].min())]
    for arm, given in true.groupby("arm", sort=False):
        if not names:
            break
        own = {n: f"covariate {n}" for n in names}  # a covariate may be named as a column of predictions is
        frame = given.merge(rows[["id", *names]].rename(columns=own), on="id")
        try:
            table = subgroup_table(
                frame, list(own.values()), {metric.name: metric.out_of_fold},
                edges={own[n]: edges[n] for n in names if n in edges},
                n_resamples=min(settings.resamples, 500), seed=settings.seed,
            )  # fmt: skip
        except (EvaluationError, ValueError):
            continue
        table = table.rename(columns={"by": "covariate", "subjects": "n"})
        table["covariate"] = table["covariate"].str.removeprefix("covariate ")
        frames.append(
            table.assign(arm=arm)[["arm", "covariate", "group", "rows", "n", "metric", "value", "low", "high", "note"]]
        )
    columns = ["arm", "covariate", "group", "rows", "n", "metric", "value", "low", "high", "note"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def by_subject(predictions: pd.DataFrame, task: Task) -> dict[str, pd.DataFrame]:
    """``subjects``: each arm's and subject's mean scores, of a task whose answers are images; nothing for others."""
    if not task.IMAGE_OUT:
        return {}
    true = predictions[predictions["control"] == "true"]
    scores = task.score_columns(true)
    images = true.groupby(["arm", "subject"], sort=False)["id"].nunique().rename("images")
    means = true.groupby(["arm", "subject", "id"], sort=False)[scores].mean()
    means = means.groupby(["arm", "subject"], sort=False).mean()
    return {"subjects": means.join(images).reset_index()[["arm", "subject", "images", *scores]]}


def _bounds(metric: Metric) -> Any:
    """The metric's bounds as fusionconv.evaluation takes them."""
    low, high = metric.bounds
    found = (low if math.isfinite(low) else None, high if math.isfinite(high) else None)
    return None if found == (None, None) else found
