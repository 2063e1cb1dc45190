"""read_ixi: the IXI table (IXI.xls or an export of it) and its files, IXI002-Guys-0828-T1.nii.gz.

The columns are those of IXI.xls (brain-development.org): IXI_ID, ``SEX_ID (1=m, 2=f)``, HEIGHT, WEIGHT, ETHNIC_ID,
MARITAL_ID, OCCUPATION_ID, QUALIFICATION_ID, DOB, DATE_AVAILABLE, STUDY_DATE, AGE, in the sheet ``Table``. A file's name
says the subject, the hospital (Guys, HH or IOP), a number, and the modality. What people found in the table, and public
code that reads it does too: a 0 in sex, height, weight or a code means missing, and some IXI_IDs are in two rows,
most of them a full row and an emptied copy, a few of them with different ages.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from typing import Any, Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.images import Line, Several, find_files, give, make_report, match_images, tidy
from fusionconv.tabular.textcolumn import few_rows, require_codes, require_dates, require_numbers

__all__ = ["read_ixi"]

_SEX = "SEX_ID (1=m, 2=f)"
_ZERO_IS_MISSING = (_SEX, "HEIGHT", "WEIGHT", "ETHNIC_ID", "MARITAL_ID", "OCCUPATION_ID", "QUALIFICATION_ID")
# What the columns can hold: wide bounds that a lost decimal point, a sign or another unit falls out of; in cm and kg.
_BOUNDS = {"AGE": (0, 130), "HEIGHT": (50, 260), "WEIGHT": (10, 400)}
_DATES = ("DOB", "STUDY_DATE")
_FILE = re.compile(r"IXI(\d+)-([A-Za-z]+)-(\d+)-([A-Za-z0-9]+)(?:-\d+)?\.nii(?:\.gz)?")
_Path = str | os.PathLike[str]


@overload
def read_ixi(
    table: _Path,
    images: _Path | None = None,
    *,
    modality: str = "T1",
    several: Several = "none",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_ixi(
    table: _Path,
    images: _Path | None = None,
    *,
    modality: str = "T1",
    several: Several = "none",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_ixi(
    table: _Path,
    images: _Path | None = None,
    *,
    modality: str = "T1",
    several: Several = "none",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read IXI's table, one row for each IXI_ID, and find the images of one modality.

    Args:
        table: IXI.xls (pandas needs xlrd for it), or an .xlsx or CSV of its sheet ``Table``.
        images: the folder with the images, at any depth. Without it ``image`` is missing in every row.
        modality: T1, T2, PD, MRA or DTI (of which a subject has many files: ``several="all"``).
        several: see :func:`~fusionconv.tabular.images.match_images`.
        target: the column to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        A tidy frame: ``subject`` ("IXI002"), ``session`` "", ``image``, ``sex`` ("M" or "F"), the table's other columns
        as numbers (DOB and STUDY_DATE as dates), and with images ``site`` (Guys, HH, IOP) from the file's name. Rows of
        one IXI_ID become one; where they differ in a column it is missing, and the report has a line of the kind
        ``"conflicting rows"``.

    Raises:
        FileNotFoundError: no such table or folder.
        TableError: as ``read_table``; an absent column, an IXI_ID that is no number, an unknown sex code, or
            an AGE, HEIGHT (cm) or WEIGHT (kg) that nobody has.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "IXI.csv")
    ...     _ = path.write_text('IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,AGE\\n2,2,164,35.8\\n2,0,0,\\n12,1,175,38.78\\n')
    ...     frame = read_ixi(path)
    >>> frame[["subject", "sex", "HEIGHT", "AGE"]].to_dict("records")[0]
    {'subject': 'IXI002', 'sex': 'F', 'HEIGHT': 164.0, 'AGE': 35.8}
    """
    where = os.fspath(table)
    frame = read_table(table, numbers=False, sheet="Table" if _is_workbook(table) else None)
    require_columns(frame, ["IXI_ID", _SEX, "AGE"], where)
    numbers = require_numbers(frame["IXI_ID"], where, low=1, high=99999)
    if (nobody := (numbers.isna() | (numbers % 1 != 0)).to_numpy(bool)).any():
        raise TableError(
            f"{where}: column 'IXI_ID': expected a whole number in every row, got others "
            f"{few_rows(frame['IXI_ID'], nobody)}; fill it in or drop these rows"
        )
    frame = frame.drop(columns=["IXI_ID"])
    for name in frame.columns:
        if name in _DATES:
            frame[name] = require_dates(frame[name], where)
        elif name != "DATE_AVAILABLE":
            frame[name] = require_numbers(frame[name], where)
        if name in _ZERO_IS_MISSING:
            frame[name] = frame[name].where(frame[name] != 0)
        if name in _BOUNDS:
            frame[name] = require_numbers(frame[name], where, low=_BOUNDS[name][0], high=_BOUNDS[name][1])
    require_codes(frame[_SEX], (1, 2), where)
    frame[_SEX] = frame[_SEX].map({1: "M", 2: "F"})
    frame = frame.rename(columns={_SEX: "sex"})
    frame.insert(0, "subject", [f"IXI{int(n):03d}" for n in numbers])
    frame.insert(1, "session", "")
    frame, lines = _one_row_each(frame)
    files = _files(images, modality) if images is not None else None
    nothing = pd.DataFrame({"subject": [], "session": [], "image": []}, dtype=object)
    matched, fits = match_images(frame, nothing if files is None else files, several=several)
    fits = fits if files is not None else make_report([])
    return give(tidy(matched, where, target), make_report(lines, fits), where, report)


def _is_workbook(table: _Path) -> bool:
    """Whether this is an Excel file with a sheet called Table, as IXI.xls itself is."""
    try:
        with pd.ExcelFile(table) as book:
            return "Table" in book.sheet_names
    except (ImportError, OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False  # read_table tells what it is


def _one_row_each(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Line]]:
    """The rows of one subject as one: what one of them knows is known, what they tell differently is missing."""
    doubled = frame["subject"].duplicated(keep=False)
    lines: list[Line] = []
    merged = []
    for subject, rows in frame[doubled].groupby("subject", sort=False):
        one: dict[str, Any] = {}
        for name in frame.columns:
            known = rows[name].dropna().drop_duplicates()
            one[name] = known.iloc[0] if len(known) == 1 else math.nan
            if len(known) > 1:
                said = " and ".join(str(v) for v in known)
                lines.append(("conflicting rows", subject, "", None, f"{name}: {said}; it is missing now"))
        merged.append({"_at": rows.index[0], **one})
    if not merged:
        return frame, lines
    ones = pd.DataFrame(merged).set_index("_at")
    for name in _DATES:
        if name in ones.columns:
            ones[name] = pd.to_datetime(ones[name]).astype("datetime64[ns]")
    together = pd.concat([frame[~doubled], ones]).sort_index(kind="stable")
    return together.reset_index(drop=True), lines


def _files(images: _Path, modality: str) -> pd.DataFrame:
    found = []
    for path in find_files(images, (".nii.gz", ".nii"), what="IXI's images"):
        said = _FILE.fullmatch(path.rsplit("/", 1)[-1])
        if said and said[4].upper() == modality.upper():
            image = os.path.join(os.fspath(images), *path.split("/"))
            found.append((f"IXI{int(said[1]):03d}", "", image, said[2]))
    return pd.DataFrame(found, columns=["subject", "session", "image", "site"], dtype=object)
