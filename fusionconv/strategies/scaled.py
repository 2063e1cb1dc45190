"""scaled: the input channels once as they are and once times each covariate, with W and every V_j side by side.

By linearity x * (s_j V_j) = (s_j x) * V_j. Like `stacked` it leaves the batch size free in an export; the extra
memory is K times the input instead of K times the output, so it suits layers with few input channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import add_bias, compute_dtype

__all__ = ["scaled"]


def scaled(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Inputs are laid out (group, j, channel) with j = 0 for x itself, kernels likewise."""
    from einops import rearrange  # here: importing it takes a quarter of the time that `import fusionconv` may take

    g = geometry.groups
    kernels = torch.cat([weight[None], covariate_weight])
    if geometry.transposed:  # weight (C_in, C_out/g, *k)
        kernels = rearrange(kernels, "j (g i) o ... -> (g j i) o ...", g=g)
    else:  # weight (C_out, C_in/g, *k): the inputs of a group stand side by side on axis 1
        kernels = rearrange(kernels, "j o i ... -> o (j i) ...")
    dtype = compute_dtype(x)  # products are rounded once, covariates are not
    products = [(x * s_j.reshape(-1, *(1,) * (x.ndim - 1))).to(dtype) for s_j in covariates.unbind(1)]
    copies = torch.cat([x.to(dtype), *products], dim=1)  # (N, (K + 1) C_in, *spatial), in the memory format of x
    if g > 1:
        copies = rearrange(copies, "n (j g i) ... -> n (g j i) ...", g=g, j=len(products) + 1)
    return add_bias(geometry.conv(copies, kernels), covariates, bias, covariate_bias)
