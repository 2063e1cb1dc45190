"""The rows with a target, the task that its values say, and the classes among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.flow import Flow
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import Task, make_task
from fusionconv.study.tasks.classes import as_text
from fusionconv.study.tasks.segmentation import read_classes

__all__ = ["with_targets"]

_MOST_CLASSES = 20  # texts: more are no classes
_FEW_NUMBERS = 10  # different whole numbers: more are a measure


def with_targets(
    frame: pd.DataFrame, settings: Settings, flow: Flow, task: Task | None
) -> tuple[pd.DataFrame, Task, list[str]]:
    """The rows with a target, and the task."""
    columns = list(settings.target)
    codes = {as_text(v) for v in settings.missing_codes}
    missing = frame[columns].isna() | frame[columns].map(lambda v: as_text(v) in codes)
    lost = missing.any(axis=1).to_numpy()
    flow.note("target missing", -int(lost.sum()), ", ".join(columns))
    frame = frame[~lost]
    if frame.empty:
        raise StudyError(f"target: expected rows with a value in {', '.join(columns)}, got none")
    if settings.drop:
        gone = {as_text(v) for v in settings.drop}
        values = frame[columns[0]].map(as_text)
        if unknown := sorted(gone - set(values)):
            raise StudyError(f"drop: expected values of {columns[0]!r}, got {unknown}; {_spread(frame[columns[0]])}")
        flow.note("target left out by --drop", -int(values.isin(gone).sum()), ", ".join(sorted(gone)))
        frame = frame[~values.isin(gone)]
    notes: list[str] = []
    if task is None:
        name = settings.task if settings.task != "auto" else _guess(frame, settings)
        made: dict[str, Any] = {"task": name, "columns": columns, "loss": settings.loss}
        if name == "segmentation" and settings.classes:
            made["classes"] = read_classes(settings.classes)
        if name in ("binary", "multiclass"):
            made["classes"] = _classes(frame[columns[0]], settings, name)
            if name == "binary":
                notes.append(f"the positive class is {list(made['classes'])[1]!r}")
        task = make_task(made)
    if hasattr(task, "classes"):
        known = {v for values in task.classes.values() for v in values}
        other = ~frame[columns[0]].map(as_text).isin(known)
        if other.any():
            names = ", ".join(f"{v} ({n})" for v, n in frame.loc[other, columns[0]].value_counts().head(6).items())
            flow.note("target of no class", -int(other.sum()), names)
            frame = frame[~other]
    return frame, task, notes


def _guess(frame: pd.DataFrame, settings: Settings) -> str:
    """The task that the target's values say; an error that asks where they could say two."""
    columns = list(settings.target)
    if len(columns) > 1:
        small = all(frame[c].map(as_text).nunique() <= 2 for c in columns)
        if small:
            return "multilabel"
        raise StudyError(f"task: expected to be told what {len(columns)} target columns mean; give --task survival "
                         "(time and event) or --task multilabel")  # fmt: skip
    column = frame[columns[0]]
    different = column.map(as_text).nunique()
    if settings.positive:
        return "binary"
    if settings.classes:
        return "binary" if len(settings.classes) == 2 else "multiclass"
    if different < 2:
        raise StudyError(
            f"target: expected at least two different values in {columns[0]!r}, got only {_counts(column)}"
        )
    if different == 2:
        return "binary"
    if pd.api.types.is_numeric_dtype(column):
        whole = bool((column % 1 == 0).all())
        if whole and different <= _FEW_NUMBERS:
            raise StudyError(
                f"task: expected to be told whether {columns[0]!r} holds classes or numbers ({_spread(column)}); give "
                "--task multiclass, --task regression, or --positive VALUES"
            )
        return "regression"
    if different > _MOST_CLASSES:
        raise StudyError(
            f"target: expected up to {_MOST_CLASSES} classes or numbers in {columns[0]!r}, got {different} different "
            f"texts; group them with --positive or --classes, or choose another column"
        )
    return "multiclass"


def _classes(column: pd.Series[Any], settings: Settings, name: str) -> dict[str, list[str]]:
    """The classes by name, each with its values; binary: negative, positive."""
    values = column.map(as_text)
    found = sorted(set(values), key=lambda v: (0, float(v), v) if _is_number(v) else (1, 0.0, v))
    if settings.positive:
        positive = [as_text(v) for v in settings.positive]
        if unknown := [v for v in positive if v not in found]:
            raise StudyError(f"positive: expected values of the target, got {unknown}; {_spread(column)}")
        negative = [v for v in found if v not in positive]
        if not negative:
            raise StudyError(f"positive: expected some of the target's values, got all of {found}; leave some out")
        return {_title(negative, "negative"): negative, _title(positive, "positive"): positive}
    if isinstance(settings.classes, dict):
        classes = {
            str(k): [as_text(v) for v in (w if isinstance(w, list) else [w])] for k, w in settings.classes.items()
        }
    elif settings.classes:
        classes = {as_text(v): [as_text(v)] for v in settings.classes}
    else:
        classes = {v: [v] for v in found}
    each = [v for values_ in classes.values() for v in values_]
    if unknown := [v for v in each if v not in found]:
        raise StudyError(f"classes: expected values of the target, got {unknown}; {_spread(column)}")
    if len(set(each)) < len(each):
        raise StudyError(f"classes: expected each value in one class, got {each}")
    if len(classes) < 2 or (name == "binary" and len(classes) != 2):
        need = "two classes" if name == "binary" else "at least two classes"
        raise StudyError(f"task {name}: expected {need}, got {', '.join(classes)} ({_spread(column)}); group them with "
                         "--positive VALUES or --classes")  # fmt: skip
    return classes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _title(values: Sequence[str], other: str) -> str:
    return values[0] if len(values) == 1 else other


def _spread(column: pd.Series[Any]) -> str:
    return f"there are {_counts(column)}"


def _counts(column: pd.Series[Any]) -> str:
    counts = column.map(as_text).value_counts()
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return ", ".join(f"{value} ({count})" for value, count in counts.head(8).items()) + more
