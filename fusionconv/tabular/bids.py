"""read_bids: a BIDS data set (participants, sessions, scans and files), or Clinica's output, as a tidy frame.

The layout is the Brain Imaging Data Structure's (bids-specification.readthedocs.io, "Modality agnostic files"):
``participants.tsv`` with ``participant_id``; in each subject's folder an optional ``sub-<label>_sessions.tsv`` with
``session_id``; beside the images an optional ``sub-<label>[_ses-<label>]_scans.tsv`` with ``filename``; tabs between
columns, ``n/a`` for a missing value. File names are ``key-value`` entities and a suffix joined by ``_``.
Clinica's CAPS puts ``subjects/<sub>/<ses>/t1_linear/`` under its root, with names such as
``sub-ADNI027S0074_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz`` (from Clinica's documentation of
t1-linear); its tables are those of the BIDS folder that it was made from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.images import (
    Line,
    Several,
    find_files,
    give,
    make_report,
    match_images,
    require_subjects,
    require_unique,
    tidy,
)
from fusionconv.tabular.textcolumn import infer_numbers

__all__ = ["Entities", "find_bids", "images_folder", "read_bids"]

Entities = Mapping[str, str | int | None]


@overload
def read_bids(
    root: str | os.PathLike[str],
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    tables: str | os.PathLike[str] | None = None,
    several: Several = "none",
    decimal: str = ".",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_bids(
    root: str | os.PathLike[str],
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    tables: str | os.PathLike[str] | None = None,
    several: Several = "none",
    decimal: str = ".",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_bids(
    root: str | os.PathLike[str],
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    tables: str | os.PathLike[str] | None = None,
    several: Several = "none",
    decimal: str = ".",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read a BIDS data set: a row for each participant, or each session where there are any.

    Args:
        root: the folder with ``sub-*/``, or a CAPS with ``subjects/sub-*/``.
        suffix: the last part of the names of the images that are wanted.
        datatype: the folder that they are in, such as ``"anat"`` or ``"t1_linear"``; any if left out.
        entities: what the names must say, such as ``{"run": 1, "desc": "Crop"}``; ``None`` as a value: must not say.
        tables: the folder with ``participants.tsv``, if it is not ``root``.
        several: ``"all"`` for a row for each of several images of a session, see
            :func:`~fusionconv.tabular.images.match_images`.
        decimal: ``","`` where numbers have decimal commas.
        target: the column to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        A tidy frame. ``subject`` and ``session`` are BIDS' own, ``"sub-01"`` and ``"ses-M006"``. Covariates are the
        columns of ``participants.tsv`` and ``sessions.tsv`` (of one name in both, the visit's is meant and the other
        is called ``<name>_participant``, as are its columns ``subject``, ``session`` and ``image``), then
        ``scans.tsv``'s (``<name>_scan`` if taken).

    Raises:
        FileNotFoundError: no such folder, or no ``participants.tsv``.
        TableError: a table is none, without its id column, or with a participant or session twice.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anat = pathlib.Path(folder, "sub-01", "anat")
    ...     anat.mkdir(parents=True)
    ...     _ = (anat / "sub-01_T1w.nii.gz").write_bytes(b"")
    ...     table = "participant_id\\tage\\nsub-01\\t39\\nsub-02\\tn/a\\n"
    ...     _ = pathlib.Path(folder, "participants.tsv").write_text(table)
    ...     frame, report = read_bids(folder, report=True)
    >>> frame[["subject", "age"]].to_dict("list"), frame["image"].notna().tolist()
    ({'subject': ['sub-01', 'sub-02'], 'age': [39.0, nan]}, [True, False])
    >>> report[["kind", "subject"]].to_dict("records")
    [{'kind': 'row without image', 'subject': 'sub-02'}]
    """
    where = os.fspath(root)
    images = images_folder(root)
    home = Path(root if tables is None else tables)
    files, lines = find_bids(images, suffix=suffix, datatype=datatype, entities=entities)
    people = _table(home / "participants.tsv", "participant_id", "sub-", "subject", decimal=decimal)
    require_unique(people, ["subject"], str(home / "participants.tsv"))
    rows = _with_sessions(people, home, files, decimal)
    files, missed = _with_scans(files, images, decimal)
    taken = {c: f"{c}_scan" for c in files.columns if c in rows.columns and c not in ("subject", "session", "image")}
    frame, matched = match_images(rows, files.rename(columns=taken), several=several)
    return give(tidy(frame, where, target), make_report([*missed, *lines], matched), where, report)


def images_folder(root: str | os.PathLike[str]) -> Path:
    """The folder with ``sub-*/`` in it: of a CAPS ``subjects/``, of BIDS the root itself."""
    return Path(root, "subjects") if Path(root, "subjects").is_dir() else Path(root)


