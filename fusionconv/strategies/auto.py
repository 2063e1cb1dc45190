"""auto: which strategy to use, decided by shapes and device only, so that equal shapes are computed alike."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.kernels import autocasts

__all__ = ["choose"]


def choose(x: Tensor, covariate_weight: Tensor) -> str:
    """The name of the strategy for these shapes.

    * An exported model must leave the batch size free, and ONNX fixes the number of groups: ``scaled``.
    * A kernel of one on a single position (a linear head, squeeze and excitation): ``stacked``, since N kernels would
      cost more than the product itself. Not under autocast, where ``stacked`` rounds each term by itself.
    * Otherwise ``grouped``.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "scaled"
    if covariate_weight.shape[3:].numel() == 1 and x.shape[2:].numel() == 1 and not autocasts(x):
        return "stacked"
    return "grouped"
