"""Memory format: an output in channels_last where the input is, as torch's own convolutions give it."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.running import is_recorded, is_transformed

__all__ = ["keep_layout"]

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def keep_layout(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``; otherwise every layer behind would be slowed by one that had to change it.

    Left to the compiler where one is at work.
    """
    last = _LAST.get(x.ndim)
    if last is None or torch.compiler.is_compiling() or is_recorded() or is_transformed():
        return y
    if x.is_contiguous(memory_format=last) and not x.is_contiguous():
        return y.contiguous(memory_format=last)
    return y
