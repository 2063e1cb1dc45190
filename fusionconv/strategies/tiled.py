"""tiled: some output channels' kernels of all samples at a time, used by matrix products on the image's patches.

Where maps are small, a convolution library spends its time on bringing kernels into its own format, once a sample, and
memory on reading every V_j again for every few samples. Here V is read once a pass: the rows of W and V that belong to
a few output channels make those rows of all N kernels, in one buffer that is written over; one batched product with
the patches of x (their columns, as ``F.unfold`` lays them out) uses them at once. The backward pass does the same, and
the gradients of the rows go into dW and dV_j before the next ones are made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionconv.strategies.chunked import chunked
from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.own_backward import Needs, Way, is_ordinary, run

__all__ = ["can_tile", "tiled"]

TILE = 2**22  # numbers in the rows of all samples' kernels that are formed at a time: 16 MB of float32
ROWS = 16  # output channels of a tile are a multiple of it: thin matrices are multiplied slowly


def can_tile(geometry: Geometry) -> bool:
    """Whether the convolution is one that unfolds: 1-D or 2-D, one group, not transposed."""
    return geometry.spatial_dims < 3 and geometry.groups == 1 and not geometry.transposed


def tiled(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Form a few rows of every kernel, multiply the patches by them, go on to the next rows.

    ``chunked`` takes over for groups, transposed and 3-D convolutions; it hands on what no backward pass of one's own
    can do.
    """
    tensors = (x, covariates, weight, covariate_weight, bias, covariate_bias)
    if not can_tile(geometry) or not is_ordinary(tensors, geometry):
        return chunked(*tensors, geometry)
    return run(Way(_output, _gradients), tensors, geometry)


def _output(
    x: Tensor, covariates: Tensor, weight: Tensor, covariate_weight: Tensor, biases: Tensor | None, geometry: Geometry,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    patches = _Patches(x, weight, geometry)
    columns = patches.unfold(x)
    y = torch.empty((len(x), len(weight), columns.shape[2]), dtype=dtype, device=x.device)
    for rows, kernels in _tiles(covariates, weight, covariate_weight):
        y[:, rows] = torch.bmm(kernels.to(dtype), columns)
    if biases is not None:
        y += biases[:, :, None]
    return y.reshape(len(x), len(weight), *patches.outputs)


def _gradients(
    dy: Tensor, x: Tensor, covariates: Tensor, weight: Tensor, covariate_weight: Tensor, factors: Tensor,
    geometry: Geometry, dtype: torch.dtype, needs: Needs,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    patches = _Patches(x, weight, geometry)
    columns = patches.unfold(x)
    dcolumns = torch.zeros_like(columns) if needs.x else None
    sums = factors.new_empty(len(factors), weight.numel()) if needs.kernels else None
    dcovariates = torch.zeros_like(covariates) if needs.covariates else None
    for rows, kernels in _tiles(covariates, weight, covariate_weight):
        dy_rows = dy.flatten(2)[:, rows]
        if dcolumns is not None:
            dcolumns.baddbmm_(kernels.to(dtype).mT, dy_rows)
        if needs.kernels or needs.covariates:
            dkernels = _into(kernels, dy_rows, columns.mT).flatten(1)
            numbers = slice(rows.start * columns.shape[1], rows.stop * columns.shape[1])
            if sums is not None:
                torch.mm(factors, dkernels.to(factors.dtype), out=sums[:, numbers])
            if dcovariates is not None:
                dcovariates += dkernels @ covariate_weight.flatten(1)[:, numbers].T
    return None if dcolumns is None else patches.fold(dcolumns), dcovariates, sums


def _into(kernels: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The product of ``a`` and ``b`` in the place of the kernels, which have done their work."""
    if kernels.dtype == a.dtype:
        return torch.bmm(a, b, out=kernels)
    return kernels.copy_(torch.bmm(a, b))


class _Patches:
    """The patches that a kernel meets, as columns (N, C_in kernel volume, positions); a series is a flat image."""

    def __init__(self, x: Tensor, weight: Tensor, geometry: Geometry) -> None:
        padding = geometry.numeric_padding(weight.shape[2:])
        assert padding is not None
        stride, dilation = geometry.per_dimension(geometry.stride), geometry.per_dimension(geometry.dilation)
        self.inputs = list(x.shape[2:])
        self.outputs = geometry.output_sizes(self.inputs, weight.shape[2:])
        self.size, self.window = _pair(self.inputs, 1), _pair(list(weight.shape[2:]), 1)
        self.slide = {"dilation": _pair(dilation, 1), "padding": _pair(padding, 0), "stride": _pair(stride, 1)}

    def unfold(self, x: Tensor) -> Tensor:
        """``x`` -> columns."""
        return F.unfold(x.reshape(*x.shape[:2], *self.size), self.window, **self.slide)

    def fold(self, columns: Tensor) -> Tensor:
        """The gradient of `unfold`: columns -> the shape of x."""
        x = F.fold(columns, self.size, self.window, **self.slide)
        return x.reshape(*x.shape[:2], *self.inputs)


def _pair(numbers: list[int], first: int) -> tuple[int, int]:
    """As of two dimensions."""
    return (first, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _tiles(covariates: Tensor, weight: Tensor, covariate_weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Tile by tile some output channels and their rows of all kernels (N, rows, C_in kernel volume).

    They hold until the next tile is asked for: all are formed in one buffer, since fresh memory would cost more.
    """
    batch, outputs, length = len(covariates), len(weight), weight[0].numel()
    height = min(outputs, max(ROWS, TILE // (batch * length) // ROWS * ROWS))
    buffer = weight.new_empty(batch * height * length)
    base, basis = weight.reshape(1, -1), covariate_weight.flatten(1)
    for start in range(0, outputs, height):
        rows = slice(start, min(start + height, outputs))
        numbers = slice(rows.start * length, rows.stop * length)
        flat = buffer[: batch * (numbers.stop - numbers.start)].view(batch, -1)
        torch.addmm(base[:, numbers], covariates, basis[:, numbers], out=flat)
        yield rows, flat.view(batch, -1, length)
