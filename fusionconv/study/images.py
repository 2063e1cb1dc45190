"""Images of a table, decoded once: prepare() gives an ImageStore, mapped into memory, keyed by content and options."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from fusionconv.errors import FusionError, ImageError, ImageWarning, StudyError
from fusionconv.study.image_decoders import Decoder, ImageDecoder
from fusionconv.study.image_options import ImageOptions, image_options
from fusionconv.study.image_store import ImageStore
from fusionconv.study.pictures import NOTES, picture_channels
from fusionconv.study.records import Record, Records

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ImageOptions",
    "ImageStore",
    "file_channels",
    "file_hash",
    "image_options",
    "prepare",
]

PIECE = 2**26  # bytes that are decoded before they are written; what a killed process loses at most
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def file_channels(paths: pd.DataFrame, look: int = 100) -> Literal[1, 3]:
    """1 where the 2-D files are grey, 3 where one is in colour, by the headers of ``look`` files over the whole table.

    Files that cannot be read are left to :func:`prepare`.
    """
    files = list(
        dict.fromkeys(file for cells in paths.itertuples(index=False) for cell in cells if (file := _file(cell)))
    )
    step = max(1, len(files) // look)
    for file in files[::step]:
        try:
            if picture_channels(file) == 3:
                return 3
        except Exception:  # prepare() says what is wrong with it
            continue
    return 1


def prepare(
    paths: pd.DataFrame, options: ImageOptions, cache: str | os.PathLike[str], *, workers: int | None = None,
    progress: bool = True, decoder: Decoder | None = None,
) -> ImageStore:  # fmt: skip
    """Decode every image that the cache does not hold yet, and map them all.

    Every file's content is hashed at each call (as fast as the disk reads), so that a file that was replaced, whatever
    its date, is decoded anew; nothing is ever served for another content, other options or other library versions. It
    can be stopped at any moment and called again, and several processes may call it at once: one decodes, the others
    wait and find the images there.

    Args:
        paths: a column for each image column; index: the rows' ids. NaN: the row has no such image, its channels are
            zeros.
        options: how a file becomes what the network sees.
        cache: folder of decoded images; several studies may share it.
        workers: threads; default: one per core.
        progress: show bars where it takes more than a second.
        decoder: what makes an array of a row's files; default: the images as channels.

    Raises:
        StudyError: ids that are not unique; no image can be used; images of floats beside images of 8 or 16 bits; a
            cache that cannot be written.
    """
    decoder = decoder or ImageDecoder(options)
    if not paths.index.is_unique:
        twice = paths.index[paths.index.duplicated()][0]
        raise StudyError(f"expected one row per id, got {twice!r} several times; give ids that are unique")
    names = [str(name) for name in paths.index]
    cells = [tuple(_file(cell) for cell in row) for row in paths.itertuples(index=False)]
    sources = {name: tuple(file for file in row if file is not None) for name, row in zip(names, cells, strict=True)}
    threads = workers if workers is not None else _cores()
    hashes = _hash_all(list(dict.fromkeys(file for files in sources.values() for file in files)), threads, progress)

    failed: dict[str, str] = {}
    entries: dict[str, tuple[_Part, ...]] = {}  # key -> files with their hashes
    keys: dict[str, str] = {}
    for name, row in zip(names, cells, strict=True):
        bad = next((hashes[file] for file in sources[name] if isinstance(hashes[file], Exception)), None)
        if not sources[name]:
            failed[name] = "expected an image, got none in any image column; fill in a path or leave the row out"
        elif bad is not None:
            failed[name] = str(bad)
        else:
            parts = tuple(None if file is None else (file, str(hashes[file])) for file in row)
            keys[name] = hashlib.sha256(json.dumps([p and p[1] for p in parts]).encode()).hexdigest()
            entries.setdefault(keys[name], parts)

    shape = decoder.shape(paths.shape[1])
    records = Records(Path(cache) / f"{options.dims}d-{shape[0]}-{decoder.key()[:20]}", shape)
    found, reasons, decoded = _complete(records, entries, decoder, threads, progress)
    failed |= {n: _of_own_files(reasons[key], entries[key], sources[n]) for n, key in keys.items() if key in reasons}
    failed = {name: failed[name] for name in names if name in failed}
    ids = tuple(name for name in names if name not in failed)
    dtype = _one_dtype(found)
    noted: dict[str, list[str]] = {}
    for name in ids:
        for note in found[keys[name]].notes:
            noted.setdefault(note, []).append(name)
    remarks = _remarks(noted, len(ids), decoder.what)
    if dtype == "u2" and options.dims == 2 and decoder.what != "masks":
        eight = {key for key, kind in records.read() if kind == "u1"}
        remarks += _of_depths([name for name in ids if keys[name] in eight], len(ids), decoder.what)
    everything = json.dumps([decoder.key(), dtype, sorted((name, keys[name]) for name in ids)])
    good = {name: row for name, row in zip(names, cells, strict=True) if name not in failed}
    store = ImageStore(
        ids=ids,
        array=records.array(dtype) if ids else np.zeros((0, *shape), np.float32),
        failed=failed,
        available=np.array([[file is not None for file in good[name]] for name in ids], bool).reshape(
            -1, paths.shape[1]
        ),
        key=hashlib.sha256(everything.encode()).hexdigest(),
        sources=sources,
        options=options,
        notes={note: tuple(which) for note, which in sorted(noted.items())},
        remarks=tuple(remarks),
        decoded=decoded,
        rows={name: found[keys[name]].row for name in ids},
    )
    for remark in store.remarks:
        warnings.warn(remark, ImageWarning, stacklevel=2)
    if not ids:
        lines = store.problems() or ["the table has no rows"]
        raise StudyError("expected at least one usable image, got none:\n  " + "\n  ".join(lines[:10]))
    return store


def _of_own_files(reason: str, parts: Sequence[_Part], files: Sequence[str]) -> str:
    """The reason of an entry, which names the first files of that content, with a row's own."""
    for part, own in zip(filter(None, parts), files, strict=True):
        reason = reason.replace(part[0], own)
    return reason


