"""grouped: all samples in one convolution with N times the groups, over the N generated kernels.

No arithmetic is repeated and the kernels (N of them) are the only extra memory. The usual choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import add_bias, compute_dtype, is_rounded, per_sample, rounded_per_sample
from fusionconv.strategies.opaque import conv_of_each
from fusionconv.strategies.running import has_tangent, is_recorded, is_transformed

__all__ = ["grouped"]


def grouped(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Lay the N samples side by side on the channel axis, (1, N C_in, \\*spatial), one block of groups each."""
    batch, dtype = x.shape[0], compute_dtype(x) if is_rounded(x) else weight.dtype
    if torch.compiler.is_compiling() and not is_recorded() and not is_transformed():
        kernels = per_sample(weight, covariates, covariate_weight)
        return add_bias(conv_of_each(x, kernels, geometry), covariates, bias, covariate_bias)
    tensors = (weight, covariates, covariate_weight)
    if dtype == weight.dtype or is_recorded() or is_transformed() or any(map(has_tangent, tensors)):
        kernels = per_sample(*tensors).flatten(0, 1)
    else:
        kernels = rounded_per_sample(*tensors, dtype).flatten(0, 1)
    biases = None
    if bias is not None or covariate_bias is not None:
        biases = per_sample(bias, covariates, covariate_bias).flatten()
    side_by_side = x.reshape(1, batch * x.shape[1], *x.shape[2:])
    y = geometry.conv(side_by_side, kernels, biases, groups=batch * geometry.groups)
    return y.reshape(batch, y.shape[1] // batch, *y.shape[2:])
