"""For whom does it work? Metrics for each sex, age band or site, with intervals by subject, and the largest gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import EvaluationError, UndefinedMetricError
from fusionconv.evaluation.arrays import Ints, group_numbers, require_confidence, require_count
from fusionconv.evaluation.bootstrap import LEAST, bootstrap
from fusionconv.evaluation.missing import require_no_missing
from fusionconv.tabular.columns import require_columns

__all__ = ["subgroup_gaps", "subgroup_table"]

RowsMetric = Callable[[pd.DataFrame], float]
_CLASSES = 10  # a column of numbers with more different values is cut into bands


def subgroup_table(
    frame: pd.DataFrame,
    by: str | Sequence[str],
    metrics: Mapping[str, RowsMetric],
    min_count: int = 10,
    *,
    edges: Mapping[str, Sequence[float]] | None = None,
    subject: str | None = "subject",
    target: str | None = None,
    positive: Any = 1,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Metrics of all rows and of each group of rows, with bootstrap intervals over the subjects of the group.

    Args:
        frame: one row per image with what the metrics read, such as ``target`` and ``probability``, and the groups.
        by: column or columns, one after the other: not their combinations.
        metrics: ``{"name": metric}``, each called as ``metric(rows)`` with some rows of ``frame``; NaN or a ValueError
            where it is not defined. ``lambda rows: roc_auc(rows["target"], rows["probability"])``
        min_count: a group of fewer subjects is listed with its size and without a figure.
        edges: ``{"age": [60, 70]}`` cuts a column of numbers into bands: below 60, 60 to below 70, 70 and more.
        subject: the column of subjects; None: every row is its own.
        target: a column of which the rows that equal ``positive`` are counted.
        positive: the class that is counted, such as ``"AD"``; it must occur, unless the target is of 0 and 1.
        n_resamples, seed, confidence: of the intervals.

    Returns:
        A DataFrame, a row for each group and metric: by, group, rows, subjects, positives (with ``target``), metric,
        value, low, high, note. The first group is "all"; rows without a value make the group "missing".

    Raises:
        EvaluationError: no metrics, a column of many numbers without edges, edges that do not rise, a target without
            the positive class or with a missing value; TableError: an absent column. What a metric raises on all rows
            is passed on.

    >>> from fusionconv.evaluation import regression_summary
    >>> frame = pd.DataFrame({"subject": range(40), "sex": ["F", "M"] * 20, "age": np.linspace(50, 90, 40)})
    >>> frame["predicted"] = frame["age"] + np.where(frame["sex"] == "F", 1, 3)
    >>> error = {"MAE": lambda rows: regression_summary(rows["age"], rows["predicted"]).mae}
    >>> table = subgroup_table(frame, ["sex", "age"], error, edges={"age": [55]}, n_resamples=100)
    >>> table[["by", "group", "subjects", "value"]].round(2)
        by         group  subjects  value
    0  all           all        40   2.00
    1  sex             F        20   1.00
    2  sex             M        20   3.00
    3  age      below 55         5    NaN
    4  age  55 and above        35   2.03
    >>> table["note"].iloc[3]
    'fewer than 10 subjects'
    """
    names = [by] if isinstance(by, str) else list(by)
    wanted = [*names, *(n for n in (subject, target) if n is not None)]
    require_columns(frame, list(dict.fromkeys(wanted)), "subgroups")
    require_count(min_count, "min_count", 2)
    require_count(n_resamples, "n_resamples", LEAST)
    require_confidence(confidence)
    edges = dict(edges or {})
    if "all" in names:
        raise EvaluationError("expected another column than 'all', which is what all rows are called; rename it")
    if not metrics or not len(frame) or not names or set(edges) - set(names):
        raise EvaluationError(
            f"expected at least one row, column and metric, and edges of these columns only, got {len(frame)} rows, "
            f"columns {names}, metrics {list(metrics)}, edges of {list(edges)}"
        )
    frame = frame.reset_index(drop=True)
    if target is not None:
        _require_positive(frame[target], target, positive)
    people = group_numbers(None if subject is None else frame[subject], len(frame))
    parts: list[tuple[str, str, Ints]] = [("all", "all", np.arange(len(frame)))]
    for name in names:
        parts += [(name, label, rows) for label, rows in _groups(frame[name], name, edges.get(name))]
    found = []
    for by_name, label, rows in parts:
        size = len(np.unique(people[rows]))
        head: dict[str, Any] = {"by": by_name, "group": label, "rows": len(rows), "subjects": size}
        if target is not None:
            head["positives"] = int((frame[target].iloc[rows] == positive).sum())
        for metric_name, metric in metrics.items():
            figure: dict[str, Any] = {"metric": metric_name, "value": np.nan, "low": np.nan, "high": np.nan, "note": ""}
            if size < min_count:
                figure["note"] = f"fewer than {min_count} subjects"
            else:
                part = frame.iloc[rows]
                figure |= _figure(part, people[rows], metric, by_name == "all", n_resamples, seed, confidence)
            found.append(head | figure)
    return pd.DataFrame(found)


