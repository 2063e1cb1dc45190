"""Names of columns: is the name there, is it there once, and if not, which name was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from fusionconv.errors import TableError

__all__ = ["did_you_mean", "named_rows", "require_columns", "require_names"]

_SHOWN = 45  # CelebA's 40 attributes are listed in full, a table of a thousand columns is not


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to append to an error message, or an empty string where nothing comes near.

    Case, spaces and punctuation are ignored; what is left is compared by :mod:`difflib`.

    >>> did_you_mean("Smilling", ["Male", "Smiling", "Young"])
    "; did you mean 'Smiling'?"
    >>> did_you_mean("5 o'clock shadow", ["5_o_Clock_Shadow", "Bald"])
    "; did you mean '5_o_Clock_Shadow'?"
    >>> did_you_mean("age", ["Male", "Smiling"])
    ''
    """

    def letters(text: str) -> str:
        return "".join(c for c in text.casefold() if c.isalnum())

    spelled = {letters(k): k for k in known}
    near = difflib.get_close_matches(letters(name), spelled, n=1, cutoff=0.7)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


def require_names(names: Iterable[str], known: Sequence[str], what: str = "column", where: str = "") -> None:
    """Raise unless every one of ``names`` is among ``known``.

    Args:
        names: the names that are asked for.
        known: the names that exist.
        what: what a name stands for, in the singular, for the message.
        where: what to put before the message, such as the path of the table.

    Raises:
        TableError: naming each unknown name, the nearest known one, and all known ones.

    >>> require_names(["Smilling"], ["Male", "Smiling"], what="attribute")
    Traceback (most recent call last):
        ...
    fusionconv.errors.TableError: unknown attribute 'Smilling'; did you mean 'Smiling'? Expected one of: Male, Smiling
    """
    unknown = [n for n in names if n not in set(known)]
    if unknown:
        came = " ".join(f"unknown {what} {n!r}{did_you_mean(n, known) or '.'}" for n in unknown)
        more = f", ... ({len(known)} in all)" if len(known) > _SHOWN else ""
        listed = ", ".join(known[:_SHOWN]) + more if known else "(there are none)"
        raise TableError(f"{f'{where}: ' if where else ''}{came} Expected one of: {listed}")


def require_columns(frame: Any, names: Sequence[str], where: str = "table") -> None:
    """Raise unless ``frame`` is a DataFrame that has each of ``names`` as a column exactly once.

    Args:
        frame: the table.
        names: the columns that it needs.
        where: what messages call the table.

    Raises:
        TableError: it is no DataFrame, or a column is absent or there twice.

    >>> require_columns(pd.DataFrame({"age": [61], "sex": [0]}), ["agee"])
    Traceback (most recent call last):
        ...
    fusionconv.errors.TableError: table: unknown column 'agee'; did you mean 'age'? Expected one of: age, sex
    """
    if not isinstance(frame, pd.DataFrame):
        raise TableError(
            f"{where}: expected a pandas DataFrame with the columns {list(names)}, got {type(frame).__name__}; "
            "wrap it: pandas.DataFrame(values, columns=[...])"
        )
    require_names(names, [c for c in frame.columns if isinstance(c, str)], "column", where)
    twice = [n for n in names if (frame.columns == n).sum() > 1]
    if twice:
        raise TableError(
            f"{where}: expected each column once, got several of the name {', '.join(map(repr, twice))}; "
            "rename or drop all but one (frame.loc[:, ~frame.columns.duplicated()] keeps the first)"
        )


def named_rows(frame: pd.DataFrame, ids: str | Sequence[Any] | None) -> pd.DataFrame:
    """``frame`` with ``ids`` as its index: a column, or a name for each row; None leaves the index as it is.

    >>> named_rows(pd.DataFrame({"subject": ["a", "b"], "age": [61, 70]}), "subject").index.tolist()
    ['a', 'b']

    Raises:
        TableError: an absent column, or another number of names than rows.
    """
    if ids is None:
        return frame
    if isinstance(ids, str):
        require_columns(frame, [ids])
        return frame.set_axis(pd.Index(frame[ids].to_numpy(dtype=object), name=ids, dtype=object))
    names = list(ids)
    if len(names) != len(frame):
        raise TableError(f"expected ids for {len(frame)} rows, got {len(names)}; give one for each row, in their order")
    return frame.set_axis(pd.Index(names, dtype=object))
