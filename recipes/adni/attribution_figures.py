"""Mean saliency over the mean volume: orthogonal slices through the middle, and through the largest value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from recipes.common.figures import STYLE

if TYPE_CHECKING:
    from recipes.adni.attribution import Averaged

VIEWS = {"sagittal": (0, "PASI"), "coronal": (1, "LRSI"), "axial": (2, "LRAP")}  # axis; left, right, top, bottom
MAP = "inferno"  # even in lightness, for the colour-blind and in grey


@mpl.rc_context(STYLE)
def draw_averages(averages: Mapping[str, Averaged], orientation: str, title: str) -> Figure:
    """A row for each group: three slices through the middle, three through the largest mean saliency.

    Args:
        averages: group -> mean volume and saliency, (*size) in the orientation of the preparation.
        orientation: of the volumes' axes, such as RAS.
        title: the arm.
    """
    sizes = next(iter(averages.values())).volume.shape
    width = 10.5
    figure = Figure(
        figsize=(width, 0.55 + len(averages) * 0.16 * width * max(sizes) / np.mean(sizes)), layout="constrained"
    )
    grid = figure.subplots(len(averages), 6, squeeze=False)
    top = max(float(average.saliency.max()) for average in averages.values()) or 1.0
    shown: Any = None
    for line, (name, average) in zip(grid, averages.items(), strict=True):
        volume, saliency = (to_ras(values, orientation) for values in (average.volume, average.saliency))
        middle = tuple(size // 2 for size in volume.shape)
        peak = tuple(int(i) for i in np.unravel_index(saliency.argmax(), saliency.shape))
        for place, axes in enumerate(line):
            view = list(VIEWS)[place % 3]
            axis, letters = VIEWS[view]
            at = (middle if place < 3 else peak)[axis]
            shown = _slice(axes, volume, saliency, axis, at, top)
            _letters(axes, letters)
            axes.set_title(f"{view} {'middle' if place < 3 else 'at the largest'} ({at})", fontsize=7.5)
        empty = f"\n{average.empty} maps are zero" if average.empty else ""
        line[0].set_ylabel(f"{name}\n(n = {average.n}){empty}", fontsize=8.5)
    bar = figure.colorbar(shown, ax=grid, shrink=0.75, aspect=25, pad=0.01)
    bar.set_label("mean Grad-CAM\n(each volume's maximum is 1)", fontsize=8)
    figure.suptitle(
        f"{title}; slices by voxel of the prepared volume, L is the subject's left", fontsize=9, x=0.01, ha="left"
    )
    return figure


def to_ras(values: np.ndarray, orientation: str) -> np.ndarray:
    """Axes turned to right, anterior, superior.

    >>> to_ras(np.arange(3).reshape(3, 1, 1), "LAS").ravel().tolist()
    [2, 1, 0]
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

    return np.asarray(apply_orientation(values, ornt_transform(axcodes2ornt(tuple(orientation)), axcodes2ornt("RAS"))))


def _slice(axes: Any, volume: np.ndarray, saliency: np.ndarray, axis: int, at: int, top: float) -> Any:
    under, over = np.take(volume, at, axis=axis).T, np.take(saliency, at, axis=axis).T
    axes.imshow(under, cmap="gray", origin="lower", vmin=float(volume.min()), vmax=float(np.percentile(volume, 99.5)))
    opacity = 0.75 * np.clip(over / top, 0, 1)
    shown = axes.imshow(over, cmap=MAP, origin="lower", vmin=0, vmax=top, alpha=opacity, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return mpl.cm.ScalarMappable(norm=shown.norm, cmap=MAP)


def _letters(axes: Any, letters: str) -> None:
    for letter, (x, y) in zip(letters, ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        ha = {0.03: "left", 0.97: "right"}.get(x, "center")
        va = {0.03: "bottom", 0.97: "top"}.get(y, "center")
        axes.text(x, y, letter, transform=axes.transAxes, ha=ha, va=va, fontsize=6.5, color="white")
