"""The seven hybrid layers by the torch class that each extends."""

from __future__ import annotations

from torch import nn

from fusionconv.layers.hybrid import HybridLayer
from fusionconv.layers.hybrid_conv import HybridConv1d, HybridConv2d, HybridConv3d
from fusionconv.layers.hybrid_conv_transpose import (
    HybridConvTranspose1d,
    HybridConvTranspose2d,
    HybridConvTranspose3d,
)
from fusionconv.layers.hybrid_linear import HybridLinear

__all__ = ["HYBRID_LAYERS"]

HYBRID_LAYERS: dict[type[nn.Module], type[HybridLayer]] = {
    nn.Conv1d: HybridConv1d,
    nn.Conv2d: HybridConv2d,
    nn.Conv3d: HybridConv3d,
    nn.ConvTranspose1d: HybridConvTranspose1d,
    nn.ConvTranspose2d: HybridConvTranspose2d,
    nn.ConvTranspose3d: HybridConvTranspose3d,
    nn.Linear: HybridLinear,
}
