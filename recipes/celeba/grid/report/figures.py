"""The grid's figures: accuracy of every row beside the published points, learning curves, the effect of a covariate."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fusionconv.evaluation import wilson
from recipes.celeba.grid.report.differences import mean_right
from recipes.celeba.grid.report.folder import JUDGED, Grid, short
from recipes.celeba.grid.rows import Row
from recipes.common.figures import COLOURS, FAINT, INK, STYLE, blank

# mode: (label, colour, place in the row's band)
MODES = {
    "as_published": ("ours, as published (validation)", COLOURS[0], -0.22),
    "corrected": ("ours, corrected (test)", COLOURS[1], 0.22),
}
PUBLISHED = "#6b7a8c"
CURVES = 8  # rows in one picture of learning curves, at most


@mpl.rc_context(STYLE)
def draw_accuracy(grid: Grid) -> Figure:
    """A band for each row: published figures in grey, our runs as points, their mean with Wilson's interval."""
    shown = [row for row in grid.rows.values() if row.logged or row.printed or _ran(grid, row)]
    figure = blank(7.6, 1.1 + 0.27 * len(shown))
    axes = figure.subplots()
    lowest, highest = [], []
    for place, row in enumerate(shown):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="#f5f6f8", zorder=0)
        printed = [100 * float(text) for text in row.printed]
        axes.plot(row.logged, [place] * len(row.logged), "o", mfc="white", mec=PUBLISHED, ms=5, zorder=2)
        axes.plot(printed, [place] * len(printed), "x", color=PUBLISHED, ms=5, zorder=2)
        lowest += row.logged
        highest += row.logged
        for mode, (_, colour, shift) in MODES.items():
            runs = grid.of(row.name, mode)
            if not runs:
                continue
            split = JUDGED[mode]
            values = [100 * float(run.right(split).mean()) for run in runs]
            n = len(runs[0].predictions[split])
            mean = float(mean_right(runs, split).mean())
            found = wilson(round(mean * n), n)
            low, high = 100 * found.low, 100 * found.high
            axes.hlines(place + shift, low, high, color=colour, linewidth=4, alpha=0.28, zorder=1)
            axes.plot(values, [place + shift] * len(values), "o", color=colour, ms=3.2, alpha=0.8, zorder=3)
            axes.plot(100 * mean, place + shift, "|", color=colour, ms=9, mew=2, zorder=4)
            lowest += [*values, low]
            highest += [*values, high]
    # A collapsed run (one constant answer) must not press all others into a corner: it is told of at the edge.
    centre = float(np.median(lowest)) if lowest else 80.0
    left = min([v for v in lowest if v > centre - 15] or [centre]) - 1.0
    for place, row in enumerate(shown):
        ours = [100 * float(r.right(JUDGED[r.mode]).mean()) for mode in MODES for r in grid.of(row.name, mode)]
        if outside := [value for value in (*row.logged, *ours) if value < left]:
            text = "< " + ", ".join(f"{value:.1f}" for value in outside)
            axes.annotate(text, (0.005, place), xycoords=("axes fraction", "data"), va="center", fontsize=7)
    axes.set(xlim=(left, max(highest or [85.0]) + 0.7), ylim=(len(shown) - 0.5, -0.5), xlabel="accuracy, %")
    axes.set_yticks(range(len(shown)), [short(row) for row in shown], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    handles = [
        mpl.lines.Line2D(
            [], [], marker="o", ls="", mfc="white", mec=PUBLISHED, label="published: the logs (validation)"
        ),
        mpl.lines.Line2D([], [], marker="x", ls="", color=PUBLISHED, label="published: the paper"),
        *(
            mpl.lines.Line2D([], [], marker="o", ms=4, lw=4, color=colour, label=label)
            for label, colour, _ in MODES.values()
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8)
    return figure


def _ran(grid: Grid, row: Row) -> bool:
    return any(grid.of(row.name, mode) for mode in MODES)


@mpl.rc_context(STYLE)
def draw_curves(grid: Grid, mode: str, rows: Sequence[Row]) -> Figure | None:
    """Training loss, validation loss and validation accuracy against the step: a line for each run.

    After a single epoch there is one validation value a run: the rows then stand beside each other.
    """
    chosen = [(row, [run for run in grid.of(row.name, mode) if run.curves is not None]) for row in rows]
    chosen = [(row, runs) for row, runs in chosen if runs][:CURVES]
    if not chosen:
        return None
    figure = blank(7.6, 3.6)
    panels = figure.subplots(1, 3)
    titles = ("training loss", "validation loss", "validation accuracy")
    for axes, title, column in zip(panels, titles, ("train/loss", "val/loss", "val/accuracy"), strict=True):
        curves = [
            (number, run.curves[["step", column]].dropna())
            for number, (_, runs) in enumerate(chosen)
            for run in runs
            if run.curves is not None and column in run.curves
        ]
        beside = all(len(points) < 2 for _, points in curves)
        for number, points in curves:
            colour = COLOURS[number % len(COLOURS)]
            if beside:
                axes.plot([number] * len(points), points[column], "o", color=colour, markersize=4, alpha=0.75)
            else:
                axes.plot(points["step"], points[column], color=colour, linewidth=0.9, alpha=0.7)
        axes.set(title=title, xlabel="row" if beside else "step")
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        if beside:
            axes.set(xticks=[], xlim=(-0.7, len(chosen) - 0.3))
        else:
            axes.locator_params(axis="x", nbins=4)
    panels[2].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    handles = [
        mpl.lines.Line2D([], [], color=COLOURS[n % len(COLOURS)], label=short(row)) for n, (row, _) in enumerate(chosen)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.5)
    return figure


@mpl.rc_context(STYLE)
def draw_effect(effects: dict[str, pd.DataFrame], target: str) -> Figure:
    """For each row a panel, in it for each covariate the mean probability at 0 and at 1; a line for each true class.

    Args:
        effects: row's title -> the table of `covariate_effect`.
        target: the name of class 1.
    """
    columns = min(4, len(effects))
    lines = -(-len(effects) // columns)
    figure = blank(1.95 * columns if columns > 1 else 3.2, 0.6 + 2.2 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axes, (title, table) in zip(grid.flat, effects.items(), strict=False):
        names = list(dict.fromkeys(table["covariate"]))
        for row in table.itertuples():
            place, colour = names.index(row.covariate), COLOURS[1] if row.target else COLOURS[0]
            axes.plot((place - 0.22, place + 0.22), (row.at_0, row.at_1), "-", color=colour)
            axes.plot(place - 0.22, row.at_0, "o", mfc="white", color=colour, markersize=4.5)
            axes.plot(place + 0.22, row.at_1, "o", color=colour, markersize=4.5)
            edge = max(row.at_0, row.at_1) if row.target else min(row.at_0, row.at_1)
            axes.annotate(f"{row.at_1 - row.at_0:+.2f}", (place, edge), xytext=(0, 9 if row.target else -9),
                          textcoords="offset points", ha="center", va="center", fontsize=7, color=colour)  # fmt: skip
        axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, 1))
        axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names], fontsize=7)
        axes.set_title(title.split(", lr")[0], fontsize=7.5, color=INK)
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
    for axes in grid.flat[len(effects) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel(f"mean P({target} = 1)")
    handles = [
        mpl.lines.Line2D([], [], color=COLOURS[0], label=f"true {target} = 0"),
        mpl.lines.Line2D([], [], color=COLOURS[1], label=f"true {target} = 1"),
        mpl.lines.Line2D([], [], color=INK, ls="", marker="o", mfc="white", label="covariate at 0"),
        mpl.lines.Line2D([], [], color=INK, ls="", marker="o", label="covariate at 1"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if columns > 1 else 2, fontsize=7.5)
    return figure
