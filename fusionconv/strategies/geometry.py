"""How a convolution slides: stride, padding, dilation, groups, and which torch function runs it.

Every strategy gets one `Geometry` and calls `geometry.conv` on whatever input and kernel it has arranged,
so that none of them needs to know about 1-D, 2-D, 3-D or transposed convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Geometry", "IntOrInts"]

IntOrInts: TypeAlias = "int | Sequence[int]"

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Geometry:
    """The arguments of ``torch.nn.functional.convNd`` or ``conv_transposeNd`` that are not tensors."""

    spatial_dims: int
    stride: IntOrInts = 1
    padding: IntOrInts | str = 0
    dilation: IntOrInts = 1
    groups: int = 1
    transposed: bool = False
    output_padding: IntOrInts = 0

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int | None = None) -> Tensor:
        """One ordinary convolution of ``x`` with ``weight``; ``groups`` overrides the geometry's own."""
        groups = self.groups if groups is None else groups
        if self.transposed:
            assert not isinstance(self.padding, str)  # torch has no "same" for transposed convolutions
            function = _CONV_TRANSPOSE[self.spatial_dims]
            return function(x, weight, bias, self.stride, self.padding, self.output_padding, groups, self.dilation)
        return _CONV[self.spatial_dims](x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def positions(self, x: Tensor) -> float:
        """About how many positions of ``x`` a kernel is used on: one of so many as the stride is long."""
        return x.shape[2:].numel() / (1 if self.transposed else math.prod(_each(self.stride, self.spatial_dims)))

    def per_dimension(self, value: IntOrInts) -> list[int]:
        """``value``, which may be one int for all of them, as one int a spatial dimension."""
        return _each(value, self.spatial_dims)

    def numeric_padding(self, kernel_size: Sequence[int]) -> list[int] | None:
        """The padding in numbers, one a dimension; None for a "same" that pads one side more than the other."""
        if not isinstance(self.padding, str):
            return _each(self.padding, self.spatial_dims)
        if self.padding == "valid":
            return [0] * self.spatial_dims
        dilation = _each(self.dilation, self.spatial_dims)
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return None if any(total % 2 for total in totals) else [total // 2 for total in totals]

    def output_sizes(self, sizes: Sequence[int], kernel_size: Sequence[int]) -> list[int]:
        """The spatial sizes of ``conv``'s result for an input of ``sizes``. Needs a `numeric_padding`."""
        padding = self.numeric_padding(kernel_size)
        assert padding is not None
        stride, dilation, extra = (_each(v, len(sizes)) for v in (self.stride, self.dilation, self.output_padding))
        rows = zip(sizes, kernel_size, stride, padding, dilation, extra, strict=True)
        if self.transposed:
            return [(i - 1) * s - 2 * p + d * (k - 1) + o + 1 for i, k, s, p, d, o in rows]
        return [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d, _ in rows]

    def conv_backward(
        self, dy: Tensor, x: Tensor, weight: Tensor, groups: int, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of ``conv(x, weight)`` for ``x`` and ``weight``, those that are wanted, without the forward pass.

        Needs a `numeric_padding`.
        """
        dims = self.spatial_dims
        padding = self.numeric_padding(weight.shape[2:])
        assert padding is not None
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            dy, x, weight, None, _each(self.stride, dims), padding, _each(self.dilation, dims), self.transposed,
            _each(self.output_padding, dims), groups, [*wanted, False],
        )  # fmt: skip
        return dx, dweight


def _each(value: IntOrInts, dims: int) -> list[int]:
    """One number a dimension."""
    if isinstance(value, int):
        return [value] * dims
    values = list(value)
    return values * dims if len(values) == 1 else values
