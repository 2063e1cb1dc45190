"""Patches: random parts in training, and whole images in overlapping windows when they are answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fusionconv.errors import CovariateError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Windows", "random_part"]


def random_part(image: Tensor, target: Tensor, sides: Sequence[int], labels: bool) -> tuple[Tensor, Tensor]:
    """One random part of an image (C, *size) and the same of its target (T, *size).

    Of masks every second part, by chance, has a pixel of a class in its middle, as near as the image's border lets it;
    others lie anywhere with equal probability. All chance comes from torch's global generator.

    Args:
        image, target: on one grid.
        sides: of the part, at most the image's.
        labels: whether the target is a mask.
    """
    size = image.shape[1:]
    free = [have - want for have, want in zip(size, sides, strict=True)]
    corner = [int(torch.randint(room + 1, ())) for room in free]
    chance, which = torch.rand(2).tolist()  # drawn always, so that the numbers that follow do not depend on the mask
    if labels and chance < 0.5:
        inside = target.any(0).nonzero()
        if len(inside):
            middle = inside[min(int(which * len(inside)), len(inside) - 1)].tolist()
            corner = [min(max(m - want // 2, 0), room) for m, want, room in zip(middle, sides, free, strict=True)]
    part = (slice(None), *(slice(at, at + want) for at, want in zip(corner, sides, strict=True)))
    return image[part].contiguous(), target[part].contiguous()


class Windows:
    """Whole images through a network of patches: MONAI's sliding windows, blended by a Gaussian.

    Every window gets the covariates of the image that it was cut from, by its coordinates
    (`fusionconv.window_predictor`), however many images' windows make a batch.

    Args:
        sides: of a window.
        overlap: of neighbours, as a share of the sides.
        batch: windows at once.
    """

    def __init__(self, sides: Sequence[int], overlap: float = 0.5, batch: int = 4) -> None:
        self.sides, self.overlap, self.batch = tuple(sides), overlap, batch

    def __call__(self, network: nn.Module, images: Tensor, covariates: Tensor | None = None) -> Tensor:
        """(N, num_outputs, *size) of images (N, C, *size) and, for a network that takes them, covariates (N, K).

        Raises:
            CovariateError: covariates of another number of rows than images.
        """
        from monai.inferers.utils import sliding_window_inference

        from fusionconv.windows import window_predictor

        if covariates is not None and len(covariates) != len(images):
            raise CovariateError(f"expected a row for each of {len(images)} images, got {len(covariates)}")
        predictor: Callable[..., Any] = (
            (lambda windows, coords: network(windows)) if covariates is None else window_predictor(network, covariates)
        )
        found: Any = sliding_window_inference(
            images, self.sides, self.batch, predictor, self.overlap, mode="gaussian", with_coord=True
        )
        out: Tensor = found
        return out
