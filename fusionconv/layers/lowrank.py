"""lowrank: a kernel for each sample that differs from W by a matrix of low rank."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from fusionconv.covariate_checks import ready_covariates, refuse_fx
from fusionconv.layers.base import EVERY_LAYER, CovariateLayer, Merged, Option, Shapes, num_outputs, precise, variants
from fusionconv.layers.covariate_net import NET, net_shapes, reset_linear, run_net, run_net_precisely
from fusionconv.layers.padding import output_padding, pad_first
from fusionconv.strategies import Geometry
from fusionconv.strategies.lowrank import WAYS, lowrank_conv, lowrank_kernels, lowrank_linear

__all__ = ["Lowrank"]


class Lowrank(CovariateLayer):
    r"""``kernel_i = W + A diag(c(s_i)) B`` with ``c(s) = C s``: r filters B, mixed by A as the covariates say.

    Written out, ``kernel_i = W + sum_q c_iq V_q``, where V_q is the filter B_q, with weight A_oq for output channel o:
    a hybrid layer whose V_q have rank one. The convolution of such a kernel is W x plus r feature maps B x, scaled by
    c(s_i) and mixed by A, so that no kernel has to be made for a sample. In a convolution with groups all groups use
    the same filters. A = 0 at the start: the layer is the one that it was. B starts as torch starts W, C with
    orthonormal rows (or columns, where r > K). c has no constant, so s = 0 gives the plain layer; with ``hidden`` it is
    ``C2 relu(C1 s + c1)``, and need not.

    Source: the sum of a weight and a product of two thin matrices is LoRA's (Hu et al., ICLR 2022, arXiv 2106.09685,
    section 4.1), here with a diagonal between the two that depends on the sample. Scaling features instead of forming
    kernels is how StyleGAN2 is computed (Karras et al., CVPR 2020, appendix B).

    It costs little where hybrid costs most, in deep layers; hybrid costs less where maps are large and channels few
    (docs/performance.md). With fewer than r output channels, or fewer than r inputs of a kernel, it has no fewer
    parameters than hybrid needs.

    Options:
        rank: r, the number of filters.
        hidden: H hidden units between the covariates and c; None: linear.
        covariate_bias: also learn d_q, ``bias_i = b + sum_q c_q(s_i) d_q``.
        strategy: "features", "kernels" (formed, as hybrid does), or "auto", which chooses by shapes. Same result;
            a linear layer is always computed by features.

    Cost, for K covariates, C output channels, Q weights of W (C_out C_in/groups kernel volume), P output positions:
        parameters: r (Q / C + C + K), with ``hidden`` r (Q / C + C + H) + H (K + 1), with ``covariate_bias`` + r C.
        FLOPs a sample: 2 r K for c, then by features 2 r P (groups Q / C + C) and the plain convolution; by kernels
        2 r Q for the kernel, and the convolution.

    Attributes:
        covariate_filters: B, (r, C_in/groups, \*kernel); transposed (C_in/groups, r, \*kernel); linear (r, C_in).
        covariate_mixing: A, (C, r).
        covariate_bias: d, (r, C), or None.
        covariate_out_weight: C, (r, K), or C2, (r, H).
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), c1 (H), or None.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(64, 64, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=10, method="lowrank", rank=4)
        >>> model(torch.randn(2, 64, 8, 8), torch.randn(2, 10)).shape
        torch.Size([2, 64, 6, 6])
        >>> sum(p.numel() for _, p in model[0].covariate_parameters())  # of hybrid 368,640
        2600
    """

    METHOD = "lowrank"
    ADDED: ClassVar[tuple[str, ...]] = ("covariate_filters", "covariate_mixing", "covariate_bias", *NET)
    OPTIONS: ClassVar[dict[str, Option]] = {
        "rank": Option(8, (int,)),
        "hidden": Option(None, (int, type(None))),
        "covariate_bias": Option(False, (bool,)),
        "strategy": Option("auto", (str,), ("auto", *WAYS)),
    }

    covariate_filters: nn.Parameter
    covariate_mixing: nn.Parameter
    covariate_bias: nn.Parameter | None
    covariate_hidden_weight: nn.Parameter | None
    covariate_hidden_bias: nn.Parameter | None
    covariate_out_weight: nn.Parameter

    @property
    def strategy(self) -> str:
        """How it is computed."""
        return str(self.covariate_options["strategy"])

    @strategy.setter
    def strategy(self, value: str) -> None:
        self.covariate_options = {**self.covariate_options, "strategy": value}

    @classmethod
    def strategies(cls) -> tuple[str, ...]:
        """See `CovariateLayer.strategies`; a linear layer is always computed by features."""
        return () if cls.PLAIN is nn.Linear else super().strategies()

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """B, A, d, C1, c1 and C (or C2)."""
        weight: Any = plain.weight
        rank, outputs = options["rank"], num_outputs(plain)
        shapes: Shapes = {"covariate_filters": (rank, *weight.shape[1:]), "covariate_mixing": (outputs, rank)}
        if isinstance(plain, _ConvTransposeNd):
            inputs = weight.shape[0] // plain.groups
            shapes["covariate_filters"] = (inputs, rank, *weight.shape[2:])
        if options["covariate_bias"]:
            shapes["covariate_bias"] = (rank, outputs)
        return shapes | net_shapes(num_covariates, rank, options["hidden"])

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """A = 0 and d = 0; B as torch starts W; C orthonormal, with ``hidden`` C1, c1 and C2 as linear layers."""
        nn.init.zeros_(self.covariate_mixing)
        if self.covariate_bias is not None:
            nn.init.zeros_(self.covariate_bias)
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(self.weight)
        nn.init.uniform_(self.covariate_filters, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        if self.covariate_hidden_weight is not None:
            reset_linear(self.covariate_hidden_weight, self.covariate_hidden_bias)
            reset_linear(self.covariate_out_weight)
        else:
            like = self.covariate_out_weight
            values = torch.empty(like.shape, dtype=torch.float32, device=like.device)
            like.copy_(nn.init.orthogonal_(values))  # no half-precision QR: made in float32

    def forward(self, x: Tensor, covariates: Tensor, output_size: list[int] | None = None) -> Tensor:
        r"""``x`` (N, C_in, \*spatial) or (N, \*, features), ``covariates`` (N, K) -> as the plain layer.

        ``output_size`` is a transposed convolution's.
        """
        refuse_fx(covariates, x)
        self.check_batch(x)
        dtype = self.covariate_out_weight.dtype
        s = ready_covariates(covariates, self.num_covariates, x, dtype, self.looks_for_nan())
        c = run_net(s, self.covariate_hidden_weight, self.covariate_hidden_bias, self.covariate_out_weight)
        parameters = (self.weight, self.covariate_filters, self.covariate_mixing, self.bias, self.covariate_bias)
        if self.PLAIN is nn.Linear:
            return lowrank_linear(x, c, *parameters)
        layer: Any = self
        transposed = issubclass(self.PLAIN, _ConvTransposeNd)
        extra = output_padding(layer, x, output_size) if transposed else 0
        x, padding = pad_first(layer, x)
        geometry = Geometry(x.ndim - 2, layer.stride, padding, layer.dilation, layer.groups, transposed, extra)
        return lowrank_conv(x, c, *parameters, geometry, self.strategy)

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """Of d: c. Not of A: c and the small numbers of B multiply it, about 1 / sqrt(inputs of a kernel) each."""
        rank: int = self.covariate_options["rank"]
        return {"covariate_bias": rank if s is None else run_net_precisely(self, s)}

    def merged(self, s: Tensor) -> Merged:
        """W + sum_q c_q V_q, and b + sum_q c_q d_q where there is a d."""
        c = run_net_precisely(self, s[None])[0]
        filters, mixing = precise(self.covariate_filters), precise(self.covariate_mixing)
        if self.PLAIN is nn.Linear:
            change = (mixing * c) @ filters
        else:
            layer: Any = self
            transposed = issubclass(self.PLAIN, _ConvTransposeNd)
            change = torch.tensordot(c, lowrank_kernels(filters, mixing, layer.groups, transposed), dims=1)
        bias = None if self.covariate_bias is None else c @ precise(self.covariate_bias)
        if bias is not None and self.bias is not None:
            bias = bias + precise(self.bias)
        return Merged(precise(self.weight) + change, bias)


variants(Lowrank, EVERY_LAYER)
