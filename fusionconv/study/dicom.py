"""One DICOM file of one frame, by pydicom (extra ``dicom``): (channels, height, width) of 8 or 16 bit, or float32."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.not_a_picture import LARGEST

__all__ = ["dicom_channels", "read_dicom"]


def read_dicom(path: Path, content: bytes) -> np.ndarray:
    """The pixels of one frame.

    - MONOCHROME1 (small values are bright) is inverted within the range of the stored values, before any rescaling.
    - Where RescaleSlope, RescaleIntercept or a modality table say another unit (Hounsfield in CT), the result is
      float32 in that unit. So are signed values.
    - Otherwise the range of BitsStored becomes that of 8 or 16 bits: 0 is black, the largest value white.
    - The display window (VOI) is not applied.

    Raises:
        ImageError: pydicom is not installed; no image in the file; several frames; a palette; a compression for which
            a plug-in is missing; values outside BitsStored.
    """
    data = _read(path, content, pixels=True)
    if "PixelData" not in data or "Rows" not in data:
        what = data.get("Modality", "no modality")
        raise ImageError(f"{path}: expected a DICOM image, got a DICOM file without pixels ({what}); name an image")
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise ImageError(
            f"{path}: expected one frame, got a DICOM file of {frames} frames; save the frame that counts, or convert "
            "the volume with dcm2niix and give `--dims 3`"
        )
    if int(data.Rows) * int(data.Columns) > LARGEST:
        raise ImageError(
            f"{path}: expected at most {LARGEST:,d} pixels, got {data.Rows} x {data.Columns}; cut it into tiles"
        )
    kind = str(data.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR" or not kind:
        kind = kind or "no photometric interpretation"
        raise ImageError(f"{path}: expected grey or RGB, got a DICOM file with {kind}; save it as PNG")
    try:
        stored = np.asarray(data.pixel_array)  # YBR becomes RGB
    except Exception as error:  # each decoder has errors of its own
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{path}: expected pixels that pydicom decodes, got {why}; install the plug-in that it names (such as "
            "pylibjpeg), or copy the file again"
        ) from error
    if stored.ndim == 3:
        if stored.dtype != np.uint8:
            raise ImageError(f"{path}: expected 8 bits of each colour, got {stored.dtype}; save it as PNG")
        return np.ascontiguousarray(stored.transpose(2, 0, 1))
    return _grey(path, data, stored, kind)[None]


def dicom_channels(path: Path) -> Literal[1, 3]:
    """1 or 3, by the header."""
    data = _read(path, path.read_bytes(), pixels=False)
    return 3 if int(data.get("SamplesPerPixel", 1)) == 3 else 1


def _read(path: Path, content: bytes, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ImageError(
            f"{path}: expected pydicom for a DICOM file, got none; `pip install pydicom`, or save the image as PNG"
        ) from error
    try:
        return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            f"{path}: expected a DICOM file, got one that cannot be read ({why}); copy it again"
        ) from error


def _grey(path: Path, data: Any, stored: np.ndarray, kind: str) -> np.ndarray:
    if stored.dtype.kind == "f":
        raise ImageError(f"{path}: expected integers, got DICOM pixels of {stored.dtype}; save it as a float TIFF")
    bits, signed = int(data.BitsStored), int(data.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    values = stored.astype(np.int64)
    if values.min() < low or values.max() > high:
        raise ImageError(
            f"{path}: expected values of {bits} bits ({low} to {high}), got {values.min()} to {values.max()}; the "
            "header is wrong: export the image again"
        )
    if kind == "MONOCHROME1":
        values = low + high - values
    slope, intercept = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    if "ModalityLUTSequence" in data:
        pixels: Any = importlib.import_module("pydicom.pixels")  # it declares no exports
        return np.asarray(pixels.apply_modality_lut(values.astype(stored.dtype), data), dtype=np.float32)
    if signed or (slope, intercept) != (1.0, 0.0):
        return (values * slope + intercept).astype(np.float32)
    if bits <= 8:
        return np.asarray(np.rint(values * (255 / high)).astype(np.uint8))
    return np.asarray(np.rint(values * (65535 / high)).astype(np.uint16))
