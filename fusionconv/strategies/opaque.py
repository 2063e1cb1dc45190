"""One convolution for N samples with a kernel each, as one operation that torch.compile does not look into.

A convolution with N times the groups holds the batch size as a number: inductor makes a graph for each, and with
``fullgraph=True`` raises at the ninth. As an operation of its own its groups are counted when it runs, so that one
graph serves every batch size. Eager mode, exports and traces use torch's convolution itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.kernels import compute_dtype, is_rounded

__all__ = ["conv_of_each"]

ARGUMENTS = "int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups"
_library = torch.library.Library("fusionconv", "DEF")
_library.define(f"conv_of_each(Tensor x, Tensor kernels, {ARGUMENTS}) -> Tensor")
_library.define(
    f"conv_of_each_backward(Tensor dy, Tensor x, Tensor kernels, {ARGUMENTS}, bool[] wanted) -> (Tensor, Tensor)"
)


def conv_of_each(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    r"""Sample i of ``x`` (N, C_in, \*spatial) with ``kernels[i]`` of (N, \*W) -> (N, C_out, \*spatial_out)."""
    if is_rounded(x):
        x, kernels = x.to(compute_dtype(x)), kernels.to(compute_dtype(x))
    kernel_size = kernels.shape[3:]
    padding = geometry.numeric_padding(kernel_size)
    if padding is None:  # "same" around an even kernel: torch pads one more on the right
        totals = [d * (k - 1) for d, k in zip(geometry.per_dimension(geometry.dilation), kernel_size, strict=True)]
        x = F.pad(x, [side for total in reversed(totals) for side in (total // 2, total - total // 2)])
        padding = [0] * geometry.spatial_dims
    y: Tensor = torch.ops.fusionconv.conv_of_each(
        x, kernels, geometry.per_dimension(geometry.stride), padding, geometry.per_dimension(geometry.dilation),
        geometry.transposed, geometry.per_dimension(geometry.output_padding), geometry.groups,
    )  # fmt: skip
    return y


def _geometry(
    stride: list[int], padding: list[int], dilation: list[int], transposed: bool, output_padding: list[int], groups: int
) -> Geometry:
    return Geometry(len(stride), stride, padding, dilation, groups, transposed, output_padding)


def _abreast(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])


def _forward(x: Tensor, kernels: Tensor, *arguments: Any) -> Tensor:
    n, geometry = len(x), _geometry(*arguments)
    y = geometry.conv(_abreast(x), kernels.flatten(0, 1), groups=n * geometry.groups)
    return y.reshape(n, -1, *y.shape[2:]).contiguous()


def _backward(dy: Tensor, x: Tensor, kernels: Tensor, *arguments_and_wanted: Any) -> tuple[Tensor, Tensor]:
    *arguments, (needs_x, needs_kernels) = arguments_and_wanted
    geometry = _geometry(*arguments)
    dx, dkernels = geometry.conv_backward(
        _abreast(dy), _abreast(x), kernels.flatten(0, 1), len(x) * geometry.groups, (needs_x, needs_kernels)
    )
    nothing = x.new_empty(0)
    return (
        nothing if dx is None else dx.reshape(x.shape).contiguous(),
        nothing if dkernels is None else dkernels.reshape(kernels.shape).contiguous(),
    )


def _shape(x: Tensor, kernels: Tensor, *arguments: Any) -> Tensor:
    geometry = _geometry(*arguments)
    channels = kernels.shape[2] * geometry.groups if geometry.transposed else kernels.shape[1]
    return x.new_empty(x.shape[0], channels, *geometry.output_sizes(x.shape[2:], kernels.shape[3:]))


def _shapes(dy: Tensor, x: Tensor, kernels: Tensor, *geometry_and_wanted: Any) -> tuple[Tensor, Tensor]:
    wanted = geometry_and_wanted[-1]
    return x.new_empty(x.shape if wanted[0] else 0), kernels.new_empty(kernels.shape if wanted[1] else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.geometry = inputs[2:]


def _gradients(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    wanted = list(ctx.needs_input_grad[:2])
    found = torch.ops.fusionconv.conv_of_each_backward(dy, *ctx.saved_tensors, *ctx.geometry, wanted)
    return (*(g if w else None for g, w in zip(found, wanted, strict=True)), *(None for _ in ctx.geometry))


for name, run, shape in (("conv_of_each", _forward, _shape), ("conv_of_each_backward", _backward, _shapes)):
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"fusionconv::{name}", shape, lib=_library)
torch.library.register_autograd("fusionconv::conv_of_each", _gradients, setup_context=_keep, lib=_library)
