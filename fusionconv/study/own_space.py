"""Answers of a network as image files on the pixels or voxels of the subject's own file."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fusionconv.errors import ImageError
from fusionconv.explain.nifti import write_nifti
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.pictures import centre, pad, read_picture, scaled_size
from fusionconv.study.tasks import ImageTask, Restoration, Segmentation

if TYPE_CHECKING:
    from fusionconv.study.folds import FoldData

__all__ = ["answer_on_file", "write_answer", "write_map", "write_own"]


@dataclass(frozen=True)
class OwnAnswer:
    """An answer on the pixels or voxels of its row's file.

    Attributes:
        values: (T, *own), as `ImageTask.picture` gives them.
        bits: of a picture that is restored, what is written: uint8, uint16 or float32.
        affine: of a volume.
    """

    values: np.ndarray
    bits: np.dtype[Any]
    affine: Any = None


def answer_on_file(chances: Tensor, task: ImageTask, files: Sequence[str], options: ImageOptions) -> OwnAnswer:
    """The answer to one image where its file lies: of its height and width, or on its voxels.

    Probabilities go back to the file's grid (linear), and the class is chosen there. Outside of what the network saw a
    mask is background, and a restored image is 0. Restored pictures are as much larger than their file as the training
    targets were, and hold what the targets' type can: 0 to 1 in steps of 1/255 or 1/65535, or floats.

    Args:
        chances: (num_outputs, *size), as `ImageTask.chances` gives them.
        task: of the study.
        files: the row's image files.
        options: how they were prepared.

    Raises:
        ImageError: a preparation that cannot be undone.
    """
    own, affine = np.asarray(chances.float().numpy()), None
    bits: np.dtype[Any] = np.dtype(np.float32)
    if options.dims == 3:
        from fusionconv.study.preparation import on_file_grid

        own, affine = on_file_grid(own, list(files), options)
    else:
        picture = read_picture(files[0], 1).pixels
        size: tuple[int, ...] = picture.shape[1:]
        if isinstance(task, Restoration):
            size = tuple(round(side * task.ratio) for side in size)
            bits = np.dtype(task.bits or picture.dtype)
            if task.channels == 3 and bits == np.uint16:
                bits = np.dtype(np.uint8)  # Pillow writes no colours of 16 bits
        own = on_picture_grid(own, size, options)
    values = task.of_chances(torch.from_numpy(own)[None])[0].numpy()
    if bits.kind == "u":
        most = np.iinfo(bits).max
        values = np.rint(values.clip(0, 1) * most) / most
    return OwnAnswer(values, bits, affine)


def write_answer(
    chances: Tensor, task: ImageTask, name: str, files: Sequence[str], options: ImageOptions, folder: Path
) -> list[Path]:
    """Write `answer_on_file` (see `write_own`)."""
    return write_own(answer_on_file(chances, task, files, options), task, name, folder)


def write_own(answer: OwnAnswer, task: ImageTask, name: str, folder: Path) -> list[Path]:
    """Write an answer as PNG, TIFF (floats), or NIfTI with its file's affine.

    A mask has the values that the training masks have. A restored picture has as many bits as the training targets,
    and floats where these have them; a restored volume is float32, scaled as the network saw its targets.

    Args:
        answer: on the file's pixels.
        task: of the study.
        name: the row's id, a relative path; the file is called so, with another ending where it needs one.
        folder: for the file.

    Returns:
        The files: one, or one for each target column.
    """
    columns = list(task.columns)
    pieces = np.split(answer.values, len(columns))
    written = []
    for at, (column, piece) in enumerate(zip(columns, pieces, strict=True)):
        if isinstance(task, Segmentation):
            values = np.array([0, task.inside[at]] if task.overlapping else list(task.labels.values()))
            piece = values.astype(np.uint8 if values.max() < 256 else np.uint16)[piece.astype(int)]
        path = folder / (name if len(columns) == 1 else f"{name}.{column}")
        path.parent.mkdir(parents=True, exist_ok=True)
        volume = answer.affine is not None
        written.append(_volume(path, piece, answer.affine) if volume else _picture(path, piece, answer.bits))
    return written


def write_map(values: np.ndarray, name: str, data: FoldData, start: Path) -> Path:
    """A map (*size) of a prepared volume as NIfTI, float32, on the voxels of the row's own file: START-ID.nii.gz."""
    from fusionconv.study.preparation import on_file_grid

    assert data.store is not None
    own, affine = on_file_grid(values, data.store.sources[name], data.store.options)
    short = re.sub(r"[^\w.-]+", "_", name).split(".nii")[0]
    return _volume(start.with_name(f"{start.name}-{short}"), own[None].astype(np.float32), affine)


def on_picture_grid(values: np.ndarray, own: tuple[int, ...], options: ImageOptions) -> np.ndarray:
    """Maps (C, *size) of a prepared picture on the pixels of its file, (C, *own); what was cut off is 0.

    Raises:
        ImageError: maps of another size.
    """
    height, width = own
    if tuple(values.shape[1:]) != tuple(options.shape):
        raise ImageError(f"expected maps of {options.shape}, got {values.shape[1:]}")
    size = (options.size[0], options.size[1])
    if options.crop is not None:
        values = pad(values, size)
    inner = scaled_size((height, width), size, options.resize)
    values = centre(values, inner) if options.resize == "pad" else pad(values, inner)
    tvf: Any = importlib.import_module("torchvision.transforms.v2.functional")  # it has no types
    smooth = tvf.resize(torch.from_numpy(np.ascontiguousarray(values)), [height, width], antialias=True)
    return np.asarray(smooth.numpy())


def _volume(path: Path, values: np.ndarray, affine: Any) -> Path:
    return write_nifti(path, values[0] if len(values) == 1 else np.moveaxis(values, 0, -1), affine)


def _picture(path: Path, values: np.ndarray, bits: np.dtype[Any]) -> Path:
    from PIL import Image

    if values.dtype.kind == "f":
        if bits == np.float32:
            path = path.with_name(f"{path.name}.tif")
            Image.fromarray(values[0].astype(np.float32)).save(path)
            return path
        values = np.rint(values * np.iinfo(bits).max).astype(bits)
    path = path if path.suffix.lower() == ".png" else path.with_name(f"{path.name}.png")
    Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))).save(path)
    return path
