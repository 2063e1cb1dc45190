"""Missing values: which ones count as missing, and what the encoder is told to do about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.labels import Label, plain_label, plain_labels, positions
from fusionconv.tabular.textnumbers import ISO_DATE, shape_of

__all__ = ["INDICATORS", "Indicator", "Missing", "as_codes", "as_indicator", "as_missing", "is_code", "is_date_code"]

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
            f"expected missing='error', 'mean', 'zero' or a constant of the column, came {missing!r}"
        ) from None


def as_indicator(indicator: Any) -> Indicator:
    """``indicator`` if it is one of the three.

    Raises:
        TableError: it is something else.
    """
    if indicator not in INDICATORS:
        raise TableError(
            f"expected indicator='auto' (where training rows miss values), 'always' or 'never', came {indicator!r}"
        )
    return indicator  # type: ignore[no-any-return]


def as_codes(codes: Iterable[Any]) -> tuple[Label, ...]:
    """``codes`` as different plain labels.

    Raises:
        TableError: a single value, or something that is neither text nor a finite number.
    """
    return plain_labels(codes, "missing_codes", least=0)


def is_code(values: npt.NDArray[Any], codes: tuple[Label, ...]) -> npt.NDArray[np.bool_]:
    """Where a value, one of an array of floats or of objects, is among the declared codes.

    A number among the codes is found in text too, and the other way round: -4, -4.0 and "-4" are one code.

    >>> is_code(np.array([61.0, -4.0]), ("-4",)).tolist()
    [False, True]
    >>> is_code(np.array(["", "NA", "-4", "F", -4], dtype=object), ("NA", -4)).tolist()
    [False, True, True, False, True]
    """
    numbers = [float(c) for c in codes if (shape_of(c) == "number" if isinstance(c, str) else abs(c) < 1e300)]
    if values.dtype != object:
        return np.isin(values, numbers)
    spelled = [f"{n:.0f}" if n.is_integer() else repr(n) for n in numbers]
    spelled += [repr(n) for n in numbers if n.is_integer()]
    return positions(values, list(dict.fromkeys([*codes, *numbers, *spelled]))) >= 0


def is_date_code(dates: pd.Series[Any], codes: tuple[Label, ...]) -> npt.NDArray[np.bool_]:
    """Where a date is among the declared codes that are dates, such as "1900-01-01"."""
    found = np.zeros(len(dates), dtype=bool)
    naive = dates.dt.tz_localize(None)
    for code in codes:
        if isinstance(code, str) and ISO_DATE.fullmatch(code):
            found |= np.array(naive == pd.Timestamp(code), dtype=bool)
    return found
