"""Layers that take a covariate vector besides the image."""

from __future__ import annotations

from fusionconv.layers.base import HybridLayer
from fusionconv.layers.hybrid_conv import HybridConv1d, HybridConv2d, HybridConv3d
from fusionconv.layers.hybrid_conv_transpose import (
    HybridConvTranspose1d,
    HybridConvTranspose2d,
    HybridConvTranspose3d,
)
from fusionconv.layers.hybrid_linear import HybridLinear

__all__ = [
    "HybridConv1d",
    "HybridConv2d",
    "HybridConv3d",
    "HybridConvTranspose1d",
    "HybridConvTranspose2d",
    "HybridConvTranspose3d",
    "HybridLayer",
    "HybridLinear",
]
