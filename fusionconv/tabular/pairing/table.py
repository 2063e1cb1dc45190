"""CovariateTable: each patient's encoded row, found by id and by nothing else."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular.columns import did_you_mean, require_columns
from fusionconv.tabular.ids import column_ids, first_few, one_spelling
from fusionconv.tabular.labels import is_label, plain_label
from fusionconv.tabular.suspicious import suspicious_numbers

__all__ = ["CovariateTable", "id_parts", "joined", "row_ids"]

_CLASSES = 12  # a target of whole numbers with no more different values is taken for classes


def row_ids(frame: pd.DataFrame, id: str | Sequence[str] | None) -> list[str]:
    """An id for each row: a column, or several joined by ``_``; None for subject and, where there is one, session.

    Raises:
        TableError: an absent column, or a row whose id is missing. Ids that are there twice are for the caller to see.

    >>> row_ids(pd.DataFrame({"subject": ["a", "b"], "session": ["m06", ""]}), None)
    ['a_m06', 'b']
    """
    return [joined(parts) for parts in id_parts(frame, id)]


def joined(parts: Sequence[str | None]) -> str:
    """The parts of an id that are there, joined by ``_``. Other parts may give the same text: for people to read."""
    return "_".join(text for text in parts if text is not None)


def id_parts(frame: pd.DataFrame, id: str | Sequence[str] | None) -> list[tuple[str | None, ...]]:
    """The parts of each row's id: (subject, session or None), or the columns of ``id``. See :func:`row_ids`."""
    columns = ["subject", *(["session"] if "session" in frame.columns else [])] if id is None else id
    columns = [columns] if isinstance(columns, str) else list(columns)
    require_columns(frame, columns)
    parts = [column_ids(frame[c]) for c in columns]
    absent = [i for i, text in enumerate(parts[0]) if text is None]
    for column in parts[1:] if id is not None else []:
        absent += [i for i, text in enumerate(column) if text is None]
    if absent:
        rows = [frame.index[i] for i in sorted(set(absent))]
        raise TableError(
            "expected an id (text other than 'NA' or 'nan', or a whole number; a float below 2**53) in "
            f"{' and '.join(map(repr, columns))} of every row, got {len(rows)} without: rows {first_few(rows)}; fill "
            "them in or drop these rows, and read long ids as text"
        )
    if id is None and len(parts) == 1:
        parts.append([None] * len(frame))
    return list(zip(*parts, strict=True))


