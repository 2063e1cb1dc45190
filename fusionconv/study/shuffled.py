"""Pixels under one fixed permutation: what is left for a network that needs no neighbourhood."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

__all__ = ["permutation", "shuffled"]


@functools.lru_cache(maxsize=4)
def permutation(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Which pixel goes to which place, the same for every image of this shape: math.prod(shape) whole numbers."""
    return np.random.default_rng(seed).permutation(math.prod(shape))


def shuffled(images: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Images (N, C, *shape) with the pixels of every image and channel in the same other order.

    >>> image = np.arange(6.0).reshape(1, 1, 2, 3)
    >>> sorted(shuffled(image, 0).ravel().tolist())
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    order = permutation(images.shape[2:], seed)
    return np.ascontiguousarray(images.reshape(*images.shape[:2], -1)[..., order].reshape(images.shape))
