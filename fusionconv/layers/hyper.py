"""hyper: the kernel comes from a small network of the covariates, on top of W."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import ready_covariates
from fusionconv.layers.base import Option, Shapes, precise, variants
from fusionconv.layers.covariate_net import reset_linear, run_net
from fusionconv.layers.generated import GeneratedKernels
from fusionconv.layers.hybrid import STRATEGY, HybridLayer
from fusionconv.layers.hybrid_layers import HYBRID_LAYERS

__all__ = ["Hyper"]


class Hyper(GeneratedKernels):
    r"""``kernel_i = W + sum_r h_r(s_i) V_r`` with ``h(s) = relu(C1 s + c1)``: the hybrid layer behind hidden units.

    Source: Duenias, Nichyporuk, Arbel, Riklin Raviv, "HyperFusion: A Hypernetwork Approach to Multimodal Integration
    of Tabular and Medical Imaging Data for Predictive Modeling", Medical Image Analysis 2025 (arXiv 2403.13319). There
    an embedding network of the covariates is followed by one linear layer whose outputs are the kernel and the bias
    of a layer of the main network. That is this layer: V_r is column r of that last linear layer, and W its bias; with
    ``covariate_bias=True`` the same for the bias. Differences: the embedding is one hidden layer here and belongs to
    this layer alone; W keeps its pretrained values and V = 0 at the start, so that the layer is the one that it was
    (the published start scales the last linear layer by the variance of its inputs).

    The plain hybrid layer is linear in s: between 60 and 80 years the kernel changes as it does between 40 and 60.
    Here it may bend.

    Options:
        hidden: H hidden units.
        rank: R, or None. With it ``h(s) = A relu(C1 s + c1)`` with A (R, H), and R kernels are learned instead of H.
        covariate_bias: also learn c_r, ``bias_i = b + sum_r h_r(s_i) c_r``.
        strategy: how to compute it, see `fusionconv.functional.hybrid_conv`.

    Cost, for K covariates, a kernel of Q numbers (C_out C_in/groups kernel volume), R = H without ``rank``:
        parameters: H (K + 1) + R Q, with ``rank`` + R H, with ``covariate_bias`` + R C_out.
        FLOPs a sample: 2 H K + 2 R Q for the kernel; the convolution costs what it did (strategies differ).

    Attributes:
        covariate_weight: V, (R, \*weight.shape).
        covariate_bias: c, (R, C_out), or None.
        covariate_map: A, (R, H), or None.
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), c1 (H).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="hyper", hidden=4)
        >>> model[0].covariate_weight.shape
        torch.Size([4, 8, 3, 3, 3])
    """

    METHOD = "hyper"
    ADDED: ClassVar[tuple[str, ...]] = (*HybridLayer.ADDED, "covariate_hidden_weight", "covariate_hidden_bias")
    OPTIONS: ClassVar[dict[str, Option]] = {
        "hidden": Option(8, (int,)),
        "rank": Option(None, (int, type(None))),
        "covariate_bias": Option(False, (bool,)),
        "strategy": STRATEGY,
    }

    covariate_hidden_weight: nn.Parameter
    covariate_hidden_bias: nn.Parameter

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """See `CovariateLayer.check_options`; a rank is from 1 to H."""
        complete = super().check_options(num_covariates, options)
        if complete["rank"] is not None and complete["rank"] > complete["hidden"]:
            raise ValueError(
                f"rank must be None or an integer from 1 to hidden = {complete['hidden']}, got {complete['rank']!r}"
            )
        return complete

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """V, c, A, C1 and c1."""
        hidden, rank = options["hidden"], options["rank"]
        shapes = cls.kernel_shapes(plain, rank or hidden, options)
        shapes |= {"covariate_hidden_weight": (hidden, num_covariates), "covariate_hidden_bias": (hidden,)}
        return shapes if rank is None else {**shapes, "covariate_map": (rank, hidden)}

    def layer_options(self) -> dict[str, Any]:
        """The options that would make this layer again."""
        return {
            "hidden": self.covariate_hidden_bias.shape[0],
            "rank": None if self.covariate_map is None else self.covariate_map.shape[0],
            "covariate_bias": self.covariate_bias is not None,
            "strategy": self.strategy,
        }

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """V = 0 and c = 0; the hidden units (and A) as torch starts linear layers."""
        self.reset_kernels()
        reset_linear(self.covariate_hidden_weight, self.covariate_hidden_bias)
        if self.covariate_map is not None:
            reset_linear(self.covariate_map)

    def kernel_covariates(self, covariates: Tensor, x: Tensor) -> Tensor:
        """h(s), (N, R)."""
        dtype = self.covariate_hidden_weight.dtype
        s = ready_covariates(covariates, self.num_covariates, x, dtype, self.looks_for_nan())
        return run_net(s, self.covariate_hidden_weight, self.covariate_hidden_bias, self.covariate_map)

    def merged_covariates(self, s: Tensor) -> Tensor:
        """h(s) of rows (N, K) in float64."""
        a = None if self.covariate_map is None else precise(self.covariate_map)
        return run_net(s, precise(self.covariate_hidden_weight), precise(self.covariate_hidden_bias), a)


variants(Hyper, tuple(HYBRID_LAYERS), HYBRID_LAYERS)
