"""Age: from a date of birth and the date of measurement to years."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds.base import Block, Kind
from fusionconv.tabular.kinds.scaled import Scaled
from fusionconv.tabular.kinds.scaling import Scale, Scaling, as_scaling
from fusionconv.tabular.labels import Label
from fusionconv.tabular.text import ISO_DATE

__all__ = ["DAYS_PER_YEAR", "OLDEST", "Age", "LearntAge", "days_of"]

#: Years that nobody has reached (the record is 122): a greater age says that one of its dates stands for no date.
OLDEST = 123

DAYS_PER_YEAR = 365.25
_WIDTHS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2}
_DAY, _EPOCH = pd.Timedelta(days=1), pd.Timestamp("1970-01-01")


@dataclass(frozen=True)
class Age(Kind):
    """A date becomes the years from it to the date ``at``: days / 365.25, scaled like a number.

    The covariate is called ``<column>_age``. Where either date is missing, so is the age. Dates are pandas datetimes,
    ``datetime.date`` or text such as ``2011-03-05`` (ISO 8601), or as ``format`` says (then also whole numbers such as
    20110305); other text, such as 03/04/2011, is refused and not guessed. With time zones, both dates need one.

    Args:
        at: the column with the date of measurement, or one fixed date as ``"2020-01-31"`` or ``datetime.date``.
        scaling: as for :class:`~fusionconv.tabular.kinds.numeric.Numeric`.
        format: how text dates are written, as for ``datetime.strptime``, such as ``"%m/%d/%Y"``. Where it is digits
            alone (``"%d%m%Y"``), a whole number gets back the zeros that it lost (1031950); other widths are refused.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import Age, CovariateEncoder
        >>> frame = pd.DataFrame({"birth": ["1950-05-01", "1960-05-01"], "scan": ["2010-05-01", "2010-05-01"]})
        >>> encoder = CovariateEncoder(["birth"], kinds={"birth": Age(at="scan", scaling="none")}).fit(frame)
        >>> list(encoder.get_feature_names_out()), encoder.transform(frame).round(1).tolist()
        (['birth_age'], [[60.0], [50.0]])
    """

    at: str | datetime.date
    scaling: Scaling = "zscore"
    format: str | None = None
    tag: ClassVar[str] = "age"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.at, datetime.date):
            self._set("at", self.at.isoformat())
        if not isinstance(self.at, str) or not self.at:
            raise TableError(f"expected Age(at=column name or date), got at={self.at!r}")
        self._set("scaling", as_scaling(self.scaling))

    @property
    def beside(self) -> str | None:
        """The column with the date of measurement, unless that is one fixed date."""
        assert isinstance(self.at, str)
        return None if ISO_DATE.fullmatch(self.at) else self.at

    def learn(self, column: Column) -> LearntAge:
        """Center and scale of the training rows' ages."""
        assert isinstance(self.at, str)
        years = _years(column, self.at, self.format)
        return LearntAge(self.at, self.format, Scale.learn(self.scaling, years, column))


def days_of(column: Column, form: str | None) -> npt.NDArray[np.float64]:
    """Days from 1970 to the dates of a column, NaN where missing."""
    return _days(column, form)[0]


def _years(column: Column, at: str, form: str | None) -> npt.NDArray[np.float64]:
    """Years between the column and the column beside it (or the fixed date ``at``), NaN where missing."""
    born, born_zone = _days(column, form)
    fixed = Column(at, pd.Series([at], dtype=object))
    measured, zone = _days(fixed, None) if column.beside is None else _days(column.beside, form)
    if zone != born_zone and column.present.any():
        column.fail(
            "both dates with a time zone or both without",
            f"{column.name!r} {'with' if born_zone else 'without'} and {at!r} {'with' if zone else 'without'}",
            "use .dt.tz_localize(...) or .dt.tz_localize(None) on one of them",
        )
    years = np.asarray((measured - born) / DAYS_PER_YEAR)
    column.refuse(column.present & (years < 0), f"dates that are not after {at!r}", "later ones")
    return years


def _days(column: Column, form: str | None) -> tuple[npt.NDArray[np.float64], bool]:
    """Days since 1970 (UTC where there is a time zone), NaN where missing, and whether there is a time zone."""
    dates = column.values if column.is_dates else _parse(column, form)
    zone = dates.dt.tz is not None
    if zone:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    days = np.array((dates - _EPOCH) / _DAY, dtype=np.float64)
    if not column.is_dates:
        days = column.rows_of(days, np.nan)
    days[~column.present] = np.nan
    _refuse_codes(column, days, form)
    return days, zone


