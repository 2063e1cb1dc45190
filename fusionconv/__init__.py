"""fusionconv: convolutions whose kernels take a covariate vector, kernel_i = W + sum_j s_ij V_j."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionconv import functional
    from fusionconv.checkpoint import load, save
    from fusionconv.errors import (
        CheckpointError,
        CovariateError,
        CovariateTypeError,
        EvaluationError,
        ExplainError,
        FusionError,
        ImageError,
        ImageWarning,
        LayerChoiceWarning,
        LeakageWarning,
        RowsError,
        SplitWarning,
        StudyError,
        SurgeryError,
        TableError,
        TableWarning,
        UndefinedMetricError,
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
    from fusionconv.optimizer_groups import param_groups
    from fusionconv.surgery import (
        ConvInfo,
        FusedInfo,
        Summary,
        covariates,
        fuse_into,
        list_convs,
        merge,
        summary,
        unfuse,
    )
    from fusionconv.tuning import TunedLayer, autotune
    from fusionconv.windows import window_predictor

__all__ = [
    "CheckpointError",
    "ConvInfo",
    "CovariateError",
    "CovariateTypeError",
    "EvaluationError",
    "ExplainError",
    "FusedInfo",
    "FusionError",
    "HybridConv1d",
    "HybridConv2d",
    "HybridConv3d",
    "HybridConvTranspose1d",
    "HybridConvTranspose2d",
    "HybridConvTranspose3d",
    "HybridLinear",
    "ImageError",
    "ImageWarning",
    "LayerChoiceWarning",
    "LeakageWarning",
    "RowsError",
    "SplitWarning",
    "StudyError",
    "Summary",
    "SurgeryError",
    "TableError",
    "TableWarning",
    "TunedLayer",
    "UndefinedMetricError",
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
    "summary",
    "unfuse",
    "window_predictor",
]

__version__ = "0.1.0"


# Nothing is imported before it is used: the console command answers --help without loading torch.
_MODULES: dict[str, tuple[str, ...]] = {
    "fusionconv.checkpoint": (
        "load",
        "save",
    ),
    "fusionconv.errors": (
        "CheckpointError",
        "CovariateError",
        "CovariateTypeError",
        "EvaluationError",
        "ExplainError",
        "FusionError",
        "ImageError",
        "ImageWarning",
        "LayerChoiceWarning",
        "LeakageWarning",
        "RowsError",
        "SplitWarning",
        "StudyError",
        "SurgeryError",
        "TableError",
        "TableWarning",
        "UndefinedMetricError",
        "UnusedCovariatesWarning",
    ),
    "fusionconv.layers": (
        "HybridConv1d",
        "HybridConv2d",
        "HybridConv3d",
        "HybridConvTranspose1d",
        "HybridConvTranspose2d",
        "HybridConvTranspose3d",
        "HybridLinear",
    ),
    "fusionconv.optimizer_groups": ("param_groups",),
    "fusionconv.surgery": (
        "ConvInfo",
        "FusedInfo",
        "Summary",
        "covariates",
        "fuse_into",
        "list_convs",
        "merge",
        "summary",
        "unfuse",
    ),
    "fusionconv.tuning": (
        "TunedLayer",
        "autotune",
    ),
    "fusionconv.windows": ("window_predictor",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name == "functional":
        value = importlib.import_module("fusionconv.functional")
    else:
        raise AttributeError(f"module 'fusionconv' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
