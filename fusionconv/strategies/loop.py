"""loop: one sample after the other, the formula as it stands. The reference that every other strategy is tested on."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry

__all__ = ["loop"]


def loop(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """For each sample i: form ``W + sum_j s_ij V_j`` and ``b + sum_j s_ij c_j``, convolve sample i with them."""
    outputs = []
    for i in range(x.shape[0]):
        kernel_i, bias_i = weight, bias
        for j in range(covariates.shape[1]):
            kernel_i = kernel_i + covariates[i, j] * covariate_weight[j]
            if covariate_bias is not None:
                term = covariates[i, j] * covariate_bias[j]
                bias_i = term if bias_i is None else bias_i + term
        outputs.append(geometry.conv(x[i : i + 1], kernel_i, bias_i))
    return torch.cat(outputs)
