"""Folds of CelebA's train and valid splits, people kept together where the identity file is there."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular import kfold, read_celeba_identity

VAL_SIZE = 0.1  # of a fold's training people: they choose the checkpoint
SEED = 0  # the folds are the same for every arm, seed and machine


def assign_fold(folder: Path, partition: pd.Series, fold: int, folds: int) -> pd.Series:
    """The partition of one fold: ``"train"``, ``"valid"`` and (held out) ``"test"``; official test rows are left out.

    Args:
        folder: CelebA's inner folder; identity_CelebA.txt or .csv in it says who is who.
        partition: the official one, by file.
        fold: from 0.
        folds: how many.
    """
    if not (folds >= 2 and 0 <= fold < folds):
        raise TableError(f"--data.fold: expected 0 to folds - 1 of at least 2 --data.folds, came {fold} of {folds}.")
    rows = partition[partition != "test"].to_frame("split")
    identity = who_is_who(folder)
    rows["subject"] = rows.index if identity is None else identity.reindex(rows.index).to_numpy()
    if unknown := rows.index[rows["subject"].isna()].tolist():
        raise TableError(
            f"{len(unknown):,d} images have no row in the identity file, such as {unknown[0]}: people could not be "
            "kept together. Take the tables of one edition, or remove the identity file."
        )
    column = kfold(rows[["subject"]], folds, val_size=VAL_SIZE, seed=SEED)[f"repeat0-fold{fold}"]
    return column.replace({"val": "valid"}).rename(partition.name)


def who_is_who(folder: Path) -> pd.Series | None:
    """The identity of every file, where the folder has that table."""
    for name in ("identity_CelebA.txt", "identity_CelebA.csv"):
        if (folder / name).is_file():
            return read_celeba_identity(folder / name)
    return None
