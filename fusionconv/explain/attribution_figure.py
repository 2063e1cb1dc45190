"""The figure of `attributions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fusionconv.errors import ExplainError
from fusionconv.explain.pictures import AGAINST, FOR, draw_image, draw_signed, plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fusionconv.explain.attribution_numbers import Attributions

__all__ = ["draw_attributions"]

TITLES = {
    "integrated_gradients": "Integrated gradients",
    "grad_cam": "Grad-CAM",
    "guided_backprop": "Guided backpropagation",
    "occlusion": "Occlusion",
}


def draw_attributions(
    found: Attributions, rows: int, titles: Sequence[str] | None, axis: int, slices: int | Sequence[int] | None
) -> Figure:  # fmt: skip
    """A column for each row of the batch (of volumes for each slice): the image, its map, its covariates' bars."""
    from matplotlib.figure import Figure

    count = min(rows, len(found.images))
    if titles is not None and len(titles) < count:
        raise ExplainError(f"titles: expected {count}, one for each row, got {len(titles)}")
    columns = [(n, at) for n in range(count) for at in _slices(found.maps[n], axis, slices)]
    bars = found.covariates is not None
    heights = [1.0, 1.0] + [max(0.5, 0.16 * len(found.names) + 0.25)] * bars
    figure = Figure(figsize=(2 * len(columns) + 1.0, 2 * sum(heights) + 0.7), layout="constrained")
    panels: Any = figure.subplots(2 + bars, len(columns), squeeze=False, gridspec_kw={"height_ratios": heights})
    seen: set[int] = set()
    for place, (n, at) in enumerate(columns):
        image, attributed = found.images[n], found.maps[n].sum(0, keepdim=True)
        bound = float(attributed.abs().max()) or 1.0
        if at is not None:
            image, attributed = plane(image, axis, at), plane(attributed, axis, at)
        draw_image(panels[0, place], image)
        name = str(titles[n])[-24:] if titles is not None else f"row {n}"
        below = f"slice {at}, f = {found.outputs[n]:.3g}" if at is not None else f"f = {found.outputs[n]:.3g}"
        panels[0, place].set_title(f"{name}\n{below}", fontsize=7)
        draw_signed(panels[1, place], attributed[0], bound)
        panels[1, place].set_title(f"scale {bound:.2g}", fontsize=7)
        if not bars:
            continue
        if n in seen:
            panels[2, place].set_axis_off()
            continue
        seen.add(n)
        _bars(panels[2, place], found, n, place == 0)
    figure.suptitle(_title(found, count), fontsize=9)
    return figure


def _slices(maps: Tensor, axis: int, slices: int | Sequence[int] | None) -> list[Any]:
    """Which slices of a volume (C, x, y, z) are shown; [None] of other images."""
    if maps.ndim < 4:
        return [None]
    if slices is not None:
        return [slices] if isinstance(slices, int) else list(slices)
    moved = maps.sum(0).movedim(axis, 0) if axis in (-3, -2, -1) else maps.sum(0)
    return [int(moved.flatten(1).abs().sum(1).argmax())]


def _bars(axes: Any, found: Attributions, n: int, named: bool) -> None:
    """Attributions of the covariates of row n, and their values."""
    assert found.covariates is not None
    assert found.values is not None
    own, values = found.covariates[n].numpy(), found.values[n].tolist()
    axes.barh(range(len(own)), own, color=np.where(own < 0, AGAINST, FOR))
    labels = [f"{name if named else ''} {value:.2g}".strip() for name, value in zip(found.names, values, strict=True)]
    axes.set_yticks(range(len(own)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=6)
    axes.axvline(0, color="0.5", lw=0.5)


def _title(found: Attributions, count: int) -> str:
    layer = f" of {found.layer}" if found.layer else ""
    title = f"{TITLES[found.method]}{layer}: for (red) and against (blue) the answer f"
    if found.gap is not None:
        title += f"\ncompleteness gap at most {float(found.gap[:count].abs().max()):.2g}"
    return title
