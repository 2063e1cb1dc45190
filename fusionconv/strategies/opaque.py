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
from fusionconv.strategies.kernels import compute_dtype

__all__ = ["conv_of_each"]

ARGUMENTS = "int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups"
_library = torch.library.Library("fusionconv", "DEF")
_library.define(f"conv_of_each(Tensor x, Tensor kernels, {ARGUMENTS}) -> Tensor")
_library.define(
    f"conv_of_each_backward(Tensor dy, Tensor x, Tensor kernels, {ARGUMENTS}, bool[] wanted) -> (Tensor, Tensor)"
)


def conv_of_each(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    r"""Sample i of ``x`` (N, C_in, \*spatial) with ``kernels[i]`` of (N, \*W) -> (N, C_out, \*spatial_out)."""
    dtype = compute_dtype(x)
    x, kernels = x.to(dtype), kernels.to(dtype)
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


def _abreast(x: Tensor) -> Tensor:
    return x.reshape(1, -1, *x.shape[2:])


def _forward(x: Tensor, kernels: Tensor, *geometry: Any) -> Tensor:
    n, groups = len(x), geometry[-1]
    y: Tensor = torch.ops.aten.convolution(_abreast(x), kernels.flatten(0, 1), None, *geometry[:-1], n * groups)
    return y.reshape(n, -1, *y.shape[2:]).contiguous()


def _backward(dy: Tensor, x: Tensor, kernels: Tensor, *geometry_and_wanted: Any) -> tuple[Tensor, Tensor]:
    *geometry, groups, wanted = geometry_and_wanted
    dx, dkernels, _ = torch.ops.aten.convolution_backward(
        _abreast(dy), _abreast(x), kernels.flatten(0, 1), None, *geometry, len(x) * groups, [*wanted, False]
    )
    dx = dx.reshape(x.shape).contiguous() if wanted[0] else x.new_empty(0)
    return dx, dkernels.reshape(kernels.shape).contiguous() if wanted[1] else x.new_empty(0)


def _shape(x: Tensor, kernels: Tensor, *geometry: Any) -> Tensor:
    stride, padding, dilation, transposed, output_padding, groups = geometry
    sizes = zip(x.shape[2:], kernels.shape[3:], stride, padding, dilation, output_padding, strict=True)
    if transposed:
        spatial = [(i - 1) * s - 2 * p + d * (k - 1) + o + 1 for i, k, s, p, d, o in sizes]
    else:
        spatial = [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d, _ in sizes]
    channels = kernels.shape[2] * groups if transposed else kernels.shape[1]
    return x.new_empty(x.shape[0], channels, *spatial)


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
