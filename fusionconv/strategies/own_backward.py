"""What `chunked` and `tiled` share: backward passes of their own that keep no kernels, and who takes over where.

Such a pass is ordinary Python under torch's autograd. Where another machine runs the backward pass (a compiler, a
recorder, torch.func, a second derivative), `grouped` computes the same from torch's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.grouped import grouped
from fusionconv.strategies.kernels import compute_dtype, is_rounded, per_sample
from fusionconv.strategies.layout import own
from fusionconv.strategies.running import is_batched, is_traced, is_transformed

__all__ = ["Needs", "Way", "is_ordinary", "run"]


class Needs(NamedTuple):
    """Which gradients are wanted: of x, of the covariates, and of W or V."""

    x: bool
    covariates: bool
    kernels: bool


class Way(NamedTuple):
    """How a strategy computes its part; autocast is off in both functions.

    Attributes:
        output: x, covariates, W, V, the biases (N, C_out) or None, geometry, dtype of the convolution -> y.
        gradients: dy, x, covariates, W, V, factors, geometry, dtype, needs -> dx, that of the covariates by way of the
            kernels, and of W and the V_j (1 + K, numbers of W), flat, one below the other; each None where it is not
            needed. ``factors`` (1 + K, N) are the covariates below a row of ones, which goes with W; they have the
            dtype for sums, since sums over blocks in bfloat16 would lose digits.
    """

    output: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None, Geometry, torch.dtype], Tensor]
    gradients: Callable[
        [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Geometry, torch.dtype, Needs],
        tuple[Tensor | None, Tensor | None, Tensor | None],
    ]


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


def run(way: Way, tensors: tuple[Any, ...], geometry: Geometry) -> Tensor:
    """y_i = x_i * (W + sum_j s_ij V_j) + b + sum_j s_ij c_j; ``tensors`` as in `is_ordinary`, which must hold."""
    x, _, weight, *_ = tensors
    dtype = weight.dtype
    if is_rounded(x):
        dtype = compute_dtype(x)
        x = x.to(dtype)
    return cast(Tensor, _OwnBackward.apply(x, *tensors[1:], way, geometry, dtype))


class _OwnBackward(torch.autograd.Function):
    """Keeps x, s, W and V for the backward pass, and no kernels."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, covariates: Tensor, weight: Tensor, covariate_weight: Tensor, bias: Tensor | None,
        covariate_bias: Tensor | None, way: Way, geometry: Geometry, dtype: torch.dtype,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, covariates, weight, covariate_weight, bias, covariate_bias)
        ctx.way, ctx.geometry, ctx.dtype = way, geometry, dtype
        with torch.autocast(x.device.type, enabled=False):
            biases = None
            if bias is not None or covariate_bias is not None:
                biases = per_sample(bias, covariates, covariate_bias).to(dtype)
            return own(way.output(x, covariates, weight, covariate_weight, biases, geometry, dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dy, nothing = gradients[0].contiguous(), (None, None, None)
        if torch.is_grad_enabled() or is_batched(dy):  # a second derivative, or many first ones: through `grouped`
            with torch.enable_grad():
                found = _differentiable(ctx.saved_tensors, ctx.geometry, ctx.dtype, ctx.needs_input_grad, dy)
            return (*found, *nothing)

        x, covariates, weight, covariate_weight, _, covariate_bias = ctx.saved_tensors
        needs_x, needs_s, needs_weight, needs_v, needs_bias, needs_c = ctx.needs_input_grad[:6]
        exact = torch.promote_types(weight.dtype, torch.float32)
        factors = torch.cat([torch.ones_like(covariates[:, :1]), covariates], 1).T.to(exact)
        with torch.autocast(dy.device.type, enabled=False):
            dx, dcovariates, sums = ctx.way.gradients(
                dy, x, covariates, weight, covariate_weight, factors, ctx.geometry, ctx.dtype,
                Needs(needs_x, needs_s, needs_weight or needs_v),
            )  # fmt: skip
            dbias, dcovariate_bias, more = _bias_gradients(dy, covariates, covariate_bias, (needs_bias, needs_c))
            if dcovariates is not None and more is not None:
                dcovariates = dcovariates + more
        return (
            dx,
            dcovariates,
            sums[0].reshape(weight.shape).to(weight.dtype) if needs_weight else None,
            sums[1:].reshape(covariate_weight.shape).to(weight.dtype) if needs_v else None,
            dbias,
            dcovariate_bias,
            *nothing,
        )


def _differentiable(
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


def _bias_gradients(
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
