"""The images that a table's rows name: where they are, which rows have none, and what becomes of those."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError, TableError
from fusionconv.study.flow import Flow
from fusionconv.study.settings import Settings

__all__ = ["with_images", "with_target_files"]


def with_images(
    frame: pd.DataFrame, settings: Settings, flow: Flow
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The rows whose images are there, each with an ``id``, the paths, and each id's place in the table.

    The frame's index is the place in the table. Every row that is left out goes into ``flow.lost``.
    """
    base = Path(settings.images) if settings.images else Path(str(settings.table)).resolve().parent
    if taken := [n for n in ("id",) if n in frame.columns and n not in settings.image_column]:
        frame = frame.rename(columns={n: f"{n} (table)" for n in taken})
    images, why = _paths(frame, settings.image_column, base, "--images", settings.suffix)
    images.index = frame.index
    no_path = f"expected a path in {' or '.join(settings.image_column)}, got an empty cell; fill it in"
    reasons = {at: f"expected an image, got none: {reason}; check the path" for at, reason in why.items()}
    reasons |= {int(at): no_path for at in np.flatnonzero(images.isna().all(axis=1)) if at not in reasons}
    lost = np.array([at in reasons for at in range(len(frame))])
    if lost.all():
        example = next(iter(why.values()), f"{settings.image_column[0]} is empty")
        raise StudyError(
            f"images: expected at least one image of the {len(frame)} rows under {base}, got none: {example}; check "
            "--images, --image-column and --suffix"
        )
    if lost.any():
        flow.note("image not there", -int(lost.sum()), next(iter(why.values()), "no path"))
        said = frame[list(settings.image_column)].itertuples(index=False)
        for at, (place, row) in enumerate(zip(frame.index, said, strict=True)):
            if at in reasons:
                flow.lost[int(place)] = (_id_of_cells(row, settings.suffix), reasons[at])
    frame, images = frame[~lost], images[~lost]
    ids = [os.path.relpath(next(p for p in row if isinstance(p, str)), base) for row in images.itertuples(index=False)]
    counts = Counter(ids)
    doubled = np.array([counts[i] > 1 for i in ids])
    if doubled.any():
        twice = sorted(i for i, count in counts.items() if count > 1)
        if settings.on_error == "fail":
            raise TableError(
                f"expected one row per image, got {int(doubled.sum())} rows that share {len(twice)} images, such as "
                f"{twice[0]}; which one is right is not guessed: mend the table, or give --on-error skip to leave "
                f"them out"
            )
        flow.note("several rows for an image", -int(doubled.sum()), twice[0])
        if doubled.all():
            raise TableError(
                f"expected one row per image, got several for every one, such as {twice[0]}; mend the table"
            )
        for place, name in zip(frame.index, ids, strict=True):
            if counts[name] > 1:
                reason = f"expected one row per image, got {counts[name]} of this one; leave the one that is right"
                flow.lost[int(place)] = (name, reason)
        frame, images = frame[~doubled], images[~doubled]
        ids = [i for i, d in zip(ids, doubled, strict=True) if not d]
    places = dict(zip(ids, map(int, frame.index), strict=True))
    frame = frame.assign(id=ids).reset_index(drop=True)
    images.index = pd.Index(ids, name="id")
    return frame, images, places


def with_target_files(frame: pd.DataFrame, settings: Settings, flow: Flow) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose masks or target images are there, numbered in ``_row``, and the paths by that number."""
    base = Path(settings.target_folder or settings.images or Path(str(settings.table)).resolve().parent)
    files, why = _paths(frame, settings.target, base, "--target-folder", empty_is_lost=True)
    lost = np.array([at in why for at in range(len(frame))])
    if lost.all():
        raise StudyError(
            f"target: expected files of masks or target images under {base}, got none: {next(iter(why.values()))}; "
            "check --target and --target-folder"
            + (
                f" (--suffix {settings.suffix} is added to images alone: write the masks' whole names)"
                if settings.suffix
                else ""
            )
        )
    if lost.any():
        flow.note("target image not there", -int(lost.sum()), next(iter(why.values())))
    files, frame = files[~lost].reset_index(drop=True), frame[~lost]
    return frame.assign(_row=range(len(frame))), files


def _id_of_cells(cells: Sequence[Any], suffix: str) -> str:
    """What would be the id of a row whose image is not there: the first path that it names; empty where none."""
    said = (_said(cell, suffix) for cell in cells)
    return next((os.path.normpath(path) for path in said if path is not None), "")


def _said(cell: Any, suffix: str) -> str | None:
    """The path that a cell names; None where it is empty."""
    if cell is None or cell != cell or not str(cell).strip():
        return None
    return str(cell).strip().replace("\\", "/") + suffix


def _path(cell: Any, base: Path, option: str, suffix: str = "") -> tuple[str | None, str | None]:
    """The absolute path of an image that a table names, or (None, why there is none); (None, None) for an empty cell.

    Raises:
        TableError: the path leaves the folder of the images.
    """
    said = _said(cell, suffix)
    if said is None:
        return None, None
    full = Path(os.path.normpath(base / said))
    real, root = os.path.realpath(full), os.path.realpath(base)
    if real != root and not real.startswith(root.rstrip(os.sep) + os.sep):
        raise TableError(f"expected paths inside {base}, got {said!r}, which leaves it; give as {option} the folder "
                         "that all of them are in")  # fmt: skip
    if full.is_file():
        return str(full), None
    if full.is_symlink():
        return None, f"{full} is a link to a file that is not there (fetch it: datalad get, git annex get)"
    if full.is_dir():
        return None, f"{full} is a folder"
    return None, f"there is no file {full}"


def _paths(
    frame: pd.DataFrame, columns: Sequence[str], base: Path, option: str, suffix: str = "", empty_is_lost: bool = False
) -> tuple[pd.DataFrame, dict[int, str]]:
    """The paths that some columns name, NaN where there is none, and why (by a row's place) one is missing."""
    why: dict[int, str] = {}
    paths: dict[str, list[Any]] = {}
    for name in columns:
        found = [_path(cell, base, option, suffix) for cell in frame[name]]
        for at, (path, reason) in enumerate(found):
            if path is None and (reason is not None or empty_is_lost):
                why.setdefault(at, reason or f"{name} is empty")
        paths[name] = [np.nan if path is None else path for path, _ in found]
    return pd.DataFrame(paths, dtype=object), why
