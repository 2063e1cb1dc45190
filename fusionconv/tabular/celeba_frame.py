"""read_celeba: CelebA's label files and images as one tidy frame, the subject being the person where that is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, overload

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.celeba import read_celeba_attributes, read_celeba_identity, read_celeba_partition
from fusionconv.tabular.images import Line, give, make_report, tidy

__all__ = ["read_celeba"]


@overload
def read_celeba(
    root: str | os.PathLike[str], *, target: str | None = None, report: Literal[False] = False
) -> pd.DataFrame: ...
@overload
def read_celeba(
    root: str | os.PathLike[str], *, target: str | None = None, report: Literal[True]
) -> tuple[pd.DataFrame, pd.DataFrame]: ...
def read_celeba(
    root: str | os.PathLike[str], *, target: str | None = None, report: bool = False
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Read a CelebA folder in torchvision's layout: one row for each image of ``list_attr_celeba``.

    Args:
        root: the folder with ``img_align_celeba/``, or the one with ``celeba/`` in it. ``list_attr_celeba.txt`` or .csv
            must be there; ``list_eval_partition`` and ``identity_CelebA`` are used if they are.
        target: the attribute to predict; it becomes ``target``.
        report: give ``(frame, report)``, see :mod:`fusionconv.tabular.images`.

    Returns:
        A tidy frame: ``subject``, the number of the person as text, missing without ``identity_CelebA`` or where it
        does not list the image (then no split by person is possible); ``session`` ""; ``image``; ``file`` and
        ``partition`` ("train", "valid", "test"; with ``list_eval_partition``); the 40 attributes as int8 0 and 1.

    Raises:
        FileNotFoundError: no such folder, or no attributes in it.
        TableError: as the readers of the three files; ``target`` is no attribute.

    Example:
        >>> import pathlib, tempfile
        >>> from fusionconv.tabular import CELEBA_ATTRIBUTES
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root, row = pathlib.Path(folder), "000001.jpg" + " -1" * 39 + "  1"
        ...     (root / "img_align_celeba").mkdir()
        ...     (root / "img_align_celeba" / "000001.jpg").touch()
        ...     text = "1\\n" + " ".join(CELEBA_ATTRIBUTES) + "\\n" + row + "\\n"
        ...     _ = (root / "list_attr_celeba.txt").write_text(text)
        ...     _ = (root / "identity_CelebA.txt").write_text("000001.jpg 2880\\n")
        ...     frame = read_celeba(root, target="Young")
        >>> frame[["subject", "file", "Male", "target"]].to_dict("records")
        [{'subject': '2880', 'file': '000001.jpg', 'Male': 0, 'target': 1}]
    """
    folder = next((f for f in (Path(root, "celeba"), Path(root)) if (f / "img_align_celeba").is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"expected a folder with img_align_celeba/ (or celeba/img_align_celeba/) at {root}, got none; unpack "
            "img_align_celeba.zip there"
        )
    where = str(folder)
    path = _table(folder, "list_attr_celeba")
    attributes = read_celeba_attributes(path or folder / "list_attr_celeba.txt")
    frame = pd.DataFrame({"file": attributes.index.to_numpy(object)})
    if path := _table(folder, "list_eval_partition"):
        frame["partition"] = read_celeba_partition(path).reindex(attributes.index).to_numpy(object)
    frame = pd.concat([frame, attributes.reset_index(drop=True)], axis=1)
    lines: list[Line] = []
    people = pd.Series(float("nan"), index=frame.index, dtype=object)
    if path := _table(folder, "identity_CelebA"):
        known = read_celeba_identity(path).astype(str).reindex(attributes.index).to_numpy(object)
        people = pd.Series(known, index=frame.index, dtype=object)
        for file in frame.loc[people.isna(), "file"]:
            lines.append(("row without subject", None, "", None, f"{path.name} does not list {file}"))
    else:
        lines.append(("row without subject", None, "", None, "there is no identity_CelebA: no person is known"))
    images = folder / "img_align_celeba"
    there = {entry.name for entry in os.scandir(images) if entry.is_file()}
    listed = set(frame["file"])
    frame["image"] = pd.Series(
        [str(images / f) if f in there else float("nan") for f in frame["file"]], index=frame.index, dtype=object
    )
    for file, subject in zip(frame["file"], people, strict=True):
        if file not in there:
            lines.append(("row without image", subject, "", None, f"there is no file {file}"))
    for file in sorted(there - listed):
        if file.endswith((".jpg", ".jpeg", ".png")):
            lines.append(("image without row", None, "", str(images / file), "list_attr_celeba does not list it"))
    if target is not None and target not in attributes.columns:
        raise TableError(f"{where}: expected one of CelebA's 40 attributes as target, got {target!r}; name one")
    frame.insert(0, "subject", people)
    frame.insert(1, "session", "")
    return give(tidy(frame, where, target), make_report(lines), where, report)


def _table(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.txt", folder / f"{stem}.csv") if p.is_file()), None)
