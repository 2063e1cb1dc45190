"""Memory format: an output in channels_last where the input is, as torch's own convolutions give it."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.running import is_recorded, is_transformed

__all__ = ["is_channels_last", "keep_layout"]

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(x: Tensor) -> bool:
    """Whether ``x`` is in channels_last and not contiguous too; False while compiled, recorded or transformed."""
    last = _LAST.get(x.ndim)
    if last is None or torch.compiler.is_compiling() or is_recorded() or is_transformed():
        return False
    return x.is_contiguous(memory_format=last) and not x.is_contiguous()


def keep_layout(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``; otherwise every layer behind would be slowed by one that had to change it.

    Left to the compiler where one is at work.
    """
    return y.contiguous(memory_format=_LAST[x.ndim]) if is_channels_last(x) else y
