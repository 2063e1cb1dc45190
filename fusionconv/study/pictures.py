"""One 2-D image file, checked and decoded: (channels, height, width) of 8 or 16 bit or float32, or an ImageError."""

from __future__ import annotations

import importlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.dicom import dicom_channels, read_dicom
from fusionconv.study.not_a_picture import LARGEST, describe
from fusionconv.study.not_a_volume import AGAIN, has_dicom

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "centre",
    "open_picture",
    "pad",
    "picture_channels",
    "picture_content",
    "read_picture",
    "real_pixels",
    "resize_picture",
    "scaled_size",
]

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")  # Pillow's names; JPEG opens MPO

#: What is no error and yet worth a look, by the name under which it is counted.
NOTES = {
    "flat": "have one value in every pixel",
    "colour": "are in colour and were turned into grey (0.299 red + 0.587 green + 0.114 blue), since channels is 1",
    "grey": "are grey, the others are in colour; the one channel was repeated, since channels is 3",
    "transparent": "have transparent pixels, which became black",
    "reduced": "are colour images with 16 bits a channel, of which Pillow reads 8",
}


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: (channels, height, width), uint8 or uint16 (0 is black, the largest value white), or float32 as stored.
        notes: names in ``NOTES``.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def read_picture(path: str | os.PathLike[str], channels: Literal[1, 3] = 3) -> Picture:
    """Decode one image file.

    - PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000 and PNM are read by Pillow, DICOM by pydicom
      (:func:`fusionconv.study.dicom.read_dicom`). The content counts, not the file's name.
    - The EXIF orientation is applied. Colour profiles are not.
    - Palettes become the colours that they stand for. Transparent pixels are laid over black and noted.
    - Grey stays as it is with ``channels=1`` and is repeated with ``channels=3``; colour becomes
      0.299 R + 0.587 G + 0.114 B with ``channels=1``, noted unless red, green and blue are equal.
    - 16-bit grey stays 16-bit (black and white exchanged where a TIFF says that white is zero). Integers of 32 bits
      and floats become float32 and keep their values.

    Args:
        path: the file.
        channels: 1 or 3, of the result.

    Raises:
        ImageError: no such file; a folder; another kind of file; cut off or damaged; several pages or frames; CMYK;
            more than 2**28 pixels; values that are not finite.

    >>> import tempfile, PIL.Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     PIL.Image.new("RGB", (6, 4), (255, 0, 0)).save(f"{folder}/red.png")
    ...     read_picture(f"{folder}/red.png").pixels[:, 0, 0]
    array([255,   0,   0], dtype=uint8)
    """
    path = Path(path)
    content = picture_content(path)
    if content[128:132] == b"DICM" or has_dicom(path):
        pixels, notes = read_dicom(path, content), set[str]()
    else:
        pixels, notes = _by_pillow(path, content)
    if not np.isfinite(pixels).all():
        bad = int(pixels.size - np.isfinite(pixels).sum())
        raise ImageError(
            f"{path}: expected finite pixels, got {bad:,d} of {pixels.size:,d} that are NaN or infinite; find out what "
            "they stand for, write a number there and save the image again"
        )
    if (pixels == pixels[:, :1, :1]).all():
        notes.add("flat")
    if len(pixels) == 1 and channels == 3:
        pixels = np.repeat(pixels, 3, axis=0)
        notes.add("grey")
    elif len(pixels) == 3 and channels == 1:
        if not (pixels[0] == pixels[1]).all() or not (pixels[0] == pixels[2]).all():
            notes.add("colour")
        pixels = _grey(pixels)
    return Picture(pixels, tuple(sorted(notes)))


def picture_channels(path: str | os.PathLike[str]) -> Literal[1, 3]:
    """1 for a grey file, 3 for one in colour, by its header alone.

    Raises:
        ImageError: as :func:`read_picture`, as far as the header tells.
    """
    path = Path(path)
    if not path.is_file():
        picture_content(path)  # says what is wrong
    if has_dicom(path):
        return dicom_channels(path)
    with path.open("rb") as stream:
        image = open_picture(path, stream)
        if image.mode in ("P", "PA"):
            try:
                colours = image.convert("RGBA").getcolors(257) or []
            except Exception as error:
                raise _damaged(path, error) from error
            return 1 if all(c[0] == c[1] == c[2] for _, c in colours if isinstance(c, tuple)) else 3
        return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3


