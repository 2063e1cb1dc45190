"""Who a row belongs to: subject ids as text, sorted the same everywhere, and ids that may be one person's."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.text import tidy_cell

__all__ = [
    "column_ids",
    "first_few",
    "id_text",
    "near_identical",
    "one_spelling",
    "require_unique_index",
    "subject_codes",
]

_NOBODY = frozenset(
    ["NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "none", "NaT"]
)  # what programs write where there is no value
_SHORTENED = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+[0-9]+")  # 9.0072E+16: a spreadsheet threw the other digits away


def first_few(items: Iterable[Any], shown: int = 3) -> str:
    """The first items for a message, and how many more there are.

    >>> first_few(["a", "b", "c", "d", "e"])
    "'a', 'b', 'c' and 2 more"
    """
    items = list(items)
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(repr(i) for i in items[:shown]) + more


def id_text(value: Any) -> str | None:
    """An id as text: text without outer spaces, a whole number in digits; None for what is missing, empty or no id.

    A float is an id below 2**53 (2**24 for float32, 2**11 for float16) only: beyond, two ids may be one float. Nor is
    text an id that stands for no value ("nan", "NA", "None"), or that a spreadsheet shortened (9.0072E+16).

    >>> [id_text(v) for v in ("sub-01 ", 7, 7.0, "", None, float("nan"), 7.5, True, "nan", "9.0072E+16")]
    ['sub-01', '7', '7', None, None, None, None, None, None, None]
    >>> id_text(2**53), id_text(2.0**53), id_text(np.float32(2**24))
    ('9007199254740992', None, None)
    """
    if isinstance(value, str):
        text = value.strip()
        return None if not text or text in _NOBODY or _SHORTENED.fullmatch(text) else text
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real) and float(value).is_integer():
        digits = {np.float32: 24, np.float16: 11}.get(type(value), 53)
        return str(int(float(value))) if abs(float(value)) < 2**digits else None
    return None


def one_spelling(text: str) -> str:
    """An id as ids are compared: no outer spaces, a letter and its accent as one sign (file names of macOS have two).

    >>> one_spelling("Mu\\u0308ller") == "Müller"
    True
    """
    return unicodedata.normalize("NFC", text.strip())


def column_ids(column: pd.Series[Any], values: Iterable[Any] | None = None) -> list[str | None]:
    """:func:`id_text` of each row (or of ``values`` of the column), by the precision in which the column is stored.

    >>> column_ids(pd.Series([2**24, 7], dtype="float32"))
    [None, '7']
    """
    stored = str(getattr(column.dtype, "numpy_dtype", column.dtype))  # of pandas' Float32
    narrow = {"float32": np.float32, "float16": np.float16}.get(stored)
    cells = column.tolist() if values is None else list(values)
    return [id_text(v if narrow is None or pd.isna(v) else narrow(v)) for v in cells]


def subject_codes(frame: pd.DataFrame, column: str) -> tuple[list[str], npt.NDArray[np.intp]]:
    """The different ids of a column in the order of their text, and each row's place in that list.

    Neither depends on the order of the rows, nor on whether whole numbers are stored as numbers or as text, nor on
    outer spaces, nor on how an accent is stored.

    Raises:
        TableError: an absent column, no rows, or rows whose id is missing, empty, or neither text nor a whole number.

    >>> subject_codes(pd.DataFrame({"subject": ["b", "a", "b"]}), "subject")
    (['a', 'b'], array([1, 0, 1]))
    """
    require_columns(frame, [column])
    if frame.empty:
        raise TableError(f"expected at least one row with an id in column {column!r}, got an empty table")
    codes, found = pd.factorize(frame[column], use_na_sentinel=True)
    texts = [t if t is None else one_spelling(t) for t in column_ids(frame[column], found)]
    bad = (codes < 0) | np.array([t is None for t in texts] + [False])[codes]
    if bad.any():
        rows = frame.index[bad]
        values = frame[column].astype(object)[bad].iloc[:3].tolist()
        raise TableError(
            f"column {column!r}: expected an id in every row (text, or a whole number that its type holds exactly, as "
            "a float does not from 2**53 on; not 'NA', 'nan' or 9.0072E+16), got none in "
            f"{bad.sum()} of {len(frame)} rows: {first_few(rows)} (values {values!r}); fill in or drop "
            "these rows, and read long ids as text: a row of nobody can be on both sides of a split"
        )
    ids = sorted({t for t in texts if t is not None})
    place = {t: i for i, t in enumerate(ids)}
    return ids, np.array([place[t] for t in texts if t is not None], dtype=np.intp)[codes]


def near_identical(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different ids that may be one person's: alike but for case, punctuation, leading 0, end .0 and "sub-".

    Wide letters and digits (Ｐ１) are like P1, and an accent is like itself however it is stored.

    >>> near_identical(["sub-01", "SUB01", "sub-11", "1", "1_12", "11_2"])
    [('1', 'SUB01', 'sub-01')]
    """
    alike: dict[Sequence[str], set[str]] = {}
    for text in ids:
        whole = re.sub(r"(?<=\d)\.0+$", "", tidy_cell(text))  # 7.0: a number that went through a column with gaps
        tokens = re.findall(r"[^\W\d_]+|\d+", whole.casefold())
        key = [t.lstrip("0") or "0" if t.isdigit() else t for t in tokens]
        if len(key) > 1 and key[0] in ("sub", "subject"):
            key = key[1:]
        alike.setdefault(tuple(key) or (text,), set()).add(text)
    return sorted(tuple(sorted(group)) for group in alike.values() if len(group) > 1)


def require_unique_index(frame: pd.DataFrame, what: str) -> None:
    """Raise unless each row has an index label of its own, as ``what`` refers to rows by label."""
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()].unique()
        raise TableError(
            f"expected each row of the table to have an index label of its own, got {len(twice)} labels several times"
            f": {first_few(twice)}; {what} names rows by label: use frame.reset_index(drop=True)"
        )
