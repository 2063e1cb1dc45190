"""read_adni_loni and read_adni_bids: ADNIMERGE's visits with the images of a LONI download or of Clinica's BIDS."""

from __future__ import annotations

import os
import re
from typing import Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.adni import Censored, read_adnimerge, viscode_months
from fusionconv.tabular.bids import Entities, find_bids, images_folder
from fusionconv.tabular.images import Line, Several, give, make_report, match_images, tidy
from fusionconv.tabular.loni import find_loni, read_loni_search
from fusionconv.tabular.visits import match_visits

__all__ = ["read_adni_bids", "read_adni_loni"]

_Path = str | os.PathLike[str]


@overload
def read_adni_loni(
    table: _Path,
    images: _Path,
    search: _Path | None = None,
    *,
    tolerance_days: float = 90,
    description: str | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_adni_loni(
    table: _Path,
    images: _Path,
    search: _Path | None = None,
    *,
    tolerance_days: float = 90,
    description: str | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_adni_loni(
    table: _Path,
    images: _Path,
    search: _Path | None = None,
    *,
    tolerance_days: float = 90,
    description: str | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Give each visit of ADNIMERGE the image that was made nearest to it.

    An image's date is the Acq Date of the search CSV, else the date of its folder; it belongs to the subject's visit
    with the nearest EXAMDATE (:func:`~fusionconv.tabular.visits.match_visits`). The visit names of the search CSV are
    not used: "sc" of ADNI1 has no row in ADNIMERGE, and later phases have sentences there.

    Args:
        table: ADNIMERGE.csv, see :func:`~fusionconv.tabular.adni.read_adnimerge`.
        images: the download, see :func:`~fusionconv.tabular.loni.find_loni`.
        search: the CSV of the search or collection. With it only its images count, found by their ids.
        tolerance_days: how far image and visit may be apart. Visits are half a year apart or more, so 90 days keep to
            the nearer half.
        description: a regular expression; only images whose description (without ``search``: the name of their series)
            has it count, such as ``"MPR.*Scaled"``.
        censored: as in ``read_adnimerge``.
        several: a visit often has several images, repeats and processed copies: narrow ``description`` down to one, or
            take ``"all"``. See :func:`~fusionconv.tabular.images.match_images`.
        target: the column to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        The tidy frame of ``read_adnimerge`` with ``image``, and behind the covariates ``image_id``, ``image_date``,
        ``description`` and ``days_apart`` (image minus visit).

    Raises:
        FileNotFoundError: no such table, CSV or folder.
        TableError: as ``read_adnimerge``, ``read_loni_search`` and ``match_visits``.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = pathlib.Path(folder, "ADNIMERGE.csv")
        ...     header = "PTID,VISCODE,EXAMDATE,EXAMDATE_bl,AGE,PTGENDER,PTEDUCAT,APOE4,DX_bl,DX"
        ...     row = "027_S_0074,bl,2006-01-10,2006-01-10,74.3,Male,16,1,LMCI,MCI"
        ...     _ = table.write_text(f"{header}\\n{row}\\n")
        ...     place = pathlib.Path(folder, "ADNI", "027_S_0074", "MPR", "2006-01-17_10_30_00.0", "S12345")
        ...     place.mkdir(parents=True)
        ...     (place / "ADNI_027_S_0074_MR_MPR_Br_20061217_S12345_I34567.nii").touch()
        ...     frame = read_adni_loni(table, pathlib.Path(folder, "ADNI"))
        >>> frame[["subject", "session", "image_id", "days_apart"]].to_dict("records")
        [{'subject': '027_S_0074', 'session': 'bl', 'image_id': 'I34567', 'days_apart': 7.0}]
    """
    where = os.fspath(table)
    visits = read_adnimerge(table, censored=censored)
    files = find_loni(images).rename(columns={"series": "description"})
    lines: list[Line] = []
    if search is not None:
        files, lines = _searched(read_loni_search(search), files, description)
    elif description is not None:
        files = files[files["description"].astype(object).map(lambda v: _has(v, description))]
    dates = visits[["subject", "session"]].assign(date=visits["EXAMDATE"])
    matched, far = match_visits(files.assign(session=""), dates, tolerance_days=tolerance_days)
    if several == "none":
        far = far[far["kind"] != "several images for a visit"]  # match_images tells them
    matched = matched[matched["visit"] >= 0]
    matched["session"] = visits["session"].to_numpy()[matched["visit"]]
    found = matched[["subject", "session", "image", "image_id", "date", "description", "days_apart"]]
    frame, fits = match_images(visits, found.rename(columns={"date": "image_date"}), several=several)
    return give(tidy(frame, where, target), make_report(lines, far, fits), where, report)


@overload
def read_adni_bids(
    table: _Path,
    images: _Path,
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: Literal[False] = False,
) -> pd.DataFrame: ...
@overload
def read_adni_bids(
    table: _Path,
    images: _Path,
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: Literal[True],
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_adni_bids(
    table: _Path,
    images: _Path,
    *,
    suffix: str = "T1w",
    datatype: str | None = None,
    entities: Entities | None = None,
    censored: Censored = "text",
    several: Several = "none",
    target: str | None = None,
    report: bool = False,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Give each visit of ADNIMERGE its image in the BIDS or CAPS folder that Clinica made of ADNI.

    ``sub-ADNI027S0074`` is PTID 027_S_0074, ``ses-M006`` (in older versions ``ses-M06``) is VISCODE m06, ``ses-M000``
    is bl. Clinica writes tables of its own as well, which :func:`~fusionconv.tabular.bids.read_bids` reads.

    Args:
        table: ADNIMERGE.csv, see :func:`~fusionconv.tabular.adni.read_adnimerge`.
        images: the folder with ``sub-ADNI*/``, or a CAPS with ``subjects/sub-ADNI*/``.
        suffix, datatype, entities: which images, see :func:`~fusionconv.tabular.bids.read_bids`; the cropped images of
            t1-linear are ``datatype="t1_linear", entities={"desc": "Crop"}``.
        censored: as in ``read_adnimerge``.
        several: see :func:`~fusionconv.tabular.images.match_images`.
        target: the column to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        The tidy frame of ``read_adnimerge`` with ``image``.

    Raises:
        FileNotFoundError: no such table or folder.
        TableError: as ``read_adnimerge``.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table, scan = pathlib.Path(folder, "ADNIMERGE.csv"), "sub-ADNI027S0074_ses-M000_T1w.nii.gz"
        ...     header = "PTID,VISCODE,EXAMDATE,EXAMDATE_bl,AGE,PTGENDER,PTEDUCAT,APOE4,DX_bl,DX"
        ...     row = "027_S_0074,bl,2006-01-10,2006-01-10,74.3,Male,16,1,LMCI,MCI"
        ...     _ = table.write_text(f"{header}\\n{row}\\n")
        ...     place = pathlib.Path(folder, "bids", "sub-ADNI027S0074", "ses-M000", "anat")
        ...     place.mkdir(parents=True)
        ...     (place / scan).touch()
        ...     frame = read_adni_bids(table, pathlib.Path(folder, "bids"))
        >>> frame["subject"][0], frame["session"][0], pathlib.Path(frame["image"][0]).name
        ('027_S_0074', 'bl', 'sub-ADNI027S0074_ses-M000_T1w.nii.gz')
    """
    where = os.fspath(table)
    visits = read_adnimerge(table, censored=censored)
    months = [viscode_months(code) for code in visits["session"]]
    codes = {(s, m): code for s, m, code in zip(visits["subject"], months, visits["session"], strict=True)}
    files, lines = find_bids(images_folder(images), suffix=suffix, datatype=datatype, entities=entities)
    files["subject"] = [_ptid(s) for s in files["subject"]]
    files["session"] = [
        codes.get((s, viscode_months(v)), v) if viscode_months(v) is not None else v
        for s, v in zip(files["subject"], files["session"], strict=True)
    ]
    frame, fits = match_images(visits, files, several=several)
    return give(tidy(frame, where, target), make_report(lines, fits), where, report)


def _ptid(subject: str) -> str:
    said = re.fullmatch(r"sub-ADNI(\d{3})S(\d+)", subject)
    return f"{said[1]}_S_{said[2]}" if said else subject


def _has(text: object, pattern: str | None) -> bool:
    return pattern is None or (isinstance(text, str) and re.search(pattern, text) is not None)


def _searched(search: pd.DataFrame, files: pd.DataFrame, description: str | None) -> tuple[pd.DataFrame, list[Line]]:
    """The files that the search CSV lists, with its dates and descriptions; and what is only in one of the two."""
    if description is not None and "description" not in search.columns:
        raise TableError("search: expected a column Description to choose by, got none; download the CSV with it")
    if "description" not in search.columns:
        search = search.assign(description=float("nan"))
    lines: list[Line] = []
    listed = set(search["image_id"])
    for subject, image_id, image in files[["subject", "image_id", "image"]].itertuples(index=False):
        if image_id not in listed:
            lines.append(("image without row", subject, None, image, f"the search does not list {image_id}"))
    wanted = search[search["description"].astype(object).map(lambda v: _has(v, description))]
    there = set(files["image_id"])
    for subject, image_id in wanted[["subject", "image_id"]].itertuples(index=False):
        if image_id not in there:
            lines.append(("row without image", subject, None, None, f"the search lists {image_id}: no such file"))
    both = files[["subject", "image_id", "image"]].merge(
        wanted[["image_id", "subject", "date", "description"]], on="image_id", suffixes=("", "_listed"), sort=False
    )
    wrong = (both["subject"] != both["subject_listed"]).to_numpy(bool)
    for subject, image_id, image, told in both.loc[
        wrong, ["subject", "image_id", "image", "subject_listed"]
    ].itertuples(index=False):
        why = f"the search says that {image_id} is of {told}, the path {subject}: which is right is not guessed"
        lines.append(("image without row", subject, None, image, why))
    return both[~wrong].drop(columns="subject_listed"), lines
