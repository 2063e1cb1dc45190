"""Control: a covariate column of a study as something to move, in the table's own units, and what rows have of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.tabular.column import Column
from fusionconv.tabular.fitted import FittedColumn
from fusionconv.tabular.kinds import LearntNumeric
from fusionconv.tabular.kinds.dates import DAYS_PER_YEAR, LearntAge, days_of
from fusionconv.tabular.labels import plain_label
from fusionconv.tabular.missing import is_code

if TYPE_CHECKING:
    from fusionconv.tabular import CovariateEncoder

__all__ = ["MISSING", "Control", "Seen", "common", "make_control"]

MISSING = "(missing)"
Seen = tuple[float, float] | frozenset[Any]
_ROOM = 0.25  # beyond the values of the study, as a share of their spread: a slider goes so far on either side
_STEPS = 200


@dataclass(frozen=True)
class Control:
    """One covariate column.

    Attributes:
        column: its name in the table.
        kind: ``number`` (a slider), ``choice`` (one of ``choices``) or ``tick`` (0 or 1).
        values: of every row of the study, by id: a number, a label, or `MISSING`.
        low, high, step: of the slider.
        choices: labels in order; `MISSING` last, where some network takes a missing value. Other kinds take it too, by
            `missing`.
        missing: whether some network takes a missing value.
        unit: of a number, where it is not the column's own, such as ``years``.
    """

    column: str
    kind: str
    values: Mapping[str, Any]
    low: float = 0.0
    high: float = 1.0
    step: float = 1.0
    choices: tuple[Any, ...] = ()
    missing: bool = False
    unit: str = ""
    fitted: FittedColumn | None = None

    @property
    def title(self) -> str:
        """The column's name, with the unit."""
        return f"{self.column} ({self.unit})" if self.unit else self.column

    def same(self, one: Any, other: Any) -> bool:
        """Whether two values are one; numbers that a slider cannot tell apart are."""
        if isinstance(one, str) or isinstance(other, str) or self.kind != "number":
            return bool(one == other)
        return abs(float(one) - float(other)) < self.step / 2

    def cell(self, value: Any, row: pd.Series[Any]) -> Any:
        """What has to be in the table for this value; an age is turned into a date of birth."""
        if value == MISSING:
            return None
        if self.kind == "tick":
            return int(bool(value))
        if self.kind == "choice":
            return value
        learnt = None if self.fitted is None else self.fitted.learnt
        return _born(self.column, float(value), learnt, row) if isinstance(learnt, LearntAge) else float(value)

    def changed(self, frame: pd.DataFrame, values: Sequence[Any]) -> pd.DataFrame:
        """The rows with these values; a cell whose value is the row's own stays as it is."""
        own = [self.values[name] for name in frame["id"]]
        if all(self.same(new, old) for new, old in zip(values, own, strict=True)):
            return frame
        cells: list[Any] = [
            row[self.column] if self.same(new, old) else self.cell(new, row)
            for (_, row), new, old in zip(frame.iterrows(), values, own, strict=True)
        ]
        return frame.assign(**{self.column: pd.Series(cells, index=frame.index).infer_objects()})

    def seen(self, ids: Sequence[str]) -> Seen:
        """Of these rows the smallest and largest number, or the labels."""
        own = [value for name in ids if (value := self.values[name]) != MISSING]
        if self.kind != "number":
            return frozenset(own)
        return (min(own), max(own)) if own else (math.nan, math.nan)

    def show(self, value: Any) -> str:
        """For people, with the unit."""
        if isinstance(value, str) or self.kind != "number":
            return str(value)
        return f"{value:.6g}{' ' * bool(self.unit)}{self.unit}"

    def grid(self, points: int) -> list[Any]:
        """Values along which an effect is drawn."""
        if self.kind == "number":
            return [float(v) for v in np.linspace(self.low, self.high, points)]
        return [False, True] if self.kind == "tick" else list(self.choices)


def common(seen: Sequence[Seen]) -> Seen:
    """What several sets of rows have all seen of a column.

    >>> common([(1.0, 5.0), (2.0, 6.0)])
    (2.0, 5.0)
    """
    numbers = [one for one in seen if isinstance(one, tuple)]
    if numbers:
        return max(n[0] for n in numbers), min(n[1] for n in numbers)
    return frozenset.intersection(*[one for one in seen if isinstance(one, frozenset)])


