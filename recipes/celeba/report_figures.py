"""The report's figures: accuracy ladder, learning curves, confusion matrices, accuracy by group, example images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # without pyplot: no window, no global state
from matplotlib.ticker import PercentFormatter
from PIL import Image

from recipes.celeba.compare import Run, wilson_interval
from recipes.common.figures import FAINT, INK, STYLE, blank

COLOURS = ("#6b7a8c", "#c2571a", "#2f7f73", "#7d5ba6")  # one per run, in order; told apart without red against green


def colour_of(runs: Sequence[Run]) -> dict[str, str]:
    """A colour for each run's name."""
    return {run.name: COLOURS[index % len(COLOURS)] for index, run in enumerate(runs)}


@mpl.rc_context(STYLE)
def draw_ladder(runs: Sequence[Run], references: Mapping[str, float]) -> Figure:
    """Each run's accuracy with its 95 % interval, and as lines what is reached without a network or by any network."""
    names = [*references, *(run.name for run in runs)]
    figure = blank(4.8, 0.55 + 0.3 * len(names))
    axes = figure.subplots()
    for row, value in enumerate(references.values()):
        axes.plot(value, row, "D", color="white", markeredgecolor=INK, markersize=5)
        axes.annotate(f"{value:.1%}", (value, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    for row, run in enumerate(runs, start=len(references)):
        right, colour = run.right, colour_of(runs)[run.name]
        low, high = wilson_interval(int(right.sum()), len(right))
        axes.plot((low, high), (row, row), color=colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes.plot(right.mean(), row, "o", color=colour, markersize=7)
        axes.annotate(
            f"{right.mean():.1%}", (right.mean(), row), xytext=(0, 7), textcoords="offset points",
            ha="center", weight="bold", color=colour,
        )  # fmt: skip
    lowest = min(*references.values(), *(float(run.right.mean()) for run in runs))
    axes.set(xlim=(min(0.48, lowest - 0.05), 1.03), ylim=(len(names) - 0.5, -0.75), yticks=range(len(names)))
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("accuracy")
    axes.set_axisbelow(True)
    return figure


@mpl.rc_context(STYLE)
def draw_learning(runs: Sequence[Run], metric: str, title: str, references: Mapping[str, float]) -> Figure:
    """One metric against the step: training as a thin line, validation as points, both arms in one picture."""
    figure = blank(4.4, 3.1)
    axes = figure.subplots()
    for run in runs:
        colour = colour_of(runs)[run.name]
        for side, style in (("train", {"linewidth": 1.0, "alpha": 0.55}), ("val", {"marker": "o", "linewidth": 2})):
            column = f"{side}/{metric}"
            if column in run.curves and run.curves[column].notna().any():
                shown = run.curves[["step", column]].dropna()
                label = f"{run.name}, {'training' if side == 'train' else 'validation'}"
                axes.plot(shown["step"], shown[column], color=colour, label=label, **style)
    for name, value in references.items():
        axes.axhline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(
            name, (0.012, value), xycoords=("axes fraction", "data"), xytext=(0, -2), textcoords="offset points",
            va="top", fontsize=7.5,
        )  # fmt: skip
    if metric == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_ylim(bottom=axes.get_ylim()[0] - 0.04)
    axes.set(title=title, xlabel="step")
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


@mpl.rc_context(STYLE)
def draw_confusion(run: Run, colour: str) -> Figure:
    """Rows are the truth, columns the answer; counts, and shares of the row as shade."""
    matrix = np.asarray(run.result["confusion"], dtype=float)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure = blank(2.7, 2.5)
    axes = figure.subplots()
    fade = mpl.colors.LinearSegmentedColormap.from_list("fade", ["white", colour])
    axes.imshow(shares, cmap=fade, vmin=0, vmax=1.15)
    for row in range(2):
        for column in range(2):
            ink = "white" if shares[row, column] > 0.75 else INK
            axes.annotate(
                f"{matrix[row, column]:,.0f}", (column, row), ha="center", va="bottom", color=ink, fontsize=13
            )
            axes.annotate(f"{shares[row, column]:.1%}", (column, row), xytext=(0, -3), textcoords="offset points",
                          ha="center", va="top", color=ink, fontsize=8)  # fmt: skip
    axes.set(title=run.name, xticks=(0, 1), yticks=(0, 1), xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


@mpl.rc_context(STYLE)
def draw_groups(runs: Sequence[Run], title: str, table: pd.DataFrame, lowest: float) -> Figure:
    """Accuracy of each run in each group, with 95 % intervals (the table of `compare.accuracy_by_group`).

    ``lowest`` is where the axis begins, so that several figures share one.
    """
    groups = list(dict.fromkeys(table["group"]))
    figure = blank(4.4, 0.95 + 0.52 * len(groups))
    axes: Axes = figure.subplots()
    step = 0.5 / max(1, len(runs) - 1)
    for index, run in enumerate(runs):
        rows = table[table["run"] == run.name].set_index("group").loc[groups]
        y = np.arange(len(groups)) + (index - (len(runs) - 1) / 2) * step * 0.8
        colour = colour_of(runs)[run.name]
        axes.hlines(y, rows["low"], rows["high"], color=colour, linewidth=4.5, alpha=0.35)
        axes.plot(rows["accuracy"], y, "o", color=colour, markersize=6, label=run.name)
        for value, height in zip(rows["accuracy"], y, strict=True):
            axes.annotate(f"{value:.1%}", (1.015, height), xycoords=("axes fraction", "data"), va="center",
                          fontsize=8, color=colour, annotation_clip=False)  # fmt: skip
    counts = table.drop_duplicates("group").set_index("group")["images"]
    axes.set(xlim=(lowest - 0.02, 1.02), ylim=(len(groups) - 0.45, -0.55), yticks=range(len(groups)))
    axes.set_yticklabels([f"{group}\n({counts[group]:,d} images)" for group in groups])
    axes.set(title=title, xlabel="accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(runs), fontsize=8)
    return figure


@mpl.rc_context(STYLE)
def draw_examples(captions: Sequence[tuple[Path, str]]) -> Figure:
    """A contact sheet: images with a few lines under each."""
    columns = min(4, len(captions))
    rows = -(-len(captions) // columns)
    lines = max(caption.count("\n") + 1 for _, caption in captions)
    figure = blank(1.9 * columns, (2.4 + 0.14 * lines) * rows)
    for axes, (path, caption) in zip(figure.subplots(rows, columns, squeeze=False).flat, captions, strict=False):
        axes.imshow(np.asarray(Image.open(path).convert("RGB")))
        axes.set_xlabel(caption, loc="left", fontsize=7.5)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes in figure.axes[len(captions) :]:
        axes.set_axis_off()
    return figure
