"""Columns of text to numbers and dates, by the grammar of :mod:`fusionconv.tabular.text`, or the reason why not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular.numberdoubts import number_doubt
from fusionconv.tabular.text import ISO_DATE, NUMBER, ODD_SHAPES, advice, shape_of, tidy_cell

__all__ = ["few_rows", "infer_numbers", "is_text", "require_codes", "require_dates", "require_numbers", "settle"]

_EXPONENT = re.compile(r"^[0-9]+[eE][0-9]+$", re.MULTILINE)
_CODE = re.compile(
    r"^(?:[+-]?0[0-9]+(?:\.0*)?|[+-]?[0-9]{16,}(?:\.0*)?)$", re.MULTILINE
)  # would lose zeros, or last digits
_SWAP = str.maketrans(".,", ",.")
_AMERICAN = re.compile(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}(?: .*)?")


def is_text(column: pd.Series[Any]) -> bool:
    """Whether ``column`` holds text: pandas 3's ``str``, ``string``, or ``object``."""
    return bool(pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column))


def few_rows(column: pd.Series[Any], bad: npt.NDArray[np.bool_]) -> str:
    """How many rows are ``bad``, and the first three of them, for a message."""
    first = [f"{label!r}: {value!r}" for label, value in column[bad].iloc[:3].astype(object).items()]
    return f"in {bad.sum()} of {len(bad)} rows, first at {', '.join(first)}"


