"""Layers that take a covariate vector besides the image."""

from __future__ import annotations

from fusionconv.layers.attention import Attention
from fusionconv.layers.base import CovariateLayer
from fusionconv.layers.concat import Concat
from fusionconv.layers.condconv import CondConv
from fusionconv.layers.daft import Daft
from fusionconv.layers.film import Film
from fusionconv.layers.hybrid import HybridLayer
from fusionconv.layers.hybrid_conv import HybridConv1d, HybridConv2d, HybridConv3d
from fusionconv.layers.hybrid_conv_transpose import (
    HybridConvTranspose1d,
    HybridConvTranspose2d,
    HybridConvTranspose3d,
)
from fusionconv.layers.hybrid_linear import HybridLinear
from fusionconv.layers.hyper import Hyper
from fusionconv.layers.lowrank import Lowrank
from fusionconv.layers.methods import METHODS, method_class
from fusionconv.layers.scale import Scale

__all__ = [
    "METHODS",
    "Attention",
    "Concat",
    "CondConv",
    "CovariateLayer",
    "Daft",
    "Film",
    "HybridConv1d",
    "HybridConv2d",
    "HybridConv3d",
    "HybridConvTranspose1d",
    "HybridConvTranspose2d",
    "HybridConvTranspose3d",
    "HybridLayer",
    "HybridLinear",
    "Hyper",
    "Lowrank",
    "Scale",
    "method_class",
]
