"""auto: which strategy to use, by shapes and device (on a CPU also by how many rows differ), the same each time."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.chunked import CHUNK
from fusionconv.strategies.distinct import comparable
from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import autocasts
from fusionconv.strategies.on_device import choose_on_device
from fusionconv.strategies.running import is_recorded, is_unread
from fusionconv.strategies.tiled import can_tile

__all__ = ["choose"]

FEW = 64  # making one number of a kernel costs about as much as using it on so many positions (measured on a CPU)


def choose(x: Tensor, covariates: Tensor, covariate_weight: Tensor, geometry: Geometry | None = None) -> str:
    """The name of the strategy. docs/performance.md shows what the choice costs beside the best one.

    * An exported or traced model must leave the batch size free, and ONNX fixes the number of groups: ``scaled``.
    * On a GPU: see `choose_on_device`.
    * A kernel of one on a single position (a linear head, squeeze and excitation): ``stacked``, since N kernels would
      cost more than the product itself. Not in half precision, where ``stacked`` rounds each term by itself.
    * Compiled, for one sample, and where all N kernels fit in a cache: ``grouped``, one convolution.
    * Otherwise, on a CPU with large kernels: ``distinct`` where at most half of the rows differ (sex, scanner) and take
      no gradient; ``tiled`` where maps have at most `FEW` positions (the last ones of a network), if it can take the
      convolution; ``stacked`` again where K times the positions are at most `FEW`; else ``chunked``.
    """
    if is_recorded():
        return "scaled"
    if x.device.type != "cpu":
        return choose_on_device(x, covariate_weight, geometry or Geometry(x.ndim - 2))
    positions = x.shape[2:].numel()
    rounds = autocasts(x) or covariate_weight.dtype in (torch.bfloat16, torch.float16)
    if covariate_weight.shape[3:].numel() == 1 and positions == 1 and not rounds:
        return "stacked"
    if torch.compiler.is_compiling() or len(x) == 1:
        return "grouped"
    if len(x) * covariate_weight[0].numel() <= CHUNK:
        return "grouped"
    if _few_differ(covariates):
        return "distinct"
    small, few = positions <= FEW, len(covariate_weight) * positions <= FEW and not rounds
    if small and can_tile(geometry or Geometry(x.ndim - 2)) and not (few and len(covariate_weight) < 3):
        return "tiled"
    if few:
        return "stacked"
    return "chunked"


def _few_differ(covariates: Tensor) -> bool:
    """Whether at most half of the rows are different ones, and may share their kernels."""
    if covariates.requires_grad or is_unread(covariates):
        return False
    return 2 * len(torch.unique(comparable(covariates), dim=0)) <= len(covariates)
