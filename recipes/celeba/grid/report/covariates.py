"""What the covariates do: accuracy under each control, and how much of a gain goes when they are permuted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fusionconv.evaluation import Estimate
from recipes.celeba.grid.report.differences import mean_difference, mean_right, paired_runs
from recipes.celeba.grid.report.folder import Grid, GridRun
from recipes.celeba.grid.rows import Row

MODE, SPLIT = "corrected", "test"  # as_published runs have no test split, and so no controls
LOGIT_NOISE = 1e-5  # another value of a covariate moves the logit by more than this, if the network uses it


@dataclass(frozen=True)
class GainSplit:
    """The gain of a row over its plain baseline, and its two parts; shares, over the same images and seeds.

    Attributes:
        row: the row.
        seeds: those that the row and its baseline both have, with controls.
        gain: true covariates less plain.
        survives: permuted covariates less plain: the part that needs nobody's own covariates.
        lost: true less permuted covariates: the part that is gone when each image gets another image's covariates.
    """

    row: Row
    seeds: tuple[int, ...]
    gain: Estimate
    survives: Estimate
    lost: Estimate


def uses_covariates(row: Row) -> bool:
    """A row whose network is given covariates that differ from image to image."""
    return row.arm != "plain" and row.constant is None


def controlled(grid: Grid, row: Row) -> list[GridRun]:
    """The corrected runs of a row that have controls."""
    return [run for run in grid.of(row.name, MODE) if run.controls is not None]


def right_under(runs: Sequence[GridRun], column: str) -> pd.Series:
    """For each image, the share of the runs that have it right under one control."""
    parts = [((run.controls[column] > 0.5) == (run.controls["target"] == 1)).astype(float) for run in runs]
    return pd.concat(parts, axis=1).mean(axis=1)


def control_accuracies(grid: Grid) -> pd.DataFrame:
    """A row for each corrected row with controls: row, seeds, and the mean accuracy over seeds of each control."""
    found = []
    for row in grid.rows.values():
        runs = controlled(grid, row) if uses_covariates(row) else []
        if not runs:
            continue
        columns = [c for c in runs[0].controls.columns if c != "target"]
        found.append({"row": row.name, "seeds": len(runs)} | {c: float(right_under(runs, c).mean()) for c in columns})
    return pd.DataFrame(found)


def gain_split(grid: Grid, row: Row, resamples: int = 2000) -> GainSplit | None:
    """The gain over plain and its parts; None where the row, its controls or its baseline are not there."""
    if not uses_covariates(row):
        return None
    own, plain = paired_runs(grid, row, MODE)
    pairs = [(a, b) for a, b in zip(own, plain, strict=True) if a.controls is not None]
    if not pairs:
        return None
    runs = [a for a, _ in pairs]
    base = mean_right([b for _, b in pairs], SPLIT)
    true, permuted = right_under(runs, "true"), right_under(runs, "permuted")
    return GainSplit(
        row=row,
        seeds=tuple(run.seed for run in runs),
        gain=mean_difference(grid, true, base, resamples),
        survives=mean_difference(grid, permuted, base, resamples),
        lost=mean_difference(grid, true, permuted, resamples),
    )


def covariate_effect(runs: Sequence[GridRun], attributes: pd.DataFrame) -> pd.DataFrame:
    """The mean probability of class 1 with each covariate at 0 and at 1, for each true class.

    Permuting one covariate of 0 and 1 alone gives some images the other value. Only these images are looked at, each
    with both values: its own (column ``true``) and the other one (``only_<name>``; ``permuted`` where the network has
    one covariate). An image is one of them where the logit differs by more than LOGIT_NOISE, so a network that does not
    use a covariate has no rows of it here.

    Args:
        runs: the runs of one row, with controls; probabilities are averaged over them.
        attributes: 0/1 attributes by file.

    Returns:
        A DataFrame: covariate, target, images (of the first run), at_0, at_1.
    """
    covariates = runs[0].row.covariates
    found = []
    for name in covariates:
        column = f"only_{name}" if f"only_{name}" in runs[0].controls.columns else "permuted"
        if column not in runs[0].controls.columns or (column == "permuted" and len(covariates) > 1):
            continue
        for target in (0, 1):
            ends = []
            for run in runs:
                table = run.controls[run.controls["target"] == target]
                true, other = table["true"].to_numpy(), table[column].to_numpy()
                switched = np.abs(_logit(true) - _logit(other)) > LOGIT_NOISE
                own = attributes.loc[table.index, name].to_numpy() == 1
                at_1, at_0 = np.where(own, true, other)[switched], np.where(own, other, true)[switched]
                if switched.any():
                    ends.append((int(switched.sum()), float(at_0.mean()), float(at_1.mean())))
            if ends:
                at_0, at_1 = np.mean([end[1] for end in ends]), np.mean([end[2] for end in ends])
                found.append((name, target, ends[0][0], float(at_0), float(at_1)))
    return pd.DataFrame(found, columns=["covariate", "target", "images", "at_0", "at_1"])


def _logit(p: np.ndarray) -> np.ndarray:
    p = p.clip(1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))
