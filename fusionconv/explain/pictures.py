"""Images and maps on matplotlib's axes: 1-D as lines, 2-D as they are, of volumes one slice, upright."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionconv.errors import ExplainError

__all__ = ["AGAINST", "FOR", "draw_image", "draw_signed", "plane", "size_of"]

FOR, AGAINST = "C3", "C0"


def plane(values: Tensor, axis: int, at: int) -> Tensor:
    """A slice (C, a, b) of a volume (C, x, y, z), upright: the first remaining axis to the right, the second upwards.

    Raises:
        ExplainError: no such axis, no such slice.
    """
    if axis not in (-3, -2, -1):
        raise ExplainError(f"axis: expected -3, -2 or -1, an axis of (x, y, z), got {axis!r}")
    count = values.shape[axis]
    if not -count <= at < count:
        raise ExplainError(f"slices: expected 0 to {count - 1} along axis {axis}, got {at}")
    return values.select(axis, at).transpose(-1, -2).flip(-2)


def draw_image(axes: Any, image: Tensor) -> None:
    """An image (C, L), (C, height, width); three channels are colours, others their mean."""
    image = image.detach().float()
    if image.ndim < 3:
        axes.plot(image.reshape(-1, image.shape[-1]).T.numpy(), color="0.3", lw=0.8)
        axes.tick_params(labelsize=6)
        return
    if image.shape[0] == 3:
        low, high = image.min(), image.max()
        axes.imshow(((image - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 0).numpy())
    else:
        axes.imshow(image.mean(0).numpy(), cmap="gray")
    axes.set_axis_off()


def draw_signed(axes: Any, values: Tensor, bound: float | None = None) -> Any:
    """A map (L,) or (height, width), red above 0 and blue below, on a scale symmetric about 0."""
    values = values.detach().float()
    bound = (float(values.abs().max()) if bound is None else bound) or 1.0
    if values.ndim == 1:
        at = torch.arange(len(values)).numpy()
        axes.bar(at, values.numpy(), width=1.0, color=[FOR if v > 0 else AGAINST for v in values.tolist()])
        axes.set_ylim(-1.05 * bound, 1.05 * bound)
        axes.axhline(0, color="0.5", lw=0.5)
        axes.tick_params(labelsize=6)
        return None
    drawn = axes.imshow(values.numpy(), cmap="RdBu_r", vmin=-bound, vmax=bound)
    axes.set(xticks=[], yticks=[])
    return drawn


def size_of(shape: Any) -> str:
    """3 x 3 of (3, 3)."""
    return " x ".join(map(str, shape))
