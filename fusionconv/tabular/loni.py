"""What LONI's archive (ida.loni.usc.edu) gives: the CSV of a search or collection, and the tree of a download.

The CSV of an image collection has the columns Image Data ID, Subject, Group, Sex, Age, Visit, Modality, Description,
Type, Acq Date (month/day/year), Format, Downloaded; the CSV of an advanced search has Image ID, Subject ID, Research
Group and Study Date for four of them. A download is unpacked to
``ADNI/<PTID>/<series>/<date>_<time>/<folder>/ADNI_<PTID>_MR_..._S<series>_I<ID>.nii``, where the last folder is I<ID>
or S<series>; the ID at the end of the file's name is the one of the CSV. A DICOM series is a folder of .dcm files.
"""

from __future__ import annotations

import os
import re

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.images import NIFTI, find_files, require_subjects
from fusionconv.tabular.textcolumn import few_rows, infer_numbers, require_dates

__all__ = ["find_loni", "read_loni_search"]

_COLUMNS = {
    "Image Data ID": "image_id", "Image ID": "image_id", "Subject": "subject", "Subject ID": "subject",
    "Acq Date": "date", "Study Date": "date", "Visit": "visit_name", "Modality": "modality",
    "Description": "description", "Type": "type", "Group": "group", "Research Group": "group", "Sex": "sex",
    "Age": "age_in_search", "Format": "format", "Downloaded": "downloaded",
}  # fmt: skip
_PTID = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})_\d{2}_\d{2}_\d{2}(?:\.\d+)?")
_ID = re.compile(r"_I(\d+)(?:\.|$)")


def read_loni_search(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read the CSV of a search or an image collection.

    Returns:
        A row for each image: ``subject`` (the PTID), ``image_id`` ("I35475", with the I whether the file has it or
        not), ``date`` (datetime64), and what there is of ``visit_name``, ``modality``, ``description``, ``type``,
        ``group``, ``sex``, ``age_in_search`` (whole years), ``format``, ``downloaded``.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: as ``read_table``; no image id, subject or date; an image id twice or of another form.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "search.csv")
    ...     header = '"Image Data ID","Subject","Group","Sex","Age","Visit","Modality","Description","Acq Date"'
    ...     _ = path.write_text(header + '\\n"I35475","011_S_0002","CN","M","74","sc","MRI","MPR","8/26/2005"\\n')
    ...     search = read_loni_search(path)
    >>> search[["subject", "image_id", "date"]].to_dict("records")
    [{'subject': '011_S_0002', 'image_id': 'I35475', 'date': Timestamp('2005-08-26 00:00:00')}]
    """
    where = os.fspath(path)
    frame = read_table(path, numbers=False)
    frame = frame.rename(columns={c: _COLUMNS.get(c.replace("_", " "), c) for c in frame.columns})
    if twice := sorted({c for c in frame.columns if (frame.columns == c).sum() > 1}):
        raise TableError(f"{where}: expected one column for {', '.join(twice)}, got two; remove one of them")
    names = {v: k for k, v in reversed(_COLUMNS.items())}
    if absent := [names[c] for c in ("image_id", "subject", "date") if c not in frame.columns]:
        raise TableError(
            f"{where}: expected the CSV of a LONI search or collection, got a table without {', '.join(absent)} (it "
            f"has {', '.join(frame.columns[:8])}); download the CSV again, with all columns"
        )
    require_subjects(frame, where)
    ids = frame["image_id"].astype(object).map(lambda v: re.fullmatch(r"I?(\d+)", v) if isinstance(v, str) else None)
    if (other := ids.isna().to_numpy(bool)).any():
        raise TableError(
            f"{where}: column 'Image Data ID': expected ids as I35475 or 35475, got others "
            f"{few_rows(frame['image_id'], other)}; take the CSV from its source again"
        )
    frame["image_id"] = [f"I{m[1]}" for m in ids]
    if (again := frame["image_id"].duplicated(keep=False).to_numpy(bool)).any():
        raise TableError(
            f"{where}: expected each image id once, got several {few_rows(frame['image_id'], again)}; remove the "
            "repeated rows"
        )
    frame["date"] = require_dates(frame["date"], where, month_first=True)
    return infer_numbers(frame, where, text=[c for c in frame.columns if c != "age_in_search"])


def find_loni(root: str | os.PathLike[str]) -> pd.DataFrame:
    """The images of a download, at any depth under ``root``.

    Returns:
        A row for each volume, or for each folder of DICOM slices: ``subject``, ``image_id``, ``series``, ``date`` (from
        the folder, missing if there is none), ``image``. Files whose path names no PTID or no image id are left out.

    Raises:
        FileNotFoundError: ``root`` is no folder.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     scan = pathlib.Path(folder, "ADNI", "011_S_0002", "MPR", "2005-08-26_08_03_33.0", "I35475")
    ...     scan.mkdir(parents=True)
    ...     _ = (scan / "ADNI_011_S_0002_MR_MPR_Br_20070108225928642_S9107_I35475.nii").write_bytes(b"")
    ...     files = find_loni(folder)
    >>> files[["subject", "image_id", "series", "date"]].to_dict("records")
    [{'subject': '011_S_0002', 'image_id': 'I35475', 'series': 'MPR', 'date': Timestamp('2005-08-26 00:00:00')}]
    """
    base = os.fspath(root)
    found: dict[tuple[str, str], tuple[str, str, str | None, str | None, str]] = {}
    volumes: set[tuple[str, str]] = set()
    for path in find_files(root, (*NIFTI, ".dcm"), what="LONI's download (ADNI/<PTID>/...)"):
        *folders, name = path.split("/")
        people, ids = _PTID.findall(path), _ID.findall(name)
        image_id = ids[-1] if ids else folders[-1][1:] if folders and re.fullmatch(r"I\d+", folders[-1]) else None
        if not people or image_id is None:
            continue
        at = folders.index(people[-1]) if people[-1] in folders else None
        series = folders[at + 1] if at is not None and at + 1 < len(folders) else None
        dates = [m[1] for m in map(_DATE.fullmatch, folders) if m]
        folder = os.path.join(base, *folders)
        dicom = name.endswith(".dcm")
        if dicom and ("/".join(folders), image_id) in volumes:
            continue
        if not dicom:
            volumes.add(("/".join(folders), image_id))
            found.pop(("/".join(folders), f"{image_id} as DICOM"), None)
        key = ("/".join(folders), f"{image_id} as DICOM" if dicom else name)
        image = folder if dicom else os.path.join(folder, name)
        found[key] = (people[-1], f"I{image_id}", series, dates[-1] if dates else None, image)
    frame = pd.DataFrame(found.values(), columns=["subject", "image_id", "series", "date", "image"], dtype=object)
    return frame.assign(date=require_dates(frame["date"], base))
