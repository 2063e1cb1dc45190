"""What hold-out, folds and sites share: the checked subjects, the seed, a validation part, and the warnings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import SplitWarning, TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.ids import first_few, near_identical, require_unique_index, subject_codes
from fusionconv.tabular.split.deal import Codes, deal_sizes, whole_numbers
from fusionconv.tabular.split.strata import Strata, find_strata, warn_of_absent_classes

__all__ = [
    "cut_val",
    "find_subjects",
    "random_state",
    "require_sizes",
    "require_val_size",
    "warn_of_folds",
    "warn_of_near_identical",
]


def find_subjects(
    frame: pd.DataFrame, group: str, stratify: str | Sequence[str] | None, bins: int
) -> tuple[list[str], Codes, Strata]:
    """Sorted ids, each row's place among them, and the strata, once the table has been checked."""
    if isinstance(frame, pd.DataFrame) and group == "subject" and group not in frame.columns:
        raise TableError(
            f"expected a column 'subject' that says whose each row is, got the columns {first_few(frame.columns, 8)}; "
            "name the column that must not be divided with group="
        )
    require_columns(frame, [group])
    require_unique_index(frame, "a split")
    if not (isinstance(bins, int) and bins >= 2):
        raise TableError(f"expected at least 2 bins, got {bins!r}")
    ids, codes = subject_codes(frame, group)
    warn_of_near_identical(ids, group)
    if group != "subject" and "subject" in frame.columns:
        people, person = subject_codes(frame, "subject")
        pairs = pd.DataFrame({"subject": person, "group": codes}).drop_duplicates()["subject"].value_counts()
        several = [people[int(i)] for i in sorted(pairs.index[pairs > 1])]
        if several:
            raise TableError(
                f"expected the rows of each subject to have one {group!r}, got several for {len(several)} subjects: "
                f"{first_few(several)}; a split by {group!r} would put them on both sides: split by 'subject', or "
                f"correct the column (leave_site_out can exclude them)"
            )
    columns = [stratify] if isinstance(stratify, str) else list(stratify or [])
    return ids, codes, find_strata(frame, columns, ids, codes, bins)


def cut_val(
    part: npt.NDArray[np.object_], strata: Codes, val_size: float, random: np.random.RandomState, group: str
) -> None:
    """Turn a share of the subjects whose part is "train" into "val", in place."""
    if not val_size:
        return
    train = np.flatnonzero(part == "train")
    counts = whole_numbers(len(train), [1 - val_size, val_size])
    if 0 in counts:
        raise TableError(
            f"expected at least one {group} for training and for validation, got {len(train)} for both with "
            f"val_size={val_size}; use fewer folds, another val_size, or none"
        )
    part[train[deal_sizes(strata[train], counts, random) == 1]] = "val"


def warn_of_folds(table: pd.DataFrame, strata: Strata, ids: list[str], codes: Codes) -> None:
    """Warn of classes that are absent from a part of a table of folds."""
    if strata.classes:
        parts = {
            f"{name} {part}": (column == part).to_numpy()
            for name, column in table.items()
            for part in ("train", "val", "test")
            if (column == part).any()
        }
        warn_of_absent_classes(strata.classes, parts, ids, codes)


def warn_of_near_identical(ids: list[str], column: str) -> None:
    """Warn of ids that may be one person's, and so may be on two sides."""
    alike = near_identical(ids)
    if alike:
        warnings.warn(
            f"column {column!r}: expected one way to write each id, got ids that differ only in case, punctuation or "
            f"leading zeros: {first_few(alike)}; if they are one person's, write them alike before you split: here "
            "they may be on different sides",
            SplitWarning,
            stacklevel=4,
        )


def require_sizes(sizes: Mapping[str, float]) -> dict[str, float]:
    """The parts' shares, once checked.

    Raises:
        TableError: fewer than two parts, or shares that are not above 0 or do not add up to 1.
    """
    named = dict(sizes) if isinstance(sizes, Mapping) else {}
    right = all(isinstance(n, str) and n for n in named) and all(isinstance(s, (int, float)) for s in named.values())
    if len(named) < 2 or not right or min(named.values()) <= 0 or abs(sum(named.values()) - 1) > 1e-9:
        raise TableError(
            "expected at least two named parts whose shares are above 0 and add up to 1, such as "
            f"{{'train': 0.7, 'val': 0.15, 'test': 0.15}}, got {sizes!r}"
        )
    return named


def require_val_size(val_size: float) -> None:
    """Raise unless this is a share from 0 to below 1."""
    if not (isinstance(val_size, (int, float)) and 0 <= val_size < 1):
        raise TableError(f"expected val_size from 0 (none) to below 1, got {val_size!r}")


def random_state(seed: int, *more: int) -> np.random.RandomState:
    """A generator whose stream never changes, for this seed and this repeat and fold."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise TableError(
            f"expected a whole number from 0 to 2**32 - 1 as the seed, got {seed!r}; a split must be repeatable"
        )
    return np.random.RandomState([int(seed), *more])
