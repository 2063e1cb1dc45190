"""auto: which strategy to use, decided by shapes and device only, so that equal shapes are computed alike."""

from __future__ import annotations

from torch import Tensor

from fusionconv.strategies.kernels import autocasts
from fusionconv.strategies.rows import is_recorded

__all__ = ["choose"]


def choose(x: Tensor, covariate_weight: Tensor) -> str:
    """The name of the strategy for these shapes.

    * An exported or traced model must leave the batch size free, and ONNX fixes the number of groups: ``scaled``.
    * A kernel of one on a single position (a linear head, squeeze and excitation): ``stacked``, since N kernels would
      cost more than the product itself. Not under autocast, where ``stacked`` rounds each term by itself.
    * Otherwise ``grouped``.
    """
    if is_recorded():
        return "scaled"
    if covariate_weight.shape[3:].numel() == 1 and x.shape[2:].numel() == 1 and not autocasts(x):
        return "stacked"
    return "grouped"
