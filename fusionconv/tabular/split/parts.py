"""Hold-out, k folds and leaving sites out: each row's part, such that no subject is on two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.ids import first_few, subject_codes
from fusionconv.tabular.split.checks import (
    cut_val,
    find_subjects,
    random_state,
    require_sizes,
    require_val_size,
    warn_of_folds,
    warn_of_near_identical,
)
from fusionconv.tabular.split.deal import deal_equal, deal_sizes, whole_numbers
from fusionconv.tabular.split.strata import warn_of_absent_classes

__all__ = ["holdout", "kfold", "leave_site_out"]

_SIZES = {"train": 0.7, "val": 0.15, "test": 0.15}


def holdout(
    frame: pd.DataFrame,
    sizes: Mapping[str, float] | None = None,
    *,
    group: str = "subject",
    stratify: str | Sequence[str] | None = None,
    seed: int = 0,
    bins: int = 5,
) -> pd.Series:
    """Split once, by subject: all rows of a subject are in one part.

    The subjects (not the rows) are shared out in proportion. The outcome depends on the ids, the strata and the seed
    only: not on the order of the rows, the machine or the versions of numpy and pandas. It changes for everybody
    when subjects are added, so keep it with the results.

    Args:
        frame: a table with a row per image or visit and a unique index.
        sizes: the parts and their shares of the subjects; they add up to 1. Default: train 0.7, val 0.15, test 0.15.
        group: the column that must not be divided: ``"subject"``, or ``"identity"`` for faces, or ``"site"``.
        stratify: column or columns to keep in proportion, the most important first: the second is kept in proportion
            within the first. A numeric column with more than ten different values is cut
            into ``bins`` bins of the subjects' medians; every other value is a class. A subject with several classes
            is in a stratum of such subjects.
        seed: a whole number from 0 on; another one gives another split.
        bins: how many bins a measure is cut into.

    Returns:
        A Series of text, named ``"split"``, with ``frame``'s index: ``frame[split == "train"]``.

    Raises:
        TableError: a missing id, too few subjects for a part, sizes that are no shares, a subject in several groups.

    Warns:
        SplitWarning: a class that is absent from a part, a subject with several classes, ids that may be one person's.

    >>> visits = pd.DataFrame({"subject": ["a", "a", "b", "c", "d", "d"], "sex": ["F", "F", "M", "F", "M", "M"]})
    >>> holdout(visits, {"train": 0.5, "test": 0.5}, stratify="sex", seed=1).tolist()
    ['test', 'test', 'train', 'train', 'test', 'test']
    """
    sizes = require_sizes(_SIZES if sizes is None else sizes)
    ids, codes, strata = find_subjects(frame, group, stratify, bins)
    counts = whole_numbers(len(ids), list(sizes.values()))
    if 0 in counts:
        raise TableError(
            f"expected at least one {group} in each part of {sizes}, got {len(ids)} in all, which makes "
            f"{dict(zip(sizes, counts, strict=True))}; use fewer or larger parts, or kfold"
        )
    dealt = deal_sizes(strata.of_subject, counts, random_state(seed))
    part = np.array(list(sizes), dtype=object)[dealt][codes]
    warn_of_absent_classes(strata.classes, {name: part == name for name in sizes}, ids, codes)
    return pd.Series(part, index=frame.index, name="split", dtype="str")


def kfold(
    frame: pd.DataFrame,
    n_splits: int = 5,
    n_repeats: int = 1,
    *,
    group: str = "subject",
    stratify: str | Sequence[str] | None = None,
    val_size: float = 0.0,
    seed: int = 0,
    bins: int = 5,
) -> pd.DataFrame:
    """Split into k folds, by subject, any number of times: each row is in exactly one test fold of a repeat.

    Folds differ by one subject at most, in all and in each stratum. The first repeats are the same whatever
    ``n_repeats`` is. Other arguments, errors and warnings are those of :func:`holdout`.

    Args:
        val_size: the share of each fold's training subjects to set apart as ``"val"``; 0 for none.

    Returns:
        A DataFrame of text with ``frame``'s index and a column per fold, ``"repeat0-fold0"``, ``"repeat0-fold1"``, ...,
        of ``"train"``, ``"val"`` and ``"test"``. For scikit-learn's ``cv=``:
        ``[(np.flatnonzero(s == "train"), np.flatnonzero(s == "test")) for _, s in folds.items()]``

    >>> visits = pd.DataFrame({"subject": ["a", "a", "b", "c"], "age": [60, 61, 70, 80]})
    >>> kfold(visits, n_splits=3)
      repeat0-fold0 repeat0-fold1 repeat0-fold2
    0          test         train         train
    1          test         train         train
    2         train         train          test
    3         train          test         train
    """
    if not (isinstance(n_splits, int) and n_splits >= 2 and isinstance(n_repeats, int) and n_repeats >= 1):
        raise TableError(f"expected n_splits >= 2 and n_repeats >= 1, got {n_splits!r} and {n_repeats!r}")
    require_val_size(val_size)
    ids, codes, strata = find_subjects(frame, group, stratify, bins)
    if len(ids) < n_splits:
        raise TableError(
            f"expected at least as many of column {group!r} as folds ({n_splits}), got {len(ids)}: {first_few(ids)}; "
            "use fewer folds"
        )
    folds = {}
    for repeat in range(n_repeats):
        dealt = deal_equal(strata.of_subject, n_splits, random_state(seed, repeat))
        for fold in range(n_splits):
            part = np.where(dealt == fold, "test", "train").astype(object)
            cut_val(part, strata.of_subject, val_size, random_state(seed, repeat, fold + 1), group)
            folds[f"repeat{repeat}-fold{fold}"] = part[codes]
    table = pd.DataFrame(folds, index=frame.index, dtype="str")
    warn_of_folds(table, strata, ids, codes)
    return table


def leave_site_out(
    frame: pd.DataFrame,
    site: str = "site",
    *,
    group: str = "subject",
    shared: Literal["error", "exclude"] = "error",
    stratify: str | Sequence[str] | None = None,
    val_size: float = 0.0,
    seed: int = 0,
    bins: int = 5,
) -> pd.DataFrame:
    """Leave one site out at a time: its rows are the test part, those of the other sites the training part.

    Args:
        site: the column that says where a row comes from: site, scanner, study.
        group: the column that must not be divided either.
        shared: for subjects seen at several sites: ``"error"``, or ``"exclude"``: where one of their sites is left out,
            their rows at other sites are in no part (``"excluded"``).
        stratify: as in :func:`holdout`, for ``val_size``.
        val_size: the share of the training subjects (of all other sites) to set apart as ``"val"``; 0 for none.
        seed: as in :func:`holdout`.
        bins: as in :func:`holdout`.

    Returns:
        A DataFrame of text with ``frame``'s index and a column per site, named by it, in the order of the names.

    Raises:
        TableError: as :func:`holdout`; rows without a site, a single site, subjects seen at several sites.

    >>> visits = pd.DataFrame({"subject": ["a", "b", "c"], "site": ["Oslo", "Bern", "Oslo"]})
    >>> leave_site_out(visits)
        Bern   Oslo
    0  train   test
    1   test  train
    2  train   test
    """
    if shared not in ("error", "exclude"):
        raise TableError(f"expected shared to be 'error' or 'exclude', got {shared!r}")
    require_val_size(val_size)
    sites, at = subject_codes(frame, site)
    if len(sites) < 2:
        raise TableError(f"column {site!r}: expected at least two sites, got only {sites[0]!r}; use holdout or kfold")
    warn_of_near_identical(sites, site)
    ids, codes, strata = find_subjects(frame, group, stratify, bins)
    seen = pd.DataFrame({"subject": codes, "site": at}).drop_duplicates()["subject"].value_counts()
    several = [ids[int(i)] for i in sorted(seen.index[seen > 1])]
    if several and shared == "error":
        raise TableError(
            f"expected each {group} at one {site}, got {len(several)} of {len(ids)} at several: {first_few(several)}; "
            "leaving one site out would leave them in training: give shared='exclude', or drop them"
        )
    table = {}
    for place, name in enumerate(sites):
        visited = np.zeros(len(ids), dtype=bool)
        visited[codes[at == place]] = True
        part = np.where(visited, "excluded", "train").astype(object)
        if visited.all():
            raise TableError(f"expected somebody who was not at {name!r}, got none: nobody is left to train on")
        cut_val(part, strata.of_subject, val_size, random_state(seed, place), group)
        table[name] = np.where(at == place, "test", part[codes])
    frame_of_parts = pd.DataFrame(table, index=frame.index, dtype="str")
    warn_of_folds(frame_of_parts, strata, ids, codes)
    return frame_of_parts
