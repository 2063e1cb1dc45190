"""Random numbers that are drawn aside: what comes after draws as if nothing had happened, on a CPU and on a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ["forked_rng"]


def forked_rng() -> AbstractContextManager[None]:
    """`torch.random.fork_rng` of the CPU and of every CUDA device, where this process uses CUDA.

    With ``devices=[]`` the generators of a GPU go on: a network that is made there, behind another arm's layers, would
    start from other weights than that arm. CUDA is not begun for it; processes that fork later could not use it.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    return torch.random.fork_rng(devices=list(devices))
