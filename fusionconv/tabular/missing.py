"""Missing values: which ones count as missing, and what the encoder is told to do about them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.labels import Label, plain_label, plain_labels, same_positions
from fusionconv.tabular.text import ISO_DATE, read_cell

__all__ = ["Indicator", "Missing", "as_codes", "as_indicator", "as_missing", "is_code", "is_date_code"]

#: What a missing value becomes: "error", "mean", "zero", or a constant in the column's own unit (any other value).
Missing: TypeAlias = Label
Indicator: TypeAlias = Literal["auto", "always", "never"]
INDICATORS = ("auto", "always", "never")


def as_missing(missing: Any) -> Missing:
    """``missing`` as a plain value.

    Raises:
        TableError: it is neither text nor a finite number.
    """
    try:
        return plain_label(missing)
    except TableError:
        raise TableError(
            f"expected missing='error', 'mean', 'zero' or a constant of the column, got {missing!r}"
        ) from None


def as_indicator(indicator: Any) -> Indicator:
    """``indicator`` if it is one of the three.

    Raises:
        TableError: it is something else.
    """
    if indicator not in INDICATORS:
        raise TableError(
            f"expected indicator='auto' (where training rows miss values), 'always' or 'never', got {indicator!r}"
        )
    return indicator  # type: ignore[no-any-return]


def as_codes(codes: Iterable[Any]) -> tuple[Label, ...]:
    """``codes`` as different plain labels.

    Raises:
        TableError: a single value, or something that is neither text nor a finite number.
    """
    if isinstance(codes, Iterable) and not isinstance(codes, (str, bytes)):
        codes = list(codes)
        truth = [c for c in codes if isinstance(c, (bool, np.bool_))]  # 0 and False are two codes
        others = [c for c in codes if not isinstance(c, (bool, np.bool_))]
        return plain_labels(others, "missing_codes", least=0) + plain_labels(truth, "missing_codes", least=0)
    return plain_labels(codes, "missing_codes", least=0)


def is_code(values: npt.NDArray[Any], codes: tuple[Label, ...]) -> npt.NDArray[np.bool_]:
    """Where a value, one of an array of floats or of objects, is among the declared codes.

    A number among the codes is found in text too, and the other way round: -4, -4.0, "-4" and " -4.00" are one code,
    and so are 0 and "000Y", an age of three digits as DICOM writes it. Text with leading zeros ("04") is no number
    here, but a name; True and False are no numbers either. Floats are compared in their own precision: -9.9 is a code
    in float32 too. Dates among the codes ("1900-01-01") are found as date objects and with a time of 00:00.

    >>> is_code(np.array([61.0, -4.0]), ("-4",)).tolist()
    [False, True]
    >>> is_code(np.array(["", "NA", "-4", "F", -4], dtype=object), ("NA", -4)).tolist()
    [False, True, True, False, True]
    >>> is_code(np.array(["045Y", "000Y", "999Y", "9M"], dtype=object), (0, 999, 0.75)).tolist()
    [False, True, True, False]
    >>> is_code(np.array([1.5, -9.9], dtype="float32"), (-9.9,)).tolist()
    [False, True]
    >>> is_code(np.array([0, False, True, "0"], dtype=object), (0,)).tolist()
    [True, False, False, True]
    """
    spelled = [c for c in codes if not isinstance(c, bool)]
    numbers = [
        n for c in spelled if (n := _number(c) if isinstance(c, str) else float(c)) is not None and abs(n) < 1e300
    ]
    if values.dtype != object:
        return np.isin(values, np.array(numbers, dtype=values.dtype))
    truth = np.array([isinstance(v, (bool, np.bool_)) for v in values], dtype=bool)
    if truth.any():
        said = {bool(c) for c in codes if isinstance(c, bool)}
        found = np.array([bool(v) in said if t else False for v, t in zip(values, truth, strict=True)], dtype=bool)
        found[~truth] = is_code(values[~truth], codes)
        return found
    codes = tuple(c for c in codes if not isinstance(c, bool))
    found = same_positions(values, list(dict.fromkeys([*codes, *numbers]))) >= 0
    dates = _dates_of(codes)
    if not numbers and not dates:
        return found
    alike = [_number(v) in numbers or (bool(dates) and _date(v) in dates) for v in values]
    among: npt.NDArray[np.bool_] = found | np.array(alike, dtype=np.bool_)
    return among


def _number(value: Any) -> float | None:
    """The number that a text spells, or the years of an age as 045Y; None for other text, and for other objects."""
    if not isinstance(value, str):
        return None
    reading = read_cell(value)
    dicom = reading.shape == "age" and value.strip()[:3].isdecimal()  # 9M may be a name
    return reading.number if reading.shape == "number" or dicom else None


def _date(value: Any) -> Any:
    """The date of an object or an ISO text, without its time zone; None for what is none."""
    if isinstance(value, str):
        value = value.strip() if ISO_DATE.fullmatch(value.strip()) else None
    if not isinstance(value, (str, datetime.date, np.datetime64)):
        return None
    try:
        stamp = pd.Timestamp(value)
    except ValueError:
        return None
    return None if pd.isna(stamp) else stamp.tz_localize(None)


def is_date_code(dates: pd.Series[Any], codes: tuple[Label, ...]) -> npt.NDArray[np.bool_]:
    """Where a date is among the declared codes that are dates, such as "1900-01-01"."""
    return np.array(dates.dt.tz_localize(None).isin(list(_dates_of(codes))), dtype=bool)


def _dates_of(codes: tuple[Label, ...]) -> set[Any]:
    """The codes that are dates, as ISO writes them."""
    return {pd.Timestamp(code) for code in codes if isinstance(code, str) and ISO_DATE.fullmatch(code)}
