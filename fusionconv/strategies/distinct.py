"""distinct: samples with equal covariates share one kernel and one ordinary convolution.

Fast when covariates are few and 0/1 (sex, scanner): a batch of 32 then needs two convolutions. It reads the values
of the covariates; where they cannot be read (compiled, exported, torch.func), `grouped` does its work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.grouped import grouped
from fusionconv.strategies.kernels import per_sample
from fusionconv.strategies.running import has_tangent, is_unread

__all__ = ["comparable", "distinct"]


def distinct(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Sort the batch by covariate row, convolve each run of equal rows, put the results back in order.

    Equal rows still have gradients of their own, so covariates that are differentiated go through `grouped`; so does
    whatever is recorded, which would keep the runs of its example and put other covariates on the wrong samples.
    """
    if covariates.requires_grad or has_tangent(covariates) or is_unread(covariates):
        return grouped(x, covariates, weight, covariate_weight, bias, covariate_bias, geometry)
    _, row, counts = torch.unique(comparable(covariates), dim=0, return_inverse=True, return_counts=True)
    order = torch.argsort(row, stable=True)
    first = order[torch.cumsum(counts, 0) - counts]  # one sample of each run
    kernels = per_sample(weight, covariates[first], covariate_weight)
    biases: list[Tensor | None] = [None] * len(counts)
    if bias is not None or covariate_bias is not None:
        biases = list(per_sample(bias, covariates[first], covariate_bias))
    if len(counts) == 1:
        return geometry.conv(x, kernels[0], biases[0])
    runs = x[order].split(counts.tolist())
    y = torch.cat([geometry.conv(run, kernel, b) for run, kernel, b in zip(runs, kernels, biases, strict=True)])
    return y[torch.argsort(order)]


def comparable(covariates: Tensor) -> Tensor:
    """Rows for `torch.unique`, which has no kernel for half precision on every device: widened, equal as before."""
    return covariates.to(torch.promote_types(covariates.dtype, torch.float32))
