"""The images of the phantoms: a brightness in noise, or gratings (plane waves) in noise, in 2-D and 3-D."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "FREQUENCY",
    "NOISE",
    "SIZES",
    "TAU",
    "bright_images",
    "directions",
    "grating_basis",
    "grating_images",
    "pixels",
]

SIZES = {2: 24, 3: 12}  # pixels a side: 576 and 1,728 of them
NOISE = 0.7  # sd of each pixel's noise
TAU = 0.25  # sd of the best estimate of an image's brightness; the signal itself has sd 1
FREQUENCY = 0.3  # cycles a pixel: wavelength 3.3 pixels


def pixels(dims: int) -> int:
    """Pixels of an image."""
    return int(SIZES[dims] ** dims)


def bright_images(signal: Tensor, dims: int, generator: torch.Generator) -> Tensor:
    r"""Images (N, 1, \*spatial) whose brightness is ``signal`` (N,): every pixel is ``alpha signal + 0.7 noise``.

    ``alpha = 0.7 / (TAU sqrt(P))`` for P pixels. The mean pixel over alpha is then ``z = signal + TAU n`` with n
    standard normal, and z is sufficient: the rest of the image is noise that does not depend on the signal.
    """
    p = pixels(dims)
    alpha = NOISE / (TAU * math.sqrt(p))
    flat = alpha * signal[:, None] + NOISE * torch.randn(len(signal), p, generator=generator)
    return flat.reshape(-1, 1, *(SIZES[dims],) * dims)


def directions(dims: int, count: int) -> Tensor:
    """``count`` unit vectors, no two along one line: equal angles in 2-D; in 3-D axes of an icosahedron (up to 6)."""
    if dims == 2:
        angles = torch.arange(count) * math.pi / count
        return torch.stack([angles.cos(), angles.sin()], 1)
    if count > 6:
        raise ValueError(f"3-D gratings: at most 6 directions (the axes of an icosahedron), got {count}")
    golden = (1 + math.sqrt(5)) / 2
    axes = torch.tensor(
        [[0, 1, golden], [0, 1, -golden], [1, golden, 0], [1, -golden, 0], [golden, 0, 1], [golden, 0, -1]]
    )
    return axes[:count] / axes[:count].norm(dim=1, keepdim=True)


def grating_basis(dims: int, count: int) -> Tensor:
    """The waves ``cos`` and ``sin`` of each direction, (2 count, P): a grating of any phase is a sum of its two."""
    side = torch.arange(SIZES[dims], dtype=torch.float32) - (SIZES[dims] - 1) / 2
    grid = torch.stack(torch.meshgrid(*(side,) * dims, indexing="ij")).flatten(1)
    angle = 2 * math.pi * FREQUENCY * directions(dims, count) @ grid
    return torch.cat([angle.cos(), angle.sin()])


def grating_images(present: Tensor, dims: int, basis: Tensor, generator: torch.Generator) -> Tensor:
    r"""Images (N, 1, \*spatial): the gratings that ``present`` (N, K; 0 or 1) names, amplitude 1, phases random."""
    phase = 2 * math.pi * torch.rand(present.shape, generator=generator)
    coefficients = torch.cat([present * phase.cos(), present * phase.sin()], 1)
    flat = coefficients @ basis + NOISE * torch.randn(len(present), pixels(dims), generator=generator)
    return flat.reshape(-1, 1, *(SIZES[dims],) * dims)
