"""The small network that the fusion methods put between the covariates and what they do.

    values = C2 relu(C1 v + c1)         with ``hidden`` units
    values = C2 v                       without

v is the covariate vector, in some methods with pooled feature maps in front of it. There is no constant in the last
step: with C2 = 0 the values are 0, which is where a fused layer is the layer that it was. The parameters stand on the
layer itself, not in modules of their own, so that fusing adds no module to a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fusionconv.layers.base import Shapes, precise
from fusionconv.strategies.kernels import full_precision

__all__ = ["NET", "net_shapes", "reset_linear", "run_net", "run_net_precisely"]

NET = ("covariate_hidden_weight", "covariate_hidden_bias", "covariate_out_weight")  # C1, c1, C2


def net_shapes(inputs: int, outputs: int, hidden: int | None, hidden_bias: bool = True) -> Shapes:
    """Names and shapes of C1, c1 and C2."""
    if hidden is None:
        return {"covariate_out_weight": (outputs, inputs)}
    shapes: Shapes = {"covariate_hidden_weight": (hidden, inputs), "covariate_out_weight": (outputs, hidden)}
    if hidden_bias:
        shapes["covariate_hidden_bias"] = (hidden,)
    return shapes


def run_net(v: Tensor, hidden_weight: Tensor | None, hidden_bias: Tensor | None, out_weight: Tensor | None) -> Tensor:
    """(N, inputs) -> (N, outputs), or the hidden units without ``out_weight``; autocast does not round in between."""
    with full_precision(v):
        if hidden_weight is not None:
            v = torch.relu(nn.functional.linear(v, hidden_weight, hidden_bias))
        return v if out_weight is None else nn.functional.linear(v, out_weight)


def run_net_precisely(layer: nn.Module, v: Tensor) -> Tensor:
    """`run_net` of rows (N, inputs) in float64, with the C1, c1 and C2 of ``layer``."""
    return run_net(v, *(None if p is None else precise(p) for p in (getattr(layer, name) for name in NET)))


def reset_linear(weight: Tensor, bias: Tensor | None = None) -> None:
    """The start that torch gives the weight and the bias of an ``nn.Linear``: uniform within 1 / sqrt(inputs)."""
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        bound = 1 / math.sqrt(weight.shape[1])
        nn.init.uniform_(bias, -bound, bound)
