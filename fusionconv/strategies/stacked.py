"""stacked: x * W as it always was, plus one convolution with K C_out outputs for every x * V_j, weighted by s.

No kernel is formed per sample, so the batch size stays free when a model is exported; costs (K + 1) times the
arithmetic and activation memory. While V = 0 the output is the plain convolution's to the last bit, since it is that
very convolution plus zero (the other strategies sum in another order and may differ in the last bit).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import add_bias, full_precision

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
    """x * W by the plain convolution itself, plus one convolution for all V_j, outputs laid out (group, j, channel)."""
    from einops import rearrange  # here: importing it takes a quarter of the time that `import fusionconv` may take

    g, k = geometry.groups, covariate_weight.shape[0]
    if geometry.transposed:  # weight (C_in, C_out/g, *k): the output channels of a group stand side by side on axis 1
        kernels = rearrange(covariate_weight, "j i o ... -> i (j o) ...")
    else:  # weight (C_out, C_in/g, *k)
        kernels = rearrange(covariate_weight, "j (g o) i ... -> (g j o) i ...", g=g)
    by_covariate = rearrange(geometry.conv(x, kernels), "n (g j o) ... -> n j (g o) ...", g=g, j=k)
    with full_precision(covariates):  # a covariate of 1000.5 would be 1000 in bfloat16
        dtype = torch.promote_types(covariates.dtype, by_covariate.dtype)
        effect = torch.einsum("nj,njc...->nc...", covariates.to(dtype), by_covariate.to(dtype))
    if covariate_bias is not None:
        effect = add_bias(effect, covariates, None, covariate_bias)
    y = geometry.conv(x, weight, bias)
    return (y + effect).to(y.dtype)
