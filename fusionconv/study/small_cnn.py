"""SmallCNN: a few strided convolutions, for small images, small studies and demos, 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["SmallCNN"]


class SmallCNN(nn.Sequential):
    """Convolutions of stride 2 with batch norm and ReLU, average pooling to a grid, one linear layer.

    Args:
        num_outputs: the last layer's outputs.
        in_channels: channels of the images.
        image_size: its length says 2-D or 3-D.
        channels: of the convolutions; the first has kernels of 5, the others of 3.
        first_stride: of the first convolution.
        pooled: cells of the grid in each direction.

    >>> import torch
    >>> SmallCNN(1, 1, (96, 144))(torch.zeros(2, 1, 96, 144)).shape
    torch.Size([2, 1])
    """

    def __init__(
        self, num_outputs: int, in_channels: int, image_size: Sequence[int],
        channels: Sequence[int] = (16, 32, 64, 128), first_stride: int = 2, pooled: int = 1,
    ) -> None:  # fmt: skip
        dims = len(image_size)
        conv, norm, pool = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "BatchNorm", "AdaptiveAvgPool"))
        layers: list[Any] = []
        for number, (inputs, outputs) in enumerate(zip((in_channels, *channels[:-1]), channels, strict=True)):
            size, stride = (5, first_stride) if number == 0 else (3, 2)
            layers += [conv(inputs, outputs, size, stride, size // 2, bias=False), norm(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers, pool(pooled), nn.Flatten(), nn.Linear(channels[-1] * pooled**dims, num_outputs))

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, *image_size) -> (N, num_outputs)."""
        for module in self:
            input = module(input)
        return input
