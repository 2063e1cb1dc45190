"""What is noted of a row's masks or target images when they are decoded, and what a study reads from these notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fusionconv.errors import ImageError
from fusionconv.study.image_store import ImageStore
from fusionconv.study.tasks import Segmentation

__all__ = [
    "Moved",
    "absent_classes",
    "kept_areas",
    "lost_areas",
    "notes_of",
    "numbers_of_note",
    "same_pixels",
    "values_of",
]

_MOST_CLASSES = 256
LOST = 0.1  # of a class's area: what is perfect on the grid then has a Dice of 0.95 with the file's own mask


@dataclass(frozen=True)
class Moved:
    """A row's masks or target images on the grid of its images.

    Attributes:
        array: (T, *size).
        files: of each target column, as its file has it.
        sides: of a prepared pixel, in pixels of the file, or of a voxel, in mm.
        own: area of a file's pixel, or volume of its voxel, in the same unit.
        box: start and end, for each axis, of what lies in the file; outside is padding.
        ratios: how many times as high as its image each target image is.
        is_image: whether a target is one of the row's images, pixel for pixel.
        seen: names of `fusionconv.study.pictures.NOTES`.
    """

    array: np.ndarray
    files: Sequence[np.ndarray]
    sides: Sequence[float]
    own: float
    box: Sequence[tuple[int, int]]
    ratios: Sequence[float] = (1.0,)
    is_image: bool = False
    seen: tuple[str, ...] = ()


def same_pixels(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images, not of one value alone, are equal."""
    return bool(np.array_equal(one, other) and (one != one.flat[0]).any())


def notes_of(moved: Moved, labels: bool, file: str) -> tuple[str, ...]:
    """Notes of a record: sides, box, whether it is the image; of masks the file's values and what the grid keeps of
    each, of target images the range and the ratio.

    Raises:
        ImageError: so many values that it is no mask.
    """
    notes = [_note("sides", *moved.sides), *moved.seen]
    if any((start, end) != (0, size) for (start, end), size in zip(moved.box, moved.array.shape[1:], strict=True)):
        notes.append(_note("box", *(end for ends in moved.box for end in ends)))
    if moved.is_image:
        notes.append("same")
    if not labels:
        real = moved.array[(slice(None), *(slice(*ends) for ends in moved.box))]
        return (*notes, _note("range", real.min(), real.max()), _note("ratio", *sorted(set(moved.ratios))))
    counts = [np.bincount(values.astype(np.uint16).ravel(), minlength=65536) for values in moved.files]
    found = np.flatnonzero(np.sum(counts, axis=0))
    if len(found) > _MOST_CLASSES:
        raise ImageError(
            f"{file}: expected at most {_MOST_CLASSES} classes in a mask, got {len(found)} different "
            "values; is it an image?"
        )
    notes.append(_note("values", *found))
    area = math.prod(moved.sides) / moved.own
    for column, (count, grid) in enumerate(zip(counts, moved.array, strict=True)):
        inside = np.flatnonzero(count) if len(counts) == 1 else np.flatnonzero(count[1:])[-1:] + 1
        for value in inside:
            before, after = (count[value], grid == value) if len(counts) == 1 else (count[1:].sum(), grid > 0)
            notes.append(_note("kept", column, value, after.sum() * area / before))
    return tuple(notes)


def _note(word: str, *numbers: float) -> str:
    return " ".join([word, *(f"{float(number):.9g}" for number in numbers)])


def numbers_of_note(store: ImageStore, word: str) -> list[tuple[list[float], tuple[str, ...]]]:
    """The numbers of each note that begins with a word, and the rows that have it."""
    split = ((note.split(" "), ids) for note, ids in store.notes.items())
    return [([float(number) for number in words[1:]], ids) for words, ids in split if words[0] == word]


def values_of(store: ImageStore) -> dict[int, list[str]]:
    """Value of the files -> the rows that have it."""
    found: dict[int, list[str]] = {}
    for values, ids in numbers_of_note(store, "values"):
        for value in values:
            found.setdefault(int(value), []).extend(ids)
    return dict(sorted(found.items()))


def kept_areas(store: ImageStore, task: Segmentation) -> pd.DataFrame:
    """The share of each class's area that is on the grid; index: ids. NaN where the file does not have the class."""
    found: dict[str, dict[str, float]] = {name: {} for name in task.shown}
    names = {value: name for name, value in task.labels.items()}
    for (column, value, kept), ids in numbers_of_note(store, "kept"):
        name = task.columns[int(column)] if task.overlapping else names.get(int(value))
        if name in found:
            found[name].update(dict.fromkeys(ids, kept))
    return pd.DataFrame({name: pd.Series(own, dtype=float) for name, own in found.items()}).reindex(list(store.ids))


def lost_areas(kept: pd.DataFrame) -> list[str]:
    """A sentence where a class of a mask has less area on the grid than in its file."""
    less = kept.min(axis=1)
    less = less[less < 1 - LOST].sort_values(kind="stable")
    if less.empty:
        return []
    worst = kept.loc[less.index[:3]].idxmin(axis=1)
    some = ", ".join(f"{name}: {worst[name]} keeps {less[name]:.0%}" for name in worst.index)
    more = f" and {len(less) - 3:,d} more" if len(less) > 3 else ""
    return [
        f"{len(less):,d} of {len(kept):,d} masks have a class that loses more than {LOST:.0%} of its area on the way "
        f"to the grid, {int((less == 0).sum()):,d} of them all of it ({some}{more}); scores are of what is left, and "
        "Dice is 1 where nothing is left or said: change image_size, resize, crop or spacing"
    ]


def absent_classes(kept: pd.DataFrame, folds: pd.DataFrame) -> list[str]:
    """Sentences on classes that no mask has, or no training mask of some folds; ``folds``: index ids."""
    there = kept.reindex(folds.index) > 0
    said = []
    for name in there:
        has = there[name]
        lacking = [str(fold) for fold in folds if not has[(folds[fold] == "train").to_numpy()].any()]
        if not has.any():
            said.append(
                f"class {name}: no mask has it on the grid; its Dice is 1 for a network that never says it, and enters "
                "the mean over classes: leave it out"
            )
        elif lacking:
            some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
            said.append(f"class {name}: no training mask has it in fold {some}, so that it cannot be learned there")
    return said
