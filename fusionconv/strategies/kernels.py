"""Per-sample parameters from shared ones: base + sum_j s_ij basis_j, for kernels and for biases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["add_bias", "autocasts", "compute_dtype", "full_precision", "is_rounded", "per_sample", "rounded_per_sample"]

BLOCK = 2**22  # numbers that are formed in full precision at a time: 16 MB of float32


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


def is_rounded(x: Tensor) -> bool:
    """Whether torch's own convolution of ``x`` rounds it and the kernel: under autocast, which leaves float64 alone."""
    return autocasts(x) and x.dtype != torch.float64


def compute_dtype(x: Tensor) -> torch.dtype:
    """What torch's own convolution of ``x`` computes in: autocast's dtype where it `is_rounded`, else its own."""
    return torch.get_autocast_dtype(x.device.type) if is_rounded(x) else x.dtype


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


def rounded_per_sample(base: Tensor, covariates: Tensor, basis: Tensor, dtype: torch.dtype) -> Tensor:
    """`per_sample` in ``dtype``, each number combined in full precision and rounded once.

    A few kernels at a time: N of them in full precision beside N rounded ones would be three times the memory.
    """
    formed: Tensor = _Rounded.apply(base, covariates, basis, dtype)
    return formed


class _Rounded(torch.autograd.Function):
    """Its backward pass combines gradients in full precision, and can itself be differentiated."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, covariates: Tensor, basis: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(covariates, basis)
        formed = base.new_empty(len(covariates), base.numel(), dtype=dtype)
        with full_precision(covariates):
            for rows in _blocks(len(covariates), base.numel()):
                formed[rows] = torch.addmm(base.reshape(1, -1), covariates[rows], basis.flatten(1))
        return formed.reshape(len(covariates), *base.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        covariates, basis = ctx.saved_tensors
        needs_base, needs_covariates, needs_basis, _ = ctx.needs_input_grad
        flat = gradients[0].reshape(len(covariates), -1)  # flatten has no rule for many gradients that come as one
        dbasis, dcovariates = basis.new_zeros(basis.flatten(1).shape), []
        with full_precision(covariates):
            for rows in _blocks(*flat.shape):
                exact = flat[rows].to(basis.dtype)
                dcovariates += [exact @ basis.flatten(1).T] if needs_covariates else []
                dbasis = torch.addmm(dbasis, covariates[rows].T, exact) if needs_basis else dbasis
        return (
            flat.sum(0, dtype=basis.dtype).reshape(basis.shape[1:]) if needs_base else None,
            torch.cat(dcovariates) if needs_covariates else None,
            dbasis.reshape(basis.shape) if needs_basis else None,
            None,
        )


def _blocks(batch: int, numbers: int) -> Iterator[slice]:
    """As many rows at a time as have `BLOCK` numbers, at least four, so that V is not read for each sample."""
    size = max(4, BLOCK // numbers)
    yield from (slice(start, min(start + size, batch)) for start in range(0, batch, size))


def add_bias(y: Tensor, covariates: Tensor, bias: Tensor | None, covariate_bias: Tensor | None) -> Tensor:
    """Add the per-sample bias ``b + sum_j s_ij c_j`` to ``y`` (N, C_out, \\*spatial) in ``y``'s own dtype."""
    if bias is None and covariate_bias is None:
        return y
    biases = per_sample(bias, covariates, covariate_bias)
    return y + biases.to(y.dtype).reshape(*y.shape[:2], *(1,) * (y.ndim - 2))
