"""ADNI: ADNIMERGE.csv as a table of visits, joined to images in LONI's tree or in BIDS after Clinica.

ADNIMERGE has a row for each subject (PTID) and visit (VISCODE: bl, m03, m06, m12, ...). Its codes, as documented in its
dictionary: PTGENDER Male/Female; PTEDUCAT years; APOE4 the number of alleles, 0 to 2; DX_bl CN, SMC, EMCI, LMCI, AD; DX
CN, MCI, Dementia (earlier editions: NL for CN, and "MCI to Dementia" at the visit of a change, read as the later one);
AGE in years at *baseline*; ABETA, TAU and PTAU as text, because some are beyond what the assay measures (">1700",
"<8"). Missing is an empty field, NA, or -4; but RAVLT_learning, RAVLT_forgetting, RAVLT_perc_forgetting and mPACC are
differences, in which -4 is a score like any other.

MMSE, CDRSB, ADAS11, ADAS13, ADASQ4, FAQ, MOCA, mPACC, Ecog and LDELTOTAL define or follow the diagnosis: as covariates
for DX they leak.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import numpy as np
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.columns import require_columns, require_names
from fusionconv.tabular.images import require_subjects, require_unique, tidy
from fusionconv.tabular.text import read_cell
from fusionconv.tabular.textcolumn import few_rows, infer_numbers, require_codes, require_dates, require_numbers

__all__ = ["Censored", "read_adnimerge", "viscode_months"]

Censored = Literal["text", "clip"]
_NEEDED = ("PTID", "VISCODE", "EXAMDATE", "EXAMDATE_bl", "AGE", "PTGENDER", "PTEDUCAT", "APOE4", "DX_bl", "DX")
_BOUNDED = ("ABETA", "TAU", "PTAU")  # and these at baseline, with _bl
_DIFFERENCES = ("RAVLT_learning", "RAVLT_forgetting", "RAVLT_perc_forgetting", "mPACCdigit", "mPACCtrailsB")
_TEXT = ("PTID", "VISCODE", "COLPROT", "ORIGPROT", "SITE", "IMAGEUID", "IMAGEUID_bl", "update_stamp")
_DX = {"NL": "CN", "AD": "Dementia"}
_DX_BL = ("CN", "SMC", "EMCI", "LMCI", "MCI", "AD")


def read_adnimerge(path: str | os.PathLike[str], *, censored: Censored = "text") -> pd.DataFrame:
    """Read ADNIMERGE.csv: a row for each visit.

    Args:
        path: ADNIMERGE.csv, or a table with its columns.
        censored: what becomes of ABETA, TAU and PTAU (and their ``_bl``). ``"text"``: they stay text, ">1700" and all,
            for an encoder that knows such values. ``"clip"``: they become numbers, a bound taken as the value, and
            ``ABETA_censored`` says which (-1 below, 1 above, 0 measured, missing where the value is).

    Returns:
        A tidy frame: ``subject`` (PTID), ``session`` (VISCODE), ``image`` (missing), ``age``, the age *at the visit*,
        AGE + (EXAMDATE - EXAMDATE_bl) / 365.25, missing where a date is; then ADNIMERGE's columns under their own
        names. EXAMDATE and EXAMDATE_bl are datetime64, SITE and the IMAGEUIDs text, measures numbers. AGE is that at
        baseline.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: as ``read_table``; an absent column, an unknown code, a number or date that is none, a subject and
            visit twice (rows that are alike throughout count once), or an AGE that grows with the visits.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "ADNIMERGE.csv")
    ...     header = "PTID,VISCODE,EXAMDATE,EXAMDATE_bl,AGE,PTGENDER,PTEDUCAT,APOE4,DX_bl,DX,ABETA"
    ...     row = "027_S_0074,m12,2007-01-11,2006-01-10,74.3,Male,16,1,LMCI,MCI,>1700"
    ...     _ = path.write_text(header + "\\n" + row + "\\n")
    ...     frame = read_adnimerge(path, censored="clip")
    >>> frame[["subject", "session", "age", "ABETA", "ABETA_censored"]].round(3).to_dict("records")
    [{'subject': '027_S_0074', 'session': 'm12', 'age': 75.302, 'ABETA': 1700, 'ABETA_censored': 1.0}]
    """
    require_names([censored], ["text", "clip"], "way for", "censored")
    where = os.fspath(path)
    frame = read_table(path, numbers=False)
    require_columns(frame, _NEEDED, where)
    bounded = [c for stem in _BOUNDED for c in (stem, f"{stem}_bl") if c in frame.columns]
    for name in frame.columns:
        if not name.removesuffix("_bl").startswith(_DIFFERENCES) and name not in _TEXT:
            codes = [v for v in frame[name].dropna().unique() if re.fullmatch(r"[-\u2212]4(?:\.0*)?", v)]
            frame[name] = frame[name].where(~frame[name].isin(codes))
    frame = frame.drop_duplicates().reset_index(drop=True)
    require_subjects(frame.rename(columns={"PTID": "subject"}), where)
    require_unique(frame, ["PTID", "VISCODE"], where)

    for name, high in (("AGE", 130), ("PTEDUCAT", 40), ("APOE4", 2)):
        frame[name] = require_numbers(frame[name], where, low=0, high=high)
    require_codes(frame["APOE4"], (0, 1, 2), where)
    require_codes(frame["PTGENDER"], ("Male", "Female"), where)
    require_codes(frame["DX_bl"], _DX_BL, where)
    later = frame["DX"].astype(object).map(lambda v: v.split(" to ")[-1] if isinstance(v, str) else v)
    later = later.map(lambda v: _DX.get(v, v))
    unknown = later.notna() & ~later.isin(["CN", "MCI", "Dementia"])
    require_codes(frame["DX"].where(unknown), ("CN", "MCI", "Dementia"), where)
    frame["DX"] = later
    for name in ("EXAMDATE", "EXAMDATE_bl"):
        frame[name] = require_dates(frame[name], where, month_first=True)
    _require_baseline_age(frame, where)
    for name in bounded:
        value, beyond = _bounds(frame[name], where)
        if censored == "clip":
            frame[name], frame[f"{name}_censored"] = value, beyond
    kept = [*_TEXT, "PTGENDER", "DX_bl", "DX", *bounded]
    frame = infer_numbers(frame, where, text=kept)

    years = (frame["EXAMDATE"] - frame["EXAMDATE_bl"]).dt.days / 365.25
    first = {
        "subject": frame.pop("PTID"),
        "session": frame.pop("VISCODE").fillna(""),
        "image": pd.Series(np.nan, index=frame.index, dtype=object),
        "age": frame["AGE"] + years,
    }
    return tidy(pd.DataFrame({**first, **frame}), where)


def viscode_months(code: str) -> int | None:
    """Months since baseline of a VISCODE or of a session of Clinica, None if it is another kind of visit.

    >>> [viscode_months(c) for c in ("bl", "m06", "m120", "ses-M000", "ses-M06", "sc")]
    [0, 6, 120, 0, 6, None]
    """
    if code == "bl":
        return 0
    said = re.fullmatch(r"(?:m|ses-M)(\d+)", code)
    return int(said[1]) if said else None


def _require_baseline_age(frame: pd.DataFrame, where: str) -> None:
    """AGE is the same at each visit of a subject; if it grows, it is the age at the visit and must not grow again."""
    ages = frame.groupby("PTID")["AGE"]
    grown = ((ages.transform("max") - ages.transform("min")) > 1).to_numpy(bool)
    if grown.any():
        raise TableError(
            f"{where}: column 'AGE': expected the age at baseline, the same in all rows of a subject, got an age that "
            f"differs by more than a year {few_rows(frame['AGE'], grown)}; it may be the age at the visit, to which no "
            "time may be added: take ADNIMERGE.csv itself"
        )


def _bounds(column: pd.Series[Any], where: str) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """The numbers of a column with bounds in it, and -1 where one is an upper bound ("<8"), 1 a lower, 0 neither."""
    cells = [read_cell(v) if isinstance(v, str) else None for v in column.astype(object)]
    sign = pd.Series([np.nan if c is None else float(c.side) for c in cells], index=column.index)
    values = [str(c.number) if c is not None and c.shape == "bound" else v for c, v in zip(cells, column, strict=True)]
    plain = pd.Series(values, index=column.index, name=column.name, dtype=object)
    return require_numbers(plain, where, low=0), sign