def file_hash(file: str) -> str:
    """SHA-256 of a file; of an Analyze or NIfTI pair (.img, .hdr, and SPM's .mat where it is there) of all.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(file)
    parts = [path]
    if path.suffix.lower() in (".img", ".hdr"):
        beside = {".img": ".hdr", ".IMG": ".HDR", ".hdr": ".img", ".HDR": ".IMG"}.get(path.suffix, path.suffix)
        others = (path.with_suffix(suffix) for suffix in (beside, ".mat"))
        parts += [other for other in others if other.is_file()]
    digest = hashlib.sha256()
    for part in sorted(parts):
        with part.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


_Part = tuple[str, str] | None  # a file and its hash


def _file(cell: Any) -> str | None:
    """The path in a cell; None where there is none."""
    import pandas as pd

    if isinstance(cell, (str, os.PathLike)):
        return os.fspath(cell)
    if pd.isna(cell):
        return None
    raise StudyError(f"expected paths of images, got {cell!r} ({type(cell).__name__}); give text")


def _hash_all(files: Sequence[str], threads: int, progress: bool) -> dict[str, str | Exception]:
    def one(file: str) -> str | Exception:
        if Path(file).is_dir():
            return ImageError(f"{file}: expected one image file, got a folder; name the file in it")
        try:
            return file_hash(file)
        except OSError as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or error
            if Path(file).is_symlink() and not Path(file).exists():
                what = "a link to a file that is not there (fetch it: datalad get, git annex get)"
            return ImageError(f"{file}: expected a file that can be read, got {what}; check the path")

    bar = _bar(len(files), "check the images", progress)
    return dict(bar(zip(files, _ahead(one, files, threads), strict=True)))


def _complete(
    records: Records, entries: Mapping[str, tuple[_Part, ...]], decoder: Decoder, threads: int, progress: bool
) -> tuple[dict[str, Record], dict[str, str], int]:
    """Every entry's record, decoded if it was not there; why the others have none; how many were decoded."""
    reasons: dict[str, str] = {}
    decoded = 0
    found = _there(records, entries, threads)
    if len(found) < len(entries) or len({record.dtype for record in found.values()}) > 1:
        with records.lock():
            found = _there(records, entries, threads)
            jobs = [(key, parts) for key, parts in entries.items() if key not in found]

            def one(job: tuple[str, tuple[_Part, ...]]) -> tuple[str, np.ndarray | str, tuple[str, ...]]:
                return (job[0], *_decode(job[1], decoder))

            waiting: list[tuple[str, np.ndarray, tuple[str, ...]]] = []

            def write() -> None:
                found.update((record.key, record) for record in records.append(waiting))
                waiting.clear()

            try:
                for key, array, notes in _bar(len(jobs), "decode", progress)(_ahead(one, jobs, threads)):
                    if isinstance(array, str):
                        reasons[key] = array
                        continue
                    decoded += 1
                    waiting.append((key, array, notes))
                    if sum(a.nbytes for _, a, _ in waiting[-1:]) * len(waiting) >= PIECE:
                        write()
            finally:
                if waiting:
                    write()
            found = _widened(records, found)
    return found, reasons, decoded


