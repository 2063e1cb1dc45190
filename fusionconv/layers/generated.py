"""What hyper and condconv share: hybrid layers that make the numbers which multiply their kernels themselves."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from fusionconv.layers.hybrid import HybridLayer

__all__ = ["GeneratedKernels"]


class GeneratedKernels(HybridLayer):
    """``W + sum_r h_r V_r`` with h from the covariates or the image; V = 0 and c = 0 at the start."""

    ATTRIBUTES: ClassVar[tuple[str, ...]] = ("num_covariates", "strategy")
    GENERATED = True

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """See `CovariateLayer.check_options`; the hybrid layer's bound of a rank by K does not hold here."""
        return super(HybridLayer, cls).check_options(num_covariates, options)

    def keep_options(self, options: dict[str, Any]) -> None:
        """As attributes; the other options show in the parameters."""
        self.strategy = options["strategy"]

    @torch.no_grad()
    def reset_kernels(self) -> None:
        """V = 0 and c = 0."""
        nn.init.zeros_(self.covariate_weight)
        if self.covariate_bias is not None:
            nn.init.zeros_(self.covariate_bias)
