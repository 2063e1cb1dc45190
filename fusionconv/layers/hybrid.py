"""The hybrid method: one kernel per sample, kernel_i = W + sum_j s_ij V_j; shared by its seven layers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import is_finite, ready_covariates
from fusionconv.errors import FusionError, SurgeryError
from fusionconv.layers.base import CovariateLayer, Merged, Option, Shapes, num_outputs, precise
from fusionconv.strategies import STRATEGIES
from fusionconv.strategies.kernels import full_precision

__all__ = ["STRATEGY", "HybridLayer"]

STRATEGY = Option("auto", (str,), ("auto", *STRATEGIES))


class HybridLayer(CovariateLayer):
    """Base of the hybrid layers; the subclasses say which torch layer they extend and how to run it.

    Example:
        >>> import torch
        >>> from fusionconv.layers import HybridLayer
        >>> layer = HybridLayer.from_plain(torch.nn.Conv1d(4, 8, 5), num_covariates=2)
        >>> type(layer).__name__, tuple(layer.covariate_weight.shape)
        ('HybridConv1d', (2, 8, 4, 5))
    """

    METHOD = "hybrid"
    ADDED: ClassVar[tuple[str, ...]] = ("covariate_weight", "covariate_bias", "covariate_map")
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ("num_covariates", "init", "strategy")
    OPTIONS: ClassVar[dict[str, Option]] = {
        "rank": Option(None, (int, type(None))),
        "covariate_bias": Option(False, (bool,)),
        "init": Option("zeros", (str,), ("zeros", "kaiming")),
        "strategy": STRATEGY,
    }
    GENERATED = False  # whether the layer makes the numbers that multiply the V_j: then they may be NaN, as maps may

    covariate_weight: nn.Parameter
    covariate_bias: nn.Parameter | None
    covariate_map: nn.Parameter | None
    init: str
    strategy: str

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """See `CovariateLayer.check_options`; a rank is from 1 to K."""
        complete = super().check_options(num_covariates, options)
        rank = complete["rank"]
        if rank is not None and rank > num_covariates:
            raise ValueError(
                f"rank must be None or an integer from 1 to num_covariates = {num_covariates}, got {rank!r}"
            )
        return complete

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """V (K, *W), c (K, C_out), or with a rank V (R, *W), c (R, C_out) and the map (R, K)."""
        shapes = cls.kernel_shapes(plain, options["rank"] or num_covariates, options)
        if options["rank"] is not None:
            shapes["covariate_map"] = (options["rank"], num_covariates)
        return shapes

    @classmethod
    def kernel_shapes(cls, plain: nn.Module, kernels: int, options: dict[str, Any]) -> Shapes:
        """Shapes of that many V_j, and of their biases where the options ask for them."""
        weight: Any = plain.weight
        shapes: Shapes = {"covariate_weight": (kernels, *weight.shape)}
        if options["covariate_bias"]:
            shapes["covariate_bias"] = (kernels, num_outputs(plain))
        return shapes

    def keep_options(self, options: dict[str, Any]) -> None:
        """As attributes; the other options show in the parameters."""
        self.init, self.strategy = options["init"], options["strategy"]

    def layer_options(self) -> dict[str, Any]:
        """The options that would make this layer again."""
        return {
            "rank": None if self.covariate_map is None else self.covariate_map.shape[0],
            "covariate_bias": self.covariate_bias is not None,
            "init": self.init,
            "strategy": self.strategy,
        }

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """V by ``init`` ("zeros", or "kaiming": each V_j as He-normal, fan_out, as ResNets begin W); c = 0.

        With ``rank`` the K -> R map starts with orthonormal rows, so that V = 0 still gets a gradient.
        """
        if self.init == "zeros":
            nn.init.zeros_(self.covariate_weight)
        else:
            for kernel in self.covariate_weight:
                nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
        if self.covariate_bias is not None:
            nn.init.zeros_(self.covariate_bias)
        if self.covariate_map is not None:
            values = torch.empty(self.covariate_map.shape, dtype=torch.float32, device=self.covariate_map.device)
            self.covariate_map.copy_(nn.init.orthogonal_(values))  # no half-precision QR: made in float32

    def kernel_covariates(self, covariates: Tensor, x: Tensor) -> Tensor:
        """The numbers that multiply the V_j: the covariates, or with ``rank`` their image under the learned map."""
        if self.covariate_map is None:
            return covariates  # the function under the layer checks them
        s = ready_covariates(covariates, self.num_covariates, x, self.covariate_map.dtype, self.looks_for_nan())
        with full_precision(covariates):
            mapped = nn.functional.linear(s, self.covariate_map)
        if self.looks_at(mapped) and not is_finite(mapped):
            raise FusionError(
                f"the covariates are finite, and covariate_map (rank={len(self.covariate_map)}) makes NaN or infinity "
                "of them: training has diverged. Go back to an earlier checkpoint and lower the learning rate, or clip "
                "the gradients"
            )
        return mapped

    def checks_factors(self) -> bool:
        """Whether the function under the layer is to look for NaN in what multiplies the V_j."""
        return self.looks_for_nan() and not self.GENERATED and self.covariate_map is None

    def looks_at(self, mapped: Tensor) -> bool:
        """Whether to look for NaN in what `covariate_map` has made."""
        return True

    def merged(self, s: Tensor) -> Merged:
        """W + sum_j s_j V_j, and b + sum_j s_j c_j where there is a c."""
        factors = self.merged_covariates(s[None])[0]
        sums: list[Tensor | None] = []
        for base, basis in ((self.weight, self.covariate_weight), (self.bias, self.covariate_bias)):
            total = None if basis is None else torch.tensordot(factors, precise(basis), dims=1)
            sums.append(total if total is None or base is None else total + precise(base))
        return Merged(*sums)

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """Of V and c: the covariates, or what the layer makes of them."""
        made = self.GENERATED or self.covariate_map is not None
        if made and self.covariate_weight.ndim < 3:
            raise SurgeryError(
                f"a {self.METHOD} layer: expected covariate_weight (F, *weight.shape), got a part of a flat vector "
                f"{tuple(self.covariate_weight.shape)}, which does not tell what to divide lr by; give covariate_lr"
            )
        count = len(self.covariate_weight) if made else self.num_covariates
        numbers = count if s is None else self.merged_covariates(s)
        return {"covariate_weight": numbers, "covariate_bias": numbers}

    def merged_covariates(self, s: Tensor) -> Tensor:
        """`kernel_covariates` of rows (N, K) in float64."""
        return s if self.covariate_map is None else s @ precise(self.covariate_map).T