class CovariateTable:
    """The encoded covariates of a table, by id: ``table.rows(["sub-02", "sub-01"])`` is in the order that you ask for.

    Args:
        frame: one row per image. The ids in it are unique.
        encoder: a fitted encoder, such as :class:`~fusionconv.tabular.CovariateEncoder`.
        id: the column that names a row, or columns to join by ``_``; None for subject and (if there is one) session.
        target: the column to predict, or None. Text needs ``classes``; whole numbers and bools become int64, other
            numbers float32.
        classes: the target's values in the order of the class codes 0, 1, ..., such as ``["CN", "MCI", "AD"]``.
        image: the column of image files; it may be absent.
        root: a folder to put before relative image paths.

    Attributes:
        ids: the N ids in the order of the rows.
        covariates: float32 tensor (N, K).
        targets: tensor (N,), or None.
        images: the N paths (None where there is none), or None without such a column.

    Raises:
        TableError: an id twice or missing, a target that is missing, unknown, among the encoder's columns, or a class
            that looks like a code for "missing" (-9 beside 0 and 1) without ``classes``.

    Warns:
        TableWarning: a measured target with numbers that look like such codes.

    >>> from fusionconv.tabular import CovariateEncoder
    >>> frame = pd.DataFrame({"subject": ["a", "b", "c"], "sex": [0, 1, 1], "dx": ["CN", "AD", "CN"]})
    >>> table = CovariateTable(frame, CovariateEncoder(["sex"]).fit(frame), target="dx", classes=["CN", "AD"])
    >>> table.rows(["c", "a"]), table.targets
    (tensor([[1.],
            [0.]]), tensor([0, 1, 0]))
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        encoder: Any,
        *,
        id: str | Sequence[str] | None = None,
        target: str | None = None,
        classes: Sequence[Any] | None = None,
        image: str = "image",
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        require_columns(frame, [])
        if target is not None and not isinstance(target, str):
            raise TableError(f"target: expected the name of one column, got {target!r}; give its name as text")
        if target is not None and target in tuple(getattr(encoder, "columns", ())):
            raise TableError(
                f"expected covariates without the target, got the target {target!r} among {list(encoder.columns)}; "
                "the answer would go in with the question: leave it out of the encoder's columns"
            )
        ids = row_ids(frame, id)
        self._place = {one_spelling(name): i for i, name in enumerate(ids)}
        if len(self._place) < len(ids):
            counts = Counter(map(one_spelling, ids))
            twice = [name for name, count in counts.items() if count > 1]
            raise TableError(
                f"expected each id once, got {len(twice)} several times: {first_few(twice)}; name what tells the rows "
                "apart, such as id='image' or id=['subject', 'session', 'run'], or drop the doubles"
            )
        self.ids: tuple[str, ...] = tuple(ids)
        self.covariates = torch.from_numpy(
            np.array(encoder.transform(frame.set_axis(pd.Index(ids, name="id"))), dtype=np.float32)
        )
        if self.covariates.shape[:1] != (len(ids),) or self.covariates.ndim != 2:
            raise TableError(f"expected an encoder that gives ({len(ids)}, K), got {tuple(self.covariates.shape)}")
        if not bool(torch.isfinite(self.covariates).all()):
            raise TableError("expected finite covariates from the encoder, got NaN or infinity; check its settings")
        self.targets = None if target is None else _targets(frame, target, classes)
        self.images: tuple[str | None, ...] | None = None
        if image in frame.columns:
            require_columns(frame, [image])
            texts = (str(v) if not pd.isna(v) and str(v) else None for v in frame[image].tolist())
            self.images = tuple(t if t is None or root is None else os.path.join(root, t) for t in texts)

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, ids: Iterable[str]) -> list[int]:
        """Where the rows of these ids are.

        Raises:
            TableError: ids that are not in the table.
        """
        ids = list(ids)
        places = [self._place.get(one_spelling(name)) for name in ids]
        unknown = [name for name, place in zip(ids, places, strict=True) if place is None]
        if unknown:
            raise TableError(
                f"expected ids of the table ({len(self)} rows, such as {first_few(self.ids)}), got {len(unknown)} "
                f"others: {first_few(unknown)}{did_you_mean(str(unknown[0]), self.ids[:10_000])}"
            )
        return [place for place in places if place is not None]

    def rows(self, ids: Iterable[str]) -> torch.Tensor:
        """The covariates of these ids, float32 (len(ids), K), in this order."""
        return self.covariates[self.places(ids)]

    def require(self, ids: Sequence[str], covariates: torch.Tensor, images: Sequence[str | None] | None = None) -> None:
        """Raise unless row n of ``covariates`` is exactly that of ``ids[n]`` (and ``images[n]`` is its file).

        Raises:
            TableError: another number of rows, unknown ids, rows of somebody else, files of somebody else.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> frame = pd.DataFrame({"subject": ["a", "b"], "sex": [0, 1]})
        >>> table = CovariateTable(frame, CovariateEncoder(["sex"]).fit(frame))
        >>> table.require(["a", "b"], torch.tensor([[1.0], [0.0]]))
        Traceback (most recent call last):
            ...
        fusionconv.errors.TableError: expected each id's own covariates, got others for 2 of 2: 'a', 'b'; ...
        """
        rows = self.rows(ids)
        if tuple(covariates.shape) != tuple(rows.shape):
            raise TableError(
                f"expected covariates {tuple(rows.shape)}, a row for each of {len(rows)} ids, got "
                f"{tuple(covariates.shape)}; one row per image of the batch"
            )
        wrong = (covariates.detach().to("cpu", torch.float32) != rows).any(dim=1).tolist()
        if any(wrong):
            others = [name for name, w in zip(ids, wrong, strict=True) if w]
            raise TableError(
                f"expected each id's own covariates, got others for {len(others)} of {len(ids)}: {first_few(others)}; "
                "rows were shifted, repeated in another order than the images, or changed by a transform: take them "
                "from table.rows(ids)"
            )
        if images is not None and self.images is not None:
            own = [self.images[i] for i in self.places(ids)]
            mixed = [
                f"{name}: {file}"
                for name, file, mine in zip(ids, images, own, strict=True)
                if file and mine and os.path.realpath(file) != os.path.realpath(mine)
            ]
            if mixed:
                raise TableError(
                    f"expected each id's own image, got others for {len(mixed)} of {len(ids)}: {first_few(mixed)}; "
                    "pair images and rows by id (pair_by_id), never by their order"
                )


def _targets(frame: pd.DataFrame, target: str, classes: Sequence[Any] | None) -> torch.Tensor:
    require_columns(frame, [target])
    column = frame[target]
    if classes is not None:
        known = {_class_key(c): i for i, c in enumerate(classes)}
        if isinstance(classes, str) or len(known) < len(classes):
            raise TableError(f"expected a list of different classes, got {classes!r}")
        codes = [None if pd.isna(v) else known.get(_class_key(v)) for v in column.tolist()]
        bad = np.array([c is None for c in codes], dtype=bool)
        _refuse(bad, frame, target, f"one of the classes {list(classes)}")
        return torch.tensor(codes, dtype=torch.int64)
    _refuse(column.isna().to_numpy(dtype=bool), frame, target, "a value in every row")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        _refuse_codes(frame, target)
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return torch.from_numpy(column.to_numpy(dtype=np.int64).copy())
    if pd.api.types.is_float_dtype(column):
        values = column.to_numpy(dtype=np.float32)
        _refuse(~np.isfinite(values), frame, target, "a finite number in every row")
        return torch.from_numpy(values.copy())
    raise TableError(
        f"column {target!r}: expected numbers, or classes=[...] to say which class is 0, 1, ..., got {column.dtype} "
        f"such as {first_few(column.unique().tolist())}; an order that is guessed may differ between folds"
    )


def _class_key(value: Any) -> str:
    """A class as text, however it is stored: 1, 1.0, True, numpy's numbers and "1" are the same class."""
    if not is_label(value):
        return str(value)
    label = plain_label(value)
    return str(int(label) if isinstance(label, bool) else label)


