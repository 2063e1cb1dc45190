"""An output as torch's own convolutions give it: in channels_last where the input is, and open to in-place changes."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.running import is_recorded, is_transformed

__all__ = ["is_channels_last", "keep_layout", "own"]

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
    return own(y.contiguous(memory_format=_LAST[x.ndim]) if is_channels_last(x) else y)


def own(y: Tensor) -> Tensor:
    """``y`` with the same memory and no view, where autograd would refuse to let it be changed in place.

    It does so with a view that was made without gradients (a frozen network) or in an autograd.Function.
    """
    elsewhere = torch.compiler.is_compiling() or is_recorded() or is_transformed()
    if torch.is_grad_enabled() or elsewhere or not y._is_view():
        return y
    alone: Tensor = torch.ops.aten._unsafe_view(y, y.shape)
    return alone