def settle(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of text as pandas itself keeps text (``str`` from pandas 3 on, ``object`` before)."""
    columns = {c: frame[c].infer_objects() for c in frame.columns}  # a frame as a whole leaves blocks of columns object
    return pd.DataFrame(columns, index=frame.index, columns=frame.columns)


def infer_numbers(frame: pd.DataFrame, where: str, *, text: Collection[str] = (), decimal: str = ".") -> pd.DataFrame:
    """Each text column of ``frame`` whose every value is a plain number as int64 or float64; the others as they are.

    A column stays text if a number would lose something:

    * leading zeros (``"007"``) or more than 15 digits: an id;
    * ``"10E2"``, which is 1000 or an id, and whole numbers in several spellings (``"1"`` and ``"1.0"``, ``"1000"`` and
      ``"+1000"``), which would become one: with a :class:`TableWarning`;
    * a bound (``">1700"``, ``"<8"``, ``"89+"``) or an age (``"045Y"``): the encoder reads them;
    * other text beside the numbers: with a :class:`TableWarning` where half of the values or more are numbers, or look
      like one (``"61¹"``, ``"5 mg"``).

    Numbers that may mean others (``1.743`` beside ``980``, ``250.1`` beside ``250.10``) are read as they are written,
    with a :class:`TableWarning`: see :func:`~fusionconv.tabular.numberdoubts.number_doubt`.

    With ``decimal=","`` the numbers and bounds of such a column get a decimal point, so that they are read as they were
    meant; a column that is mostly other text, or ids, stays as it is.

    Raises:
        TableError: the other decimal mark (``"61,5"``, or with ``decimal=","`` ``"61.5"`` and ``"1.867"``), or numbers
            that a spreadsheet changed (see :func:`require_numbers`), in a column that is otherwise numbers and not in
            ``text``.
    """
    columns = {}
    for name in frame.columns:
        column = columns[name] = frame[name]
        if name in text or not is_text(column):
            continue
        known = column.dropna().astype(object).tolist()
        if not known or _CODE.search(joined := _joined(known)):
            continue
        numbers, odd = _parse(column, decimal)
        if not odd.any():
            if why := _two_readings(numbers, column, joined):
                columns[name] = _with_points(column, decimal)
                _warn(f"{where}: column {str(name)!r}: {why}")
            else:
                columns[name] = _narrow(numbers, column)
                mark = decimal in joined  # whole numbers alone are looked at above
                if mark and (why := number_doubt(dict.fromkeys(joined.split("\n")), str(name), decimal)):
                    _warn(f"{where}: column {str(name)!r}: {why}")
            continue
        _refuse_marks(column, odd, where, decimal, "; if it is no number, read it as text=[...]")
        readable = int(np.isfinite(numbers).sum())
        shapes = column[odd].map(lambda v: shape_of(_swapped(v, decimal)) if isinstance(v, str) else "text")
        errors = column[odd].map(lambda v: isinstance(v, str) and v.startswith("#"))  # #DIV/0! of a spreadsheet
        like = readable + int((shapes.isin(list(ODD_SHAPES)) | errors).sum())
        if (shapes == "bound").all():
            columns[name] = _with_points(column, decimal)
        elif readable and 2 * like >= readable + odd.sum():
            columns[name] = _with_points(column, decimal)
            _warn(
                f"{where}: column {str(name)!r} mixes {readable} numbers with text {few_rows(column, odd)}; it stays "
                "text: correct these rows, name their text in missing=..., or name the column in text=[...]"
            )
    return pd.DataFrame(columns, index=frame.index, columns=frame.columns)


def _two_readings(numbers: npt.NDArray[np.float64], column: pd.Series[Any], joined: str) -> str:
    """Why whole numbers may be names that must not become one, or nothing."""
    if found := _EXPONENT.search(joined):
        what = f"{found[0]!r} may be the number {float(found[0]):g} or a name"
    else:
        known = numbers[np.isfinite(numbers)]
        if (known % 1).any() or len(texts := dict.fromkeys(joined.split("\n"))) == len(np.unique(known)):
            return ""
        by_number: dict[float, str] = {}
        pairs = ((by_number.setdefault(float(tidy_cell(t).replace(",", ".")), t), t) for t in texts if t)
        one, other = next(((a, b) for a, b in pairs if a != b), ("", ""))
        if not other:
            return ""
        what = f"{one!r} and {other!r} are one number and two names"
    return (
        f"{what}; it stays text: name it in text=[...] if it is an id, or make numbers of it with "
        f"pandas.to_numeric(frame[{str(column.name)!r}])"
    )


def _warn(text: str) -> None:
    warnings.warn(text, TableWarning, stacklevel=4)


def require_numbers(
    column: pd.Series[Any],
    where: str,
    *,
    decimal: str = ".",
    low: float = -np.inf,
    high: float = np.inf,
    allow: Callable[[str], bool] | None = None,
) -> pd.Series[Any]:
    """``column`` as numbers, missing where it is missing.

    Args:
        low: the smallest and
        high: the largest number that is possible there, as a test for numbers that lost their decimal point.
        allow: text that may stand there too and becomes missing, as a test of it.

    Raises:
        TableError: naming the column and the first rows that are no numbers, or no possible ones.

    >>> require_numbers(pd.Series(["1.743", None, "1.104"], name="ASF"), "oasis.csv").tolist()
    [1.743, nan, 1.104]
    >>> require_numbers(pd.Series(["1.743.000", "1.104"], name="ASF"), "oasis.csv")
    Traceback (most recent call last):
        ...
    fusionconv.errors.TableError: oasis.csv: column 'ASF': expected numbers with a decimal point, got numbers with \
several marks in 1 of 2 rows, first at 0: '1.743.000'; a spreadsheet of another locale took a point for a thousands \
mark, and which digits are the decimals is lost: take the table from its source again
    """
    numbers, odd = _parse(column, decimal)
    if allow is not None:
        odd &= ~column.map(lambda v: isinstance(v, str) and allow(v)).to_numpy(bool)
    if odd.any():
        _refuse_marks(column, odd, where, decimal, "")
        do = advice((v for v in column[odd].astype(object) if isinstance(v, str)), str(column.name))
        do = f": {do}" if do and "kinds=" not in do else ""
        raise TableError(
            f"{where}: column {str(column.name)!r}: expected numbers, got others {few_rows(column, odd)}; correct "
            f"these rows, or clear them if they are missing{do}"
        )
    outside = (numbers < low) | (numbers > high)
    if outside.any():
        raise TableError(
            f"{where}: column {str(column.name)!r}: expected numbers from {low:g} to {high:g}, got others "
            f"{few_rows(column, outside)}; were decimal points lost in a spreadsheet? Take the table from its source"
        )
    return _narrow(numbers, column)


def require_codes(column: pd.Series[Any], codes: Collection[Any], where: str) -> None:
    """Raise unless every value of ``column`` that is not missing is one of ``codes``."""
    odd = (column.notna() & ~column.isin(list(codes))).to_numpy(bool)
    if odd.any():
        raise TableError(
            f"{where}: column {str(column.name)!r}: expected one of {', '.join(map(repr, codes))} or nothing, got "
            f"others {few_rows(column, odd)}; correct these rows: an unknown code is not guessed"
        )


def require_dates(column: pd.Series[Any], where: str, *, month_first: bool = False) -> pd.Series[Any]:
    """``column`` as days (datetime64, midnight), missing where it is missing.

    Dates are written as ISO 8601 has them (``2005-09-08``, with a time or not). A source that is known to write
    month/day/year (``9/8/2005``, as LONI does) may do so with ``month_first``, all of a column in one way.

    Raises:
        TableError: naming the first rows that are no such date.

    >>> require_dates(pd.Series(["1/29/2018", None]), "search.csv", month_first=True).tolist()
    [Timestamp('2018-01-29 00:00:00'), NaT]
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        known_days: pd.Series[Any] = column.dt.tz_localize(None).dt.normalize().astype("datetime64[ns]")
        return known_days
    stripped = column.map(lambda v: v.strip() if isinstance(v, str) else v)
    american = stripped.map(lambda v: month_first and isinstance(v, str) and bool(_AMERICAN.fullmatch(v))).to_numpy(
        bool
    )
    iso = stripped.map(lambda v: isinstance(v, str) and bool(ISO_DATE.fullmatch(v))).to_numpy(bool)
    known = stripped.notna().to_numpy(bool)
    odd = known & ~iso & ~american
    days = pd.Series(pd.NaT, index=column.index, dtype="datetime64[ns]", name=column.name)
    if not odd.any() and not (iso.any() and american.any()):
        short = stripped[known].astype(str)
        text, style = (short.str.split(" ").str[0], "%m/%d/%Y") if american.any() else (short.str[:10], "%Y-%m-%d")
        days[known] = pd.to_datetime(text, format=style, errors="coerce").astype("datetime64[ns]")
        odd = known & days.isna().to_numpy(bool)
    elif not odd.any():
        odd = american if american.sum() <= iso.sum() else iso
    if odd.any():
        raise TableError(
            f"{where}: column {str(column.name)!r}: expected dates as 2005-09-08"
            f"{', or all as 9/8/2005 (month/day/year)' * month_first}, got others {few_rows(column, odd)}; write the "
            f"dates as year-month-day: pandas.to_datetime(frame[{str(column.name)!r}], format='%m/%d/%Y') reads "
            "month/day/year, format='%d.%m.%Y' day.month.year"
        )
    return days


def _parse(column: pd.Series[Any], decimal: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The numbers of a column (NaN where there is none), and which values are there and are none."""
    known = column.notna().to_numpy(bool)
    if not is_text(column):
        return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan), known & False
    there = column.astype(object).to_numpy()[known]
    number = NUMBER.replace(r"\.", re.escape(decimal))
    numbers = np.full(len(column), np.nan)
    joined = _joined(there.tolist())
    if joined.count("\n") == len(there) - 1:  # one text a line, the way that most columns go
        if not re.search(rf"^(?!{number}$).*$", joined, re.MULTILINE):
            numbers[known] = np.array(joined.replace(decimal, ".").split("\n"), object).astype(float)
            return numbers, known & ~np.isfinite(numbers)
        if not re.search(rf"^{number}$", joined, re.MULTILINE):
            return numbers, known
    pattern = re.compile(number)

    def value(v: object) -> float:
        if isinstance(v, str):
            v = tidy_cell(v)
            return float(v.replace(decimal, ".")) if pattern.fullmatch(v) else np.nan
        is_number = isinstance(v, (int, float, np.number)) and not isinstance(v, (bool, np.bool_))
        return float(v) if is_number else np.nan  # type: ignore[arg-type]

    numbers[known] = [value(v) for v in there]
    return numbers, known & ~np.isfinite(numbers)


def _joined(values: list[Any]) -> str:
    """The texts among ``values``, one a line, so that one search looks at all of them."""
    return "\n".join([tidy_cell(v) for v in values if isinstance(v, str)])


def _narrow(numbers: npt.NDArray[np.float64], column: pd.Series[Any]) -> pd.Series[Any]:
    """The numbers of ``column``, int64 where all are whole and none is missing."""
    whole = len(numbers) > 0 and bool(np.isfinite(numbers).all() and (numbers == np.round(numbers)).all())
    exact = whole and bool((np.abs(numbers) < 2**53).all())
    return pd.Series(numbers.astype(np.int64) if exact else numbers, index=column.index, name=column.name)


def _swapped(text: str, decimal: str) -> str:
    """``text`` as it were with a decimal point: points and commas change places where ``decimal`` is a comma."""
    return text if decimal == "." else text.translate(_SWAP)


def _with_points(column: pd.Series[Any], decimal: str) -> pd.Series[Any]:
    """``column`` with its numbers and bounds written with a decimal point, the rest of it as it is."""

    def pointed(v: object) -> object:
        return new if isinstance(v, str) and shape_of(new := _swapped(v, decimal)) in ("number", "bound") else v

    return column if decimal == "." else column.map(pointed)


def _refuse_marks(column: pd.Series[Any], odd: npt.NDArray[np.bool_], where: str, decimal: str, otherwise: str) -> None:
    """Raise if ``odd``, what is no number, has the other decimal mark in a column that is otherwise numbers.

    It is where most of ``odd`` looks so, or where the column has more different numbers than different other texts.
    """
    name = f"{where}: column {str(column.name)!r}"
    mark, other = ("point", "comma") if decimal == "." else ("comma", "point")
    shapes = np.array(
        [
            shape_of(_swapped(v, decimal)) if bad and isinstance(v, str) else ""
            for v, bad in zip(column, odd, strict=True)
        ],
        dtype=object,
    )
    thousands, others = shapes == "thousands", shapes == "decimal comma"
    several = thousands & np.array([isinstance(v, str) and max(v.count("."), v.count(",")) > 1 for v in column], bool)
    if several.any():
        raise TableError(
            f"{name}: expected numbers with a decimal {mark}, got numbers with several marks "
            f"{few_rows(column, several)}; a spreadsheet of another locale took a point for a thousands mark, and "
            f"which digits are the decimals is lost: take the table from its source again{otherwise}"
        )
    like = thousands | others | (column.notna().to_numpy(bool) & ~odd) | (shapes == "bound")
    words = column[odd & ~like].nunique()
    if not (thousands | others).any() or (
        2 * (thousands | others).sum() <= odd.sum() and column[like].nunique() <= words
    ):
        return
    if thousands.any():
        raise TableError(
            f"{name}: expected numbers without marks between the thousands, got others {few_rows(column, thousands)}; "
            f"write them without{otherwise}"
        )
    if not otherwise:  # of a reader that knows its table
        raise TableError(
            f"{name}: expected numbers with a decimal {mark}, got {other}s {few_rows(column, others)}; a spreadsheet "
            f"of another locale wrote them: take the table from its source, or write decimal {mark}s"
        )
    wanted = "," if decimal == "." else "."
    raise TableError(
        f"{name}: expected numbers with a decimal {mark}, got {other}s {few_rows(column, others)}; if they are decimal "
        f"{other}s, give decimal={wanted!r} (--decimal {wanted}); if they part thousands, write the numbers without "
        f"them{otherwise}"
    )
