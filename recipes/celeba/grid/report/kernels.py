"""Kernels W and V of a first convolution side by side, as small colour pictures, read from a run's checkpoint."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from recipes.celeba.grid.report.folder import Grid, GridRun, short
from recipes.common.checkpoint import open_checkpoint
from recipes.common.figures import STYLE, blank

KERNELS = "network.features.0.weight", "network.features.0.covariate_weight"  # W (C, 3, 3, 3), V (K, C, 3, 3, 3)
ACROSS = 8  # kernels in a line


def checkpoint_of(run: GridRun) -> Path | None:
    """The run's best checkpoint, or its last one."""
    for which in ("best", "last"):
        path = run.folder / "checkpoints" / f"{run.name}-{which}.ckpt"
        if path.is_file():
            return path
    return None


def kernels_of(grid: Grid) -> list[tuple[GridRun, np.ndarray, np.ndarray]]:
    """(run, W, V) for the first seed of a first-convolution row in each mode: matched rows before others.

    Checkpoints are loaded with weights_only=True; runs without one are passed over.
    """
    found = []
    rows = [r for r in grid.rows.values() if r.arm == "hybrid" and r.method == "hybrid" and r.layer_idx == 0
            and r.constant is None]  # fmt: skip
    for mode in ("as_published", "corrected"):
        candidates = [run for row in sorted(rows, key=lambda r: (not r.matched, len(r.covariates)))
                      for run in grid.of(row.name, mode)]  # fmt: skip
        for run in candidates:
            path = checkpoint_of(run)
            state = open_checkpoint(path).get("state_dict", {}) if path is not None else {}
            if all(key in state for key in KERNELS):
                W, V = (state[key].float().numpy().copy() for key in KERNELS)
                found.append((run, W, V))
                break
    return found


@mpl.rc_context(STYLE)
def draw_kernels(found: list[tuple[GridRun, np.ndarray, np.ndarray]]) -> Figure:
    """A line of panels for each run: W, then a V for each covariate. Each panel has a scale of its own, which it names.

    A kernel's 3 input channels are red, green and blue; grey is 0, and the largest absolute value of the panel is the
    end of the scale.
    """
    widest = max(1 + len(V) for _, _, V in found)
    figure = blank(2.3 * widest, 2.65 * len(found))
    panels = figure.subplots(len(found), widest, squeeze=False)
    for line, (run, W, V) in zip(panels, found, strict=True):
        names = ["W", *(f"V of {name}" for name in run.row.covariates)]
        for axes, name, kernel in zip(line, names, (W, *V), strict=False):
            largest = float(np.abs(kernel).max())
            axes.imshow(tiles(kernel, largest))
            axes.set_title(f"{name}\nlargest {largest:.2g}, mean |.| {np.abs(kernel).mean():.2g}", fontsize=7.5)
        for axes in line:
            axes.set_axis_off()
        label = f"{run.mode.replace('_', ' ')}\n{short(run.row).split(', lr')[0]}"
        line[0].text(-0.03, 0.5, label, rotation=90, va="center", ha="right", transform=line[0].transAxes, fontsize=7.5)
    return figure


def tiles(kernel: np.ndarray, largest: float) -> np.ndarray:
    """Kernels (C, 3, h, w) as one picture with ACROSS in a line and white seams; 0 becomes grey, ±largest the ends."""
    count, _, height, width = kernel.shape
    lines = -(-count // ACROSS)
    picture = np.ones((lines * (height + 1) - 1, ACROSS * (width + 1) - 1, 3))
    scaled = 0.5 + kernel.transpose(0, 2, 3, 1) / (2 * largest or 1.0)
    for place in range(count):
        y, x = (place // ACROSS) * (height + 1), (place % ACROSS) * (width + 1)
        picture[y : y + height, x : x + width] = scaled[place]
    return picture
