"""The tables of the report as texts: rows of the study, tests, controls, subgroups. Percent and percentage points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fusionconv.evaluation import Estimate, format_p, wilson
from recipes.celeba.grid.report.covariates import GainSplit, controlled
from recipes.celeba.grid.report.differences import Comparison, mean_right
from recipes.celeba.grid.report.folder import Grid, GridRun, short
from recipes.celeba.grid.report.groups import GapChange
from recipes.celeba.grid.rows import Row

NOT_RUN = "not run"
NONE = "-"


def study_table(grid: Grid, comparisons: dict[str, dict[str, Comparison]]) -> pd.DataFrame:
    """A line for every row: what was printed, logged and found here, and the differences from the plain baseline.

    Args:
        grid: the runs.
        comparisons: mode -> row's name -> comparison.
    """
    lines = []
    for row in grid.rows.values():
        published, corrected = (comparisons.get(mode, {}).get(row.name) for mode in ("as_published", "corrected"))
        lines.append(
            {
                "row": short(row),
                "paper": ", ".join(row.printed) or NONE,
                "logs": ", ".join(f"{value:.2f}" for value in row.logged) or NONE,
                "as published, valid": accuracy_cell(grid, row, "as_published", "valid"),
                "corrected, valid": accuracy_cell(grid, row, "corrected", "valid"),
                "corrected, test": accuracy_cell(grid, row, "corrected", "test"),
                "as published less plain, valid": difference_cell(row, published),
                "corrected less plain, test": difference_cell(row, corrected),
            }
        )
    return pd.DataFrame(lines)


def accuracy_cell(grid: Grid, row: Row, mode: str, split: str) -> str:
    """Mean over seeds in %, the range, and the number of seeds; not run; or how many runs failed."""
    if mode not in row.modes:
        return NONE
    values = [100 * float(run.right(split).mean()) for run in grid.of(row.name, mode)]
    failed = sum(name.startswith(f"{row.name}__{mode}__") for name in grid.failed)
    lost = f"{failed} failed or unfinished" if failed else ""
    if not values:
        return lost or NOT_RUN
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    seeds = f", {len(values)} seed{'s' if len(values) > 1 else ''}"
    return f"{np.mean(values):.2f}{spread}{seeds}" + (f"; {lost}" if lost else "")


def difference_cell(row: Row, comparison: Comparison | None) -> str:
    """The difference in points with its interval over images, and whether it is more than noise."""
    if comparison is None:
        return "no such baseline" if row.arm != "plain" and row.baseline is None else NONE
    return f"{points(comparison.over_images)}: {comparison.why}"


def points(found: Estimate) -> str:
    """A difference of accuracies in percentage points, with its interval.

    >>> points(Estimate(0.0123, -0.004, 0.0286, 100, "a test"))
    '+1.23 (-0.40 to +2.86)'
    """
    if not np.isfinite(found.low + found.high):
        return f"{100 * found.estimate:+.2f} (no interval)"
    return f"{100 * found.estimate:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def bare_p(p: float | None) -> str:
    """A p value without its equals sign, for a column.

    >>> bare_p(0.0312), bare_p(1e-9), bare_p(None)
    ('0.031', '< 0.001', '-')
    """
    return NONE if p is None else format_p(p).removeprefix("= ")


def tests_table(comparisons: dict[str, Comparison]) -> pd.DataFrame:
    """A line for each compared row: both tests with Holm's p, and McNemar's p of each seed."""
    return pd.DataFrame(
        {
            "row": short(c.row),
            "against": short(c.baseline),
            "seeds": len(c.seeds),
            "difference, over seeds": NONE if c.over_seeds is None else points(c.over_seeds),
            "p, seeds": NONE if c.over_seeds is None else bare_p(c.over_seeds.p_value),
            "Holm, seeds": bare_p(c.holm_seeds),
            "difference, over images": points(c.over_images),
            "p, images": bare_p(c.over_images.p_value),
            "Holm, images": bare_p(c.holm_images),
            "McNemar's p, each seed": ", ".join(bare_p(test.p_value) for test in c.by_seed),
            "verdict": c.why,
        }
        for c in comparisons.values()
    )


def interval_table(grid: Grid, mode: str, split: str) -> pd.DataFrame:
    """Each run's accuracy with Wilson's interval: a line for each row, a column for each seed."""
    lines = []
    seeds = sorted({run.seed for run in grid.runs if run.mode == mode})
    for row in grid.rows.values():
        runs = {run.seed: run for run in grid.of(row.name, mode)}
        if runs:
            cells = {f"seed {seed}": wilson_cell(runs[seed], split) if seed in runs else NOT_RUN for seed in seeds}
            lines.append({"row": short(row)} | cells)
    return pd.DataFrame(lines)


def wilson_cell(run: GridRun, split: str) -> str:
    """One run's accuracy in % with Wilson's interval."""
    right = run.right(split)
    found = wilson(int(right.sum()), len(right))
    return f"{100 * found.estimate:.2f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def control_table(grid: Grid, accuracies: pd.DataFrame) -> pd.DataFrame:
    """Accuracy in % with true and with other covariates, beside the plain row, where it has all of these seeds."""
    lines = []
    for found in accuracies.to_dict("records"):
        row = grid.rows[found["row"]]
        seeds = {run.seed for run in controlled(grid, row)}
        plain = [run for run in grid.of(row.baseline, "corrected") if run.seed in seeds] if row.baseline else []
        plain = plain if len(plain) == len(seeds) else []
        alone = [f"{name}: {100 * found[f'only_{name}']:.2f}" for name in row.covariates if f"only_{name}" in found]
        lines.append(
            {
                "row": short(row),
                "seeds": found["seeds"],
                "plain": f"{100 * float(mean_right(plain, 'test').mean()):.2f}" if plain else NOT_RUN,
                **{name: _percent(found.get(name)) for name in ("true", "zero", "mean", "permuted")},
                "one permuted": "; ".join(alone) if len(row.covariates) > 1 else NONE,
            }
        )
    return pd.DataFrame(lines)


def _percent(value: float | None) -> str:
    return NONE if value is None or np.isnan(value) else f"{100 * value:.2f}"


def gain_table(splits: Sequence[GainSplit]) -> pd.DataFrame:
    """The gain over plain in points, and its parts."""
    return pd.DataFrame(
        {
            "row": short(s.row),
            "seeds": len(s.seeds),
            "gain over plain": points(s.gain),
            "survives permuted covariates": points(s.survives),
            "lost with permuted covariates": points(s.lost),
        }
        for s in splits
    )


def group_table(grid: Grid, table: pd.DataFrame) -> pd.DataFrame:
    """A line for each row and group: base rate, and the metrics with their intervals, in % (ECE too)."""
    lines = []
    for (name, by, group), part in table[table["by"] != "all"].groupby(["row", "by", "group"], sort=False):
        cells = {}
        for figure in part.to_dict("records"):
            text = f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
            cells[figure["metric"]] = text if np.isfinite(figure["value"]) else figure["note"]
        head = {"row": short(grid.rows[name]), "seeds": part["seeds"].iloc[0]}
        head |= {"group": f"{by} = {group}", "images": str(part["images"].iloc[0])}
        lines.append(head | {"base rate": f"{100 * part['base rate'].iloc[0]:.1f}"} | cells)
    return pd.DataFrame(lines)


def largest_gaps(grid: Grid, gaps: pd.DataFrame) -> pd.DataFrame:
    """A line for each row and attribute: the distance between the two groups in each metric, in points, unsigned."""
    lines = []
    for (name, by), part in gaps.groupby(["row", "by"], sort=False):
        cells = {metric: _percent(gap) for metric, gap in zip(part["metric"], part["gap"], strict=True)}
        lines.append({"row": short(grid.rows[name]), "groups": f"by {by}"} | cells)
    return pd.DataFrame(lines)


def gap_table(changes: Sequence[GapChange]) -> pd.DataFrame:
    """Selection rate of the group with the attribute less that without it, in points."""
    return pd.DataFrame(
        {
            "row": short(c.row),
            "groups": f"{c.by} = 1 less {c.by} = 0",
            "true classes": f"{100 * c.truth:+.1f}",
            "plain": f"{100 * c.plain:+.1f}",
            "row's own": f"{100 * c.own:+.1f}",
            "change": points(c.change),
        }
        for c in changes
    )
