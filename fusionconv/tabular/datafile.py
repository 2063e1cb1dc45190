"""The text of a data file, or the plain reason why it is not one: a quota page, an archive, a pointer, nothing."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

from fusionconv.errors import TableError
from fusionconv.tabular.columns import did_you_mean

__all__ = ["decode_text", "read_data", "read_text"]

_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip file", b"7z\xbc\xaf\x27\x1c": "a 7z archive"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: str | os.PathLike[str], expected: str) -> str:
    r"""Read a UTF-8 text file; line ends become ``\n``, a byte order mark and blank lines at the end go.

    Args:
        path: the file.
        expected: what the file should be, for the messages, such as ``"CelebA's list_attr_celeba.txt"``.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one in that folder.
        TableError: the file is empty, an HTML page, an archive, a Git LFS pointer, or not UTF-8 text.
    """
    data = read_data(path, expected)
    for magic, kind in _ARCHIVES.items():
        if data.startswith(magic):
            raise _refusal(path, expected, kind, "unpack it and give the path of the text file inside")
    try:
        return decode_text(data, path, expected, "utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"bytes that are not UTF-8 ({error.reason} at byte {error.start})"
        raise _refusal(path, expected, got, "save it as UTF-8") from None


def read_data(path: str | os.PathLike[str], expected: str) -> bytes:
    """The bytes of a file that is there, has something in it, and is no web page or pointer in its place.

    Raises:
        FileNotFoundError: there is no such file; the message names the nearest one in that folder.
        TableError: the file is empty, an HTML page, or a Git LFS pointer.
    """
    path = Path(path)
    if not path.is_file():
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_file()) if path.parent.is_dir() else []
        got = "a folder" if path.is_dir() else "no such file"
        hint = did_you_mean(path.name, siblings) or "; give the path of the file itself, or download it first"
        raise FileNotFoundError(f"expected {expected} at {path}, got {got}{hint}")
    data = path.read_bytes()
    if not data.removeprefix(b"\xef\xbb\xbf").strip() or data in _UTF16:
        raise _refusal(path, expected, "an empty file", "delete it and download it again")
    start = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        title = re.search(rb"<title[^>]*>(.*?)</title>", data[:65536], re.IGNORECASE | re.DOTALL)
        says = html.unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
        raise _refusal(
            path,
            expected,
            f"an HTML page{f' titled {says!r}' if says else ''}",
            "the server sent a page (often its download quota or a login) in place of the file: "
            "delete it and download the file again later, by hand in a browser, or from another mirror",
        )
    if start.startswith(b"version https://git-lfs"):
        do = "run `git lfs pull` in its clone"
        raise _refusal(path, expected, "a Git LFS pointer, not the file itself", do)
    return data


def decode_text(data: bytes, path: str | os.PathLike[str], expected: str, encoding: str) -> str:
    r"""``data`` as text: line ends become ``\n``, blank lines at the end go (empty cells at the end of a row stay).

    Raises:
        UnicodeDecodeError: the bytes are not of this encoding.
        TableError: there are NUL characters in it: the file is a binary one.
    """
    text = data.decode(encoding).removeprefix("\ufeff")
    if "\0" in text:
        raise _refusal(path, expected, "a binary file (it has NUL bytes)", "delete it and download it again")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    end = text.find("\n", len(text.rstrip()))
    return text if end < 0 else text[:end]


def _refusal(path: str | os.PathLike[str], expected: str, got: str, do: str) -> TableError:
    return TableError(f"{path}: expected {expected}, got {got}; {do}")
