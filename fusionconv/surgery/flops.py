"""FLOPs of one image in a fused layer, by the formulas that the layers' docstrings state.

A multiplication and an addition are two, as in torch.utils.flop_counter, which counts convolutions and matrix products.
It cannot say what covariates add: the strategies reach the same result by other products (``loop`` makes its kernels
without any, ``scaled`` runs K + 1 convolutions), and it leaves out element-wise work, which is all that FiLM does to a
map. So the layer itself is counted as the plain one, and what its method adds as the method is defined.
"""

from __future__ import annotations

import math
from typing import Any

from torch.nn.modules.conv import _ConvTransposeNd

from fusionconv.layers import CondConv, CovariateLayer, HybridLayer, Hyper, Lowrank
from fusionconv.layers.base import num_outputs
from fusionconv.layers.modulated import Modulated

__all__ = ["added_flops", "plain_flops", "positions"]


def plain_flops(layer: CovariateLayer, positions_in: int, positions_out: int) -> int:
    """Of the plain layer, for one image: 2 P Q, where P are the input's positions of a transposed convolution."""
    positions = positions_in if isinstance(layer, _ConvTransposeNd) else positions_out
    return 2 * positions * layer.weight.numel()


def added_flops(layer: CovariateLayer, positions_in: int, positions_out: int) -> int:
    """What the method adds to them; without the bias's, which are few."""
    return int(_added(layer, positions_in, positions_out))


def _added(layer: Any, positions_in: int, positions_out: int) -> Any:
    weight, outputs = layer.weight.numel(), num_outputs(layer)
    if isinstance(layer, Modulated):  # a scale, a shift or both of each number of the map; means where it sees it
        each = layer.values_per_channel(layer.covariate_options) + layer.sees_image(layer.covariate_options)
        return _net(layer) + each * outputs * positions_out
    if isinstance(layer, Lowrank):
        rank: int = layer.covariate_options["rank"]
        groups: int = getattr(layer, "groups", 1)
        filters = layer.covariate_filters.numel() // rank
        positions = positions_in if isinstance(layer, _ConvTransposeNd) else positions_out
        features = 2 * rank * (positions * groups * filters + positions_out * outputs)
        return _net(layer) + min(features, 2 * rank * weight)
    assert isinstance(layer, HybridLayer)
    kernels = len(layer.covariate_weight)
    flops = 2 * kernels * weight
    if isinstance(layer, CondConv):
        channels: Any = layer.in_channels
        return flops + channels * positions_in + 2 * layer.routing_weight.numel()
    if isinstance(layer, Hyper):
        flops += 2 * layer.covariate_hidden_weight.numel()
    return flops + (0 if layer.covariate_map is None else 2 * layer.covariate_map.numel())


def _net(layer: Any) -> int:
    """Of the matrices between the covariates and what they do."""
    matrices = (layer.covariate_hidden_weight, layer.covariate_out_weight)
    return int(2 * sum(m.numel() for m in matrices if m is not None))


def positions(shape: Any, linear: bool) -> int:
    """How many positions a map (N, C, *size), or features (N, *, C), has for each row."""
    return math.prod(shape[1:-1] if linear else shape[2:])
