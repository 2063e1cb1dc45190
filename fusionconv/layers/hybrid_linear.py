"""HybridLinear: torch's linear layer with one weight matrix per sample."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fusionconv.functional import hybrid_linear
from fusionconv.layers.hybrid import HybridLayer

__all__ = ["HybridLinear"]


class HybridLinear(HybridLayer, nn.Linear):  # type: ignore[misc]
    r"""``nn.Linear`` whose weight depends on the sample: ``weight_i = W + sum_j s_ij V_j``.

    The hybrid convolution (see `HybridConv2d`) with a kernel of one: for classifier heads, and for the layers of
    transformers. The batch comes first: ``x`` is (N, \*, in_features), and row i of the covariates belongs to x[i].
    Sequence-first tensors (L, N, features) must be transposed before; where L happens to equal N nothing can tell.

    Args:
        in_features, out_features, bias, device, dtype: as in ``nn.Linear``.
        num_covariates: K, the length of the covariate vector.
        covariate_bias, rank, init, strategy: as in `HybridConv2d`.

    Attributes:
        weight: W, (out_features, in_features).
        bias: b, (out_features), or None.
        covariate_weight: V, (K, out_features, in_features); (R, ...) with ``rank``.
        covariate_bias: c, (K, out_features), or None; (R, out_features) with ``rank``.
        covariate_map: (R, K), or None without ``rank``.

    Raises:
        ValueError: an option that no layer can have, such as ``num_covariates=0``.
        CovariateError: at the call, covariates that do not fit the batch.

    Example:
        >>> import torch, fusionconv
        >>> head = fusionconv.HybridLinear(512, 2, num_covariates=3)
        >>> head(torch.randn(8, 512), torch.randn(8, 3)).shape
        torch.Size([8, 2])
        >>> head(torch.randn(8, 50, 512), torch.randn(8, 3)).shape
        torch.Size([8, 50, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_covariates: int,
        bias: bool = True,
        *,
        covariate_bias: bool = False,
        rank: int | None = None,
        init: str = "zeros",
        strategy: str = "auto",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, device, dtype)
        self.attach_covariates(num_covariates, rank=rank, covariate_bias=covariate_bias, init=init, strategy=strategy)

    @classmethod
    def from_linear(cls, linear: nn.Module, num_covariates: int, init: str = "zeros", **options: Any) -> HybridLinear:
        """A hybrid layer from ``linear``, sharing its Parameter objects; see `HybridLayer.from_plain`.

        Example:
            >>> import torch, fusionconv
            >>> layer = fusionconv.HybridLinear.from_linear(torch.nn.Linear(4, 2), num_covariates=1)
            >>> layer
            HybridLinear(in_features=4, out_features=2, bias=True, num_covariates=1)
        """
        return cls.from_plain(linear, num_covariates, init=init, **options)

    def forward(self, x: Tensor, covariates: Tensor) -> Tensor:  # type: ignore[override]
        r"""``x`` (N, \*, in_features), ``covariates`` (N, K) -> (N, \*, out_features)."""
        s = self.kernel_covariates(covariates, x)
        return hybrid_linear(
            x, s, self.weight, self.covariate_weight, self.bias, self.covariate_bias, self.strategy,
            check_finite=self.checks_factors(),
        )  # fmt: skip
