"""Is anybody on both sides: shared subjects, ids that may be one person's, rows that are the same by no coincidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.tabular.ids import near_identical, subject_codes
from fusionconv.tabular.leakage.report import Finding

__all__ = ["find_identical_rows", "find_shared_subjects"]

_COINCIDENCE = 0.05  # expected number of rows alike by chance, below which rows alike are worth a warning


def find_shared_subjects(train: pd.DataFrame, test: pd.DataFrame, group: str) -> Iterator[Finding]:
    """An error for each id on both sides; a warning for ids on both sides that differ only in how they are written."""
    rows = []
    for frame in (train, test):
        ids, codes = subject_codes(frame, group)
        labels: dict[str, list[Any]] = {}
        for label, code in zip(frame.index, codes, strict=True):
            labels.setdefault(ids[code], []).append(label)
        rows.append({name: tuple(of) for name, of in labels.items()})
    of_train, of_test = rows
    for name in sorted(of_train.keys() & of_test.keys()):
        yield Finding("error", f"shared {group}", name, "on both sides", of_train[name], of_test[name])
    for alike in near_identical(of_train.keys() | of_test.keys()):
        left, right = [a for a in alike if a in of_train], [a for a in alike if a in of_test]
        if {(a, b) for a in left for b in right if a != b}:
            yield Finding(
                "warning",
                f"near-identical {group}",
                " and ".join(alike),
                "may be one person's: they differ only in case, punctuation, leading zeros or 'sub-'",
                tuple(label for a in left for label in of_train[a]),
                tuple(label for a in right for label in of_test[a]),
            )


def find_identical_rows(train: pd.DataFrame, test: pd.DataFrame, group: str, columns: list[str]) -> Iterator[Finding]:
    """A warning for rows of different subjects that are the same in all of ``columns``, unless that is no wonder.

    By the columns' frequencies, as if these were independent, one expects ``n_train * prod_j p_j(value_j)`` training
    rows like a given one; rows alike are reported where that is below 0.05. Two 70-year-old women are no finding.
    """
    if not columns:
        return
    both = pd.concat([train[columns], test[columns]], ignore_index=True).astype(object)
    labels = [*train.index, *test.index]
    subjects = pd.concat([train[group], test[group]], ignore_index=True).astype(object).map(str)
    in_train = np.arange(len(both)) < len(train)
    expected = np.full(len(both), float(len(train)))
    for name in columns:
        codes = pd.factorize(both[name], use_na_sentinel=False)[0]
        expected *= np.bincount(codes)[codes] / len(both)
    keys = both.groupby(columns, dropna=False, sort=False).ngroup().to_numpy()
    rare = expected < _COINCIDENCE
    for key in np.intersect1d(keys[rare & ~in_train], keys[rare & in_train]):
        here = np.flatnonzero(keys == key)
        left, right = here[in_train[here]], here[~in_train[here]]
        different = {(a, b) for a in subjects[left] for b in subjects[right] if a != b}
        if different:
            yield Finding(
                "warning",
                "identical rows",
                " and ".join(sorted(set(subjects[here]))),
                f"the same in all of {', '.join(columns)}: one person under two ids?",
                tuple(labels[i] for i in left),
                tuple(labels[i] for i in right),
            )