def resize_picture(
    pixels: np.ndarray,
    size: tuple[int, int],
    resize: Literal["stretch", "pad", "crop"] = "stretch",
    crop: tuple[int, int] | None = None,
    *,
    nearest: bool = False,
) -> np.ndarray:
    """(channels, height, width) at another size: bilinear, antialiased, as torchvision resizes; the dtype is kept.

    Args:
        pixels: a picture's.
        size: height and width.
        resize: how another aspect ratio meets the size. stretch: the aspect is not kept; pad: the whole image, with
            zeros around it (floats: their smallest value); crop: the image covers the size, its middle is cut out.
        crop: height and width that are cut out of the middle in the end.
        nearest: take the nearest pixel's value, as for labels.
    """
    height, width = pixels.shape[1:]
    inner = _scale(pixels, scaled_size((height, width), size, resize), nearest)
    out = pad(inner, size, pixels.min()) if resize == "pad" else centre(inner, size)
    return out if crop is None else centre(out, crop)


def scaled_size(
    own: tuple[int, int], size: tuple[int, int], resize: Literal["stretch", "pad", "crop"]
) -> tuple[int, int]:
    """Height and width that a picture of ``own`` pixels is scaled to, before it is padded or cut to ``size``."""
    if resize == "stretch":
        return size
    limit = min if resize == "pad" else max  # rounding never leaves the size, or a gap in it
    ratio = limit(size[0] / own[0], size[1] / own[1])
    return limit(max(1, round(own[0] * ratio)), size[0]), limit(max(1, round(own[1] * ratio)), size[1])


def real_pixels(
    own: tuple[int, int],
    size: tuple[int, int],
    resize: Literal["stretch", "pad", "crop"] = "stretch",
    crop: tuple[int, int] | None = None,
) -> list[tuple[int, int]]:
    """Start and end, for each axis of what `resize_picture` gives, of pixels of the file; outside is padding.

    >>> real_pixels((12, 32), (32, 32), "pad")
    [(10, 22), (0, 32)]
    """
    ends = []
    for have, want, left in zip(scaled_size(own, size, resize), size, crop or size, strict=True):
        cut = (want - left) // 2
        start = max(0, want - have) // 2
        ends.append((max(start - cut, 0), min(start + min(have, want) - cut, left)))
    return ends


def _scale(pixels: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    if pixels.shape[1:] == size:
        return pixels
    import torch

    tvf: Any = importlib.import_module("torchvision.transforms.v2.functional")  # it has no types
    if nearest:
        exact = tvf.InterpolationMode.NEAREST_EXACT
        labels = torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32)))
        near: np.ndarray = tvf.resize(labels, list(size), interpolation=exact).numpy()
        return near.astype(pixels.dtype)
    wide = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    out: np.ndarray = tvf.resize(torch.from_numpy(wide), list(size), antialias=True).numpy()
    return out if pixels.dtype != np.uint16 else np.clip(np.rint(out), 0, 65535).astype(np.uint16)


