"""The command report: read a grid's folder, compute, write the page, the LaTeX table and the figures."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from fusionconv.errors import TableError
from fusionconv.tabular import read_celeba_attributes
from recipes.celeba.folds import who_is_who
from recipes.celeba.grid.report import figures, groups
from recipes.celeba.grid.report.covariates import control_accuracies, controlled, covariate_effect, gain_split
from recipes.celeba.grid.report.differences import Comparison, compare_all
from recipes.celeba.grid.report.folder import Grid, read_grid, short
from recipes.celeba.grid.report.kernels import draw_kernels, kernels_of
from recipes.celeba.grid.report.latex import latex_table
from recipes.celeba.grid.report.page import MARK, page
from recipes.celeba.paths import table_path
from recipes.common.figures import save
from recipes.common.runs import RunError

MODES = ("as_published", "corrected")
COLOURS = 256  # of a figure's palette
RESAMPLES, GROUP_RESAMPLES = 2000, 200
LEAST = 100


def main(argv: list[str]) -> None:
    """Write the report of a grid."""
    options = _options(argv)
    grid = read_grid(options.runs)
    out: Path = options.out
    if out.is_file() and not out.read_text(encoding="utf-8").startswith(MARK):
        raise RunError(
            f"{out} exists and was not written by this command. Give another page with --out, or move it away."
        )
    written = write_report(
        grid, out, options.figures, options.root, options.resamples, options.group_resamples, options.note
    )
    print(f"{len(grid.runs)} runs, {len(grid.failed)} without figures; wrote " + ", ".join(map(str, written)))


def write_report(
    grid: Grid, out: Path, folder: Path | None = None, root: str | Path | None = None, resamples: int = RESAMPLES,
    group_resamples: int = GROUP_RESAMPLES, note: str = "",
) -> list[Path]:  # fmt: skip
    """Write page, table and figures, and return their paths.

    Args:
        grid: of `read_grid`.
        out: the page; the LaTeX table has its name with .tex.
        folder: of the figures; by default the page's name without .md.
        root: CelebA's folder, for the subgroups; by default where the runs had it.
        resamples: of the images, for the differences.
        group_resamples: of the images, for the subgroups' intervals.
        note: said first on the page, such as of which images these are.
    """
    if not grid.runs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(grid.failed.items())[:3])
        raise RunError(f"no run in {grid.folder} is finished, so there is nothing to report ({reasons}).")
    bar = tqdm(total=6, desc="report", leave=False)

    def step(name: str) -> None:
        bar.set_postfix_str(name)
        bar.update()

    step("reading attributes")
    attributes, no_groups = _attributes(grid, root)
    grid = replace(grid, people=_people(grid, root))
    step("differences")
    comparisons: dict[str, dict[str, Comparison]] = {mode: compare_all(grid, mode, resamples) for mode in MODES}
    step("controls")
    controls = control_accuracies(grid)
    splits = [s for row in grid.rows.values() if (s := gain_split(grid, row, resamples)) is not None]
    step("subgroups")
    subgroup = pd.DataFrame() if attributes is None else groups.subgroups(grid, attributes, group_resamples)
    changes = [] if attributes is None else groups.gap_changes(grid, attributes, resamples)
    step("figures")
    folder = folder or out.with_suffix("")
    drawn = {name: save(figure, folder / f"{name}.png", COLOURS) for name, figure in _figures(grid, attributes).items()}
    step("page")
    addresses = {name: _relative(path, out.parent) for name, path in drawn.items()}
    command = "python -m recipes.celeba report RUNS"
    command += f" --resamples {resamples}" if resamples != RESAMPLES else ""
    command += f" --group_resamples {group_resamples}" if group_resamples != GROUP_RESAMPLES else ""
    command += f" --note {shlex.quote(note)}" if note else ""
    text = page(grid, comparisons, controls, splits, subgroup, changes, no_groups, addresses, command,
                (resamples, group_resamples), note)  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    table = out.with_suffix(".tex")
    table.write_text(latex_table(grid, comparisons, command), encoding="utf-8")
    bar.close()
    return [out, table, *drawn.values()]


def _figures(grid: Grid, attributes: pd.DataFrame | None) -> dict[str, Figure]:
    found = {"accuracy": figures.draw_accuracy(grid)}
    chosen = sorted(grid.rows.values(), key=lambda row: (not row.matched, row.group == "controls"))
    mode = "corrected" if any(run.mode == "corrected" for run in grid.runs) else "as_published"
    curves = figures.draw_curves(grid, mode, chosen)
    if curves is not None:
        found["curves"] = curves
    kernels = kernels_of(grid)
    if kernels:
        found["kernels"] = draw_kernels(kernels)
    effects = {}
    for row in grid.rows.values() if attributes is not None else ():
        runs = controlled(grid, row) if row.constant is None else []
        table = covariate_effect(runs, attributes) if runs and attributes is not None else pd.DataFrame()
        if len(table):
            effects[short(row)] = table
    if effects:
        found["effect"] = figures.draw_effect(effects, str(grid.settings.get("target")))
    return found


def _attributes(grid: Grid, root: str | Path | None) -> tuple[pd.DataFrame | None, str | None]:
    """CelebA's attributes of the judged images, or why they are not known."""
    if "test" not in grid.splits:
        return None, "No corrected run is finished, and only these are judged on the test split."
    folder = _tables(grid, root)
    if folder is None:
        return None, "Left out: CelebA's tables are not where the runs had them. Give their folder with --root."
    read: Callable[[Path], pd.DataFrame] = read_celeba_attributes
    table = read(table_path(folder, "list_attr_celeba"))
    target = grid.target("test")
    assert target is not None
    if len(absent := target.index.difference(table.index)):
        raise TableError(
            f"{folder} has no attributes of {len(absent)} of the judged test images, such as {absent[0]}. "
            "Give the folder that the runs were made from with --root."
        )
    name = str(grid.settings.get("target"))
    if (table.loc[target.index, name].to_numpy() != target.to_numpy()).any():
        raise TableError(
            f"{folder} has other values of {name} than the runs were judged on. Give the folder that the runs were "
            "made from with --root."
        )
    return table, None


