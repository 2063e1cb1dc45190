"""fusionconv: convolutions whose kernels take a covariate vector, kernel_i = W + sum_j s_ij V_j."""

from __future__ import annotations

from fusionconv import functional
from fusionconv.checkpoint import load, save
from fusionconv.errors import (
    CheckpointError,
    CovariateError,
    CovariateTypeError,
    FusionError,
    LayerChoiceWarning,
    SurgeryError,
    TableError,
    UnusedCovariatesWarning,
)
from fusionconv.layers import (
    HybridConv1d,
    HybridConv2d,
    HybridConv3d,
    HybridConvTranspose1d,
    HybridConvTranspose2d,
    HybridConvTranspose3d,
    HybridLinear,
)
from fusionconv.param_groups import param_groups
from fusionconv.surgery import ConvInfo, covariates, fuse_into, list_convs, merge, unfuse
from fusionconv.tuning import TunedLayer, autotune
from fusionconv.windows import window_predictor

__all__ = [
    "CheckpointError",
    "ConvInfo",
    "CovariateError",
    "CovariateTypeError",
    "FusionError",
    "HybridConv1d",
    "HybridConv2d",
    "HybridConv3d",
    "HybridConvTranspose1d",
    "HybridConvTranspose2d",
    "HybridConvTranspose3d",
    "HybridLinear",
    "LayerChoiceWarning",
    "SurgeryError",
    "TableError",
    "TunedLayer",
    "UnusedCovariatesWarning",
    "autotune",
    "covariates",
    "functional",
    "fuse_into",
    "list_convs",
    "load",
    "merge",
    "param_groups",
    "save",
    "unfuse",
    "window_predictor",
]

__version__ = "0.1.0"
