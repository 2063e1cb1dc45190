"""What a file that should be a volume is instead: DICOM, a pointer, a web page, a compressed file by another name."""

from __future__ import annotations

import gzip
import itertools
import zlib
from pathlib import Path

__all__ = ["AGAIN", "CONVERT", "describe", "has_dicom"]

AGAIN = "copy or download it again, and compare its checksum with that of the source"
CONVERT = "convert it with `dcm2niix -z y -o OUT FOLDER` and name the .nii.gz that it writes"
_GZIP = b"\x1f\x8b"
_HEADER = 348  # bytes of a NIfTI-1 header
_PICTURES = ((b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"GIF8", "GIF"))
_LOOK = 200  # files of a folder that are opened to look for DICOM


def has_dicom(path: Path) -> bool:
    """True for a DICOM file (by its content, or its name), and for a folder with one among its first 200 files."""
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.is_file())
        return any(has_dicom(file) for file in itertools.islice(files, _LOOK))
    if path.name.upper() == "DICOMDIR" or path.suffix.lower() in (".dcm", ".ima", ".dicom"):
        return True
    return _start(path)[128:132] == b"DICM"


def describe(path: Path, error: Exception) -> str:
    """What was found and what to do, from the file's first bytes and from what the reader complained of (``error``)."""
    start, name = _start(path), path.name.lower()
    why = " ".join(str(error).split()) or type(error).__name__
    if not start:
        return f"an empty or unreadable file ({why}); {AGAIN}"
    if start.startswith(_GZIP) and not name.endswith((".gz", ".mgz")):
        return "a gzip-compressed file; give it a name that ends in .nii.gz, or unpack it with gunzip"
    if start.startswith(_GZIP):
        try:
            with gzip.open(path) as stream:
                inside = stream.read(1024)
        except (OSError, EOFError, zlib.error) as cut:
            return f"a gzip file that is cut off or damaged ({cut}); {AGAIN}"
        got, do = _kind(inside, why)
        return f"{got}, compressed by gzip; {do}"
    got, do = _kind(start, why)
    if name.endswith(".gz"):
        got, do = (
            f"{got}, not compressed by gzip",
            "compress it with gzip, or name it .nii" if "NIfTI" in got else do,
        )
    return f"{got}; {do}"


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(1024)
    except OSError:
        return b""


def _kind(start: bytes, why: str) -> tuple[str, str]:
    """What the first bytes are of, and what to do about it."""
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the volume", "fetch it with `git lfs pull`"
    if b"annex/objects" in start[:300]:
        return "a git-annex pointer instead of the volume", "fetch it with `datalad get` or `git annex get`"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "a web page (HTML or XML), such as a login page saved as the file", "download it again, logged in"
    if start[128:132] == b"DICM":
        return "a DICOM file", CONVERT
    if start[344:347] in (b"n+1", b"ni1"):
        return f"a NIfTI file that cannot be read ({why})", AGAIN
    picture = next((kind for beginning, kind in _PICTURES if start.startswith(beginning)), None)
    if picture is not None:
        return f"a 2-D picture ({picture})", "give `--dims 2`, or name a volume (.nii.gz or .nii)"
    if start and all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "text", "name a volume (.nii.gz or .nii)"
    if len(start) < _HEADER:
        return f"{len(start)} bytes, less than a header", AGAIN
    return f"a file of another kind, or a damaged one ({why})", f"name a volume (.nii.gz or .nii), or {AGAIN}"