def _refuse_codes(frame: pd.DataFrame, target: str) -> None:
    """Raise where one of a few classes looks like a code for "missing", and warn where a measurement does."""
    numbers = frame[target].to_numpy(dtype=np.float64)
    suspects = suspicious_numbers(numbers, target)
    if not suspects:
        return
    said = "; ".join(map(str, suspects))
    if len(np.unique(numbers)) <= _CLASSES and not (numbers % 1).any():
        values = sorted({plain_label(v) for v in numbers.tolist()})
        raise TableError(
            f"column {target!r}: expected the classes of a target, got what may be codes for missing values ({said}); "
            f"drop these rows, or give classes={values!r} if they are classes"
        )
    warnings.warn(
        f"column {target!r}: the target holds what may be codes for missing values ({said}); drop these rows unless "
        "they were measured",
        TableWarning,
        stacklevel=4,
    )


def _refuse(bad: Any, frame: pd.DataFrame, target: str, expected: str) -> None:
    if bad.any():
        first = [f"{label!r}: {value!r}" for label, value in frame.loc[bad, target].iloc[:3].astype(object).items()]
        raise TableError(
            f"column {target!r}: expected {expected}, got others in {bad.sum()} of {len(frame)} rows, first at "
            f"{', '.join(first)}; correct or drop these rows"
        )
