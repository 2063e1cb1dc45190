"""inspect: every volume of a table opened and measured, nothing stops at a bad one; text, tables and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import ImageError, TableError
from fusionconv.study.volumes import read_header, read_voxels
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.leakage import content_hash

__all__ = ["VOLUME_COLUMNS", "Inspection", "inspect_volumes", "measure", "odd_ones", "unlike_the_others"]

#: The columns of ``Inspection.volumes``: extent_* is the field of view in mm along right, anterior, superior; likeness
#: the correlation of the volume, turned to RAS and reduced to 8 x 8 x 8 means, with the median of all.
VOLUME_COLUMNS = (
    "subject", "session", "image", "shape", "spacing", "orientation", "dtype", "size_bytes",
    "extent_r", "extent_a", "extent_s", "minimum", "p01", "p50", "p99", "maximum",
    "likeness", "sha256", "notes", "problem",
)  # fmt: skip

THUMBNAIL = 8  # means along each axis
SHOWN = 5  # names of a list that are printed; the rest is counted, and stands in the CSV files
ODD = 0.05  # a shape, spacing or orientation that fewer images than this share have is named
LIKENESS = 0.1  # correlation below the median's by this, and by 6 median deviations, is unlike the others
ENOUGH = 8  # volumes from which on they are compared with each other
CLASSES = 10  # a numeric target with more values is a measure


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

    def write(self, out: Path) -> None:
        """inspect.txt, volumes.csv, unmatched.csv and slices.png in a folder, which is made if it is not there."""
        from recipes.adni.slices import choose, draw_slices

        out.mkdir(parents=True, exist_ok=True)
        (out / "inspect.txt").write_text(self.text + "\n", encoding="utf-8")
        self.volumes.to_csv(out / "volumes.csv", index=False)
        self.unmatched.to_csv(out / "unmatched.csv", index=False)
        draw_slices(choose(self.volumes)).savefig(out / "slices.png", dpi=150)

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
            f"expected rows with an image, got none in {len(frame)} rows (the reader's report: {kinds}); check the "
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
    inspection = Inspection(text, volumes, report)
    if out is not None:
        inspection.write(out)
    return inspection


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
    except ImageError as error:
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


# ---- the text: counts first, then what is missing, broken, odd or doubled, each named ----


def describe_all(
    frame: pd.DataFrame,
    report: pd.DataFrame,
    volumes: pd.DataFrame,
    voxels: bool,
    covariates: Sequence[str],
    target: str | None,
) -> str:
    """The whole text; ``volumes`` as :class:`Inspection` has them."""
    usable = frame.loc[volumes.index[volumes["problem"].isna()]]
    lines = [*_counts(frame, volumes, usable), "", *_unmatched(report), "", *_bad(volumes, voxels), ""]
    lines += _geometry(volumes[volumes["problem"].isna()])
    lines += ["", *_doubles(volumes, voxels)]
    if target is not None or covariates:
        lines += ["", f"Columns, over the {len(usable):,d} rows with a volume that can be used"]
        lines += [f"  {line}" for name in ([target] if target else []) for line in _column(usable, name, "target")]
        lines += [f"  {line}" for name in covariates for line in _column(usable, name, "covariate")]
    return "\n".join(lines)


def odd_ones(values: pd.Series[Any]) -> dict[Any, list[Any]]:
    """Values that fewer than 5 % have beside a commoner one, with the labels of their rows.

    >>> odd_ones(pd.Series(["RAS"] * 40 + ["LAS"]))
    {'LAS': [40]}
    >>> odd_ones(pd.Series(["RAS", "RAS", "LAS"]))
    {}
    """
    counts = values.value_counts()
    rare = [value for value, n in counts.items() if n < ODD * len(values) and n < counts.iloc[0]]
    return {value: values.index[values == value].tolist() for value in rare}


def unlike_the_others(likeness: pd.Series[Any]) -> list[Any]:
    """Labels of the volumes whose ``likeness`` (correlation with the median image) is far below that of the others.

    >>> unlike_the_others(pd.Series([0.95, 0.97, 0.93, 0.96, 0.94, 0.96, 0.95, 0.20, 0.94]))
    [7]
    """
    known = likeness.dropna()
    if len(known) < ENOUGH:
        return []
    below = known.median() - known
    return known.index[below > max(LIKENESS, 6 * float(below.abs().median()))].tolist()


def _counts(frame: pd.DataFrame, volumes: pd.DataFrame, usable: pd.DataFrame) -> list[str]:
    per_subject = volumes["subject"].value_counts()
    sessions = volumes["session"].replace("", pd.NA).value_counts()
    lines = [
        "Found",
        f"  {len(frame):,d} rows of {frame['subject'].nunique():,d} subjects in the table",
        f"  {len(volumes):,d} rows have an image: {volumes['image'].nunique():,d} files of "
        f"{volumes['subject'].nunique():,d} subjects",
        f"  {len(usable):,d} of them can be used",
    ]
    if (per_subject > 1).any():
        lines.append(f"  {(per_subject > 1).sum():,d} subjects have several images: split by subject, not by image")
    if len(sessions):
        lines.append(f"  sessions: {_list(f'{name} {n:,d}' for name, n in sessions.items())}")
    return lines


def _unmatched(report: pd.DataFrame) -> list[str]:
    if report.empty:
        return ["Rows and images: all matched"]
    lines = ["Rows and images that were not matched (unmatched.csv has them all)"]
    for kind, part in report.groupby("kind", sort=False):
        lines.append(f"  {len(part):,d} x {kind}")
        for reason, same in list(part.groupby("reason", sort=False))[:SHOWN]:
            who = [_name(s, v) if isinstance(s, str) else str(i) for s, v, i in _who(same)]
            lines.append(f"    {len(same):,d}: {reason} ({_list(who)})")
        if (more := part["reason"].nunique() - SHOWN) > 0:
            lines.append(f"    and {more:,d} other reasons")
    return lines


def _who(part: pd.DataFrame) -> Iterable[tuple[Any, Any, Any]]:
    return part[["subject", "session", "image"]].itertuples(index=False, name=None)


def _bad(volumes: pd.DataFrame, voxels: bool) -> list[str]:
    bad = volumes[volumes["problem"].notna()].drop_duplicates("image")
    good = volumes["image"].nunique() - len(bad)
    how = "header and voxels" if voxels else "headers only; without --skip-voxels the voxels are read too"
    lines = [f"Volumes ({how}): {good:,d} good, {len(bad):,d} bad" + (" (problem in volumes.csv)" if len(bad) else "")]
    for image, problem in bad[["image", "problem"]].head(4 * SHOWN).itertuples(index=False):
        lines.append(f"  {image}: {problem}")
    if len(bad) > 4 * SHOWN:
        lines.append(f"  and {len(bad) - 4 * SHOWN:,d} more")
    return lines


def _geometry(good: pd.DataFrame) -> list[str]:
    if good.empty:
        return ["No volume can be used"]
    lines = ["What the good volumes are like"]
    for column, title in (
        ("shape", "voxels"),
        ("spacing", "spacing, mm"),
        ("orientation", "axes run to"),
        ("dtype", "stored as"),
    ):
        odd = odd_ones(good[column])
        for i, (value, n) in enumerate(good[column].value_counts().items()):
            if i == 2 * SHOWN:
                lines.append(f"  {'':12s} and {good[column].nunique() - i:,d} others")
                break
            names = [_name(*good.loc[label, ["subject", "session"]]) for label in odd.get(value, [])]
            lines.append(
                f"  {'' if i else title:12s} {value!s:20s} {n:6,d}" + (f"   odd: {_list(names)}" * bool(names))
            )
    extents = good[["extent_r", "extent_a", "extent_s"]]
    for title, row in (("smallest", extents.min()), ("median", extents.median()), ("largest", extents.max())):
        first = "view, mm" if title == "smallest" else ""
        lines.append(f"  {first:12s} {title:9s} {row.iloc[0]:4.0f} x {row.iloc[1]:.0f} x {row.iloc[2]:.0f}")
    lines[-3] += "   (left-right, back-front, down-up)"
    for note, part in good.dropna(subset="notes").groupby("notes", sort=False):
        lines.append(f"  note, {len(part):,d} x: {note} ({_list(_name(s, v) for s, v, _ in _who(part))})")
    if unlike := unlike_the_others(good["likeness"]):
        names = [f"{_name(*good.loc[i, ['subject', 'session']])} (r = {good.loc[i, 'likeness']:.2f})" for i in unlike]
        lines.append(
            f"  odd, {len(unlike):,d} x: unlike the others, r = {good['likeness'].median():.2f} with the median image "
            f"(turned, cut off, not brain-extracted, another head?): {_list(names)}"
        )
    if good["p99"].notna().any():
        p99 = good["p99"]
        lines.append(
            f"  intensity, 99th percentile: median {p99.median():.4g}, from {p99.min():.4g} to {p99.max():.4g}; "
            f"lowest voxel of all {good['minimum'].min():.4g}"
        )
    return lines


def _doubles(volumes: pd.DataFrame, voxels: bool) -> list[str]:
    lines = []
    for image, part in volumes[volumes["image"].duplicated(keep=False)].groupby("image", sort=False):
        lines.append(f"  {image} stands in {len(part)} rows: {_list(_name(s, v) for s, v, _ in _who(part))}")
    files = volumes.drop_duplicates("image").dropna(subset="sha256")
    for _, part in files[files["sha256"].duplicated(keep=False)].groupby("sha256", sort=False):
        same = "other subjects" if part["subject"].nunique() > 1 else "one subject"
        lines.append(f"  the same content in {len(part)} files, of {same}: {_list(part['image'])}")
    if lines:
        return ["The same image more than once: find out which row is right before you split", *lines]
    return ["The same image more than once: none" + ("" if voxels else " by name; contents were not read")]


def _column(frame: pd.DataFrame, name: str, role: str) -> list[str]:
    values, n = frame[name], max(len(frame), 1)
    head = f"{role} {name}: {values.isna().sum():,d} missing ({values.isna().mean() if len(frame) else 0:.1%})"
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if values.notna().sum() == 0:
        return [f"{head}, no value at all"]
    if numeric and (values.nunique() > CLASSES or values.nunique() > n / 2):
        levels = values.quantile([0, 0.25, 0.5, 0.75, 1]).tolist()
        return [head + ", lowest {:.4g}, quartiles {:.4g} {:.4g} {:.4g}, highest {:.4g}".format(*levels)]
    counts = values.value_counts()
    lines = [f"{head}, {_list((f'{_plain(v)}: {k:,d} ({k / n:.1%})' for v, k in counts.items()), CLASSES)}"]
    if role == "target" and len(counts) == 1:
        lines.append("  only one class: there is nothing to learn")
    return lines


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _name(subject: Any, session: Any) -> str:
    return f"{subject} {session}".strip() if isinstance(session, str) else str(subject)


def _list(names: Iterable[Any], shown: int = SHOWN) -> str:
    every = [str(name) for name in names]
    return ", ".join(every[:shown]) + (f", and {len(every) - shown:,d} more" if len(every) > shown else "")
