"""How a convolution slides: stride, padding, dilation, groups, and which torch function runs it.

Every strategy gets one `Geometry` and calls `geometry.conv` on whatever input and kernel it has arranged,
so that none of them needs to know about 1-D, 2-D, 3-D or transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

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
