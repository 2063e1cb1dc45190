"""condconv: a kernel that the image itself chooses among experts; for comparison, it takes no covariates in."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import check_covariates
from fusionconv.layers.base import CONVOLUTIONS, Merged, Option, Shapes, variants
from fusionconv.layers.covariate_net import reset_linear
from fusionconv.layers.generated import GeneratedKernels
from fusionconv.layers.hybrid import STRATEGY
from fusionconv.layers.hybrid_layers import HYBRID_LAYERS
from fusionconv.strategies.kernels import full_precision

__all__ = ["CondConv"]


class CondConv(GeneratedKernels):
    r"""``kernel_i = W + sum_e r_e(x_i) V_e`` with ``r(x) = sigmoid(R mean(x) + r0)``, mean over all positions of x.

    Source: Yang, Bender, Le, Ngiam, "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
    NeurIPS 2019 (arXiv 1904.04971), section 3; with the constant r0, as the authors' code and timm have it. There the
    kernel is ``sum_e r_e W_e`` and nothing else. Here W is one more expert that is always on: with V = 0 at the start
    the layer is the pretrained one, and with W = 0 it is the published one, expert for expert (a test compares it with
    timm's CondConv2d). The experts start equal and part by their routing weights, which start as torch's linear layers.

    It shows what a kernel for each sample is worth that knows the image alone. A model that asks for covariates and
    does not use them must not come about by mistake, so this has to be said: ``ignore_covariates=True``. The model is
    called as ``model(images, covariates)`` all the same, and the covariates are checked. `merge` refuses.

    Options:
        ignore_covariates: must be True.
        experts: E.
        covariate_bias: also learn c_e, ``bias_i = b + sum_e r_e(x_i) c_e``.
        strategy: how to compute it, see `fusionconv.functional.hybrid_conv`.

    Cost, for a kernel of Q numbers (C_out C_in/groups kernel volume), P_in input positions:
        parameters: E Q + E (C_in + 1), with ``covariate_bias`` + E C_out.
        FLOPs a sample: C_in P_in for the means, 2 E C_in for the routing, 2 E Q for the kernel; the convolution costs
        what it did (strategies differ).

    Attributes:
        covariate_weight: V, (E, \*weight.shape); the name that the hybrid layer has for its V_j.
        covariate_bias: c, (E, C_out), or None.
        routing_weight, routing_bias: R (E, C_in), r0 (E).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="condconv", ignore_covariates=True)
        >>> model(torch.randn(4, 3, 8, 8), torch.randn(4, 2)).shape
        torch.Size([4, 8, 6, 6])
    """

    METHOD = "condconv"
    ADDED: ClassVar[tuple[str, ...]] = ("covariate_weight", "covariate_bias", "routing_weight", "routing_bias")
    OPTIONS: ClassVar[dict[str, Option]] = {
        "experts": Option(4, (int,)),
        "covariate_bias": Option(False, (bool,)),
        "ignore_covariates": Option(False, (bool,)),
        "strategy": STRATEGY,
    }

    routing_weight: nn.Parameter
    routing_bias: nn.Parameter

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """See `CovariateLayer.check_options`."""
        complete = super().check_options(num_covariates, options)
        if not complete["ignore_covariates"]:
            raise ValueError(
                "method 'condconv' chooses its kernels by the image and ignores the covariates; say that this is meant "
                "with ignore_covariates=True, or choose 'hybrid' or 'hyper'"
            )
        return complete

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """V, c, R and r0."""
        experts: int = options["experts"]
        channels: Any = plain.in_channels
        routing: Shapes = {"routing_weight": (experts, channels), "routing_bias": (experts,)}
        return {**cls.kernel_shapes(plain, experts, options), **routing}

    def layer_options(self) -> dict[str, Any]:
        """The options that would make this layer again."""
        return {
            "experts": self.routing_bias.shape[0],
            "covariate_bias": self.covariate_bias is not None,
            "ignore_covariates": True,
            "strategy": self.strategy,
        }

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """V = 0 and c = 0; the routing as torch starts linear layers."""
        self.reset_kernels()
        reset_linear(self.routing_weight, self.routing_bias)

    def kernel_covariates(self, covariates: Tensor, x: Tensor) -> Tensor:
        """r(x), (N, E); the covariates are only checked."""
        check_covariates(covariates, self.num_covariates, x, self.looks_for_nan())
        with full_precision(x):
            means = x.mean(tuple(range(2, x.ndim)), dtype=self.routing_weight.dtype)
            return nn.functional.linear(means, self.routing_weight, self.routing_bias).sigmoid()

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """E: the routing weights depend on the image."""
        return super().multipliers()

    def merged(self, s: Tensor) -> Merged:
        """There is no such layer."""
        raise NotImplementedError("its kernel depends on the image, not on the covariates")


variants(CondConv, CONVOLUTIONS, HYBRID_LAYERS)
