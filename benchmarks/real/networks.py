"""The network of the restoration studies, as ``--network benchmarks.real.networks:restorer`` names it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["Restorer", "restorer"]


class Restorer(nn.Module):
    """Convolutions and ReLUs that predict what is to be added to the image; no normalisation, maps of the image's size.

    >>> import torch
    >>> Restorer(1, 1, 4, 3, 3)(torch.zeros(2, 1, 16, 12)).shape
    torch.Size([2, 1, 16, 12])
    """

    def __init__(self, in_channels: int, num_outputs: int, channels: int, layers: int, kernel: int) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * (layers - 1), num_outputs]
        steps: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            steps += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*steps[:-1])
        nn.init.zeros_(steps[-2].weight)  # type: ignore[arg-type]  # begins as the image itself
        nn.init.zeros_(steps[-2].bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, num_outputs, H, W)."""
        return image + self.body(image)


def restorer(
    num_outputs: int, in_channels: int, image_size: Sequence[int], channels: int = 12, layers: int = 4, kernel: int = 5
) -> Restorer:
    """A network for `fusionconv.study`: as many outputs as inputs."""
    if num_outputs != in_channels:
        raise ValueError(f"expected as many outputs as inputs, got {num_outputs} and {in_channels}")
    return Restorer(in_channels, num_outputs, channels, layers, kernel)