def centre(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of (C, height, width), cut out."""
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape[1:], size, strict=True))
    return pixels[:, top : top + size[0], left : left + size[1]]


def pad(pixels: np.ndarray, size: tuple[int, int], smallest: float = 0.0) -> np.ndarray:
    """(C, height, width) in the middle of a larger picture, of zeros (floats: of ``smallest``)."""
    out = np.zeros((len(pixels), *size), dtype=pixels.dtype)
    if pixels.dtype == np.float32:
        out += smallest
    top, left = ((want - have) // 2 for have, want in zip(pixels.shape[1:], size, strict=True))
    out[:, top : top + pixels.shape[1], left : left + pixels.shape[2]] = pixels
    return out


def picture_content(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ImageError: no such file, a folder, or one that cannot be read.
    """
    if not path.exists():
        link = "a link to a file that is not there (fetch it: datalad get, git annex get)"
        raise ImageError(
            f"{path}: expected an image, got {link if path.is_symlink() else 'no such file'}; check the path"
        )
    if path.is_dir():
        raise ImageError(f"{path}: expected one image file, got a folder; name the file in it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: expected a file that can be read, got {error.strerror or error}; mend that"
        ) from error


def open_picture(path: Path, stream: Any) -> Image:
    """The image, its pixels not decoded yet, after all checks that its header allows."""
    from PIL import Image, UnidentifiedImageError

    most = Image.MAX_IMAGE_PIXELS
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # LARGEST is checked below
            image = Image.open(stream, formats=FORMATS)
        frames = int(getattr(image, "n_frames", 1))
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: expected an image (PNG, JPEG, TIFF, BMP, WebP), got {describe(path)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{path}: expected at most {2 * (most or LARGEST):,d} pixels, got more ({error}); make the image smaller, "
            "or cut it into tiles"
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error
    if image.width * image.height > LARGEST:
        raise ImageError(
            f"{path}: expected at most {LARGEST:,d} pixels, got {image.width:,d} x {image.height:,d}; make the image "
            "smaller, or cut it into tiles"
        )
    if frames > 1 and image.format != "MPO":  # a JPEG with a preview or a second view behind the photograph
        what = "pages" if image.format == "TIFF" else "frames (an animation)"
        raise ImageError(f"{path}: expected one image, got {frames} {what}; save the one that counts as a file")
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise ImageError(
            f"{path}: expected grey or RGB, got {image.mode}; save it as RGB, with its colour profile applied"
        )
    return image


def _damaged(path: Path, error: Exception) -> ImageError:
    """Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error, zlib.error and more."""
    why = " ".join(str(error).split()) or type(error).__name__
    return ImageError(f"{path}: expected a whole image, got one that is cut off or damaged ({why}); {AGAIN}")


def _by_pillow(path: Path, content: bytes) -> tuple[np.ndarray, set[str]]:
    from PIL import ImageOps

    image = open_picture(path, io.BytesIO(content))
    kind = image.format  # a turned copy has none
    try:
        image.load()
        negative = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
        deep = _bits(image, content) > 8
        image = ImageOps.exif_transpose(image)
    except Exception as error:
        raise _damaged(path, error) from error
    notes: set[str] = set()
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)[None]
        return (65535 - grey if negative else grey), notes
    if image.mode in ("I", "F"):
        return _numbers(path, image, negative, kind in ("PNG", "PPM")), notes
    if deep and image.mode != "P":
        notes.add("reduced")
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        grey_file = image.mode in ("L", "LA", "La")
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            from PIL import Image

            notes.add("transparent")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        pixels = np.asarray(image.convert("RGB"))
        if grey_file or ((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])).all():
            return np.ascontiguousarray(pixels[None, ..., 0]), notes
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)), notes
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[None], notes
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1)), notes


def _bits(image: Image, content: bytes) -> int:
    """Bits of a channel in the file; Pillow reads 8 of them from colour."""
    if image.format == "PNG":
        return content[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (8,))
        return int(max(bits) if isinstance(bits, tuple) else bits)
    return 8


def _numbers(path: Path, image: Image, negative: bool, deep: bool) -> np.ndarray:
    """Integers of 32 bits (16 in a PNG or PGM) and floats."""
    if negative:
        raise ImageError(f"{path}: expected black as zero, got a TIFF of numbers in which white is zero; save it anew")
    values = np.asarray(image)
    if image.mode == "I" and deep and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)[None]
    if image.mode == "I" and np.abs(values.astype(np.int64)).max() > 2**24:
        raise ImageError(
            f"{path}: expected integers that float32 holds exactly (up to 2**24), got up to {values.max():,d}; save it "
            "with 16 bits"
        )
    return values.astype(np.float32)[None]


def _grey(pixels: np.ndarray) -> np.ndarray:
    """One channel of three by Pillow's weights (ITU-R 601-2), rounded as Pillow rounds; equal channels stay exact."""
    if pixels.dtype == np.float32:
        shares = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
        return np.asarray((pixels * shares).sum(0, keepdims=True))
    weights = np.array([19595, 38470, 7471], np.int64)[:, None, None]  # of 65536
    grey = (pixels.astype(np.int64) * weights).sum(0, keepdims=True) + 0x8000 >> 16
    return np.asarray(grey.astype(pixels.dtype))