def subgroup_gaps(table: pd.DataFrame) -> pd.DataFrame:
    """The largest difference between the groups of each column, for each metric of :func:`subgroup_table`'s answer.

    The largest gap of groups that are alike is not 0 either, and grows with their number and with their smallness: read
    it beside the intervals.

    Returns:
        A DataFrame: by, metric, gap, lowest (group), low_value, highest (group), high_value, groups (that have a
        figure). Fewer than two groups with a figure: NaN.

    >>> table = pd.DataFrame({"by": ["all", "sex", "sex"], "group": ["all", "F", "M"], "metric": "AUC"})
    >>> subgroup_gaps(table.assign(value=[0.8, 0.75, 0.875]))
        by metric    gap lowest  low_value highest  high_value  groups
    0  sex    AUC  0.125      F       0.75       M       0.875       2
    """
    require_columns(table, ["by", "group", "metric", "value"], "subgroup table")
    rows = []
    for (by, metric), part in table[table["by"] != "all"].groupby(["by", "metric"], sort=False):
        known = part[part["value"].notna()]
        row: dict[str, Any] = {"by": by, "metric": metric, "gap": np.nan, "lowest": None, "low_value": np.nan}
        row |= {"highest": None, "high_value": np.nan, "groups": len(known)}
        if len(known) > 1:
            values, labels = known["value"].to_numpy(dtype=np.float64), known["group"].tolist()
            least, most = int(values.argmin()), int(values.argmax())
            row |= {"gap": values[most] - values[least], "lowest": labels[least], "low_value": values[least]}
            row |= {"highest": labels[most], "high_value": values[most]}
        rows.append(row)
    return pd.DataFrame(rows)


def _require_positive(column: pd.Series[Any], name: str, positive: Any) -> None:
    """Raise unless ``positive`` is a class of the column: 0 positives would look like a result."""
    values = require_no_missing(column.to_numpy(dtype=object), name, ("None",)).tolist()
    if positive not in values and not (set(values) <= {0, 1} and positive in (0, 1)):
        some = ", ".join(repr(v) for v in sorted(set(values), key=str)[:5])
        raise EvaluationError(
            f"target {name!r}: expected rows that equal positive={positive!r}, got none among {some}; give the class "
            f"that is counted, such as positive={max(set(values), key=str)!r}"
        )


def _figure(
    part: pd.DataFrame, people: Ints, metric: RowsMetric, whole: bool, n_resamples: int, seed: int, confidence: float
) -> dict[str, Any]:
    """Value and interval of one metric on one group, and a note where either is missing."""
    try:
        value = float(metric(part))
    except ValueError:
        if whole:  # a mistake in the metric would show on all rows; a group may lack a class
            raise
        value = float("nan")
    if not np.isfinite(value):
        return {"note": "not defined here"}
    try:
        done = bootstrap(lambda r: metric(part.iloc[r]), len(part), people, None, n_resamples, seed)
    except UndefinedMetricError:
        return {"value": value, "note": "no interval: not defined on most resamples"}
    low, high = done.interval(confidence)
    note = f"interval without {done.undefined} of {n_resamples} resamples" if done.undefined else ""
    note = (note + done.remark).removeprefix(", ")
    return {"value": value, "low": low, "high": high, "note": note}


def _groups(column: pd.Series[Any], name: str, edges: Sequence[float] | None) -> list[tuple[str, Ints]]:
    """Label and row numbers of each group of one column: classes in their order, or bands; the missing last."""
    missing = column.isna().to_numpy(dtype=bool)
    groups: list[tuple[str, Ints]]
    if edges is not None:
        groups = _bands(column, name, [float(e) for e in edges], missing)
    else:
        present = column[~missing]
        numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        if numbers and present.nunique() > _CLASSES:
            raise EvaluationError(
                f"column {name!r}: expected classes, or edges for its numbers, got {present.nunique()} different "
                f"numbers; give edges={{{name!r}: [...]}}"
            )
        values = sorted(present.unique().tolist(), key=lambda v: v if numbers else str(v))
        labels = column.map(lambda v: str(v).strip(), na_action="ignore")  # 1 and "1" are one group
        unnamed = ["", "missing"]
        missing = missing | labels.isin(unnamed).to_numpy(dtype=bool)
        names = [text for text in dict.fromkeys(str(v).strip() for v in values) if text not in unnamed]
        groups = [(text, np.flatnonzero((labels == text).to_numpy(dtype=bool, na_value=False))) for text in names]
    if missing.any():
        groups.append(("missing", np.flatnonzero(missing)))
    return groups


def _bands(column: pd.Series[Any], name: str, edges: list[float], missing: Any) -> list[tuple[str, Ints]]:
    if not edges or not np.isfinite(edges).all() or any(a >= b for a, b in pairwise(edges)):
        raise EvaluationError(f"edges of {name!r}: expected finite numbers that rise, such as [60, 70], got {edges}")
    if not pd.api.types.is_numeric_dtype(column):
        raise EvaluationError(f"column {name!r}: expected numbers to cut at {edges}, got {column.dtype}")
    band = np.digitize(column.to_numpy(dtype=np.float64, na_value=np.nan), edges)
    labels = [f"below {edges[0]:g}", *(f"{a:g} to below {b:g}" for a, b in pairwise(edges)), f"{edges[-1]:g} and above"]
    return [(label, np.flatnonzero((band == b) & ~missing)) for b, label in enumerate(labels)]
