"""How figures look: fonts and grid for matplotlib, colours that everyone can tell apart, PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure  # without pyplot: no window, no global state
from PIL import Image

INK, FAINT = "#22262b", "#d9dde2"
# Okabe and Ito's, told apart by colour-blind readers too; yellow is left out, it is too pale for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4a525b", "#7d5ba6")
DPI = 180
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa3ad",
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "text.color": INK,
    "xtick.color": "#4a525b",
    "ytick.color": "#4a525b",
    "legend.frameon": False,
}


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches, whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path, colours: int | None = None) -> Path:
    """Write a PNG and return its path; ``colours`` (at most 256) as a palette make a chart a third as large."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white")
    if colours is not None:
        with Image.open(path) as drawn:
            drawn.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
    return path
