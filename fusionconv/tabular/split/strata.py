"""What is kept in proportion: each subject's stratum, from the classes or the number bins of all of its rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import SplitWarning, TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.ids import first_few
from fusionconv.tabular.split.deal import Codes

__all__ = ["MOST_CLASSES", "Strata", "find_strata", "warn_of_absent_classes"]

MOST_CLASSES = 10  # a numeric column with more different values is a measure and is binned


@dataclass(frozen=True)
class Strata:
    """Codes of shape (subjects, columns), and for each class column the class (or None) of each row."""

    of_subject: Codes
    classes: dict[str, npt.NDArray[np.object_]]


def find_strata(frame: pd.DataFrame, columns: Sequence[str], ids: list[str], codes: Codes, bins: int) -> Strata:
    """Each subject's stratum in each of ``columns``; the same for any order of the rows.

    A subject's classes are all that its rows have: who goes from MCI to AD is in a stratum of such subjects. A measure
    (a numeric column with more than ten different values) is the median of the subject's rows, in ``bins`` bins of
    about as many subjects each; equal medians share a bin.

    Raises:
        TableError: an absent column, or subjects without any value in it.

    Warns:
        SplitWarning: subjects with rows of different classes, named.
    """
    require_columns(frame, columns)
    labels, classes = [], {}
    for name in columns:
        column = frame[name].reset_index(drop=True)
        empty = column.isna().to_numpy(dtype=bool)
        present = np.zeros(len(ids), dtype=bool)
        present[codes[~empty]] = True
        if not present.all():
            without = [ids[i] for i in np.flatnonzero(~present)]
            raise TableError(
                f"column {name!r}: expected a value for every subject, to stratify by it, got none for {len(without)} "
                f"of {len(ids)}: {first_few(without)}; drop these rows, or stratify by another column"
            )
        if _is_measure(column):
            labels.append(_bins(name, column, ids, codes, bins))
        else:
            text = column.astype(object).map(str).to_numpy(dtype=object, copy=True)
            text[empty] = None
            classes[name] = text
            labels.append(_class_sets(name, text[~empty], ids, codes[~empty]))
    levels = [np.unique(np.array(label, dtype=object), return_inverse=True)[1] for label in labels]
    return Strata(np.array(levels, dtype=np.intp).reshape(len(columns), len(ids)).T, classes)


def warn_of_absent_classes(
    classes: dict[str, npt.NDArray[np.object_]], parts: dict[str, npt.NDArray[np.bool_]], ids: list[str], codes: Codes
) -> None:
    """Warn, once a column, of classes that have no row in a part; ``parts`` maps a part's name to its rows."""
    for name, values in classes.items():
        absent: dict[str, list[str]] = {}
        every = {v for v in values if v is not None}
        for part, rows in parts.items():
            for label in sorted(every - set(values[rows])):
                absent.setdefault(label, []).append(part)
        if absent:
            says = []
            for label, where in absent.items():
                subjects = [ids[i] for i in np.unique(codes[values == label])]
                says.append(
                    f"{label!r} ({len(subjects)} subjects: {first_few(subjects)}) is absent from {first_few(where)}"
                )
            warnings.warn(
                f"column {name!r}: expected every class in every part, got: {'; '.join(says)}; a score of a part "
                "without a class says nothing of that class: use fewer parts, or join or drop the class",
                SplitWarning,
                stacklevel=4,
            )


def _is_measure(column: pd.Series) -> bool:
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return numeric and column.nunique() > MOST_CLASSES


def _bins(name: str, column: pd.Series, ids: list[str], codes: Codes, bins: int) -> list[str]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise TableError(
            f"column {name!r}: expected finite numbers to stratify by, got infinity for "
            f"{first_few(ids[i] for i in np.unique(codes[np.isinf(values)]))}; correct or drop these rows"
        )
    medians = pd.Series(values).groupby(codes).median()  # no sum: the same for any order of rows
    below = (medians.rank(method="min") - 1).to_numpy(dtype=np.int64)
    return [f"{b:06d}" for b in below * bins // len(ids)]


def _class_sets(name: str, text: npt.NDArray[np.object_], ids: list[str], codes: Codes) -> list[str]:
    pairs = pd.DataFrame({"subject": codes, "label": text}).drop_duplicates().sort_values(["subject", "label"])
    sets = pairs.groupby("subject")["label"].agg(list)
    several = sets[sets.map(len) > 1]
    if len(several):
        named = [f"{ids[int(i)]}: {' and '.join(labels)}" for i, labels in several.iloc[:3].items()]  # type: ignore[call-overload]
        warnings.warn(
            f"column {name!r}: expected one class per subject, got several for {len(several)} of {len(ids)} subjects "
            f"({'; '.join(named)}{'; ...' if len(several) > 3 else ''}); they stay together and make strata of their "
            "own: for a diagnosis per visit that is right, otherwise correct the table",
            SplitWarning,
            stacklevel=5,
        )
    return ["\x1e".join(labels) for labels in sets]
