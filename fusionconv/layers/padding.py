"""What torch's own convolution layers do before they slide, and a layer with one kernel per sample does too."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvTransposeNd

__all__ = ["output_padding", "pad_first"]


def pad_first(layer: Any, x: Tensor) -> tuple[Tensor, Any]:
    """``x``, padded here where not with zeros, and the padding that is left to the convolution."""
    if layer.padding_mode == "zeros":
        return x, layer.padding
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), (0,) * (x.ndim - 2)


def output_padding(layer: Any, x: Tensor, output_size: list[int] | None) -> list[int]:
    """The output padding of a transposed convolution: its own, or the one that gives ``output_size``."""
    return _ConvTransposeNd._output_padding(
        layer, x, output_size, layer.stride, layer.padding, layer.kernel_size, x.ndim - 2, layer.dilation
    )
