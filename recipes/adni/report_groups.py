"""Subgroups in the report: by sex and age band, found by their columns' names or given, for every arm side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fusionconv.errors import EvaluationError, TableError
from fusionconv.evaluation import balanced_accuracy, concordance_index, roc_auc, subgroup_table
from recipes.adni.report_figures import chance, colour_of, marker_of
from recipes.adni.tasks import Task
from recipes.common.figures import FAINT, INK, STYLE, blank

# columns of the readers' tables (docs/tables.md), in small letters
SEX = ("sex", "m/f", "ptgender", "gender", "sex_id (1=m, 2=f)", "sex_id")
AGE = ("age", "age_at_visit", "age_at_scan", "age_at_baseline", "age_bl")
BAND = 10  # years
RESAMPLES = 300


def choose_columns(rows: pd.DataFrame, by: Sequence[str] | None = None) -> list[str]:
    """The columns to split by: those asked for, or the first of sex and the first of age.

    Raises:
        TableError: a column that was asked for is not there.
    """
    if by:
        absent = [name for name in by if name not in rows]
        if absent:
            raise TableError(f"--by: the table has no column {', '.join(absent)}; it has {', '.join(map(str, rows))}.")
        return list(by)
    small = {str(name).lower(): str(name) for name in reversed(list(rows))}
    found = [[small[name] for name in names if name in small] for names in (SEX, AGE)]
    return [names[0] for names in found if names and rows[names[0]].notna().any()]


def bands(values: pd.Series, name: str) -> list[float] | None:
    """Edges of bands: every ten years for an age, quartiles for other numbers; None for classes.

    >>> bands(pd.Series(range(62, 95)), "Age")
    [70.0, 80.0, 90.0]
    >>> bands(pd.Series(["F", "M"]), "sex") is None
    True
    """
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return None
    present = values.dropna().astype(float)
    if "age" in name.lower():
        first, last = (math.floor(present.min() / BAND) + 1) * BAND, math.floor(present.max() / BAND) * BAND
        return [float(edge) for edge in range(first, last + 1, BAND)] or None
    return sorted(set(present.quantile([0.25, 0.5, 0.75]))) if present.nunique() > 10 else None


def groups_table(joined: pd.DataFrame, by: Sequence[str], arms: Sequence[str], task: Task) -> pd.DataFrame:
    """The task's metric of every arm in every group, with bootstrap intervals over subjects.

    A repeat's test rows are taken together, from all its folds; the value is the mean over repeats. Of two classes the
    AUC, of more the balanced accuracy; the mean absolute error; the concordance index.

    Args:
        joined: predictions beside the table's columns (`report_run.with_rows`).
        by: columns.
        arms: in order.
        task: what was predicted.
    """
    answers = ["time", "event"] if task.kind == "survival" else ["target"]
    keys = ["subject", "session", "image"]
    wide = joined.drop_duplicates(keys)[[*dict.fromkeys([*keys, *by, *answers])]].set_index(keys)
    repeats = joined["fold"].str.split("-").str[0]
    columns: dict[str, list[str]] = {arm: [] for arm in arms}
    parts = []
    for (arm, repeat), rows in joined.assign(_score=_score(joined, task)).groupby(["arm", repeats], sort=False):
        name = f"{arm} in {repeat}"
        columns[arm].append(name)
        parts.append(rows.set_index(keys)["_score"].rename(name))
    wide = pd.concat([wide, *parts], axis=1).reset_index().drop(columns=["session", "image"])
    wide["subject"] = pd.factorize(wide["subject"])[0]
    edges = {name: found for name in by if (found := bands(wide[name], name)) is not None}
    for name in by:  # numbers that are no bands are classes
        if name not in edges:
            wide[name] = wide[name].astype(object).map(_label, na_action="ignore")
    wide = wide.copy()  # columns of a kind together: the bootstrap takes rows thousands of times
    metrics = {arm: _mean_over(names, task) for arm, names in columns.items() if names}
    counted = {"target": "target", "positive": 1} if len(task.queries) == 2 else {}
    counted = {"target": "event", "positive": 1} if task.kind == "survival" else counted
    return subgroup_table(wide, list(by), metrics, edges=edges, n_resamples=RESAMPLES, **counted)


def metric_name(task: Task) -> str:
    """What `groups_table` gives."""
    if task.kind == "classification":
        return "AUC" if len(task.queries) == 2 else "balanced accuracy"
    return f"mean absolute error of {task.target}" if task.kind == "regression" else "concordance index"


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score(joined: pd.DataFrame, task: Task) -> pd.Series:
    if task.kind == "classification":
        names = [f"p_{name}" for name in task.queries]
        return joined[names[1]] if len(names) == 2 else pd.Series(joined[names].to_numpy().argmax(1), joined.index)
    return joined["prediction" if task.kind == "regression" else "log_hazard"]


def _mean_over(names: Sequence[str], task: Task) -> Callable[[pd.DataFrame], float]:
    def one(rows: pd.DataFrame, name: str) -> float:
        score = rows[name].to_numpy()
        known = ~np.isnan(score)
        if not known.any():
            return math.nan
        answers = ("time", "event") if task.kind == "survival" else ("target",)
        score, (target, *event) = score[known], [rows[column].to_numpy()[known] for column in answers]
        if task.kind == "regression":
            return float(np.abs(score - target).mean())
        if task.kind == "survival":
            try:
                return concordance_index(target, event[0], score)
            except EvaluationError:  # no comparable pair
                return math.nan
        if len(task.queries) == 2:
            return roc_auc(target, score)
        return balanced_accuracy(target, score, range(len(task.queries)))

    return lambda rows: float(np.mean([one(rows, name) for name in names]))


@mpl.rc_context(STYLE)
def draw_groups(table: pd.DataFrame, arms: Sequence[str], task: Task) -> Figure:
    """Every arm's value in every group with its interval; the size of the group beside its name."""
    sizes = table.drop_duplicates(["by", "group"])
    word = {"classification": list(task.queries)[-1] if task.queries else "", "survival": "with the event"}
    height = max(0.5, 0.13 * len(arms) + 0.2)
    figure = blank(7.4, 0.9 + height * len(sizes))
    axes: Axes = figure.subplots()
    labels = []
    for place, (_, size) in enumerate(sizes.iterrows()):
        few = f"{size['subjects']} subjects"
        few += f", {size['positives']} {word[task.kind]}" if "positives" in size else ""
        title = "all" if size["by"] == "all" else f"{size['by']}: {size['group']}"
        labels.append(f"{title}\n({few})")
        rows = table[(table["by"] == size["by"]) & (table["group"] == size["group"])].set_index("metric")
        if rows["value"].isna().all():
            axes.annotate(rows["note"].iloc[0], (0.01, place), xycoords=("axes fraction", "data"), va="center",
                          fontsize=7.5)  # fmt: skip
        for index, arm in enumerate(arms):
            if arm not in rows.index or np.isnan(rows.loc[arm, "value"]):
                continue
            value, low, high = rows.loc[arm, ["value", "low", "high"]]
            colour = colour_of(arms)[arm]
            y = place + 0.72 * ((index + 0.5) / len(arms) - 0.5)
            axes.hlines(y, low, high, color=colour, linewidth=2, alpha=0.4)
            axes.plot(value, y, marker_of(arms)[arm], color=colour, markersize=5,
                      markeredgecolor="white", markeredgewidth=0.5, label=arm if place == 0 else None)  # fmt: skip
    if (constant := chance(task.metrics[0] if len(task.queries) < 3 else "balanced_accuracy", task)) is not None:
        axes.axvline(constant, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for edge in np.flatnonzero(np.r_[False, sizes["by"].to_numpy()[1:] != sizes["by"].to_numpy()[:-1]]):
        axes.axhline(edge - 0.5, color="#9aa3ad", linewidth=0.8)
    axes.set(ylim=(len(sizes) - 0.5, -0.5), yticks=range(len(sizes)), xlabel=metric_name(task))
    axes.set_yticklabels(labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=min(4, len(arms)), fontsize=8)
    return figure
