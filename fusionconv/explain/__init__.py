"""Look inside a model: its kernels, the effect of a covariate, attributions, a diagram (extra ``explain``)."""

from __future__ import annotations

from fusionconv.explain.attribution_numbers import ATTRIBUTION_METHODS, Attributions, attribute, attributions
from fusionconv.explain.diagram import plot_network
from fusionconv.explain.effects import CovariateEffect, covariate_effect, plot_covariate_effect
from fusionconv.explain.kernel_numbers import Kernels, kernels, plot_kernels

__all__ = [
    "ATTRIBUTION_METHODS",
    "Attributions",
    "CovariateEffect",
    "Kernels",
    "attribute",
    "attributions",
    "covariate_effect",
    "kernels",
    "plot_covariate_effect",
    "plot_kernels",
    "plot_network",
]
