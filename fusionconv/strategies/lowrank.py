"""lowrank: kernels ``W + A diag(c_i) B``, by features (no kernel per sample) or by kernels; the same numbers.

    kernel_i = W + sum_q c_iq V_q          V_q: the filter B_q, with weight A_oq for output channel o

*features*: B is a convolution with r outputs, c_i scales them, A mixes them into the C_out outputs of W. That is r
channels more and one pass over the output. *kernels*: the V_q are formed, and the hybrid convolution goes on with
them. Where maps are small beside kernels the first is cheaper, where they are large the second.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function

from fusionconv.strategies import STRATEGIES
from fusionconv.strategies.auto import choose
from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import add_bias, full_precision
from fusionconv.strategies.layout import is_channels_last, keep_layout
from fusionconv.strategies.running import carries_more, is_recorded

__all__ = ["WAYS", "choose_way", "lowrank_conv", "lowrank_kernels", "lowrank_linear"]

WAYS = ("features", "kernels")
MANY = 1000  # positions of a batch from which one convolution with r more outputs is faster than two


def lowrank_conv(
    x: Tensor,
    factors: Tensor,
    weight: Tensor,
    filters: Tensor,
    mixing: Tensor,
    bias: Tensor | None,
    factor_bias: Tensor | None,
    geometry: Geometry,
    way: str = "auto",
) -> Tensor:
    r"""Convolve sample i with ``W + A diag(c_i) B`` and add ``b + sum_q c_iq d_q``.

    Args:
        x: (N, C_in, \*spatial).
        factors: c, (N, r), in the dtype of ``weight``.
        weight: W, (C_out, C_in/groups, \*kernel); transposed (C_in, C_out/groups, \*kernel).
        filters: B, (r, C_in/groups, \*kernel), transposed (C_in/groups, r, \*kernel); every group uses the same.
        mixing: A, (C_out, r).
        bias: b, (C_out), or None.
        factor_bias: d, (r, C_out), or None.
        geometry: how the convolution slides.
        way: "features", "kernels" or "auto".

    Returns:
        (N, C_out, \*spatial_out).
    """
    if carries_more(x):
        arguments = (x, factors, weight, filters, mixing, bias, factor_bias, geometry, way)
        return handle_torch_function(lowrank_conv, (x,), *arguments)
    if way == "auto":
        way = choose_way(x, weight, mixing, geometry)
    if way == "kernels" and x.shape[0] > 0:
        with full_precision(mixing):
            kernels = lowrank_kernels(filters, mixing, geometry.groups, geometry.transposed)
        compute = STRATEGIES[choose(x, factors, kernels, geometry)]
        return keep_layout(compute(x, factors, weight, kernels, bias, factor_bias, geometry), x)
    y = _by_features(x, factors, weight, filters, mixing, bias, geometry)
    return keep_layout(add_bias(y, factors, None, factor_bias), x)


def lowrank_linear(
    x: Tensor,
    factors: Tensor,
    weight: Tensor,
    filters: Tensor,
    mixing: Tensor,
    bias: Tensor | None,
    factor_bias: Tensor | None,
) -> Tensor:
    r"""``nn.functional.linear`` with ``W + A diag(c_i) B`` for sample i, by features.

    Args:
        x: (N, \*, in_features).
        factors: c, (N, r).
        weight: W, (out_features, in_features).
        filters: B, (r, in_features).
        mixing: A, (out_features, r).
        bias: b, (out_features), or None.
        factor_bias: d, (r, out_features), or None.

    Returns:
        (N, \*, out_features).
    """
    if carries_more(x):
        return handle_torch_function(lowrank_linear, (x,), x, factors, weight, filters, mixing, bias, factor_bias)

    def over_positions(numbers: Tensor) -> Tensor:
        return numbers.reshape(numbers.shape[0], *(1,) * (x.ndim - 2), numbers.shape[1])

    y = F.linear(x, weight, bias) + F.linear(F.linear(x, filters) * over_positions(factors), mixing)
    if factor_bias is None:
        return y
    with full_precision(factors):
        shift = factors @ factor_bias
    return y + over_positions(shift).to(y.dtype)


def choose_way(x: Tensor, weight: Tensor, mixing: Tensor, geometry: Geometry) -> str:
    """The cheaper way by shapes; docs/performance.md shows what the choice costs beside the better one.

    What each adds to a plain convolution, as a share of it, was measured on a CPU (24 layers, r = 8): features about
    2 r / C_out for r more outputs in each group, and 40 / (C_in/groups kernel volume) for the passes over the output;
    kernels .08 for the grouped convolution, and .05 r sqrt(Q) / P for forming Q numbers that P positions use (the root,
    because large kernels leave the cache). An exported or traced model takes features, which leave the batch size free.
    """
    if is_recorded():
        return "features"
    outputs, rank = mixing.shape
    numbers = weight.numel()
    fan_in = numbers / outputs
    positions = geometry.positions(x)
    by_features = 2 * rank * geometry.groups / outputs + 40 / fan_in
    by_kernels = 0.08 + 0.05 * rank * math.sqrt(numbers) / positions
    return "features" if by_features <= by_kernels else "kernels"


def lowrank_kernels(filters: Tensor, mixing: Tensor, groups: int, transposed: bool) -> Tensor:
    r"""V, (r, \*W): V_q is filter q with weight A_oq for output o, in the layout of the weight."""
    if not transposed:
        return torch.einsum("oq,q...->qo...", mixing, filters)
    of_group = mixing.unflatten(0, (groups, -1))
    return torch.einsum("goq,iq...->qgio...", of_group, filters).flatten(1, 2)


def _by_features(
    x: Tensor,
    factors: Tensor,
    weight: Tensor,
    filters: Tensor,
    mixing: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """W x + b plus A diag(c_i) (B x): one small matrix product a sample and group."""
    groups, (outputs, rank) = geometry.groups, mixing.shape
    y, features = _both(x, weight, filters, bias, geometry, rank)
    n, positions = x.shape[0], y.shape[2:].numel()
    with full_precision(factors):
        mixings = (mixing * factors[:, None]).reshape(n * groups, outputs // groups, rank)
    if groups == 1 and is_channels_last(x):  # the same product with positions in front: no map is laid out anew
        mixed = torch.baddbmm(y.flatten(2).mT, features.flatten(2).mT, mixings.mT).mT
    else:
        maps = y.reshape(n * groups, outputs // groups, positions)
        mixed = torch.baddbmm(maps, mixings, features.reshape(n * groups, rank, positions))
    return mixed.reshape(y.shape)


def _both(
    x: Tensor, weight: Tensor, filters: Tensor, bias: Tensor | None, geometry: Geometry, rank: int
) -> tuple[Tensor, Tensor]:
    """W x + b and B x: two convolutions, or one with r more outputs where its maps outweigh a copy of the kernels."""
    groups = geometry.groups
    one = groups == 1 and not torch.compiler.is_compiling() and not is_recorded()  # their batch size stays free
    if not one or len(x) * x.shape[2:].numel() < MANY:
        every = filters.repeat(groups, *(1,) * (filters.ndim - 1)) if groups > 1 else filters
        return geometry.conv(x, weight, bias), geometry.conv(x, every)
    kernels = torch.cat([weight, filters], dim=1 if geometry.transposed else 0)
    biases = None if bias is None else torch.cat([bias, bias.new_zeros(rank)])
    y, features = geometry.conv(x, kernels, biases).split([kernels.shape[int(geometry.transposed)] - rank, rank], 1)
    return y, features
