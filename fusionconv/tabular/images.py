"""Rows and image files brought together by id; what does not fit is told in a table, the same for every reader.

Every reader gives a *tidy frame*: one row per image or visit, columns ``subject``, ``session`` ("" where there is
none), ``image`` (the path as text, missing where no file was found), then the covariates, then ``target`` where asked;
a RangeIndex. With ``report=True`` it gives ``(frame, report)``; without, a :class:`~fusionconv.errors.TableWarning`
counts what the report would list. The report has the columns :data:`REPORT_COLUMNS`:

- ``kind``: ``"row without image"``, ``"image without row"``, ``"several images for a row"``,
  ``"several rows for an image"``, ``"conflicting rows"``, ``"row without subject"``, or one of
  :mod:`fusionconv.tabular.visits`;
- ``subject``, ``session``, ``image``: what it is about, missing where it is about none;
- ``reason``: the particulars.

What is ambiguous is not guessed: where several images could be a row's, the row has no image and the report has a line
for each of them (``several="all"`` gives a row for each of them instead).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular.columns import require_columns, require_names
from fusionconv.tabular.textcolumn import few_rows, settle

__all__ = [
    "NIFTI",
    "REPORT_COLUMNS",
    "Several",
    "find_files",
    "give",
    "make_report",
    "match_images",
    "require_unique",
    "tidy",
]

#: The columns of every report.
REPORT_COLUMNS: tuple[str, ...] = ("kind", "subject", "session", "image", "reason")
#: What the name of an image volume ends in; .img stands for the pair .img and .hdr (Analyze), .mnc for MINC.
NIFTI: tuple[str, ...] = (".nii.gz", ".nii", ".img", ".mnc")
Several = Literal["none", "all"]
_FIRST = ("subject", "session", "image")


def match_images(
    rows: pd.DataFrame, files: pd.DataFrame, *, several: Several = "none"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give each row the image of its subject and session.

    Args:
        rows: columns ``subject`` and ``session``, one row for each pair, and covariates.
        files: columns ``subject``, ``session`` and ``image``, and any others that say more of an image.
        several: ``"none"``: a row with several images has none, and each of them is reported; ``"all"``: the row
            stands once for each image.

    Returns:
        ``(frame, report)``: ``rows`` in their order with ``image`` and the other columns of ``files``; and what did
        not fit.

    Raises:
        TableError: a subject and session twice in ``rows``, or columns of the same name in both tables.

    >>> rows = pd.DataFrame({"subject": ["a", "b"], "session": ["", ""], "age": [61, 72]})
    >>> files = pd.DataFrame({"subject": ["a", "c"], "session": ["", ""], "image": ["a.nii", "c.nii"]})
    >>> frame, report = match_images(rows, files)
    >>> frame["image"].tolist()
    ['a.nii', nan]
    >>> report["kind"].tolist()
    ['row without image', 'image without row']
    """
    require_names([several], ["none", "all"], "way for", "several")
    require_columns(rows, ["subject", "session"], "rows")
    require_columns(files, ["subject", "session", "image"], "files")
    require_subjects(rows, "rows")
    require_subjects(files, "files")
    if both := [c for c in files.columns if c in rows.columns and c not in _FIRST]:
        raise TableError(f"rows and files: expected different columns, got {both} in both; rename them in one")
    require_unique(rows, ["subject", "session"], "rows")
    missing: list[Line] = []
    lines: list[Line] = []
    paths = files["image"].astype(object)
    again = paths.duplicated(keep=False).to_numpy(bool)
    for _, line in files[again].iterrows():
        why = "one file stands for several subjects or sessions"
        lines.append(("several rows for an image", line["subject"], line["session"], line["image"], why))
    files = files[~again]
    keys = pd.MultiIndex.from_frame(files[["subject", "session"]].astype(object))
    wanted = pd.MultiIndex.from_frame(rows[["subject", "session"]].astype(object))
    at = pd.Series(wanted.get_indexer(keys), index=files.index) if len(rows) else pd.Series(-1, index=files.index)
    subjects = set(rows["subject"])
    for subject, session, image in files.loc[at < 0, list(_FIRST)].itertuples(index=False):
        why = "the table has no row of this session" if subject in subjects else "the table has no row of this subject"
        lines.append(("image without row", subject, session, image, why))
    files, at = files[at >= 0], at[at >= 0]
    count = at.map(at.value_counts())
    if several == "none" and (many := (count > 1).to_numpy(bool)).any():
        for (subject, session, image), n in zip(
            files.loc[many, list(_FIRST)].itertuples(index=False), count[many], strict=True
        ):
            why = f"one of {n}; choose among them, or take several='all'"
            lines.append(("several images for a row", subject, session, image, why))
        ambiguous = set(at[many])
        files, at = files[~many], at[~many]
    else:
        ambiguous = set()
    found = files.drop(columns=["subject", "session"]).assign(_row=at.to_numpy())
    numbered = rows.drop(columns=["image"], errors="ignore").reset_index(drop=True)
    numbered = numbered.assign(_row=range(len(numbered)))
    frame = numbered.merge(found, on="_row", how="left", sort=False)
    absent = frame["image"].isna() & ~frame["_row"].isin(list(ambiguous))
    reasons = [not_fetched(image) for image in frame["image"].tolist()]
    for subject, session, reason in zip(frame["subject"], frame["session"], reasons, strict=True):
        if reason is not None:
            lines.append(("row without image", subject, session, None, reason))
    kept = [i if r is None else float("nan") for i, r in zip(frame["image"].tolist(), reasons, strict=True)]
    frame["image"] = pd.Series(kept, index=frame.index, dtype=object)
    for subject, session in frame.loc[absent, ["subject", "session"]].itertuples(index=False):
        missing.append(("row without image", subject, session, None, "no file of this subject and session was found"))
    return frame.drop(columns="_row"), make_report([*missing, *lines])


