"""Memory layout: the channels last in images and kernels."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(network: nn.Module) -> None:
    """Lay out the kernels of 2-D convolutions channels last, in place.

    Not ``network.to(memory_format=torch.channels_last)``, which refuses the five dimensions of a hybrid layer's V.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
