"""The figures of docs/results/phantoms.md: a panel for each task, and the curves of the selection task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.phantoms.statistics import choose, share
from benchmarks.style import COLOURS, FAINT, INK, STYLE, blank, save

__all__ = ["draw_curves", "draw_tasks"]

Record = dict[str, Any]
FAMILIES = {  # colour by what the covariates can change
    "hybrid": COLOURS[0],
    "lowrank": COLOURS[0],
    "hyper": COLOURS[0],
    "film": COLOURS[1],
    "daft": COLOURS[1],
    "scale": COLOURS[1],
    "attention": COLOURS[1],
    "concat": COLOURS[2],
}


def colour(arm: str) -> str:
    """Kernels blue, scales and shifts orange, concat green, arms without covariates grey."""
    return next((c for name, c in FAMILIES.items() if arm.startswith(name)), COLOURS[6])


def draw_tasks(records: list[Record], dims: int, arms: list[str], tasks: list[str], path: Path) -> Path:
    """A panel for each task: the share of the Bayes rate with its interval, and with permuted covariates."""
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = blank(3.0 * columns + 1.8, rows * (0.19 * len(arms) + 0.9))
        axes = figure.subplots(rows, columns, sharey=True, sharex=True, squeeze=False).ravel()
        for axis, task in zip(axes, tasks, strict=False):
            axis.set_title(task)
            axis.axvline(100, color=INK, lw=0.8)
            for y, arm in enumerate(arms):
                axis.axhline(y, color=FAINT, lw=0.5, zorder=0)
                for record in choose(records, task=task, dims=dims, arm=arm)[:1]:
                    found = share(record)
                    axis.plot([found.low, found.high], [y, y], color=colour(arm), lw=1.6)
                    axis.plot(found.mean, y, "o", color=colour(arm), ms=4.5)
                    axis.plot(share(record, "permuted").mean, y, "x", color=INK, ms=4, mew=0.8)
            axis.set_xlim(40, 105)
        axes[0].set_yticks(range(len(arms)), arms)
        axes[0].set_ylim(len(arms) - 0.5, -0.5)
        for axis in axes[len(tasks) :]:
            axis.set_visible(False)
        figure.supxlabel(
            "accuracy, % of the Bayes rate (dot and 95 % t interval over seeds); x: permuted covariates", size=8.5
        )
        return save(figure, path)


def draw_curves(records: list[Record], path: Path) -> Path:
    """Selection in 2-D: the share against the width (all K default) and against K (width 2)."""
    selection = choose(records, task="selection", dims=2, width="any", count="any")
    with matplotlib.rc_context(STYLE):
        figure = blank(8.0, 3.1)
        left, right = figure.subplots(1, 2, sharey=True)
        for arm, marker in (("hybrid, first", "o"), ("concat MLP", "s")):
            mine = [r for r in selection if r["arm"] == arm]
            by_width = sorted((r for r in mine if r["count"] is None), key=lambda r: r["width"])
            by_count = sorted((r for r in mine if r["width"] == 2), key=lambda r: r["covariates"])
            for axis, chosen, name in ((left, by_width, "width"), (right, by_count, "covariates")):
                found = [share(r) for r in chosen]
                x, mean = [r[name] for r in chosen], [f.mean for f in found]
                axis.plot(x, mean, marker + "-", color=colour(arm), label=arm, ms=4.5)
                axis.fill_between(
                    x, [f.low for f in found], [f.high for f in found], color=colour(arm), alpha=0.15, lw=0
                )
        for axis, name in ((left, "channels of each convolution (K = 8)"), (right, "gratings K (2 channels)")):
            axis.set_xscale("log", base=2)
            ticks = sorted({tick for line in axis.get_lines() for tick in line.get_xdata()})
            axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
            axis.set_xlabel(name)
            axis.set_ylim(45, 105)
            axis.grid(color=FAINT, lw=0.5)
        left.set_ylabel("accuracy, % of the Bayes rate")
        left.legend(loc="lower right")
        return save(figure, path)
