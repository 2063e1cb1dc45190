"""OASIS-1 (cross-sectional) and OASIS-2 (longitudinal): their demographic tables and the images on disk.

OASIS-1 (Marcus et al. 2007, J Cogn Neurosci 19:1498): ``oasis_cross-sectional.csv`` or .xlsx with the columns ID, M/F,
Hand, Age, Educ, SES, MMSE, CDR, eTIV, nWBV, ASF, Delay; 436 rows of 416 people: 20 were scanned again within 90 days
(ID ..._MR2, Delay in days, N/A elsewhere). A person is the first nine letters of the ID. Educ is a code 1 to 5.
OASIS-2 (Marcus et al. 2010, J Cogn Neurosci 22:2677): ``oasis_longitudinal_demographics`` with Subject ID, MRI ID,
Group, Visit, MR Delay, M/F, Hand, Age, EDUC, SES, MMSE, CDR, eTIV, nWBV, ASF. EDUC is years of education.

MMSE and CDR define the diagnosis: as covariates for it, or for ``Group``, they leak.
"""

from __future__ import annotations

import fnmatch
import os
import re
from typing import Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.images import NIFTI, Line, Several, find_files, give, make_report, match_images, tidy
from fusionconv.tabular.textcolumn import few_rows, require_codes, require_numbers

__all__ = ["read_oasis1", "read_oasis2"]

# What the columns can hold: wide bounds that a number without its decimal point (743 for 0.743) falls out of.
_BOUNDS = {
    "Age": (0, 130), "Educ": (0, 40), "EDUC": (0, 40), "SES": (1, 5), "MMSE": (0, 30), "CDR": (0, 3),
    "eTIV": (500, 3000), "nWBV": (0.3, 1), "ASF": (0.3, 3), "Delay": (0, 1000), "MR Delay": (0, 10000),
    "Visit": (1, 20),
}  # fmt: skip
_CODES = {"M/F": ("M", "F"), "Hand": ("R", "L"), "Group": ("Nondemented", "Demented", "Converted")}
_OASIS1 = ("ID", "M/F", "Hand", "Age", "Educ", "SES", "MMSE", "CDR", "eTIV", "nWBV", "ASF", "Delay")
_OASIS2 = (
    "Subject ID", "MRI ID", "Group", "Visit", "MR Delay", "M/F", "Hand", "Age", "EDUC", "SES", "MMSE", "CDR", "eTIV",
    "nWBV", "ASF",
)  # fmt: skip
_Path = str | os.PathLike[str]