def find_bids(
    root: str | os.PathLike[str],
    *,
    suffix: str,
    datatype: str | None = None,
    entities: Entities | None = None,
) -> tuple[pd.DataFrame, list[Line]]:
    """The images under ``root`` whose names say what is asked: subject, session, image; and those in a wrong folder.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     anat = pathlib.Path(folder, "sub-01", "ses-M006", "anat")
    ...     anat.mkdir(parents=True)
    ...     for run in "12":
    ...         _ = (anat / f"sub-01_ses-M006_run-0{run}_T1w.nii.gz").write_bytes(b"")
    ...     files, wrong = find_bids(folder, suffix="T1w", entities={"run": 2})
    >>> files[["subject", "session"]].to_dict("records"), len(wrong)
    ([{'subject': 'sub-01', 'session': 'ses-M006'}], 0)
    """
    wanted = {str(k): v for k, v in (entities or {}).items()}
    found, lines = [], list[Line]()
    for path in find_files(root, (f"{suffix}.nii.gz", f"{suffix}.nii"), what="the data set (sub-*/)"):
        *folders, name = path.split("/")
        stem = re.sub(r"\.nii(\.gz)?$", "", name)
        *pairs, last = stem.split("_")
        said = dict(p.split("-", 1) for p in pairs if "-" in p)
        if last != suffix or "sub" not in said or not folders or not folders[0].startswith("sub-"):
            continue
        if datatype is not None and folders[-1] != datatype:
            continue
        if not all(_says(said.get(key), value) for key, value in wanted.items()):
            continue
        subject, session = f"sub-{said['sub']}", f"ses-{said['ses']}" if "ses" in said else ""
        image = os.path.join(root, *folders, name)
        in_session = next((f for f in folders[1:] if f.startswith("ses-")), "")
        if (subject, session) != (folders[0], in_session):
            lies = f"{folders[0]}/{in_session}".rstrip("/")
            why = (
                f"its name says {subject} {session}".rstrip() + f", its folder is {lies}: which is right is not guessed"
            )
            lines.append(("image without row", subject, session, image, why))
            continue
        found.append((subject, session, image))
    return pd.DataFrame(found, columns=["subject", "session", "image"], dtype=object), lines


def _says(said: str | None, value: str | int | None) -> bool:
    if said is None or value is None:
        return said is None and value is None
    return said == str(value) or (said.isdecimal() and str(value).isdecimal() and int(said) == int(value))


def _table(
    path: Path, column: str, prefix: str, name: str, *, numbers: bool = True, decimal: str = "."
) -> pd.DataFrame:
    """One of BIDS' tables with its id column as ``name``, each id with its prefix."""
    frame = read_table(path, sep="\t", text=[column] if numbers else [], numbers=numbers, decimal=decimal)
    require_columns(frame, [column], str(path))
    taken = [c for c in ("subject", "session", "image") if c in frame.columns]
    if name == "subject":
        frame = frame.rename(columns={c: f"{c}_participant" for c in taken})
        require_columns(frame, [f"{c}_participant" for c in taken], str(path))
    elif taken:
        raise TableError(f"{path}: expected {taken} to be free for the tidy frame's own columns; rename them there")
    frame = frame.rename(columns={column: name})
    require_subjects(frame.rename(columns={name: "subject"}), str(path))
    frame[name] = [v if v.startswith(prefix) else prefix + v for v in frame[name].astype(object)]
    return frame


def _with_sessions(people: pd.DataFrame, home: Path, files: pd.DataFrame, decimal: str) -> pd.DataFrame:
    """A row for each session: those of sessions.tsv, else those that have a folder, else one without a name."""
    tables = []
    for subject in people["subject"]:
        path = home / subject / f"{subject}_sessions.tsv"
        if path.is_file():
            table = _table(path, "session_id", "ses-", "session", numbers=False)
            table.insert(0, "subject", subject)
            require_unique(table, ["session"], str(path))
            tables.append(table)
    listed = (
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"subject": [], "session": []}, dtype=object)
    )
    told = set(listed["subject"])
    on_disk = files.loc[~files["subject"].isin(list(told)), ["subject", "session"]].drop_duplicates()
    rest = people[["subject"]][~people["subject"].isin(list(told))].merge(on_disk, on="subject", how="left")
    rest["session"] = rest["session"].astype(object).where(rest["session"].notna(), "")
    order = {subject: i for i, subject in enumerate(people["subject"])}
    both = pd.concat([listed, rest], ignore_index=True)
    both = both.iloc[both["subject"].map(order).argsort(kind="stable")].reset_index(drop=True)
    both = infer_numbers(both, f"{home}: the sessions.tsv files", text=["subject", "session"], decimal=decimal)
    twice = {c: f"{c}_participant" for c in people.columns if c != "subject" and c in both.columns}
    return both.merge(people.rename(columns=twice), on="subject", how="left", sort=False)


def _with_scans(files: pd.DataFrame, images: Path, decimal: str) -> tuple[pd.DataFrame, list[Line]]:
    """The columns of scans.tsv beside each file, and the files that a scans.tsv lists and that are not there."""
    lines: list[Line] = []
    tables = []
    for subject, session in files[["subject", "session"]].drop_duplicates().itertuples(index=False):
        folder = images / subject / session if session else images / subject
        path = folder / f"{subject}{f'_{session}' if session else ''}_scans.tsv"
        if not path.is_file():
            continue
        table = read_table(path, sep="\t", numbers=False)
        require_columns(table, ["filename"], str(path))
        table["image"] = [os.path.join(folder, *str(name).split("/")) for name in table.pop("filename")]
        require_unique(table, ["image"], str(path))
        for image in table["image"]:
            if not os.path.isfile(image) and not os.path.islink(image):
                lines.append(("row without image", subject, session, None, f"{path.name} lists {image}: no such file"))
        tables.append(table)
    if not tables:
        return files, lines
    every = pd.concat(tables, ignore_index=True)
    scans = infer_numbers(every, f"{images}: the scans.tsv files", text=["image"], decimal=decimal)
    if taken := [c for c in ("subject", "session") if c in scans.columns]:
        raise TableError(f"{images}: scans.tsv: expected {taken} to be free for the tidy frame; rename the columns")
    return files.merge(scans, on="image", how="left", sort=False), lines
