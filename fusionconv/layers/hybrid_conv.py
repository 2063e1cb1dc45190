"""HybridConv1d/2d/3d: torch's convolution with one kernel per sample, kernel_i = W + sum_j s_ij V_j."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fusionconv.functional import hybrid_conv
from fusionconv.layers.convolution import HybridConvolution
from fusionconv.layers.padding import pad_first

__all__ = ["HybridConv1d", "HybridConv2d", "HybridConv3d"]


class _HybridConvNd(HybridConvolution):
    r"""Shared constructor and forward; see `HybridConv2d`, of which the 1-D and 3-D layers are the obvious forms."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        num_covariates: int,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        covariate_bias: bool = False,
        rank: int | None = None,
        init: str = "zeros",
        strategy: str = "auto",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.plain_class().__init__(
            self, in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            device, dtype,
        )  # fmt: skip
        self.attach_covariates(num_covariates, rank=rank, covariate_bias=covariate_bias, init=init, strategy=strategy)

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:
        r"""``x`` (N, C_in, \*spatial), ``covariates`` (N, K) -> (N, C_out, \*spatial_out)."""
        s = self.kernel_covariates(covariates, x)
        x, padding = pad_first(self, x)
        return hybrid_conv(
            x, s, self.weight, self.covariate_weight, self.bias, self.covariate_bias,
            self.stride, padding, self.dilation, self.groups, self.strategy, check_finite=self.checks_factors(),
        )  # fmt: skip


class HybridConv1d(_HybridConvNd, nn.Conv1d):  # type: ignore[misc]
    """`HybridConv2d` for sequences: ``x`` (N, C_in, L). Arguments, attributes and errors are the same.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv1d(4, 8, 5, num_covariates=2, padding=2)
        >>> layer(torch.randn(3, 4, 100), torch.randn(3, 2)).shape
        torch.Size([3, 8, 100])
    """


class HybridConv2d(_HybridConvNd, nn.Conv2d):  # type: ignore[misc]
    r"""``nn.Conv2d`` whose kernel depends on the sample: ``kernel_i = W + sum_j s_ij V_j``.

    Source: the hybrid layer of ShortFuse (Fiterau et al., MLHC 2017). s_i is sample i's covariate vector of length K.
    A vector of zeros gives the ordinary convolution with W, so code absence as 0 and centre numeric covariates.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype:
            as in ``nn.Conv2d``.
        num_covariates: K, the length of the covariate vector.
        covariate_bias: also learn c_j, so that ``bias_i = b + sum_j s_ij c_j``.
        rank: R <= K. The covariates first go through a learned linear map from K to R numbers, and R kernels are
            learned instead of K. For many, or strongly correlated, covariates.
        init: "zeros": V = 0, the layer starts as the plain convolution; "kaiming": He-normal by fan_out, as ResNets
            begin W and as in the published CelebA study (torch's own W begins about 2.4 times smaller for
            C_in = C_out): the covariates change the outputs from the first step.
        strategy: how to compute it (see `fusionconv.functional.hybrid_conv`); the result is the same.

    Attributes:
        weight: W, (C_out, C_in/groups, \*kernel_size).
        bias: b, (C_out), or None.
        covariate_weight: V, (K, C_out, C_in/groups, \*kernel_size); (R, ...) with ``rank``.
        covariate_bias: c, (K, C_out), or None; (R, C_out) with ``rank``.
        covariate_map: (R, K), or None without ``rank``.

    Raises:
        ValueError: an option that no layer can have, such as ``num_covariates=0``.
        CovariateError: at the call, covariates that do not fit the batch.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv2d(3, 16, 3, num_covariates=2, padding=1)
        >>> images, age_and_sex = torch.randn(4, 3, 32, 32), torch.randn(4, 2)
        >>> layer(images, age_and_sex).shape
        torch.Size([4, 16, 32, 32])
    """


class HybridConv3d(_HybridConvNd, nn.Conv3d):  # type: ignore[misc]
    """`HybridConv2d` for volumes: ``x`` (N, C_in, D, H, W). Arguments, attributes and errors are the same.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv3d(1, 4, 3, num_covariates=1, stride=2, padding=1)
        >>> layer(torch.randn(2, 1, 16, 16, 16), torch.randn(2, 1)).shape
        torch.Size([2, 4, 8, 8, 8])
    """
