"""stacked: one convolution with (K + 1) C_out outputs, x * W and every x * V_j, then weighted by the covariates.

No kernel is formed per sample, so the batch size stays free when a model is exported; costs (K + 1) times the
arithmetic and activation memory.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import add_bias

__all__ = ["stacked"]


def stacked(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Outputs are laid out (group, j, channel) with j = 0 for W, so that each group keeps its own inputs."""
    g = geometry.groups
    kernels = torch.cat([weight[None], covariate_weight])
    if geometry.transposed:  # weight (C_in, C_out/g, *k): the output channels of a group stand side by side on axis 1
        kernels = rearrange(kernels, "j i o ... -> i (j o) ...")
    else:  # weight (C_out, C_in/g, *k)
        kernels = rearrange(kernels, "j (g o) i ... -> (g j o) i ...", g=g)
    y = rearrange(geometry.conv(x, kernels), "n (g j o) ... -> n j g o ...", g=g, j=covariate_weight.shape[0] + 1)
    weighted = torch.einsum("nj,njgo...->ngo...", covariates.to(y.dtype), y[:, 1:])
    y = (y[:, 0] + weighted).flatten(1, 2)
    return add_bias(y, covariates, bias, covariate_bias)
