"""Labels: the values of a category as plain Python text and numbers, alike however the column is stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.text import read_cell, tidy_cell

__all__ = ["Label", "is_label", "listed", "plain_label", "plain_labels", "positions", "refuse_blank", "same_positions"]

Label: TypeAlias = str | int | float | bool
_TRUTH = {"true": True, "false": False}  # as spreadsheets write them


def is_label(value: Any) -> bool:
    """Whether ``value`` is text, a truth value or a finite number."""
    return isinstance(value, (str, Integral, np.bool_)) or (isinstance(value, Real) and math.isfinite(value))


def plain_label(value: Any) -> Label:
    """The Python value of a label: 2.0 and ``numpy.int8(2)`` are 2, so that a column read as floats names no "2.0".

    >>> plain_label(np.float64(2)), plain_label(0.5), plain_label(np.str_("A")), plain_label(np.True_)
    (2, 0.5, 'A', True)
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if not is_label(value):
        raise TableError(f"expected text or a finite number, got {value!r} ({type(value).__name__})")
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def plain_labels(values: Iterable[Any], what: str, least: int = 1) -> tuple[Label, ...]:
    """``values`` as different plain labels, for the argument ``what``.

    Raises:
        TableError: a single text, something that is no label, one twice, or fewer than ``least``.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TableError(f"expected a list for {what}, got {values!r}; write [{values!r}] if it is a single value")
    labels = tuple(plain_label(v) for v in values)
    if len(set(labels)) < len(labels) or len(labels) < least:
        raise TableError(f"expected at least {least} different values for {what}, got {list(labels)!r}; name each once")
    return labels


def refuse_blank(labels: Iterable[Label], what: str) -> None:
    """Raise where a label is blank text, which is a missing value in every column."""
    if found := [v for v in labels if isinstance(v, str) and not v.strip()]:
        raise TableError(
            f"expected {what} with something in them, got {found[0]!r}; blank text is a missing value: say with "
            "missing= what becomes of it, or write a word in its place"
        )


def listed(labels: Sequence[Any], most: int = 12) -> str:
    """Labels for a message, not more than ``most`` of them."""
    return ", ".join(map(repr, labels[:most])) + (f", ... ({len(labels)} in all)" if len(labels) > most else "")


def positions(values: npt.NDArray[np.object_], labels: Sequence[Label]) -> npt.NDArray[np.intp]:
    """For every value its position in ``labels``, -1 where it is none; 2, 2.0 and ``numpy.int8(2)`` are alike."""
    try:
        return pd.Index(list(labels), dtype=object).get_indexer(pd.Index(values, dtype=object))
    except TypeError:  # something unhashable, such as a list in a cell
        hashable = np.fromiter((v.__hash__ is not None for v in values), bool, len(values))
        values = values.copy()
        values[~hashable] = None
        return positions(values, labels)


def same_positions(values: npt.NDArray[np.object_], labels: Sequence[Label]) -> npt.NDArray[np.intp]:
    """:func:`positions`, and where a value is no label as it is stored, that of the only label which is written alike.

    >>> same_positions(np.array([1.0, "1", "1.0 ", "01", "A ", False], dtype=object), [1, "A", "False"]).tolist()
    [0, 0, 0, -1, 1, 2]
    >>> same_positions(np.array([1, "1"], dtype=object), ["1.0", "1"]).tolist()  # two labels are written so
    [-1, 1]
    """
    at = positions(values, labels)
    if not (left := np.flatnonzero(at < 0)).size:
        return at
    written: dict[str, int] = {}
    for place, label in enumerate(labels):
        key = _written(label)
        written[key] = -1 if key in written else place
    at[left] = [written.get(_written(v), -1) if is_label(v) else -1 for v in values[left]]
    return at


def _written(label: Any) -> str:
    """A label as text, however it is stored: 1, 1.0, "1" and " 1.00" are one, so are "A " and "A", an accent is one."""
    text = tidy_cell(label) if isinstance(label, str) else ""
    if text:
        cell = read_cell(text)
        label = cell.number if cell.shape == "number" else _TRUTH.get(text.casefold(), text)
    label = plain_label(label)
    return f"{label:.7g}" if isinstance(label, float) else str(label)  # as float32 keeps it
