"""Row counts in recorded models: a file on disk must refuse one row for a batch of eight as the layer itself does.

`check_covariates` compares the row counts while Python runs. torch.export keeps that as a guard, but an ONNX file and
a torch.jit.trace hold operations only, and those broadcast: one patient's row would silently serve the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["tie_rows"]


def tie_rows(covariates: Tensor, x: Tensor) -> Tensor:
    """``covariates`` unchanged, through an operation that fails unless ``x`` has as many rows.

    One number of each sample is joined to its row and cut off again: a concatenation does not broadcast.
    """
    column = x[:, :1]
    for _ in range(x.ndim - 2):
        column = column[..., 0]
    return torch.cat([column.to(covariates.dtype), covariates], dim=1)[:, 1:]