def make_control(column: str, frame: pd.DataFrame, encoders: Sequence[CovariateEncoder]) -> Control:
    """The control of a column that these encoders take, from the rows of the study.

    Args:
        column: its name.
        frame: the rows of the study, with ``id``.
        encoders: of the networks that are asked; the first one says what kind of column it is.
    """
    fitted = next(f for f in _fitted(encoders[0]) if f.name == column)
    missing = any(_takes_missing(encoder, column, frame) for encoder in encoders)
    ids = list(frame["id"])
    learnt, codes = fitted.learnt, fitted.kind.missing_codes or ()
    labels: Any = getattr(learnt, "levels", None) or learnt.labels
    if labels or fitted.kind.tag == "binary":
        own = [_label(value, codes) for value in frame[column]]
        if labels:
            every = dict.fromkeys([*labels, *(label for e in encoders for f in _fitted(e) if f.name == column
                                              for label in f.learnt.labels), *own])  # fmt: skip
            every.pop(MISSING, None)
            extra = (MISSING,) if missing else ()
            return Control(column, "choice", dict(zip(ids, own, strict=True)), choices=(*every, *extra),
                           missing=missing, fitted=fitted)  # fmt: skip
        ticks = [value if value == MISSING else bool(float(value)) for value in own]
        return Control(column, "tick", dict(zip(ids, ticks, strict=True)), missing=missing, fitted=fitted)
    values = _numbers(fitted, frame)
    low, high, step = _limits(values[np.isfinite(values)])
    shown = [MISSING if not math.isfinite(v) else float(v) for v in values]
    years = isinstance(learnt, LearntAge) or bool(getattr(learnt, "years", False))
    return Control(column, "number", dict(zip(ids, shown, strict=True)), low, high, step, missing=missing,
                   unit="years" if years else "", fitted=fitted)  # fmt: skip


def _fitted(encoder: CovariateEncoder) -> list[FittedColumn]:
    return [FittedColumn.from_dict(saved) for saved in encoder.to_dict()["columns"]]


def _takes_missing(encoder: CovariateEncoder, column: str, frame: pd.DataFrame) -> bool:
    row = frame.iloc[:1].assign(**{column: pd.Series([None], index=frame.index[:1], dtype=object)})
    return not any(name == column for _, name, _ in encoder.check(row))


def _label(value: Any, codes: tuple[Any, ...]) -> Any:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return MISSING
    if codes and bool(is_code(np.array([value], dtype=object), codes)[0]):
        return MISSING
    return plain_label(value)


def _numbers(fitted: FittedColumn, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
    """The column's numbers (ages in years), NaN where missing."""
    codes = fitted.kind.missing_codes or ()
    beside = fitted.kind.beside
    other = None if beside is None else Column(beside, frame[beside], codes)
    column = Column(fitted.name, frame[fitted.name], codes, other)
    learnt: Any = fitted.learnt
    if isinstance(learnt, LearntNumeric):
        numbers = column.numbers(years=learnt.years)
    else:  # censored, age: scaled and back, which leaves the last bits as noise
        noise = 10 - math.ceil(math.log10(learnt.scale.scale))
        numbers = learnt.scale.undo(learnt.encode(column)[:, 0]).round(noise)
    return np.where(column.present, numbers, np.nan)


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Ends and step of a slider: a quarter of the spread more on either side, on a round grid."""
    low, high = float(values.min()), float(values.max())
    spread = high - low or abs(low) or 1.0
    step = float(10.0 ** math.floor(math.log10(spread / _STEPS)))
    if bool((values % 1 == 0).all()):
        step = max(1.0, step)
    else:
        decimals = next((n for n in range(1, 4) if bool((np.abs(values - values.round(n)) < 1e-9).all())), None)
        step = step if decimals is None else max(step, 10.0**-decimals)
    first, last = low - _ROOM * spread, high + _ROOM * spread
    first = max(first, 0.0) if low >= 0 else first
    start = math.floor(first / step) * step
    return float(f"{start:.10g}"), float(f"{math.ceil(last / step) * step:.10g}"), float(f"{step:.10g}")


def _born(column: str, years: float, learnt: LearntAge, row: pd.Series[Any]) -> pd.Timestamp:
    """The date from which so many years go by until the row's date of measurement."""
    fixed = learnt.at not in row.index
    measured = Column(learnt.at, pd.Series([learnt.at if fixed else row[learnt.at]]))
    days = days_of(measured, None if fixed else learnt.format)[0]
    return pd.Timestamp("1970-01-01") + pd.Timedelta(days=float(days) - years * DAYS_PER_YEAR)
