"""Masks and target images of a table, on the grid of their images, decoded once: a TargetStore."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.errors import ImageError, ImageWarning, StudyError
from fusionconv.study.image_decoders import require_one_size
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.images import ImageStore, file_channels, prepare
from fusionconv.study.masks import read_mask
from fusionconv.study.pictures import Picture, read_picture, real_pixels, resize_picture
from fusionconv.study.target_notes import (
    Moved,
    absent_classes,
    kept_areas,
    lost_areas,
    notes_of,
    numbers_of_note,
    same_pixels,
    values_of,
)
from fusionconv.study.tasks import Restoration, Segmentation, Task

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from fusionconv.study.rows import Rows

__all__ = ["TargetStore", "prepare_targets"]

REVISION = 2


@dataclass(frozen=True)
class TargetDecoder:
    """A row's masks (uint16, as the files have them), or its target images, on the grid of its images.

    Attributes:
        options: of the images; ``channels`` are those of a target image.
        images: how many image columns come before the target columns.
        labels: whether the targets are masks.
        background: the value of a mask where there is no file.
    """

    options: ImageOptions
    images: int
    labels: bool
    background: int = 0

    @property
    def what(self) -> str:
        """What it decodes, for messages."""
        return "masks" if self.labels else "target images"

    def key(self) -> str:
        """A hash of the options and of what this class does."""
        said = ["targets", REVISION, self.options.key(), self.images, self.labels, self.background]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def shape(self, columns: int) -> tuple[int, ...]:
        """(C, *size)."""
        return ((columns - self.images) * (1 if self.labels else self.options.channels), *self.options.shape)

    def __call__(self, files: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets, and notes on them (`target_notes`)."""
        images = [file for file in files[: self.images] if file is not None]
        targets = [str(file) for file in files[self.images :]]
        if self.options.dims == 3:
            from fusionconv.study.preparation import prepare_target_volumes

            moved = prepare_target_volumes(images, targets, self.options, self.labels, self.background)
        else:
            moved = self._pictures(images, targets)
        return moved.array, notes_of(moved, self.labels, targets[0])

    def _pictures(self, images: Sequence[str], targets: Sequence[str]) -> Moved:
        o = self.options
        size = (o.size[0], o.size[1])
        inputs = [read_picture(file, o.channels).pixels for file in images]
        sizes = [(file, pixels.shape[1:]) for file, pixels in zip(images, inputs, strict=True)]
        require_one_size(sizes)
        pictures = [Picture(read_mask(f)[None]) if self.labels else read_picture(f, o.channels) for f in targets]
        own = [picture.pixels for picture in pictures]
        for file, pixels in zip(targets, own, strict=True):
            _require_same_size(sizes[0], (file, pixels.shape[1:]), self.labels)
        if self.labels:  # padding is zero: the background is, too, on the way (uint16 goes round)
            nothing = np.uint16(self.background)
            made = [resize_picture(a - nothing, size, o.resize, o.crop, nearest=True) + nothing for a in own]
        else:
            made = [resize_picture(a, size, o.resize, o.crop) for a in own]
        if len({array.dtype for array in made}) > 1:
            raise ImageError(f"{targets[0]}: expected target images of one kind, got several; convert them to one")
        height, width = sizes[0][1]
        ratios = [size[0] / height, size[1] / width]
        if o.resize != "stretch":
            ratios = [min(ratios) if o.resize == "pad" else max(ratios)] * 2
        first = (int(own[0].shape[1]), int(own[0].shape[2]))
        return Moved(
            np.concatenate(made),
            own,
            [1 / ratio for ratio in ratios],
            1.0,
            real_pixels(first, size, o.resize, o.crop),
            [array.shape[1] / height for array in own],
            any(same_pixels(one, other) for one in inputs for other in own),
            tuple(sorted({note for picture in pictures for note in picture.notes})),
        )


