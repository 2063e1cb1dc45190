"""What a file that should be a 2-D image is instead, and the error that says so."""

from __future__ import annotations

from pathlib import Path

from fusionconv.study.not_a_volume import AGAIN

__all__ = ["LARGEST", "describe"]

LARGEST = 2**28  # pixels: 16,384 x 16,384; more is a whole slide, or a file made to fill the memory


_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the image with `git lfs pull`"),
    (b"<!doctype html", "a web page", "download the image again, logged in"),
    (b"<html", "a web page", "download the image again, logged in"),
    (b"<?xml", "XML", "save it as PNG"),
    (b"<svg", "a drawing (SVG)", "save it as PNG"),
    (b"%pdf", "a PDF", "save its page as PNG"),
    (b"\x93numpy", "a NumPy array", "save it as PNG or TIFF"),
    (b"pk\x03\x04", "a zip archive", "unpack it and name the images"),
    (b"\x1f\x8b", "a gzip-compressed file", "unpack it; NIfTI volumes need `--dims 3`"),
)


def describe(path: Path) -> str:
    """What a file that is no image is, and what to do."""
    with path.open("rb") as stream:
        start = stream.read(1024)
    if not start:
        return f"an empty file; {AGAIN}"
    if b"annex/objects" in start[:300]:
        return "a git-annex pointer; fetch the image with `datalad get` or `git annex get`"
    for beginning, what, do in _STARTS:
        if start.lstrip().lower().startswith(beginning):
            return f"{what}; {do}"
    if start[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI volume; give `--dims 3`"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in start):
        return "text; name an image file"
    return f"a file of another kind, or a damaged one; name an image file, or {AGAIN}"
