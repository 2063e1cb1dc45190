"""Is a row more than noise away from its plain baseline? Paired over seeds and over images, corrected for many rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from fusionconv.evaluation import Estimate, McNemar, holm, mcnemar, paired_bootstrap_scores
from recipes.celeba.grid.report.folder import JUDGED, Grid, GridRun
from recipes.celeba.grid.rows import Row

LEVEL = 0.05  # of Holm's corrected p values


@dataclass(frozen=True)
class Comparison:
    """A row against the plain row of the same rate and batch size, in one mode, on the same images and seeds.

    Attributes:
        row, baseline: both rows.
        mode: as_published (judged on the validation split) or corrected (on test).
        split: the split that is compared.
        seeds: those that both have.
        differences: accuracy of the row less that of the baseline, for each seed.
        over_seeds: their mean, with the t interval and p of a paired t-test over seeds; None for one seed.
        over_images: the difference of the mean accuracies, with an interval and p from resampling images (all
            images of a person together, where it is known who is who).
        by_seed: McNemar's exact test for each seed's two networks.
        resamples: of the images.
        holm_seeds, holm_images: the p values corrected for all rows that are compared in this mode.
    """

    row: Row
    baseline: Row
    mode: str
    split: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    over_seeds: Estimate | None
    over_images: Estimate
    by_seed: tuple[McNemar, ...]
    resamples: int
    holm_seeds: float | None = None
    holm_images: float | None = None

    @property
    def verdict(self) -> str:
        """better or worse: both corrected p values are below LEVEL; undecided: one seed; not told apart: the rest."""
        if len(self.seeds) < 2:
            return "undecided"
        ps = (self.holm_seeds, self.holm_images)
        if any(p is None or math.isnan(p) or p >= LEVEL for p in ps):
            return "not told apart"
        return "better" if self.over_images.estimate > 0 else "worse"

    @property
    def why(self) -> str:
        """The verdict, and which test did not tell the row from its baseline."""
        if self.verdict != "not told apart":
            return self.verdict
        ps = {"seeds": self.holm_seeds, "images": self.holm_images}
        failed = [name for name, p in ps.items() if p is None or math.isnan(p) or p >= LEVEL]
        return "not told apart by " + " or ".join(failed)


def paired_t(differences: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The paired t-test over seeds: mean difference, t interval, two-sided p with n - 1 degrees of freedom.

    The seeds are repeats of one training on one split: n says how often the training's chance was drawn. They are not
    folds, and say nothing of other images.

    >>> print(paired_t([0.010, 0.014, 0.003]))
    0.0090 [95% -0.0048 to 0.0228], p = 0.107, n = 3, paired t-test over seeds
    """
    d = np.asarray(differences, dtype=np.float64)
    n, mean, method = len(d), float(np.mean(differences)), "paired t-test over seeds"
    if n < 2:
        raise ValueError(f"expected the differences of at least two seeds, got {n}")
    if np.ptp(d) < 1e-12:  # no spread, no t: equal arms are equal, and a constant difference cannot be tested
        equal = abs(mean) < 1e-12
        low, high = (mean, mean) if equal else (math.nan, math.nan)
        return Estimate(mean, low, high, n, method + ", no spread", 1.0 if equal else math.nan, confidence)
    test = stats.ttest_1samp(d, 0.0)
    ends = test.confidence_interval(confidence)
    low, high = max(float(ends.low), -1.0), min(float(ends.high), 1.0)  # of two accuracies
    return Estimate(mean, low, high, n, method, float(test.pvalue), confidence)


def mean_right(runs: Sequence[GridRun], split: str) -> pd.Series:
    """For each image, the share of the runs (seeds) that have it right."""
    return pd.concat([run.right(split) for run in runs], axis=1).mean(axis=1)


def mean_difference(grid: Grid, a: pd.Series, b: pd.Series, resamples: int) -> Estimate:
    """mean(a) - mean(b) over the same images, with an interval from resampling images (people, where known)."""
    return paired_bootstrap_scores(a.to_numpy(), b.to_numpy(), grid.who(a.index), n_resamples=resamples)


def paired_runs(grid: Grid, row: Row, mode: str) -> tuple[list[GridRun], list[GridRun]]:
    """The runs of a row and of its baseline for the seeds that both have; two empty lists where there are none."""
    own = {run.seed: run for run in grid.of(row.name, mode)}
    plain = {run.seed: run for run in grid.of(row.baseline, mode)} if row.baseline else {}
    seeds = sorted(own.keys() & plain.keys())
    return [own[seed] for seed in seeds], [plain[seed] for seed in seeds]


def compare(grid: Grid, row: Row, mode: str, resamples: int = 2000) -> Comparison | None:
    """A row against its baseline; None where either has no run of the same seed."""
    own, plain = paired_runs(grid, row, mode)
    if not own or row.baseline is None:
        return None
    split = JUDGED[mode]
    tests = tuple(
        mcnemar(np.ones(len(a.right(split))), a.right(split), b.right(split)) for a, b in zip(own, plain, strict=True)
    )
    differences = tuple(test.estimate for test in tests)
    return Comparison(
        row=row,
        baseline=grid.rows[row.baseline],
        mode=mode,
        split=split,
        seeds=tuple(run.seed for run in own),
        differences=differences,
        over_seeds=paired_t(differences) if len(differences) > 1 else None,
        over_images=mean_difference(grid, mean_right(own, split), mean_right(plain, split), resamples),
        by_seed=tests,
        resamples=resamples,
    )


def compare_all(grid: Grid, mode: str, resamples: int = 2000) -> dict[str, Comparison]:
    """Every row of one mode that can be compared, by its name, with p values corrected over all of them."""
    found = [c for row in grid.rows.values() if (c := compare(grid, row, mode, resamples)) is not None]
    none = math.nan
    seeds = holm(
        [none if c.over_seeds is None or c.over_seeds.p_value is None else c.over_seeds.p_value for c in found]
    )
    images = holm([none if c.over_images.p_value is None else c.over_images.p_value for c in found])
    return {
        c.row.name: replace(c, holm_seeds=None if c.over_seeds is None else float(p), holm_images=float(q))
        for c, p, q in zip(found, seeds, images, strict=True)
    }


def sampling_error(accuracy: float, images: int) -> float:
    """sqrt(p (1 - p) / n): by how much one accuracy of n images varies with the draw of the images.

    >>> round(100 * sampling_error(0.8159, 19867), 2)
    0.27
    """
    return math.sqrt(accuracy * (1 - accuracy) / images)


@dataclass(frozen=True)
class LoggedDifference:
    """The published logs of a row against those of its baseline, in percentage points."""

    row: Row
    baseline: Row
    difference: float
    p_value: float  # Welch's t-test; NaN with fewer than two logs on a side


def logged_differences(grid: Grid) -> list[LoggedDifference]:
    """What the study's own logs say where rate and batch size are the same, for the matched rows."""
    found = []
    for row in grid.rows.values():
        if not (row.matched and row.baseline and row.logged):
            continue
        plain = grid.rows[row.baseline]
        if not plain.logged:
            continue
        enough = min(len(row.logged), len(plain.logged)) > 1
        p = float(stats.ttest_ind(row.logged, plain.logged, equal_var=False).pvalue) if enough else math.nan
        found.append(LoggedDifference(row, plain, float(np.mean(row.logged) - np.mean(plain.logged)), p))
    return found
