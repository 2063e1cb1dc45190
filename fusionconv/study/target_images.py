"""Masks and target images of a table, on the grid of their images, decoded once: a TargetStore."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.errors import ImageError, StudyError
from fusionconv.study.image_decoders import require_one_size
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.images import ImageStore, file_channels, prepare
from fusionconv.study.masks import read_mask
from fusionconv.study.pictures import read_picture, resize_picture
from fusionconv.study.tasks import Restoration, Segmentation, Task

if TYPE_CHECKING:
    import torch

    from fusionconv.study.rows import Rows

__all__ = ["TargetStore", "prepare_targets"]

REVISION = 1
_MOST_CLASSES = 256


@dataclass(frozen=True)
class TargetDecoder:
    """A row's masks (uint16, as the files have them), or its target images, on the grid of its images.

    Attributes:
        options: of the images; ``channels`` are those of a target image.
        images: how many image columns come before the target columns.
        labels: whether the targets are masks.
    """

    options: ImageOptions
    images: int
    labels: bool

    def key(self) -> str:
        """A hash of the options and of what this class does."""
        said = ["targets", REVISION, self.options.key(), self.images, self.labels]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def shape(self, columns: int) -> tuple[int, ...]:
        """(C, *size)."""
        return ((columns - self.images) * (1 if self.labels else self.options.channels), *self.options.shape)

    def __call__(self, files: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The targets, and as notes the sides of a pixel and the values in use."""
        images = [file for file in files[: self.images] if file is not None]
        targets = [str(file) for file in files[self.images :]]
        if self.options.dims == 3:
            from fusionconv.study.preparation import prepare_target_volumes

            array, sides = prepare_target_volumes(images, targets, self.options, self.labels)
        else:
            array, sides = self._pictures(images, targets)
        notes = [f"sides {' '.join(f'{side:.6g}' for side in sides)}"]
        if self.labels:
            values = np.unique(array)
            if len(values) > _MOST_CLASSES:
                raise ImageError(
                    f"{targets[0]}: expected at most {_MOST_CLASSES} classes in a mask, got {len(values)} different "
                    "values; is it an image?"
                )
            notes.append(f"values {' '.join(map(str, values.tolist()))}")
        else:
            notes.append(f"range {float(array.min()):.9g} {float(array.max()):.9g}")
        return array, tuple(notes)

    def _pictures(self, images: Sequence[str], targets: Sequence[str]) -> tuple[np.ndarray, list[float]]:
        o = self.options
        size = (o.size[0], o.size[1])
        sizes = [(file, read_picture(file, 1).pixels.shape[1:]) for file in images]
        require_one_size(sizes)
        arrays = [read_mask(file)[None] if self.labels else read_picture(file, o.channels).pixels for file in targets]
        for file, array in zip(targets, arrays, strict=True):
            _require_same_size(sizes[0], (file, array.shape[1:]), self.labels)
        made = [resize_picture(array, size, o.resize, o.crop, nearest=self.labels) for array in arrays]
        if len({array.dtype for array in made}) > 1:
            raise ImageError(f"{targets[0]}: expected target images of one kind, got several; convert them to one")
        height, width = sizes[0][1]
        ratios = [size[0] / height, size[1] / width]
        if o.resize != "stretch":
            ratios = [min(ratios) if o.resize == "pad" else max(ratios)] * 2
        return np.concatenate(made), [1 / ratio for ratio in ratios]


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
        of_note = {note: [float(v) for v in note.split()[1:]] for note in self.store.notes if note.startswith("sides")}
        own = {name: sides for note, sides in of_note.items() for name in self.store.notes[note]}
        return [own[name] for name in ids]


def prepare_targets(rows: Rows, options: ImageOptions, settings: Any, cache: Path) -> tuple[Rows, TargetStore]:
    """Decode the targets of all rows and give the task what it lacks: the classes, or the data range.

    Raises:
        StudyError: targets that cannot be used (``on_error`` fail), or values that no class has.
    """
    from dataclasses import replace

    assert rows.target_files is not None
    labels = isinstance(rows.task, Segmentation)
    channels = 1 if labels or options.dims == 3 else settings.channels or file_channels(rows.target_files)
    decoder = TargetDecoder(replace(options, channels=channels), rows.images.shape[1], labels)
    paths = rows.images.join(rows.target_files.add_prefix("target "))
    store = prepare(paths, decoder.options, cache, decoder=decoder)
    rows = rows.usable(store, "target", settings.on_error)
    task = _with_classes(rows.task, store) if labels else _with_range(rows.task, store, channels)
    return replace(rows, task=task), TargetStore(store, task)


def _values(store: ImageStore) -> dict[int, list[str]]:
    """Label -> the rows that have it."""
    found: dict[int, list[str]] = {}
    for note, names in store.notes.items():
        if note.startswith("values"):
            for value in note.split()[1:]:
                found.setdefault(int(value), []).extend(names)
    return dict(sorted(found.items()))


def _with_classes(task: Task, store: ImageStore) -> Task:
    """The task with the classes that the masks have, or a look that they have no others.

    Raises:
        StudyError: values that no class has; masks that do not say what the classes are.
    """
    assert isinstance(task, Segmentation)
    found = _values(store)
    shown = ", ".join(f"{value} ({len(names)} masks)" for value, names in list(found.items())[:12])
    if task.overlapping:
        other = [value for value in found if value]
        if len(other) > 1 and other != [1, 255]:
            raise StudyError(
                f"target: expected masks of 0 and one other value, since each of the {len(task.columns)} target "
                f"columns is a mask of its own, got the values {shown}; give one column for a mask of several classes"
            )
        return task
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


def _with_range(task: Task, store: ImageStore, channels: int) -> Task:
    assert isinstance(task, Restoration)
    ends = [[float(v) for v in note.split()[1:]] for note in store.notes if note.startswith("range")]
    kind = store.array.dtype.kind
    spread = (
        1.0 if kind == "u" or store.array.dtype == np.float16 else max(e[1] for e in ends) - min(e[0] for e in ends)
    )
    return Restoration(task.columns, task.loss_name, channels, spread)
