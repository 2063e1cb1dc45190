"""read_paths_table: any table that has a column of image paths, as a tidy frame; paths stay inside the data folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import PureWindowsPath
from typing import Any, Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.images import Line, give, make_report, not_fetched, require_subjects, tidy

__all__ = ["read_paths_table"]


@overload
def read_paths_table(
    path: str | os.PathLike[str],
    image_column: str,
    root: str | os.PathLike[str] | None = None,
    *,
    subject: str = "subject",
    session: str | None = None,
    target: str | None = None,
    suffix: str = "",
    report: Literal[False] = False,
    **options: Any,
) -> pd.DataFrame: ...
@overload
def read_paths_table(
    path: str | os.PathLike[str],
    image_column: str,
    root: str | os.PathLike[str] | None = None,
    *,
    subject: str = "subject",
    session: str | None = None,
    target: str | None = None,
    suffix: str = "",
    report: Literal[True],
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_paths_table(
    path: str | os.PathLike[str],
    image_column: str,
    root: str | os.PathLike[str] | None = None,
    *,
    subject: str = "subject",
    session: str | None = None,
    target: str | None = None,
    suffix: str = "",
    report: bool = False,
    **options: Any,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read a table with one row per image and the path of the image in a column.

    Args:
        path: the table, as :func:`~fusionconv.tabular.anytable.read_table` reads it.
        image_column: the column of paths. A relative one starts at ``root``; Windows' separators are fine.
        root: the data folder; the table's own folder if left out. Absolute paths are good if they lie in it.
        subject: the column that says whose image it is, needed to split by subject.
        session: the column that names the visit; without it ``session`` is "".
        target: the column to predict; it becomes ``target``.
        suffix: what the table leaves out at the end of the paths: ``".jpg"`` where it has ``ISIC_0027419``. A path that
            ends in it already stays as it is.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.
        options: for ``read_table``: ``sep``, ``encoding``, ``decimal``, ``missing``, ``text``, ``sheet``.

    Returns:
        A tidy frame with the rows of the table in their order. ``image`` is the path under ``root``, missing where
        there is no such file or two rows share it. The report lists these, and the files beside the images that end
        alike but have no row.

    Raises:
        FileNotFoundError: there is no such table or no such folder.
        TableError: as ``read_table``; an absent column; a row without subject; a path that leaves ``root`` by ``..``,
            by being absolute, or by a link.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = pathlib.Path(folder)
    ...     (root / "scans").mkdir()
    ...     _ = (root / "scans" / "p1.nii").write_bytes(b"")
    ...     _ = (root / "t.csv").write_text("id,age,file\\np1,61,scans/p1.nii\\np2,70,scans/p2.nii\\n")
    ...     frame, report = read_paths_table(root / "t.csv", "file", subject="id", report=True)
    >>> frame[["subject", "age"]].to_dict("list"), frame["image"].notna().tolist()
    ({'subject': ['p1', 'p2'], 'age': [61, 70]}, [True, False])
    >>> report[["kind", "subject", "reason"]].to_dict("records")
    [{'kind': 'row without image', 'subject': 'p2', 'reason': 'there is no file scans/p2.nii'}]
    """
    where = str(path)
    if not isinstance(suffix, str):
        raise TableError(f"suffix: expected text such as '.jpg', got {suffix!r}; give one suffix")
    roles = {image_column: "image", subject: "subject", **({session: "session"} if session else {})}
    if len(roles) < 2 + bool(session):
        raise TableError(f"{where}: expected different columns for image, subject and session, got {list(roles)}")
    base = os.path.dirname(os.path.abspath(path)) if root is None else os.fspath(root)
    if not os.path.isdir(base):
        raise FileNotFoundError(f"expected the folder of the images at {base}, got none; give root=")
    text = sorted({*options.pop("text", ()), *roles})
    frame = read_table(path, text=text, **options)
    if taken := [n for n in ("subject", "session", "image") if n in frame.columns and n not in roles]:
        raise TableError(
            f"{where}: expected the names {taken} to be free for the tidy frame, got columns of that name; rename "
            "them, or say what they are with image_column=, subject= and session="
        )
    frame = frame.rename(columns=roles)
    require_subjects(frame, where)
    frame["session"] = frame["session"].astype(object).where(frame["session"].notna(), "") if session else ""
    if suffix:
        frame["image"] = [
            v if pd.isna(v) or str(v).endswith(suffix) else f"{v}{suffix}" for v in frame["image"].tolist()
        ]
    inside = [None if pd.isna(v) else _inside(str(v)) for v in frame["image"]]
    _refuse_outside(frame["image"], inside, base, where)
    images, lines = _found(frame, inside, base)
    lines += _unlisted(images, inside, base)
    frame["image"] = pd.Series(images, index=frame.index, dtype=object)
    return give(tidy(frame, where, target), make_report(lines), where, report)


