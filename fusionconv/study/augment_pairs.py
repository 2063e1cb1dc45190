"""Random transforms of an image and its mask or target image alike."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError
from fusionconv.study.augment import (
    ALONE,
    MOVES,
    Seeded,
    augmentation,
    chosen_steps,
    flat_moves,
    flat_transform,
    solid_transform,
)
from fusionconv.study.image_options import ImageOptions

if TYPE_CHECKING:
    from torch import Tensor

    from fusionconv.study.folds import FoldData

__all__ = ["augmentation_of", "pair_augmentation"]

Pair = tuple["Tensor", "Tensor"]


def pair_augmentation(
    names: str | Sequence[str], options: ImageOptions, labels: bool
) -> Callable[[Tensor, Tensor], Pair] | None:
    """The transforms of `augmentation`, of an image (C, *size) and its target (T, *size) at once.

    What moves pixels moves both alike, labels to the nearest pixel; noise and contrast change the image only. Of a mask
    comes in from outside what class 0 is, of a target image its smallest value (3-D: zero).

    Args:
        names: as `augmentation` takes them.
        options: of the images.
        labels: whether targets are masks.

    Raises:
        StudyError: as `augmentation`; noise or contrast where targets are images, which then would be of another image.
    """
    steps = chosen_steps(names, options)
    if not steps:
        return None
    moves = {name: strength for name, strength in steps.items() if name in MOVES}
    others = {name: strength for name, strength in steps.items() if name not in MOVES}
    if others and not labels:
        named = ", ".join(name for name in MOVES if name in ALONE)
        raise StudyError(
            f"augment: expected transforms that move pixels for task restoration ({named}), got "
            f"{', '.join(others)}, which would change the image and not its target; name others"
        )
    return (_Flat if options.dims == 2 else _Solid)(moves, others, options, labels)


def augmentation_of(names: str | Sequence[str], data: FoldData) -> Any:
    """The transforms of a study's training rows: of images, or of images and their targets; None for none."""
    assert data.store is not None
    if data.target_store is not None:
        return pair_augmentation(names, data.store.options, data.target_store.labels)
    return augmentation(names, data.store.options)


class _Flat:
    def __init__(self, moves: dict[str, float], others: dict[str, float], options: ImageOptions, labels: bool) -> None:
        v2: Any = importlib.import_module("torchvision.transforms.v2")
        self.moves = v2.Compose(flat_moves(moves, options)) if moves else None
        self.target = v2.Compose(flat_moves(moves, options, labels)) if moves else None
        self.values = flat_transform(others, options) if others else None
        self.labels = labels

    def __call__(self, image: Tensor, target: Tensor) -> Pair:
        import torch

        there = image.flatten(1).any(dim=1).view(-1, 1, 1)
        if self.moves is not None and self.target is not None:
            lowest = image.amin(dim=(1, 2), keepdim=True)
            least = torch.zeros(()) if self.labels else target.amin(dim=(1, 2), keepdim=True)
            state = torch.get_rng_state()
            image = self.moves(image - lowest) + lowest
            torch.set_rng_state(state)  # the target draws the same numbers
            target = self.target(target - least) + least
        if self.values is not None:
            image = self.values(image)
        return image * there, target


class _Solid:
    def __init__(self, moves: dict[str, float], others: dict[str, float], options: ImageOptions, labels: bool) -> None:
        self.both = Seeded(solid_transform({**moves, **others}, options))
        mode = "nearest" if labels else "bilinear"
        # its random steps are the first of the image's, in the same order: one seed gives both the same numbers
        self.target = Seeded(solid_transform(moves, options, mode)) if moves else None

    def __call__(self, image: Tensor, target: Tensor) -> Pair:
        import torch

        seed = int(torch.randint(2**31, ()))
        there = image.flatten(1).any(dim=1).view(-1, 1, 1, 1)
        return self.both(image, seed) * there, target if self.target is None else self.target(target, seed)
