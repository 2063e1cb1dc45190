"""The choice of ``auto`` on a GPU, by shapes alone: values would have to be waited for. Nothing of it was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry

__all__ = ["choose_on_device"]

NARROW = 64  # channels of a group that copies of its inputs (or outputs) may come to, (K + 1) times what they were


def choose_on_device(x: Tensor, covariate_weight: Tensor, geometry: Geometry) -> str:
    """The name of the strategy, the same for every batch size above one.

    * A kernel of one on a single position (a linear layer on features): ``stacked``, in every precision. N weight
      matrices of a wide layer do not fit (VGG's first linear layer, 32 samples: 13 GB).
    * ``grouped`` where a group has at least 16 input and 16 output channels, both multiples of 8, as tensor cores take
      them. Also for depthwise layers, which are computed by the same kernels before and after, and for one sample.
    * Other groups are narrow: images of one or three channels, heads of two outputs. There ``grouped`` is slow; one
      input channel makes it a depthwise convolution, for which torch leaves cuDNN (in 3-D a very slow one). ``scaled``
      where (K + 1) times the input channels are at most `NARROW`, ``stacked`` where the output channels are, else
      ``grouped``.
    """
    k, groups = len(covariate_weight), geometry.groups
    if covariate_weight.shape[3:].numel() == 1 and x.shape[2:].numel() == 1:
        return "stacked"
    inputs, outputs = covariate_weight.shape[2], covariate_weight.shape[1]
    if geometry.transposed:
        inputs, outputs = outputs // groups, inputs
    else:
        outputs = outputs // groups
    depthwise = inputs == 1 and groups > 1
    wide = all(channels >= 16 and channels % 8 == 0 for channels in (inputs, outputs))
    if wide or depthwise or (not torch.compiler.is_compiling() and len(x) == 1):
        return "grouped"
    if (k + 1) * inputs <= NARROW:
        return "scaled"
    return "stacked" if (k + 1) * outputs <= NARROW else "grouped"
