"""What `chunked` and `tiled` share: backward passes of their own that keep no kernels, and who takes over where.

Such a pass is ordinary Python under torch's autograd. Where another machine runs the backward pass (a compiler, a
recorder, torch.func, a second derivative), `grouped` computes the same from torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.grouped import grouped
from fusionconv.strategies.running import is_traced, is_transformed

__all__ = ["bias_gradients", "differentiable", "is_ordinary"]


def is_ordinary(tensors: tuple[Tensor | None, ...], geometry: Geometry) -> bool:
    """Whether the backward pass will be torch's ordinary one, and the padding is the same on both sides.

    ``tensors`` are x, the covariates, W, V and the biases; see `fusionconv.functional.hybrid_conv`.
    """
    x, weight = tensors[0], tensors[2]
    assert x is not None
    assert weight is not None
    if torch.compiler.is_compiling() or is_traced() or is_transformed() or x.is_meta:
        return False
    if any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return False
    return geometry.numeric_padding(weight.shape[2:]) is not None


def differentiable(
    tensors: tuple[Any, ...], geometry: Geometry, dtype: torch.dtype, needed: tuple[bool, ...], dy: Tensor
) -> list[Tensor | None]:
    """The gradients as a graph that can be differentiated again, by `grouped`.

    Of views, which nothing but this layer is made from: x may itself depend on the covariates or on W (a layer that is
    called twice), and a derivative that went through it would be counted here and again by the caller.
    """
    tensors = tuple(None if tensor is None else tensor.view_as(tensor) for tensor in tensors)
    x, covariates, weight, covariate_weight, bias, covariate_bias = tensors
    with torch.autocast(dy.device.type, dtype=dtype, enabled=dtype != weight.dtype):
        y = grouped(x, covariates, weight, covariate_weight, bias, covariate_bias, geometry)
    wanted = [tensor for tensor, need in zip(tensors, needed, strict=False) if need]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if need else None for need in needed[: len(tensors)]]


def bias_gradients(
    dy: Tensor, covariates: Tensor, covariate_bias: Tensor | None, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of b and c, where wanted, and what c adds to that of the covariates; dy (N, C_out, \\*spatial)."""
    if not any(needs) and covariate_bias is None:
        return None, None, None
    of_samples = dy.flatten(2).sum(2).to(covariates.dtype)  # of b_i, (N, C_out)
    return (
        of_samples.sum(0) if needs[0] else None,
        covariates.T @ of_samples if needs[1] else None,
        None if covariate_bias is None else of_samples @ covariate_bias.T,
    )
