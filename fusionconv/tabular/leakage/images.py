"""Is an image on both sides: the same file, or another file with the same content."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.tabular.leakage.report import Finding

__all__ = ["content_hash", "find_duplicate_images"]

_CHUNK = 1 << 20
_MANY = 1000  # from here on a bar is shown, if somebody watches


def content_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of what a file holds, read piece by piece; a ``.gz`` file is decompressed first.

    So a volume that was compressed again (with another time in its header) has the same hash. A folder, such as a DICOM
    series, is hashed file by file in the order of the names.

    Raises:
        OSError: the file cannot be read, or is no gzip file though its name ends so.
        EOFError: the gzip file is cut off.
        zlib.error: the gzip file is damaged.
    """
    path = Path(path)
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(content_hash(file).encode())
            continue
        with gzip.open(file) if file.suffix.lower() == ".gz" else open(file, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def find_duplicate_images(
    train: pd.DataFrame, test: pd.DataFrame, image: str, root: Path, workers: int, progress: bool | None
) -> tuple[list[Finding], str]:
    """An error for each image on both sides, a warning for each that cannot be read; and what was looked at."""
    sides: list[dict[Path, list[Any]]] = []
    for frame in (train, test):
        rows: dict[Path, list[Any]] = {}
        for label, value in frame[image].dropna().items():
            rows.setdefault(Path(os.path.realpath(root / str(value))), []).append(label)
        sides.append(rows)
    of_train, of_test = sides
    found = [
        Finding("error", "shared image", str(p), "the same file on both sides", tuple(of_train[p]), tuple(of_test[p]))
        for p in of_train
        if p in of_test
    ]
    paths = [*of_train, *(p for p in of_test if p not in of_train)]
    hashes, unread = _hashes(paths, set(of_train), set(of_test), workers, progress)
    by_content: dict[str, list[Path]] = {}
    for path, digest in hashes.items():
        by_content.setdefault(digest, []).append(path)
    for alike in by_content.values():
        left, right = [p for p in alike if p in of_train], [p for p in alike if p in of_test]
        if any(a != b for a in left for b in right):
            found.append(
                Finding(
                    "error",
                    "duplicate image",
                    " and ".join(map(str, alike)),
                    "different files with the same content on both sides",
                    tuple(label for p in left for label in of_train[p]),
                    tuple(label for p in right for label in of_test[p]),
                )
            )
    for path, why in unread.items():
        rows_of = tuple(of_train.get(path, ())), tuple(of_test.get(path, ()))
        found.append(Finding("warning", "image not checked", str(path), why, *rows_of))
    without = int(train[image].isna().sum() + test[image].isna().sum())
    note = f"images: {len(paths) - len(unread)} files by content"
    return found, note + (f", {len(unread)} not readable" if unread else "") + (
        f", {without} rows without one" if without else ""
    )


def _hashes(
    paths: list[Path], in_train: set[Path], in_test: set[Path], workers: int, progress: bool | None
) -> tuple[dict[Path, str], dict[Path, str]]:
    """Hashes of the files that may have a twin on the other side, and why others could not be read."""
    sizes: dict[Path, int | None] = {}
    unread: dict[Path, str] = {}
    for path in paths:
        try:  # the size says nothing of what a compressed file or a folder holds
            sizes[path] = None if path.suffix.lower() == ".gz" or path.is_dir() else path.stat().st_size
        except OSError as error:
            unread[path] = f"cannot be read: {error.strerror or error}"
    todo = list(sizes)
    if None not in sizes.values():
        twins = {sizes[p] for p in sizes if p in in_train} & {sizes[p] for p in sizes if p in in_test}
        todo = [p for p in sizes if sizes[p] in twins]

    def one(path: Path) -> tuple[Path, str | None, str]:
        try:
            return path, content_hash(path), ""
        except (OSError, EOFError, zlib.error) as error:
            return path, None, f"cannot be read: {error}"

    hashes: dict[Path, str] = {}
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:  # reading, hashing and zlib let other threads run
        for path, digest, why in _bar(len(todo), progress)(pool.map(one, todo)):
            if digest is None:
                unread[path] = why
            else:
                hashes[path] = digest
    return hashes, unread


def _bar(total: int, progress: bool | None) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A progress bar by tqdm, if one is wanted and tqdm is installed."""
    if progress or (progress is None and total >= _MANY and sys.stderr.isatty()):
        try:
            from tqdm import tqdm
        except ImportError:
            return iter
        return lambda steps: iter(tqdm(steps, total=total, desc="hashing images", unit="file"))
    return iter