def _refuse_codes(column: Column, days: npt.NDArray[np.float64], form: str | None) -> None:
    """Raise where a date that counts is a missing code in another spelling, such as 01/01/1900 for 1900-01-01."""
    for code in column.missing_codes:
        if not isinstance(code, str):
            continue
        spelling = None if ISO_DATE.fullmatch(code) else form or "%m/%d/%Y"
        stamps = pd.to_datetime(pd.Series([code], dtype=object), format=spelling, errors="coerce", utc=True)
        day = ((stamps.dt.tz_localize(None) - _EPOCH) / _DAY).to_numpy(dtype=np.float64)  # NaN: no date
        column.refuse(
            days == day,
            f"the missing code {code!r} as the column writes its dates",
            "that date in another spelling",
            "declare the code as the table has it, or as 1900-01-01 for a column of dates",
        )


def _parse(column: Column, form: str | None) -> pd.Series[Any]:
    """The different values, text or date objects, as dates; each by itself, by one stated format."""
    expected = f"dates as {form!r} says" if form else "dates such as 2011-03-05 (or Age(at=..., format='%m/%d/%Y'))"
    values = column.factors[1]
    if form:
        values = np.array([_spelled(v, form) for v in values], dtype=np.object_)
    good = np.array(
        [isinstance(v, datetime.date) or (isinstance(v, str) and _readable(v, form)) for v in values], dtype=bool
    )
    column.refuse(column.rows_of(~good, False), expected)
    kept = pd.Index([v if ok else None for v, ok in zip(values, good, strict=True)], dtype=object)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # pandas 2 warns of several time zones, refused below
            dates = pd.Series(pd.to_datetime(kept, format=form or "ISO8601", errors="coerce"))
    except ValueError:  # so pandas 3 says it
        dates = pd.Series(dtype="float64")
    if not pd.api.types.is_datetime64_any_dtype(dates.dtype):
        column.fail(
            "dates that are all in one time zone, or all without",
            "several time zones",
            "convert the column with pandas.to_datetime(..., utc=True)",
        )
    column.refuse(column.rows_of(np.array(dates.isna(), dtype=bool), False), expected)
    return dates


def _spelled(value: Any, form: str) -> Any:
    """A whole number as the text that ``form`` says: 1031950 is 01031950 under %d%m%Y. A year has no zeros to lose."""
    if not (isinstance(value, Real) and float(value).is_integer()):
        return value
    text = str(int(float(value)))
    return text if form.startswith("%Y") else text.zfill(_width(form))


def _width(form: str) -> int:
    """How many digits a format of nothing but digits has; 0 for another."""
    before, *signs = form.split("%")
    return sum(map(_WIDTHS.__getitem__, signs)) if not before and set(signs) <= set(_WIDTHS) else 0


def _readable(text: str, form: str | None) -> bool:
    """Whether to try: strptime would read 1031950 as 10 March under %d%m%Y, with the 0 of 01 March lost."""
    if form is None:
        return ISO_DATE.fullmatch(text) is not None
    return not _width(form) or len(text.strip()) == _width(form)


@dataclass(frozen=True)
class LearntAge(Scaled):
    """A fitted age column."""

    at: str
    format: str | None
    scale: Scale

    def names(self, name: str) -> list[str]:
        """``<column>_age``."""
        return [f"{name}_age"]

    def encode(self, column: Column) -> Block:
        """(N, 1)."""
        return self.scale.apply(_years(column, self.at, self.format))[:, None]

    def encode_constant(self, name: str, value: Label) -> tuple[float, ...]:
        """A constant is an age in years."""
        if isinstance(value, (str, bool)):
            raise TableError(f"column {name!r}: expected missing= an age in years, got {value!r}; give a number")
        return (float(self.scale.apply(np.array([float(value)]))[0]),)

    def decode(self, block: Block) -> npt.NDArray[np.float64]:
        """The ages in years; the dates are not kept."""
        return self.scale.undo(block[:, 0])

    def describe(self) -> str:
        """Until when, and the scale of the years."""
        return f"years until {self.at}; {self.scale.describe()}"
