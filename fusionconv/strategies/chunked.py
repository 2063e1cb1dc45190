"""chunked: a few samples' kernels at a time, made again in the backward pass instead of kept.

`grouped` keeps N kernels for the backward pass and forms N kernel gradients; for a layer of 512 channels these are
600 MB, and the convolution waits for memory. Here as many kernels as fit in a cache are formed, used and written over,
and their gradients go into dW and dV at once: what is saved for the backward pass is x, s, W and V alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.grouped import grouped
from fusionconv.strategies.own_backward import Needs, Way, is_ordinary, run

__all__ = ["CHUNK", "chunked"]

CHUNK = 2**21  # numbers in the kernels of one grouped convolution: 8 MB of float32
BLOCK = 4  # kernels formed at a time, at least: V is read once for all of them


def chunk_length(batch: int, weight: Tensor) -> int:
    """How many samples are convolved at a time: as many as have `CHUNK` numbers in their kernels, at least one."""
    return max(1, min(batch, CHUNK // weight.numel()))


def chunked(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    """Form the kernels of a few samples, convolve them in one grouped convolution, go on to the next few.

    ``grouped`` takes over where the backward pass is not torch's ordinary one (compiled, recorded, forward mode,
    torch.func), on the meta device, and for a "same" padding that is not symmetric.
    """
    tensors = (x, covariates, weight, covariate_weight, bias, covariate_bias)
    if not is_ordinary(tensors, geometry):
        return grouped(*tensors, geometry)
    # contiguous, as the kernels are: a convolution would bring one to the other's format, once a chunk
    return run(Way(_output, _gradients), (x.contiguous(), *tensors[1:]), geometry)


def _output(
    x: Tensor, covariates: Tensor, weight: Tensor, covariate_weight: Tensor, biases: Tensor | None, geometry: Geometry,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    outputs = []
    for block, flat in _blocks(covariates, weight, covariate_weight):
        for rows, kernels in _chunks(block, flat, weight):
            some = None if biases is None else biases[rows].flatten()
            groups = len(kernels) * geometry.groups
            y = geometry.conv(_abreast(x[rows]), kernels.to(dtype).flatten(0, 1), some, groups)
            outputs.append(y.reshape(len(kernels), -1, *y.shape[2:]))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _gradients(
    dy: Tensor, x: Tensor, covariates: Tensor, weight: Tensor, covariate_weight: Tensor, factors: Tensor,
    geometry: Geometry, dtype: torch.dtype, needs: Needs,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    sums = factors.new_zeros(len(factors), weight.numel()) if needs.kernels else None
    dx, ds = [], []
    for block, flat in _blocks(covariates, weight, covariate_weight):
        for rows, kernels in _chunks(block, flat, weight):
            n = len(kernels)
            dx_some, dkernel = geometry.conv_backward(
                _abreast(dy[rows]), _abreast(x[rows]), kernels.to(dtype).flatten(0, 1), n * geometry.groups,
                (needs.x, needs.covariates or needs.kernels),
            )  # fmt: skip
            if dx_some is not None:
                dx.append(dx_some.reshape(n, -1, *x.shape[2:]))
            if dkernel is not None:  # it takes the place of the kernels, which have done their work
                kernels.copy_(dkernel.reshape(kernels.shape))
        if sums is not None:  # once a block, since they are read and written each time
            sums.addmm_(factors[:, block], flat.to(factors.dtype))
        if needs.covariates:
            ds.append(flat @ covariate_weight.flatten(1).T)
    return (
        (dx[0] if len(dx) == 1 else torch.cat(dx)) if needs.x else None,
        torch.cat(ds) if needs.covariates else None,
        sums,
    )


def _blocks(covariates: Tensor, weight: Tensor, covariate_weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Block by block the rows and their kernels, flat (n, numbers of W); they hold until the next block is asked for.

    All blocks are formed in one buffer: fresh memory would cost more than the arithmetic.
    """
    batch, length = len(covariates), chunk_length(len(covariates), weight)
    size = min(batch, max(length, BLOCK // length * length))
    buffer = weight.new_empty(size, weight.numel())
    for start in range(0, batch, size):
        s = covariates[start : start + size]
        flat = torch.addmm(weight.reshape(1, -1), s, covariate_weight.flatten(1), out=buffer[: len(s)])
        yield slice(start, start + len(s)), flat


def _chunks(block: slice, flat: Tensor, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The rows of a block that are convolved at a time, and a view of their kernels (n, \\*W)."""
    length = chunk_length(len(flat), weight)
    for first in range(0, len(flat), length):
        kernels = flat[first : first + length]
        yield slice(block.start + first, block.start + first + len(kernels)), kernels.reshape(-1, *weight.shape)


def _abreast(x: Tensor) -> Tensor:
    """(n, C, \\*spatial) -> (1, n C, \\*spatial): samples beside each other on the channel axis."""
    return x.reshape(1, -1, *x.shape[2:]) if len(x) > 1 else x