def _people(grid: Grid, root: str | Path | None) -> pd.Series | None:
    """Who is on each judged image; None where CelebA's identity file is not there."""
    folder = _tables(grid, root)
    people = None if folder is None else who_is_who(folder)
    if people is None:
        return None
    for split in grid.splits:
        target = grid.target(split)
        assert target is not None
        if len(absent := target.index.difference(people.index)):
            raise TableError(
                f"{folder}'s identity file has no row for {len(absent)} of the judged {split} images, such as "
                f"{absent[0]}. Give the folder that the runs were made from with --root, or remove the identity file."
            )
    return people


def _tables(grid: Grid, root: str | Path | None) -> Path | None:
    """The folder of CelebA's tables: in ``root``, or where the runs had it."""
    asked = root or grid.runs[0].config.get("data", {}).get("root")
    for folder in (Path(str(asked)) / "celeba", Path(str(asked))):
        if any((folder / f"list_attr_celeba.{end}").is_file() for end in ("txt", "csv")):
            return folder
    if root is not None:
        raise TableError(f"--root {root}: expected list_attr_celeba.txt or .csv there or in celeba/, found neither.")
    return None


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.celeba report",
        description="Read the runs that `reproduce` left, also where some are not done, and write a Markdown page, a "
        "LaTeX table beside it and figures: every row as printed, logged, as published and corrected, and what is "
        "more than noise.",
        allow_abbrev=False,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS", help="the folder that `reproduce --out` wrote")
    parser.add_argument("--out", type=Path, default=Path("docs/results/celeba.md"), help="the page (%(default)s)")
    parser.add_argument("--figures", type=Path, help="folder of the figures (default: the page's name without .md)")
    parser.add_argument("--root", type=Path, help="CelebA's folder, for the subgroups (default: where the runs had it)")
    parser.add_argument("--note", default="", help="a sentence to stand first, such as of which images these are")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of the images, for differences (%(default)s)")
    parser.add_argument(
        "--group_resamples", type=int, default=GROUP_RESAMPLES, help="of the images, for subgroups (%(default)s)"
    )
    options = parser.parse_args(argv)
    for name in ("resamples", "group_resamples"):
        if getattr(options, name) < LEAST:
            parser.error(f"--{name}: expected {LEAST} or more, got {getattr(options, name)}; an interval needs them")
    return options
