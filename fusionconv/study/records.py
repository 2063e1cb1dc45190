"""Arrays of one shape in an append-only file, with an index: whole or not there, for several processes at once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionconv.errors import StudyError

__all__ = ["Record", "Records"]

log = logging.getLogger("fusionconv.study")


@dataclass(frozen=True)
class Record:
    """Where an array lies, and its checksum."""

    key: str
    dtype: str  # NumPy's name: u1, u2, f2, f4
    row: int
    checksum: int
    notes: tuple[str, ...] = ()


class Records:
    """A folder with ``index.jsonl`` and ``u1.bin``, ``f2.bin`` ...: record n of a file is its n-th array.

    An array is written, and reaches the disk, before its line of the index. A process that is killed in between leaves
    bytes that no line names; the next one writes over them. Lines are only ever added, whoever reads needs no lock.

    Args:
        folder: made with the first array.
        shape: of every array.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder, self.shape = folder, shape
        self.index = folder / "index.jsonl"
        self._taken: dict[str, int] | None = None  # while the lock is held

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time adds arrays. The system frees the lock of a process that is killed.

        Raises:
            StudyError: the folder cannot be written, or its file system has no locks.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "lock")
        said = False
        with self._errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    lock.acquire(timeout=5)
                    break
                except Timeout:
                    if not said:
                        log.warning("waiting for another process that decodes into %s", self.folder)
                    said = True
                except NotImplementedError as error:
                    raise StudyError(
                        f"cache: expected a file system with locks, got {self.folder} on one without; give --cache "
                        "a folder on another one"
                    ) from error
        try:
            yield
        finally:
            self._taken = None
            lock.release()

    def read(self) -> dict[tuple[str, str], Record]:
        """(key, dtype) -> record, of all whole lines whose array is there."""
        try:
            content = self.index.read_bytes()
        except OSError:
            return {}
        found: dict[tuple[str, str], Record] = {}
        counts: dict[str, int] = {}
        for line in content.split(b"\n")[:-1]:  # what is behind the last line break was cut off
            try:
                said = json.loads(line)
                record = Record(said["key"], said["dtype"], said["row"], said["checksum"], tuple(said["notes"]))
            except (ValueError, KeyError, TypeError):
                continue
            if record.dtype not in counts:
                counts[record.dtype] = self._count(record.dtype)
            if record.row < counts[record.dtype]:
                found[record.key, record.dtype] = record
        return found

    def array(self, dtype: str) -> np.memmap[Any, Any]:
        """All arrays of a type, (n, *shape), mapped into memory."""
        return np.memmap(self._file(dtype), np.dtype(dtype), "r", shape=(self._count(dtype), *self.shape))

    def whole(self, record: Record) -> bool:
        """Whether an array is what was written."""
        try:
            with self._file(record.dtype).open("rb") as stream:
                stream.seek(record.row * self._size(record.dtype))
                return zlib.crc32(stream.read(self._size(record.dtype))) == record.checksum
        except OSError:
            return False

    def append(self, entries: Iterable[tuple[str, np.ndarray, tuple[str, ...]]]) -> list[Record]:
        """Add arrays (key, array, notes). The lock must be held.

        Raises:
            StudyError: they cannot be written. What was there stays.
        """
        taken = self._taken = self._next_rows() if self._taken is None else self._taken
        written: list[Record] = []
        with self._errors():
            for key, array, notes in entries:
                assert array.shape == self.shape, (array.shape, self.shape)
                dtype = array.dtype.str[1:]
                content = np.ascontiguousarray(array).tobytes()
                row = taken.get(dtype, 0)
                taken[dtype] = row + 1
                with os.fdopen(os.open(self._file(dtype), os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
                    stream.seek(row * len(content))
                    stream.write(content)
                    stream.flush()
                written.append(Record(key, dtype, row, zlib.crc32(content), notes))
            for dtype in {record.dtype for record in written}:
                with self._file(dtype).open("rb") as stream:
                    os.fsync(stream.fileno())
            lines = "".join(json.dumps(vars(record)) + "\n" for record in written)
            with os.fdopen(os.open(self.index, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as stream:
                stream.seek(self._end())
                stream.truncate()
                stream.write(lines.encode())
        return written

    def _next_rows(self) -> dict[str, int]:
        """dtype -> the first row behind every row that a line names, also where its array is lost."""
        taken: dict[str, int] = {}
        for line in self.index.read_bytes().split(b"\n")[:-1] if self.index.exists() else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                said = json.loads(line)
                taken[said["dtype"]] = max(taken.get(said["dtype"], 0), int(said["row"]) + 1)
        return taken

    def _end(self) -> int:
        """Where the last whole line of the index ends."""
        return self.index.read_bytes().rfind(b"\n") + 1 if self.index.exists() else 0

    def _file(self, dtype: str) -> Path:
        return self.folder / f"{dtype}.bin"

    def _size(self, dtype: str) -> int:
        return int(np.prod(self.shape)) * np.dtype(dtype).itemsize

    def _count(self, dtype: str) -> int:
        try:
            return self._file(dtype).stat().st_size // self._size(dtype)
        except OSError:
            return 0

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StudyError(
                f"cache: expected room and the right to write under {self.folder}, got {error.strerror or error}; what "
                "was decoded is kept: run it again with room, or with another --cache"
            ) from error
