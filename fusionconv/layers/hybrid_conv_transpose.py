"""HybridConvTranspose1d/2d/3d: torch's transposed convolution with one kernel per sample."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from fusionconv.functional import hybrid_conv_transpose
from fusionconv.layers.convolution import HybridConvolution
from fusionconv.layers.padding import output_padding

__all__ = ["HybridConvTranspose1d", "HybridConvTranspose2d", "HybridConvTranspose3d"]


class _HybridConvTransposeNd(HybridConvolution):
    """Shared constructor and forward; see `HybridConvTranspose2d`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        num_covariates: int,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
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
            self, in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation,
            padding_mode, device, dtype,
        )  # fmt: skip
        self.attach_covariates(num_covariates, rank=rank, covariate_bias=covariate_bias, init=init, strategy=strategy)

    def forward(self, x: Tensor, covariates: Tensor, output_size: list[int] | None = None) -> Tensor:
        r"""``x`` (N, C_in, \*spatial), ``covariates`` (N, K) -> (N, C_out, \*spatial_out)."""
        s = self.kernel_covariates(covariates, x)
        stride, padding, dilation = cast("list[list[int]]", [self.stride, self.padding, self.dilation])
        return hybrid_conv_transpose(
            x, s, self.weight, self.covariate_weight, self.bias, self.covariate_bias,
            stride, padding, output_padding(self, x, output_size), self.groups, dilation, self.strategy,
            check_finite=self.checks_factors(),
        )  # fmt: skip


class HybridConvTranspose1d(_HybridConvTransposeNd, nn.ConvTranspose1d):  # type: ignore[misc]
    """`HybridConvTranspose2d` for sequences: ``x`` (N, C_in, L). Arguments, attributes and errors are the same.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConvTranspose1d(4, 2, 2, num_covariates=1, stride=2)
        >>> layer(torch.randn(3, 4, 50), torch.randn(3, 1)).shape
        torch.Size([3, 2, 100])
    """


class HybridConvTranspose2d(_HybridConvTransposeNd, nn.ConvTranspose2d):  # type: ignore[misc]
    r"""``nn.ConvTranspose2d`` whose kernel depends on the sample: ``kernel_i = W + sum_j s_ij V_j``.

    Source: `HybridConv2d`'s, in the transposed form. A vector of zeros gives the ordinary layer with W.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, output_padding: as in ``nn.ConvTranspose2d``.
        groups, bias, dilation, padding_mode, device, dtype: as there.
        num_covariates: K, the length of the covariate vector.
        covariate_bias, rank, init, strategy: as in `HybridConv2d`.

    Attributes:
        weight: W, (C_in, C_out/groups, \*kernel_size).
        covariate_weight: V, (K, C_in, C_out/groups, \*kernel_size); (R, ...) with ``rank``.
        bias, covariate_bias, covariate_map: as in `HybridConv2d`.

    Raises:
        ValueError: an option that no layer can have, such as ``num_covariates=0``.
        CovariateError: at the call, covariates that do not fit the batch.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConvTranspose2d(8, 4, 2, num_covariates=3, stride=2)
        >>> layer(torch.randn(2, 8, 16, 16), torch.randn(2, 3)).shape
        torch.Size([2, 4, 32, 32])
    """


class HybridConvTranspose3d(_HybridConvTransposeNd, nn.ConvTranspose3d):  # type: ignore[misc]
    """`HybridConvTranspose2d` for volumes: ``x`` (N, C_in, D, H, W). Arguments, attributes and errors are the same.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConvTranspose3d(4, 2, 2, num_covariates=1, stride=2)
        >>> layer(torch.randn(1, 4, 8, 8, 8), torch.randn(1, 1)).shape
        torch.Size([1, 2, 16, 16, 16])
    """