def _inside(path: str) -> str | None:
    """``path`` with / and without . and .., or None if it is none that may start at a folder or lies above it."""
    path = path.replace("\\", "/")
    if os.path.isabs(path):
        return os.path.normpath(path)
    if "://" in path or PureWindowsPath(path).drive:
        return None
    clean = os.path.normpath(path).replace(os.sep, "/")
    return None if clean == ".." or clean.startswith("../") else clean


def _refuse_outside(column: pd.Series[Any], inside: list[str | None], base: str, where: str) -> None:
    real = os.path.realpath(base)
    bases = (os.path.abspath(base), real)

    @cache
    def real_folder(folder: str) -> str:
        return os.path.realpath(folder)

    for i, clean in enumerate(inside):
        raw = column.iloc[i]
        if clean is None:
            if not pd.isna(raw):
                raise _leaves(where, column, i, base, "it does not start there")
            continue
        if os.path.isabs(clean):
            above = [b for b in bases if clean == b or clean.startswith(b.rstrip(os.sep) + os.sep)]
            if not above:
                raise _leaves(where, column, i, base, "it is the path of another place")
            clean = inside[i] = os.path.relpath(clean, above[0]).replace(os.sep, "/")
        full = os.path.join(base, clean)
        folder, name = os.path.split(full)
        final = os.path.realpath(full) if os.path.islink(full) else os.path.join(real_folder(folder), name)
        if final != real and not final.startswith(real.rstrip(os.sep) + os.sep):
            raise _leaves(where, column, i, base, "a link in it leads out of the folder")


def _leaves(where: str, column: pd.Series[Any], i: int, base: str, why: str) -> TableError:
    return TableError(
        f"{where}: column 'image': expected paths inside {base}, got {str(column.iloc[i])!r} in row {i}: {why}; mend "
        "the path, or give as root= the folder that all images are in"
    )


def _found(frame: pd.DataFrame, inside: list[str | None], base: str) -> tuple[list[Any], list[Line]]:
    """The image of each row, or NaN, and why."""
    images: list[Any] = []
    lines: list[Line] = []
    shared = pd.Series(inside, dtype=object).duplicated(keep=False) & pd.Series(inside, dtype=object).notna()
    for i, (clean, subject, session) in enumerate(zip(inside, frame["subject"], frame["session"], strict=True)):
        full = os.path.join(base, clean) if clean is not None else ""
        images.append(float("nan"))
        if clean is None:
            lines.append(("row without image", subject, session, None, "the table has no path"))
        elif os.path.isdir(full):
            lines.append(("row without image", subject, session, None, f"{clean} is a folder, not a file"))
        elif not os.path.isfile(full):
            why = not_fetched(full) or f"there is no file {clean}"
            lines.append(("row without image", subject, session, None, why))
        elif why := not_fetched(full) or "":
            lines.append(("row without image", subject, session, None, why))
        elif shared[i]:
            why = f"row {i} is one of several with this path; which one is right is not guessed"
            lines.append(("several rows for an image", subject, session, full, why))
        else:
            images[-1] = full
    return images, lines


def _unlisted(images: list[Any], inside: list[str | None], base: str) -> Iterator[Line]:
    """The files beside the images that end as they do and are in no row."""
    listed = {clean for clean in inside if clean is not None}
    there = [clean for clean, image in zip(inside, images, strict=True) if clean is not None and image == image]
    ends = tuple({_suffix(os.path.basename(clean)) for clean in there} - {""})
    for folder in sorted({os.path.dirname(clean) for clean in there}):
        for name in sorted(os.listdir(os.path.join(base, folder))):
            clean = f"{folder}/{name}" if folder else name
            if ends and name.endswith(ends) and clean not in listed:
                yield "image without row", None, None, os.path.join(base, clean), "the table has no row with this path"


def _suffix(name: str) -> str:
    stem, end = os.path.splitext(name)
    return os.path.splitext(stem)[1] + end if end == ".gz" else end
