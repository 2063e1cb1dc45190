"""Per-sample parameters from shared ones: base + sum_j s_ij basis_j, for kernels and for biases."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["add_bias", "autocasts", "full_precision", "per_sample"]


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """A context without autocast, where autocast is on.

    Parameters are combined as they are stored (float32) and rounded once, by the convolution itself; under autocast
    the matrix product ``s V`` would otherwise round an age of 73.4 to bfloat16 before it is used.
    """
    return torch.autocast(tensor.device.type, enabled=False) if autocasts(tensor) else nullcontext()


def autocasts(tensor: Tensor) -> bool:
    """Whether autocast is on for the device of ``tensor``."""
    device = tensor.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def per_sample(base: Tensor | None, covariates: Tensor, basis: Tensor | None) -> Tensor:
    """``base + sum_j covariates[:, j] basis[j]``: shapes (\\*shape), (N, K), (K, \\*shape) -> (N, \\*shape).

    Either of ``base`` and ``basis`` may be None (absent), not both.
    """
    with full_precision(covariates):
        if basis is None:
            assert base is not None
            return base.expand(covariates.shape[0], *base.shape)
        flat = basis.reshape(basis.shape[0], -1)
        combined = covariates @ flat if base is None else torch.addmm(base.reshape(1, -1), covariates, flat)
        return combined.reshape(covariates.shape[0], *basis.shape[1:])


def add_bias(y: Tensor, covariates: Tensor, bias: Tensor | None, covariate_bias: Tensor | None) -> Tensor:
    """Add the per-sample bias ``b + sum_j s_ij c_j`` to ``y`` (N, C_out, \\*spatial) in ``y``'s own dtype."""
    if bias is None and covariate_bias is None:
        return y
    biases = per_sample(bias, covariates, covariate_bias)
    return y + biases.to(y.dtype).reshape(*y.shape[:2], *(1,) * (y.ndim - 2))