def _require_same_size(image: tuple[str, Any], target: tuple[str, Any], labels: bool) -> None:
    (file, size), (path, own) = image, target
    if tuple(own) == tuple(size):
        return
    shown, got = (" x ".join(map(str, s)) for s in (size, own))
    if labels:
        raise ImageError(
            f"{path}: expected a mask of {shown} pixels (height x width), as its image {file} has, got {got}; which "
            "pixel belongs to which is not guessed: give the mask that was drawn on this image"
        )
    if own[0] * size[1] != own[1] * size[0]:
        raise ImageError(
            f"{path}: expected a target image of {shown} pixels (height x width), as {file} has, or a multiple of both "
            f"for super-resolution, got {got}"
        )


@dataclass(frozen=True)
class TargetStore:
    """The decoded targets of a study, read by id.

    Attributes:
        store: the arrays as the files have them.
        task: of the study, with its classes or its data range.
    """

    store: ImageStore
    task: Task

    @property
    def key(self) -> str:
        """A hash of ids, contents, options and classes."""
        return hashlib.sha256(json.dumps([self.store.key, self.task.settings]).encode()).hexdigest()

    @property
    def labels(self) -> bool:
        """Whether the targets are masks."""
        return isinstance(self.task, Segmentation)

    def read(self, ids: Sequence[str]) -> torch.Tensor:
        """float32 (B, T, *size): class numbers 0 to C-1, masks of 0 and 1, or values as `ImageStore.read` scales them.

        Raises:
            StudyError: an id without a target.
        """
        import torch

        if not isinstance(self.task, Segmentation):
            return self.store.read(ids)
        raw = self.store.array.view(np.ndarray)[[self.store.rows[name] for name in ids]]
        if self.task.overlapping:
            return torch.from_numpy((raw > 0).astype(np.float32))
        table = np.full(65536, -1, np.int16)
        table[list(self.task.labels.values())] = np.arange(len(self.task.labels))
        return torch.from_numpy(table[raw].astype(np.float32))

    def sides(self, ids: Sequence[str]) -> list[list[float]]:
        """The sides of a pixel of each prepared image: in mm in 3-D, in pixels of its file in 2-D."""
        own = {name: sides for sides, names in numbers_of_note(self.store, "sides") for name in names}
        return [own[name] for name in ids]

    def absent(self, folds: pd.DataFrame) -> list[str]:
        """What to warn of: classes that no mask has, or no training mask of a fold; index of ``folds``: ids."""
        return absent_classes(kept_areas(self.store, self.task), folds) if isinstance(self.task, Segmentation) else []

    def boxes(self) -> dict[str, tuple[slice, ...]]:
        """Where the prepared images of some rows hold pixels of their files; the others do so everywhere."""
        return {
            name: tuple(slice(int(a), int(b)) for a, b in zip(ends[::2], ends[1::2], strict=True))
            for ends, names in numbers_of_note(self.store, "box")
            for name in names
        }


def prepare_targets(rows: Rows, options: ImageOptions, settings: Any, cache: Path) -> tuple[Rows, TargetStore]:
    """Decode the targets of all rows and give the task what it lacks: the classes, or the data range.

    Raises:
        StudyError: targets that cannot be used (``on_error`` fail), values that no class has, or targets that are the
            images.
    """
    assert rows.target_files is not None
    _require_other_files(rows.images, rows.target_files)
    labels = isinstance(rows.task, Segmentation)
    background = next(iter(rows.task.labels.values()), 0) if isinstance(rows.task, Segmentation) else 0
    channels = 1 if labels or options.dims == 3 else settings.channels or file_channels(rows.target_files)
    decoder = TargetDecoder(replace(options, channels=channels), rows.images.shape[1], labels, background)
    paths = rows.images.join(rows.target_files.add_prefix("target "))
    store = prepare(paths, decoder.options, cache, decoder=decoder)
    rows = rows.usable(store, "target", settings.on_error)
    same = store.notes.get("same", ())
    said = []
    if len(same) == len(store.ids):
        raise StudyError(
            f"target: expected {decoder.what} beside the images, got the images themselves in every row, such as "
            f"{same[0]}; name the column and the folder of the {decoder.what}"
        )
    if same:
        said.append(f"{len(same):,d} of {len(store.ids):,d} {decoder.what} are their own images, such as {same[0]}")
    if isinstance(rows.task, Segmentation):
        task: Task = _with_classes(rows.task, store)
        assert isinstance(task, Segmentation)
        said += lost_areas(kept_areas(store, task))
    else:
        task, more = _with_range(rows.task, store, channels)
        said += more
    for remark in said:
        warnings.warn(remark, ImageWarning, stacklevel=2)
    store = replace(store, remarks=(*store.remarks, *said))
    return replace(rows, task=task), TargetStore(store, task)


