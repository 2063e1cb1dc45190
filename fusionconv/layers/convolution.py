"""What the six hybrid convolutions share beyond `HybridLayer`: the duties of one of torch's convolution modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.layers.hybrid import HybridLayer

__all__ = ["HybridConvolution"]

Layer = TypeVar("Layer", bound="HybridConvolution")


class HybridConvolution(HybridLayer, _ConvNd):
    """A hybrid layer that is one of torch's convolutions, plain or transposed."""

    @classmethod
    def from_conv(cls: type[Layer], conv: nn.Module, num_covariates: int, init: str = "zeros", **options: Any) -> Layer:
        """A hybrid layer that shares ``conv``'s Parameter objects; see `HybridLayer.from_plain` for the options.

        Example:
            >>> import torch, fusionconv
            >>> conv = torch.nn.Conv2d(3, 8, 3)
            >>> layer = fusionconv.HybridConv2d.from_conv(conv, num_covariates=2)
            >>> layer.weight is conv.weight
            True
        """
        return cls.from_plain(conv, num_covariates, init=init, **options)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """For ``.to(memory_format=torch.channels_last)``, which torch refuses for V's five dimensions in 2-D."""

        def on_kernels(t: Tensor) -> Tensor:
            if t.ndim == 5 and self.weight.ndim == 4:
                return fn(t.flatten(0, 1)).reshape(t.shape)
            return fn(t)

        return super()._apply(on_kernels, recurse)  # type: ignore[no-untyped-call,no-any-return]
