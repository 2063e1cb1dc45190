"""grouped: all samples in one convolution with N times the groups, over the N generated kernels.

No arithmetic is repeated and the kernels (N of them) are the only extra memory. The usual choice.
"""

from __future__ import annotations

from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import per_sample

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
    batch = x.shape[0]
    kernels = per_sample(weight, covariates, covariate_weight).flatten(0, 1)
    biases = None
    if bias is not None or covariate_bias is not None:
        biases = per_sample(bias, covariates, covariate_bias).flatten()
    side_by_side = x.reshape(1, batch * x.shape[1], *x.shape[2:])
    y = geometry.conv(side_by_side, kernels, biases, groups=batch * geometry.groups)
    return y.reshape(batch, y.shape[1] // batch, *y.shape[2:])