def _require_other_files(images: pd.DataFrame, targets: pd.DataFrame) -> None:
    """Raise where a row's target is the file of one of its images."""
    for name, row in images.join(targets.add_prefix("target ")).iterrows():
        files = [os.path.realpath(file) for file in row if isinstance(file, str)]
        if len(set(files[-targets.shape[1] :]) & set(files[: -targets.shape[1]])):
            raise StudyError(
                f"target: expected another file than the image of the row, got {name} for both; name the column of "
                "the masks or target images, and their folder in --target-folder"
            )


def _with_classes(task: Segmentation, store: ImageStore) -> Segmentation:
    """The task with the classes that the masks have, or a look that they have no others.

    Raises:
        StudyError: values that no class has; masks that do not say what the classes are.
    """
    found = values_of(store)
    shown = ", ".join(f"{value} ({len(names)} masks)" for value, names in list(found.items())[:12])
    if task.overlapping:
        other = [value for value in found if value]
        if len(other) > 1 and other != [1, 255]:
            raise StudyError(
                f"target: expected masks of 0 and one other value, since each of the {len(task.columns)} target "
                f"columns is a mask of its own, got the values {shown}; give one column for a mask of several classes"
            )
        inside = dict.fromkeys(range(len(task.columns)), 1)
        for (column, value, _), _ in sorted(numbers_of_note(store, "kept")):
            inside[int(column)] = int(value)
        return Segmentation(task.columns, task.loss_name, inside=list(inside.values()))
    labels = task.labels
    if not labels:
        values = list(found)
        if not (values == list(range(len(values))) or (len(values) == 2 and values[0] == 0)) or len(values) < 2:
            raise StudyError(
                f"classes: expected masks with the values 0, 1, 2, ... or 0 and one other, got {shown}; name the "
                "values that mean a class: --classes background=0 head=255"
            )
        labels = {str(value): value for value in values}
        return Segmentation(task.columns, task.loss_name, labels)
    if strange := {value: names for value, names in found.items() if value not in labels.values()}:
        value, names = next(iter(strange.items()))
        counts = Counter({v: len(n) for v, n in strange.items()}).most_common(6)
        raise StudyError(
            f"target: expected the classes' values {', '.join(f'{n}={v}' for n, v in labels.items())} in the masks, "
            f"got {', '.join(f'{v} (in {c} masks)' for v, c in counts)}, such as {value} in {names[0]}; correct the "
            "masks, or add the value to --classes"
        )
    return task


def _with_range(task: Task, store: ImageStore, channels: int) -> tuple[Restoration, list[str]]:
    """The task with its data range, and how its answers are written; and what is worth a look."""
    assert isinstance(task, Restoration)
    ends = [end for found, _ in numbers_of_note(store, "range") for end in found]
    kind, said = store.array.dtype, []
    spread = 1.0 if kind.kind == "u" or kind == np.float16 else max(ends) - min(ends)
    if kind == np.uint16 and max(ends) < 65536 / 2:
        said.append(
            f"the target images have 16 bits and no value above {max(ends):.0f} of 65535: PSNR, whose range is 65535, "
            f"is {20 * np.log10(65535 / max(max(ends), 1)):.0f} dB higher than it would be of {max(ends):.0f}; scale "
            "images and targets to the full range"
        )
    ratios = {ratio for found, _ in numbers_of_note(store, "ratio") for ratio in found}
    if len(ratios) > 1:
        said.append(
            f"the target images are {', '.join(f'{ratio:.3g}' for ratio in sorted(ratios))} times as large as their "
            "images: answers are written at the images' size"
        )
    ratio = ratios.pop() if len(ratios) == 1 else 1.0
    bits = kind.name if store.options.dims == 2 else ""
    return Restoration(task.columns, task.loss_name, channels, spread, bits, ratio), said
