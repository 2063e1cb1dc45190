"""For whom: corrected rows by the values of Male and Young, and the gap between the groups against plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.classification import multiclass_f1_score

from fusionconv.evaluation import Estimate, expected_calibration_error, paired_bootstrap, subgroup_gaps, subgroup_table
from recipes.celeba.grid.report.covariates import MODE, SPLIT, uses_covariates
from recipes.celeba.grid.report.differences import paired_runs
from recipes.celeba.grid.report.folder import Grid, GridRun
from recipes.celeba.grid.rows import Row

BY = ("Male", "Young")
BINS = 15


def _f1_macro(rows: pd.DataFrame) -> float:
    answer, truth = (torch.tensor(rows[name].to_numpy()) for name in ("prediction", "target"))
    return float(multiclass_f1_score(answer, truth, num_classes=2, average="macro", validate_args=False))


def _ece(rows: pd.DataFrame) -> float:
    return expected_calibration_error(rows["target"], rows["probability"], BINS)


def _over_seeds(metric: Callable[[pd.DataFrame], float]) -> Callable[[pd.DataFrame], float]:
    """The mean of each network's figure: of all networks' answers together, one's error would make up for another's."""
    return lambda rows: float(np.mean([metric(part) for _, part in rows.groupby("seed")]))


# Of rows with target, prediction, probability and seed. The base rate is the share of target = 1.
METRICS = {
    "accuracy": lambda rows: float((rows["prediction"] == rows["target"]).mean()),
    "macro F1": _over_seeds(_f1_macro),
    "selection rate": lambda rows: float(rows["prediction"].mean()),
    "ECE": _over_seeds(_ece),
}


def below_each_other(grid: Grid, runs: Sequence[GridRun], attributes: pd.DataFrame) -> pd.DataFrame:
    """The test predictions of all seeds, with the attributes, the seed, and who is on the image (or its number)."""
    parts = []
    for run in runs:
        table = run.predictions[SPLIT].join(attributes[list(BY)])
        who = grid.who(table.index)
        subject = np.arange(len(table)) if who is None else who  # a run's rows are sorted by file
        parts.append(table.assign(seed=run.seed, subject=subject))
    return pd.concat(parts, ignore_index=True)


def subgroups(grid: Grid, attributes: pd.DataFrame, resamples: int) -> pd.DataFrame:
    """`subgroup_table` of every corrected row that is plain or uses covariates; columns ``row`` and ``seeds`` in front.

    Figures are means over the row's seeds; intervals resample images, or people where they are known.
    """
    found = []
    for row in grid.rows.values():
        runs = grid.of(row.name, MODE) if row.arm == "plain" or uses_covariates(row) else []
        if not runs:
            continue
        table = subgroup_table(
            below_each_other(grid, runs, attributes), list(BY), METRICS, target="target", n_resamples=resamples
        )
        table.insert(0, "row", row.name)
        table.insert(1, "seeds", ", ".join(str(run.seed) for run in runs))
        table["images"] = table["rows"] // len(runs)
        table["base rate"] = table["positives"] / table["rows"]
        found.append(table)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def gaps(table: pd.DataFrame) -> pd.DataFrame:
    """`subgroup_gaps` of each row of the table of :func:`subgroups`; a column ``row`` in front."""
    parts = []
    for row, part in table.groupby("row", sort=False):
        gap = subgroup_gaps(part)
        gap.insert(0, "row", row)
        parts.append(gap)
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class GapChange:
    """By how much the groups' selection rates lie apart (value 1 less value 0), in a row and in its plain baseline.

    Attributes:
        row: the row.
        by: the attribute.
        truth: the same difference of the true classes.
        plain, own: of the baseline, and of the row.
        change: own less plain, with an interval from resampling images, or people.
    """

    row: Row
    by: str
    truth: float
    plain: float
    own: float
    change: Estimate


def gap_changes(grid: Grid, attributes: pd.DataFrame, resamples: int) -> list[GapChange]:
    """For each corrected row that uses covariates, and each attribute of BY, the change of the gap against plain."""
    found = []
    for row in grid.rows.values():
        own, plain = paired_runs(grid, row, MODE) if uses_covariates(row) else ([], [])
        for by in BY if own else ():
            selected = [_mean_selected(runs) for runs in (own, plain)]
            group = attributes.loc[selected[0].index, by].to_numpy()
            if len(np.unique(group)) < 2:
                continue
            change = paired_bootstrap(
                _gap, group, selected[0].to_numpy(), selected[1].to_numpy(), grid.who(selected[0].index),
                n_resamples=resamples,
            )  # fmt: skip
            truth = _gap(group, own[0].predictions[SPLIT]["target"].to_numpy())
            ours, base = (_gap(group, part.to_numpy()) for part in selected)
            found.append(GapChange(row, by, truth, base, ours, change))
    return found


def _gap(group: np.ndarray, value: np.ndarray) -> float:
    """Mean of the group with the value 1 less mean of the other; NaN where one is empty."""
    one = group == 1
    return float(value[one].mean() - value[~one].mean()) if 0 < one.sum() < len(one) else float("nan")


def _mean_selected(runs: Sequence[GridRun]) -> pd.Series:
    return pd.concat([run.predictions[SPLIT]["prediction"] for run in runs], axis=1).mean(axis=1)
