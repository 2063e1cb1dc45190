"""Images and rows that come separately, joined by id; what finds no partner is reported, never shifted along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.ids import first_few, id_text, one_spelling
from fusionconv.tabular.pairing.table import id_parts, joined, row_ids

__all__ = ["images_by_id", "pair_by_id"]

_REPORT = ["kind", "id", "subject", "session", "image", "reason"]


def images_by_id(ids: Iterable[Any], images: Iterable[Any]) -> dict[str, Any]:
    """A dict of images by id from two lists that belong together, such as the two arrays of an ``.npz`` file.

    Args:
        ids: the ids, in the order of the images.
        images: as many images, of any type.

    Raises:
        TableError: lists of different lengths, an id twice, or none.

    >>> images_by_id(["b", "a"], [20, 10])
    {'b': 20, 'a': 10}
    """
    names, values = [id_text(i.item() if hasattr(i, "item") else i) for i in ids], list(images)
    if len(names) != len(values):
        raise TableError(f"expected an id for each image, got {len(names)} ids and {len(values)} images")
    if None in names:
        raise TableError(f"expected text or whole numbers as ids, got none at position {names.index(None)}")
    found = {name: value for name, value in zip(names, values, strict=True) if name is not None}
    if len(found) < len(values):
        twice = sorted({str(n) for n in names if names.count(n) > 1})
        raise TableError(f"expected each id once, got {len(twice)} several times: {first_few(twice)}")
    return found


def pair_by_id(
    images: Mapping[Any, Any] | pd.Series | pd.DataFrame,
    frame: pd.DataFrame,
    *,
    id: str | list[str] | None = None,
    image: str = "image",
    unmatched: Literal["error", "report"] = "error",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give each row of a table its image, by id.

    Args:
        images: files by id: a dict, a Series whose index are the ids, or a DataFrame with the column or columns of
            ``id`` and a column ``image``. A plain list is refused: its order would have to be trusted. Tables are
            compared column by column, so that subject 1_1, session 2 is not subject 1, session 1_2.
        frame: the table of rows, in any order.
        id: the column that names a row, or columns to join by ``_``; None for subject and (if there is one) session.
        image: the name of the image column.
        unmatched: ``"error"`` to raise on anything in the report; ``"report"`` to go on with the certain pairs.

    Returns:
        The rows that have exactly one image, in ``frame``'s order and with its index labels, with the column ``image``;
        and the report, a DataFrame with the columns ``kind`` (``"row without image"``, ``"image without row"``,
        ``"several images for a row"``, ``"several rows for an id"``), ``id``, ``subject``, ``session``, ``image`` and
        ``reason``. Of several images or rows none is chosen.

    Raises:
        TableError: images without ids; anything unmatched, with ``unmatched="error"``; no pair at all; a table that has
            images already.

    >>> rows = pd.DataFrame({"subject": ["a", "b", "c"], "age": [60, 70, 80]})
    >>> paired, report = pair_by_id({"c": "c.nii.gz", "a": "a.nii.gz", "x": "x.nii.gz"}, rows, unmatched="report")
    >>> paired
      subject  age     image
    0       a   60  a.nii.gz
    2       c   80  c.nii.gz
    >>> report[["kind", "id"]]
                    kind id
    0  row without image  b
    1  image without row  x
    """
    if unmatched not in ("error", "report"):
        raise TableError(f"expected unmatched to be 'error' or 'report', got {unmatched!r}")
    by_parts = isinstance(images, pd.DataFrame)
    names: list[Any] = [_key(name) for name in (id_parts(frame, id) if by_parts else row_ids(frame, id))]
    if image in frame.columns and frame[image].notna().any():
        raise TableError(
            f"expected a table without images, got one whose column {image!r} has {int(frame[image].notna().sum())}; "
            "drop the column, or name another with image="
        )
    files: dict[Any, list[Any]] = {}
    for name, file in _named(images, id, image):
        files.setdefault(_key(name), []).append(file)
    rows: dict[Any, list[int]] = {}
    for place, name in enumerate(names):
        rows.setdefault(name, []).append(place)
    report: list[dict[str, Any]] = []

    def text(name: Any) -> str:
        return joined(name) if by_parts else str(name)

    def note(kind: str, name: Any, places: list[int], file: Any, reason: str) -> None:
        known: Any = frame.iloc[places[0]] if places else None
        person = {c: known[c] if places and c in frame.columns else None for c in ("subject", "session")}
        report.append({"kind": kind, "id": text(name), **person, "image": file, "reason": reason})

    for name, places in rows.items():
        if len(places) > 1:
            labels = first_few(frame.index[p] for p in places)
            for file in files.get(name, [None]):
                note("several rows for an id", name, places, file, f"{len(places)} rows have this id: {labels}")
        elif name not in files:
            note("row without image", name, places, None, "no image has this id")
        elif len(files[name]) > 1:
            for file in files[name]:
                note("several images for a row", name, places, file, f"{len(files[name])} images have this id")
    for name in (n for n in files if n not in rows):
        for file in files[name]:
            note("image without row", name, [], file, "no row has this id")
    table = pd.DataFrame(report, columns=_REPORT)
    good = [p for name, ps in rows.items() if len(ps) == 1 and len(files.get(name, ())) == 1 for p in ps]
    if unmatched == "error" and report:
        counts = ", ".join(f"{n} {kind}" for kind, n in table["kind"].value_counts().items())
        first = first_few(table["id"].unique())
        raise TableError(
            f"expected one image for each row and one row for each image, got {counts}: {first}; "
            "correct them, or give unmatched='report' to go on with the others and get the list"
        )
    if not good:
        raise TableError(
            f"expected ids that occur on both sides, got none: rows {first_few(map(text, rows))}; images "
            f"{first_few(map(text, files))}; are they written alike, in the same columns?"
        )
    paired = frame.iloc[good].copy()
    paired[image] = pd.Series([files[names[p]][0] for p in good], index=paired.index, dtype=object)
    return paired, table


def _key(name: Any) -> Any:
    """An id, or the parts of one, as ids are compared."""
    return one_spelling(name) if isinstance(name, str) else tuple(t if t is None else one_spelling(t) for t in name)


def _named(images: Any, id: str | list[str] | None, image: str) -> list[tuple[Any, Any]]:
    """Pairs of id and image, whatever they came in; of a table the id's parts."""
    if isinstance(images, pd.DataFrame):
        require_columns(images, [image], "table of images")
        return list(zip(id_parts(images, id), images[image].tolist(), strict=True))
    if not isinstance(images, (Mapping, pd.Series)):
        raise TableError(
            f"expected images by id (a dict, a Series indexed by id, or a DataFrame with ids), got "
            f"{type(images).__name__}; the order of a list cannot be checked: use images_by_id(ids, images)"
        )
    pairs = [(id_text(name), file) for name, file in images.items()]
    bad = [file for name, file in pairs if name is None]
    if bad:
        raise TableError(f"expected text or whole numbers as ids of the images, got others for {first_few(bad)}")
    return [(name, file) for name, file in pairs if name is not None]
