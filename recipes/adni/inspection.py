"""inspect: every volume of a table opened and measured, nothing stops at a bad one; text, tables and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.study.volumes import VolumeError, read_header, read_voxels
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.leakage import content_hash
from recipes.adni.inspection_text import describe_all

__all__ = ["VOLUME_COLUMNS", "Inspection", "inspect_volumes", "measure"]

#: The columns of ``Inspection.volumes``: extent_* is the field of view in mm along right, anterior, superior; likeness
#: the correlation of the volume, turned to RAS and reduced to 8 x 8 x 8 means, with the median of all.
VOLUME_COLUMNS = (
    "subject", "session", "image", "shape", "spacing", "orientation", "dtype", "size_bytes",
    "extent_r", "extent_a", "extent_s", "minimum", "p01", "p50", "p99", "maximum",
    "likeness", "sha256", "notes", "problem",
)  # fmt: skip

THUMBNAIL = 8  # means along each axis


@dataclass(frozen=True)
class Inspection:
    """What was found. ``str()`` of it is ``text``.

    ``volumes`` has a row for each row of the table that names an image, with the table's index and the columns
    :data:`VOLUME_COLUMNS`; ``problem`` is missing where the volume is good. ``unmatched`` is the reader's report.
    """

    text: str
    volumes: pd.DataFrame
    unmatched: pd.DataFrame

    def __str__(self) -> str:
        return self.text

    @property
    def bad(self) -> pd.DataFrame:
        """The volumes that cannot be used, with the reason in ``problem``."""
        return self.volumes[self.volumes["problem"].notna()]


def inspect_volumes(
    frame: pd.DataFrame,
    report: pd.DataFrame,
    out: Path | None = None,
    workers: int = 0,
    voxels: bool = True,
    covariates: Sequence[str] = (),
    target: str | None = None,
    allow_unknown_orientation: bool = False,
    progress: bool | None = None,
) -> Inspection:
    """Open every volume of a tidy frame, and say what is there, what is missing and what is odd.

    Args:
        frame: a tidy frame: ``subject``, ``session``, ``image`` (missing where there is none), covariates, target.
        report: what its reader could not match (``report=True``).
        out: a folder for inspect.txt, volumes.csv, unmatched.csv and slices.png; made if it is not there.
        workers: threads that read volumes at a time beside the main one; 0: none. Decompression, which takes most of
            the time, lets other threads run.
        voxels: read the voxels too: without, cut-off files, NaN and doubles are not seen, but it takes a moment only.
        covariates: columns whose missing share and range to tell.
        target: the column whose classes or quantiles to tell.
        allow_unknown_orientation: see :func:`fusionconv.study.volumes.read_header`.
        progress: show a bar; None: in a terminal.

    Raises:
        TableError: an absent column; no row with an image.
    """
    require_columns(frame, ["subject", "session", "image", *covariates, *([target] if target else [])], "tidy frame")
    rows = frame[frame["image"].notna()]
    if rows.empty:
        kinds = "; ".join(f"{n} x {kind}" for kind, n in report["kind"].value_counts().items()) or "nothing to tell"
        raise TableError(
            f"expected rows with an image, came none in {len(frame)} rows (the reader's report: {kinds}); check the "
            "folder of images and how its files are named"
        )
    paths = list(dict.fromkeys(str(p) for p in rows["image"]))
    found = _measure_all(paths, max(workers, 0), voxels, allow_unknown_orientation, progress)
    volumes = pd.DataFrame([found[str(path)] for path in rows["image"]], index=rows.index)
    volumes.insert(0, "session", rows["session"])
    volumes.insert(0, "subject", rows["subject"])
    volumes["likeness"] = _likeness([found[str(path)].get("thumbnail") for path in rows["image"]])
    volumes = volumes.reindex(columns=list(VOLUME_COLUMNS))
    text = describe_all(frame, report, volumes, voxels, covariates, target)
    if out is not None:
        from recipes.adni.slices import choose, draw_slices

        out.mkdir(parents=True, exist_ok=True)
        (out / "inspect.txt").write_text(text + "\n", encoding="utf-8")
        volumes.to_csv(out / "volumes.csv", index=False)
        report.to_csv(out / "unmatched.csv", index=False)
        draw_slices(choose(volumes)).savefig(out / "slices.png", dpi=150)
    return Inspection(text, volumes, report)


def measure(path: str, voxels: bool = True, allow_unknown_orientation: bool = False) -> dict[str, Any]:
    """One volume's row of the table; what is wrong with it is its ``problem``, and never an exception.

    Intensities are those of the file (after scl_slope); ``sha256`` is that of the content, unpacked, so that a volume
    that was compressed twice is known again; ``thumbnail`` are 8 x 8 x 8 means, turned to RAS.
    """
    row: dict[str, Any] = {"image": path, "problem": None}
    try:
        info = read_header(path, allow_unknown_orientation=allow_unknown_orientation)
        row |= {key: value for key, value in asdict(info).items() if key not in ("path", "affine")}
        row["shape"] = " x ".join(map(str, info.shape))
        row["spacing"] = " x ".join(f"{mm:.2f}" for mm in info.spacing)
        row["notes"] = "; ".join(info.notes) or None
        for code, n, mm in zip(info.orientation, info.shape, info.spacing, strict=True):
            row[_EXTENT[code]] = round(n * mm, 2)
        if voxels:
            data = read_voxels(path)
            levels = np.percentile(data, [0, 1, 50, 99, 100])
            names = ("minimum", "p01", "p50", "p99", "maximum")
            row |= {name: float(level) for name, level in zip(names, levels, strict=True)}
            row["thumbnail"] = _thumbnail(data, np.asarray(info.affine))
            row["sha256"] = content_hash(path)
    except VolumeError as error:
        row["problem"] = str(error).removeprefix(f"{path}: ")
    except (OSError, MemoryError) as error:  # vanished meanwhile, a share that does not answer
        row["problem"] = f"cannot be read: {error or type(error).__name__}"
    return row


def _thumbnail(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    import nibabel as nib

    means = nib.apply_orientation(data, nib.io_orientation(affine))
    for axis in range(3):
        starts = np.linspace(0, means.shape[axis], THUMBNAIL, endpoint=False).astype(int)
        widths = np.diff([*starts, means.shape[axis]])
        shape = [-1 if i == axis else 1 for i in range(3)]
        means = np.add.reduceat(means, starts, axis=axis) / widths.reshape(shape)
    return np.asarray(means, dtype=np.float64).ravel()


def _likeness(thumbnails: list[np.ndarray | None]) -> list[float]:
    """Correlation of each with the median image; NaN where there is none or it is constant."""
    known = [t / t.std() for t in thumbnails if t is not None and t.std() > 0]
    middle = np.median(known, axis=0) if known else None
    return [
        float("nan") if t is None or middle is None or t.std() == 0 else float(np.corrcoef(t, middle)[0, 1])
        for t in thumbnails
    ]


_EXTENT = {"L": "extent_r", "R": "extent_r", "P": "extent_a", "A": "extent_a", "I": "extent_s", "S": "extent_s"}


def _measure_all(
    paths: list[str], workers: int, voxels: bool, allow: bool, progress: bool | None
) -> dict[str, dict[str, Any]]:
    from tqdm import tqdm

    def one(path: str) -> dict[str, Any]:
        return measure(path, voxels, allow)

    bar = {"total": len(paths), "desc": "reading volumes", "unit": "file"}
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        steps = map(one, paths) if workers == 0 else pool.map(one, paths)
        rows = list(tqdm(steps, disable=None if progress is None else not progress, **bar))
    return {row["image"]: row for row in rows}