@overload
def read_oasis1(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_oasis1(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_oasis1(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read OASIS-1's table, and find the images that its IDs name.

    Args:
        table: ``oasis_cross-sectional.csv`` or .xlsx.
        images: the folder with the images, at any depth; an ID in the file's name or in the name of a folder above it
            counts. Without it ``image`` is missing in every row.
        pattern: which files are meant, where there are several of a session, such as ``"*_t88_masked_gfc.img"``.
        several: see :func:`~fusionconv.tabular.images.match_images`.
        target: the column to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        A tidy frame: ``subject`` ("OAS1_0001"), ``session`` ("MR1"), ``image``, and the table's columns except ID,
        under their own names; ``M/F`` and ``Hand`` text, all others numbers.

    Raises:
        FileNotFoundError: no such table or folder.
        TableError: as ``read_table``; an absent column, an ID of another form or twice, an unknown code, a number that
            cannot be (such as one that lost its decimal point).

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "oasis_cross-sectional.csv")
    ...     header = "ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"
    ...     _ = path.write_text(header + "\\nOAS1_0004_MR1,M,R,28,,,,,1588,0.803,1.105,N/A\\n")
    ...     frame = read_oasis1(path, target="CDR")
    >>> frame[["subject", "session", "M/F", "Age", "nWBV"]].to_dict("records")
    [{'subject': 'OAS1_0004', 'session': 'MR1', 'M/F': 'M', 'Age': 28, 'nWBV': 0.803}]
    """
    frame = _read(table, _OASIS1, "ID", r"(OAS1_\d{4})_(MR\d+)")
    return _with_images(frame, table, images, r"OAS1_\d{4}_MR\d+", pattern, several, target, report)


@overload
def read_oasis2(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_oasis2(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_oasis2(
    table: _Path,
    images: _Path | None = None,
    *,
    pattern: str = "*",
    several: Several = "none",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read OASIS-2's table, and find the images that its MRI IDs name: :func:`read_oasis1` in all but the columns.

    ``subject`` is the Subject ID ("OAS2_0001"), ``session`` the end of the MRI ID ("MR1"). The set as it is downloaded
    has ``OAS2_0001_MR1/RAW/mpr-1.nifti.img`` to ``mpr-4``, so ``pattern="mpr-1.*"`` or ``several="all"`` is needed.

    Raises:
        FileNotFoundError: no such table or folder.
        TableError: as :func:`read_oasis1`, and where Subject ID and MRI ID contradict each other.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "oasis_longitudinal.csv")
        ...     header = "Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF"
        ...     row = "OAS2_0901,OAS2_0901_MR1,Nondemented,1,0,M,R,87,14,2,27,0,1987,0.696,0.883"
        ...     _ = path.write_text(f"{header}\\n{row}\\n")
        ...     frame = read_oasis2(path, target="CDR")
        >>> frame[["subject", "session", "Age", "target"]].to_dict("records")
        [{'subject': 'OAS2_0901', 'session': 'MR1', 'Age': 87, 'target': 0}]
    """
    frame = _read(table, _OASIS2, "MRI ID", r"(OAS2_\d{4})_(MR\d+)")
    wrong = (frame["subject"] != frame["Subject ID"]).to_numpy(bool)
    if wrong.any():
        raise TableError(
            f"{table}: column 'Subject ID': expected the start of the MRI ID, got others "
            f"{few_rows(frame['Subject ID'], wrong)}; take the table from its source again"
        )
    frame = frame.drop(columns="Subject ID")
    return _with_images(frame, table, images, r"OAS2_\d{4}_MR\d+", pattern, several, target, report)


def _read(table: _Path, names: tuple[str, ...], column: str, form: str) -> pd.DataFrame:
    where = os.fspath(table)
    frame = read_table(table, numbers=False)
    require_columns(frame, names, where)
    ids = frame[column].astype(object).map(lambda v: re.fullmatch(form, v) if isinstance(v, str) else None)
    if (other := ids.isna().to_numpy(bool)).any():
        raise TableError(
            f"{where}: column {column!r}: expected ids as {'OAS1_0001_MR1' if column == 'ID' else 'OAS2_0001_MR1'}, "
            f"got others {few_rows(frame[column], other)}; is this the right table?"
        )
    frame = frame.drop(columns=column)
    frame.insert(0, "subject", [m[1] for m in ids])
    frame.insert(1, "session", [m[2] for m in ids])
    for name in frame.columns:
        if name in _BOUNDS:
            frame[name] = require_numbers(frame[name], where, low=_BOUNDS[name][0], high=_BOUNDS[name][1])
        elif name in _CODES:
            require_codes(frame[name], _CODES[name], where)
    return frame


def _with_images(
    frame: pd.DataFrame,
    table: _Path,
    images: _Path | None,
    form: str,
    pattern: str,
    several: Several,
    target: str | None,
    report: bool,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    where = os.fspath(table)
    found: list[tuple[str, str, str]] = []
    lines: list[Line] = []
    for path in find_files(images, NIFTI, what="OASIS' images") if images is not None else ():
        if not fnmatch.fnmatchcase(path.rsplit("/", 1)[-1], pattern):
            continue
        said = set(re.findall(form, path))
        image = os.path.join(os.fspath(images or ""), *path.split("/"))
        if len(said) == 1:
            subject, session = said.pop().rsplit("_", 1)
            found.append((subject, session, image))
        else:
            why = f"its path names {' and '.join(sorted(said))}" if said else "its path names no session"
            lines.append(("image without row", None, None, image, why))
    files = pd.DataFrame(found, columns=["subject", "session", "image"], dtype=object)
    matched, fits = match_images(frame, files, several=several)
    fits = fits if images is not None else make_report([])
    return give(tidy(matched, where, target), make_report(lines, fits), where, report)
