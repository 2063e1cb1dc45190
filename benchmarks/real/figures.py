"""The pictures of the pages on real images, drawn from the kept scores.

    python -m benchmarks.real.figures            docs/images/head-circumference.svg, choosing.svg

The first: each arm's mean over folds with its 95 % interval (Nadeau and Bengio), and every fold as a dot.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.real.names import name_of
from benchmarks.real.scores import read, table
from benchmarks.style import COLOURS, FAINT, INK, STYLE, blank

__all__ = ["arms_figure", "decision_figure", "main"]

FOLDER = Path(__file__).parents[2] / "docs" / "images"
BLUE, ORANGE, GREY = COLOURS[0], COLOURS[1], "#8a8f98"


def arms_figure(scores: pd.DataFrame, made: pd.DataFrame, head: str, title: str, unit: str) -> Figure:
    """Arms from the smallest mean: a kernel for each sample in orange, other fusions in blue, the rest in grey."""
    made = made.sort_values("mean").reset_index(drop=True)
    means = scores.groupby("fold")[list(made["arm"])].mean()
    figure = blank(7.6, 0.27 * len(made) + 1.1)
    axes = figure.add_subplot()
    for y, row in made.iterrows():
        arm = str(row["arm"])
        kernel = arm.startswith(("hybrid", "lowrank"))
        color = ORANGE if kernel else GREY if arm.startswith(("image", "covariates", "stacked")) else BLUE
        axes.plot([max(0, row["low"]), row["high"]], [y, y], color=color, lw=2, alpha=0.45, solid_capstyle="round")
        axes.plot(means[arm], [y] * len(means), "o", color=color, ms=3, alpha=0.5, mew=0)
        axes.plot(row["mean"], y, "o", color=color, ms=8)
        axes.annotate(f"{row['mean']:.1f}", (row["mean"], y), (0, 6), textcoords="offset points", ha="center",
                      fontsize=8, color=INK)  # fmt: skip
    axes.set_yticks(range(len(made)), [name_of(str(arm), head) for arm in made["arm"]])
    axes.set(xlabel=unit, xlim=(0, None), ylim=(-0.7, len(made) - 0.2))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    axes.grid(axis="x", color=FAINT, lw=0.8)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def decision_figure() -> Figure:
    """Three questions, and what to begin with."""
    figure = blank(8.6, 4.5)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 100), ylim=(0, 60))
    axes.axis("off")

    def box(x: float, y: float, text: str, color: str, filled: bool = False) -> None:
        axes.text(x, y, text, ha="center", va="center", fontsize=9, color="white" if filled else INK, linespacing=1.35,
                  bbox={"boxstyle": "round,pad=0.55", "fc": color if filled else "white", "ec": color})  # fmt: skip

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
        axes.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2, "shrinkA": 4, "shrinkB": 4}
        )
        if text:
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            axes.text(*middle, text, fontsize=8.5, color=INK, ha="center", va="center",
                      bbox={"fc": "white", "ec": "none", "pad": 1.5})  # fmt: skip

    box(50, 55, "Is the covariate known where the network is used, and does it mean the same there?", INK)
    arrow((50, 52), (12, 43), "no: site, scanner of the clinic")
    box(12, 39, "leave it out", GREY, filled=True)
    arrow((50, 52), (54, 43), "yes")
    box(54, 39, "Does it change how the image must be read?\n(units, settings of the device, which question)", INK)
    arrow((54, 34.5), (24, 24), "no: it adds evidence")
    box(24, 19, "concat with a hidden layer\n(beside it: covariates alone, stacked)", BLUE, filled=True)
    arrow((54, 34.5), (70, 24), "yes, or you do not know")
    box(70, 19, "add one layer of hybrid", INK)
    arrow((70, 16), (44, 6.5), "new values at use,\nfew images")
    box(42, 3, "one layer: hybrid or lowrank,\nhead or first", ORANGE, filled=True)
    arrow((70, 16), (86, 6.5), "values as in training,\nmany images")
    box(86, 3, "try several layers too:\nhybrid, lowrank, FiLM", ORANGE, filled=True)
    return figure


def main(words: list[str] | None = None) -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args(words)
    given.out.mkdir(parents=True, exist_ok=True)
    scores, about = read("hc18")
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "fusionconv"}):
        drawn = {
            "head-circumference": arms_figure(
                scores, table(scores, about), about["settings"]["head"],
                "Head circumference from ultrasound: what telling the network the pixel size is worth",
                "mean absolute error in mm (999 images of 806 women)",
            ),
            "choosing": decision_figure(),
        }  # fmt: skip
        for name, figure in drawn.items():
            figure.savefig(given.out / f"{name}.svg", metadata={"Date": None})
            print(given.out / f"{name}.svg")


if __name__ == "__main__":
    main()