def _there(records: Records, entries: Mapping[str, Any], threads: int) -> dict[str, Record]:
    """The entries whose records are there and whole: all of one dtype if possible, else each one's narrowest."""
    index = records.read()
    by_key: dict[str, dict[str, Record]] = {}
    for (key, dtype), record in index.items():
        if key in entries:
            by_key.setdefault(key, {})[dtype] = record
    flat = [record for kinds in by_key.values() for record in kinds.values()]
    whole = dict(zip(flat, _ahead(records.whole, flat, threads), strict=True))
    kept = {key: {d: r for d, r in kinds.items() if whole[r]} for key, kinds in by_key.items()}
    kept = {key: kinds for key, kinds in kept.items() if kinds}
    narrowest = {key: min(kinds, key=_width) for key, kinds in kept.items()}
    widest = max(narrowest.values(), key=_width, default="")
    return {key: kinds.get(widest, kinds[narrowest[key]]) for key, kinds in kept.items()}


def _width(dtype: str) -> int:
    return ("u1", "u2", "f2", "f4").index(dtype)


def _widened(records: Records, found: dict[str, Record]) -> dict[str, Record]:
    """8-bit images beside 16-bit ones as 16-bit ones: 257 v / 65535 is v / 255."""
    if {record.dtype for record in found.values()} != {"u1", "u2"}:
        return found
    narrow = records.array("u1")
    todo = [record for record in found.values() if record.dtype == "u1"]
    new = records.append((r.key, np.asarray(narrow[r.row]).astype(np.uint16) * 257, r.notes) for r in todo)
    return found | {record.key: record for record in new}


def _one_dtype(found: Mapping[str, Record]) -> str:
    counts = Counter(record.dtype for record in found.values())
    if len(counts) > 1:
        kinds = {"u1": "8 bit", "u2": "16 bit", "f4": "floating point or physical units"}
        raise StudyError(
            "expected images of one kind, got "
            + " and ".join(f"{count:,d} of {kinds.get(dtype, dtype)}" for dtype, count in counts.most_common())
            + "; their brightness cannot be compared: convert them to one kind"
        )
    return next(iter(counts), "f4")


def _decode(parts: Sequence[_Part], decoder: Decoder) -> tuple[np.ndarray | str, tuple[str, ...]]:
    """The array of a row with its notes, or why there is none."""
    try:
        array, notes = decoder([part and part[0] for part in parts])
        for file, known in filter(None, parts):
            if file_hash(file) != known:
                return f"{file}: expected a file that stays as it is, got one that changed meanwhile; run it again", ()
    except FusionError as error:
        return str(error), ()
    except MemoryError as error:
        raise StudyError(f"expected enough memory to decode {parts}, got too little; give fewer workers") from error
    except Exception as error:  # the libraries raise many kinds; the image is listed with its reason, the others go on
        file = next(part[0] for part in parts if part)
        return f"{file}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}", ()
    return array, notes


def _remarks(noted: Mapping[str, Sequence[str]], total: int, what: str) -> list[str]:
    """A sentence for each kind of note."""
    said = []
    for note, names in sorted(noted.items()):
        if note not in NOTES or (note == "grey" and len(names) == total):
            continue  # a fact rather than a remark; all files are grey: what was asked for
        said.append(f"{len(names):,d} of {total:,d} {what} {NOTES[note]} ({_some(names)})")
    return said


def _of_depths(eight: Sequence[str], total: int, what: str) -> list[str]:
    """A sentence where some images have 8 bits and the others 16."""
    if not eight or len(eight) == total:
        return []
    return [
        f"{len(eight):,d} of {total:,d} {what} have 8 bits ({_some(eight)}), the other {total - len(eight):,d} have "
        "16; each is divided by the largest number of its depth (255 or 65535), so that 12-bit data in 16 bits are "
        "1/16 as bright: convert all to one depth"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,d} more" if len(names) > 3 else "")


def _ahead(work: Callable[[_In], _Out], jobs: Sequence[_In], threads: int) -> Iterator[_Out]:
    """``map`` over threads, in order, a few jobs ahead of who reads the results.

    Threads, not processes: Pillow, zlib, NumPy and torch let other threads run while they work, and start at once.
    """
    if threads < 2 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    pool = ThreadPoolExecutor(threads)
    running: list[Future[_Out]] = []
    try:
        for job in jobs:
            running.append(pool.submit(work, job))
            if len(running) > 4 * threads:
                yield running.pop(0).result()
        while running:
            yield running.pop(0).result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _bar(total: int, what: str, progress: bool) -> Callable[[Any], Any]:
    tqdm: Any = importlib.import_module("tqdm").tqdm  # it has no types

    return lambda results: tqdm(results, what, total, unit="image", delay=1, disable=not progress or total < 2)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
