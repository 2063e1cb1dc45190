"""Decoders: what makes the array of a row's files. ImageDecoder: the images as channels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.image_options import ImageOptions
from fusionconv.study.pictures import read_picture, resize_picture

__all__ = ["Decoder", "ImageDecoder", "require_one_size"]


class Decoder(Protocol):
    """What makes the array of a row's files, and what it depends on."""

    @property
    def what(self) -> str:
        """What it decodes, for messages: images, target images or masks."""

    def key(self) -> str:
        """A hash of all that an array depends on besides the files."""

    def shape(self, columns: int) -> tuple[int, ...]:
        """Of an array, of so many columns of files."""

    def __call__(self, files: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
        """The array, and notes on it."""


class ImageDecoder:
    """A row's images as channels."""

    what = "images"

    def __init__(self, options: ImageOptions) -> None:
        self.options = options

    def key(self) -> str:
        """Of the options."""
        return self.options.key()

    def shape(self, columns: int) -> tuple[int, ...]:
        """(C, *size)."""
        return (self.options.channels * columns, *self.options.shape)

    def __call__(self, files: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Decode them."""
        if self.options.dims == 3:
            from fusionconv.study.preparation import prepare_volume

            return prepare_volume(files, self.options), ()
        return _pictures(files, self.options)


def _pictures(files: Sequence[str | None], options: ImageOptions) -> tuple[np.ndarray, tuple[str, ...]]:
    size = (options.size[0], options.size[1])
    pictures = [None if file is None else read_picture(file, options.channels) for file in files]
    require_one_size([(file, p.pixels.shape[1:]) for file, p in zip(files, pictures, strict=True) if file and p])
    images = [None if p is None else resize_picture(p.pixels, size, options.resize, options.crop) for p in pictures]
    dtypes = {image.dtype for image in images if image is not None}
    if len(dtypes) > 1:
        if np.dtype(np.float32) in dtypes:
            first = next(filter(None, files))
            raise ImageError(
                f"{first}: expected the images of a row to be of one kind, got floats beside 8 or 16 bits; "
                "convert them to one kind"
            )
        images = [i.astype(np.uint16) * 257 if i is not None and i.dtype == np.uint8 else i for i in images]
    dtype = np.result_type(*dtypes)
    blank = np.zeros((options.channels, *options.shape), dtype)
    notes = {note for picture in pictures if picture is not None for note in picture.notes}
    return np.concatenate([blank if image is None else image for image in images]), tuple(sorted(notes))


def require_one_size(sizes: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Raise where a row's pictures differ in height or width: they become channels of one image.

    Raises:
        ImageError: two of them differ.
    """
    for file, size in sizes[1:]:
        if size != sizes[0][1]:
            raise ImageError(
                f"{file}: expected {_by(sizes[0][1])} pixels (height x width), as {sizes[0][0]} has, got {_by(size)} "
                f"in {os.path.basename(file)}; "
                "several image columns become channels of one image: bring them to one grid first"
            )


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