Line = tuple[str, Any, Any, Any, str]


def make_report(lines: Iterable[Line], *others: pd.DataFrame) -> pd.DataFrame:
    """A report of (kind, subject, session, image, reason), and of other reports behind it."""
    values = [*lines, *(line for other in others for line in other.itertuples(index=False))]
    columns = zip(*values, strict=True) if values else ([] for _ in REPORT_COLUMNS)
    return pd.DataFrame(
        {name: _texts(column) for name, column in zip(REPORT_COLUMNS, columns, strict=True)}, columns=REPORT_COLUMNS
    )


def _texts(values: Iterable[Any]) -> pd.Series[Any]:
    series = pd.Series([float("nan") if v is None else v for v in values], dtype=object)
    return series.infer_objects() if series.notna().any() else series


def tidy(frame: pd.DataFrame, where: str, target: str | None = None) -> pd.DataFrame:
    """``frame`` with subject, session and image first and the column ``target`` last, under that name.

    Raises:
        TableError: ``target`` is no column, or there is a second column of that name.
    """
    if target is not None:
        require_columns(frame, [target], where)
        if target in _FIRST:
            raise TableError(f"{where}: expected a covariate as target, got {target!r}; name another column")
        if target != "target" and "target" in frame.columns:
            raise TableError(f"{where}: expected one target, got {target!r} and a column 'target'; rename the column")
    rest = [c for c in frame.columns if c not in (*_FIRST, target)]
    ordered = frame[[*_FIRST, *rest, *([target] if target else [])]].rename(columns={target: "target"})
    ordered = settle(ordered.reset_index(drop=True))
    if ordered["image"].isna().all():
        ordered["image"] = ordered["image"].astype(object)  # not float64, although there is nothing but NaN
    return ordered


def require_unique(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise where two rows have the same values in ``names``."""
    again = frame.duplicated(list(names), keep=False).to_numpy(bool)
    if again.any():
        shown = [
            f"{label!r}: {' '.join(str(v) for v in values)!r}"
            for label, *values in frame.loc[again, list(names)].iloc[:4].itertuples()
        ]
        raise TableError(
            f"{where}: expected one row for each {' and '.join(names)}, got several in {again.sum()} of {len(frame)} "
            f"rows, first at {', '.join(shown)}; which one is right is not guessed: remove the others"
        )


def require_subjects(frame: pd.DataFrame, where: str) -> None:
    """Raise where a row does not say whose it is."""
    if (nobody := frame["subject"].isna().to_numpy(bool)).any():
        raise TableError(
            f"{where}: expected a subject in every row, got none {few_rows(frame['subject'], nobody)}; without it a "
            "split cannot keep a person on one side: fill it in or drop these rows"
        )


def give(
    frame: pd.DataFrame, report: pd.DataFrame, where: str, wanted: bool
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """What a reader returns: ``(frame, report)`` where the report is wanted, else the frame, with a warning."""
    if wanted:
        return frame, report
    if len(report):
        counts = "; ".join(f"{n} x {kind}" for kind, n in report["kind"].value_counts(sort=False).items())
        warnings.warn(f"{where}: {counts}. report=True lists them", TableWarning, stacklevel=3)
    return frame


def find_files(root: str | os.PathLike[str], suffixes: Collection[str], *, what: str) -> Iterator[str]:
    """Paths relative to ``root``, with /, of the files under it that end in one of ``suffixes``; links to folders are
    not followed and hidden ones not entered. Links to files that are not there are given too: see :func:`not_fetched`.

    Raises:
        FileNotFoundError: ``root`` is no folder.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"expected the folder of {what} at {root}, got {_came(root)}; give the folder itself")
    ends = tuple(suffixes)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        inner = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in sorted(names):
            if name.endswith(ends) and not name.startswith("."):
                yield name if inner == "." else f"{inner}/{name}"


def not_fetched(path: object) -> str | None:
    """Why the content of ``path`` is not there, where git-annex or DataLad has not fetched it; else None.

    That is a link that leads nowhere, a small text file that names the content, or a folder that holds one of these.
    """
    if not isinstance(path, str | Path):
        return None
    inside = [os.fspath(path)]
    if os.path.isdir(path):
        inside = [str(entry) for entry in Path(path).iterdir() if not entry.is_dir()]
    for file in inside:
        if _is_placeholder(file):
            return (
                f"{file} is not fetched: it stands for a file that is not there. With DataLad or git-annex, "
                f"`datalad get {os.path.basename(file)}` or `git annex get {os.path.basename(file)}` in its folder"
            )
    return None


def _is_placeholder(file: str) -> bool:
    if not os.path.exists(file):
        return os.path.islink(file)
    if os.path.getsize(file) > 1000:
        return False
    with open(file, "rb") as stream:
        return stream.read(15) == b"/annex/objects/"


def _came(path: str | os.PathLike[str]) -> str:
    return "a file" if Path(path).is_file() else "no such folder"
