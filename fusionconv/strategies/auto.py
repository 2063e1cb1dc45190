"""auto: which strategy to use, decided by shapes and device only, so that equal shapes are computed alike."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["choose"]


def choose(x: Tensor, covariate_weight: Tensor) -> str:
    """The name of the strategy for these shapes.

    * An exported model must leave the batch size free, and ONNX fixes the number of groups: ``scaled``.
    * Otherwise ``grouped``.
    """
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return "scaled"
    return "grouped"
