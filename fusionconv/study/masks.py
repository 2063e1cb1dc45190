"""One mask file: whole numbers for pixels or voxels, or an error that says what to do about it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.pictures import open_picture, picture_content

__all__ = ["read_mask", "require_labels"]

LARGEST_LABEL = 65535


def read_mask(path: str) -> np.ndarray:
    """The labels of a 2-D mask, (height, width) uint16, as the file has them: 0 and 255 stay 0 and 255.

    Of a palette the numbers count, not the colours; so they do in a TIFF that says that white is zero. Grey that is
    saved as colour is taken where red, green and blue are equal and nothing is transparent. The EXIF orientation is
    applied, as to images.

    Raises:
        ImageError: no such file or no image; colours; values that are not whole numbers from 0 to 65535.
    """
    from PIL import ImageOps

    file = Path(path)
    image = open_picture(file, io.BytesIO(picture_content(file)))
    try:
        image.load()
        inverted = image.mode in ("1", "L") and getattr(image, "tag_v2", {}).get(262) == 0  # by Pillow; not 16 bits
        one_bit = image.mode == "1"
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow's decoders raise many kinds
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: expected a whole mask, got one that is damaged ({why}); save it again") from error
    pixels = np.asarray(image)
    if inverted and one_bit:
        raise ImageError(
            f"{path}: expected a mask whose numbers say what it means, got a TIFF of one bit in which white is zero; "
            "whether white or 1 is the class is not guessed: save it as a grey PNG"
        )
    if inverted:
        pixels = ~pixels
    if pixels.ndim == 3:
        alpha = pixels.shape[2] in (2, 4)
        colours = pixels[..., : pixels.shape[2] - alpha]
        if (colours != colours[..., :1]).any() or (alpha and (pixels[..., -1] != 255).any()):
            raise ImageError(
                f"{path}: expected one number for each pixel of a mask, got colours (mode {image.mode}); save the "
                "classes' numbers as a grey PNG"
            )
        pixels = colours[..., 0]
    return require_labels(pixels, path)


def require_labels(values: np.ndarray, path: str) -> np.ndarray:
    """Values as uint16.

    Raises:
        ImageError: some are not whole numbers from 0 to 65535.
    """
    if values.dtype == bool:
        return values.astype(np.uint16)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        odd = values[~np.isfinite(values) | (values != np.rint(values))].ravel()[:3].tolist()
        raise ImageError(
            f"{path}: expected whole numbers in a mask, got {', '.join(f'{v:.4g}' for v in odd)}; was it resampled "
            "with linear interpolation? Use the nearest value, or threshold it"
        )
    if values.size and (values.min() < 0 or values.max() > LARGEST_LABEL):
        raise ImageError(
            f"{path}: expected labels from 0 to {LARGEST_LABEL}, got {values.min():g} to {values.max():g}; write other "
            "numbers"
        )
    return values.astype(np.uint16)
