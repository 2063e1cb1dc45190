"""MONAI's U-shaped networks need their levels to be told: usual ones for an image size, as nnU-Net chooses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["unet_arguments"]

_FIRST, _MOST, _LEVELS, _SMALLEST = 16, 256, 5, 4


def unet_arguments(name: str, image_size: Sequence[int]) -> dict[str, Any]:
    """Arguments of the networks that have no defaults of their own; empty for all others.

    Every level halves the sides that have at least 8 pixels, up to five levels, and doubles the channels, from 16 to at
    most 256 (SwinUNETR: 12 features, where MONAI has 24). Give others in network_options.

    >>> unet_arguments("UNet", (96, 144))
    {'channels': (16, 32, 64, 128, 256), 'strides': (2, 2, 2, 2), 'num_res_units': 2}
    >>> unet_arguments("DynUNet", (64, 64, 16))["strides"]
    [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]]
    """
    if name in ("UNet", "Unet", "AttentionUnet", "AttentionUNet"):
        levels = min(_LEVELS, 1 + min(_halvings(side) for side in image_size))
        channels = tuple(min(_MOST, _FIRST * 2**level) for level in range(max(levels, 2)))
        more = {"num_res_units": 2} if name in ("UNet", "Unet") else {}
        return {"channels": channels, "strides": (2,) * (len(channels) - 1), **more}
    if name in ("DynUNet", "DynUnet", "Dynunet"):
        levels = min(_LEVELS, 1 + max(_halvings(side) for side in image_size))
        levels = max(levels, 3)  # MONAI asks for three
        strides = [[1] * len(image_size)]
        strides += [[2 if level < _halvings(side) else 1 for side in image_size] for level in range(levels - 1)]
        filters = [min(_MOST, _FIRST * 2**level) for level in range(levels)]
        return {
            "kernel_size": [3] * levels,
            "strides": strides,
            "upsample_kernel_size": strides[1:],
            "filters": filters,
        }
    if name == "SwinUNETR":
        return {"feature_size": 12}
    return {}


def _halvings(side: int) -> int:
    """How often a side can be halved and keep a whole number of at least 4 pixels."""
    count = 0
    while side % 2 == 0 and side // 2 >= _SMALLEST:
        side, count = side // 2, count + 1
    return count
