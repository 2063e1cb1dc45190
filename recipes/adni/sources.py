"""A data source, by name, to a tidy frame: one row per image that can be used, and what became of the others."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular import (
    read_adni_bids,
    read_adni_loni,
    read_bids,
    read_ixi,
    read_oasis1,
    read_oasis2,
    read_paths_table,
)
from recipes.adni.followup import add_follow_up

KINDS = ("bids", "adni_loni", "adni_bids", "oasis1", "oasis2", "ixi", "table")


def read_source(
    kind: str, images: str | None = None, table: str | None = None, options: Mapping[str, Any] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tidy frame (subject, session, image, the table's columns) and the report of what did not match.

    Args:
        kind: bids (also Clinica's BIDS and CAPS), adni_loni (ADNIMERGE and a LONI download), adni_bids (ADNIMERGE and
            Clinica's BIDS or CAPS), oasis1, oasis2, ixi, or table (any CSV, TSV, Excel or Parquet with a column of
            paths).
        images: the folder with the images. For a table it may be left out: its own folder is meant.
        table: the table's file; bids has its own.
        options: what else the reader of `fusionconv.tabular` takes, such as ``{datatype: t1_linear, entities: {desc:
            Crop}}`` for bids, ``{search: search.csv}`` for adni_loni, ``{image_column: file, subject: id}`` for a
            table.

    Raises:
        TableError: what the kind needs was not given; whatever the reader finds wrong.
    """
    if kind not in KINDS:
        raise TableError(f"--source: expected one of {', '.join(KINDS)}, got {kind!r}")
    needs = {"bids": ["images"], "table": ["table"]}.get(kind, ["images", "table"])
    given = {"images": images, "table": table}
    if lacking := [f"--{name}" for name in needs if given[name] is None]:
        raise TableError(f"--source {kind}: expected {' and '.join(lacking)}, got none; docs/tables.md says what it is")
    readers: dict[str, Callable[..., tuple[pd.DataFrame, pd.DataFrame]]] = {
        "bids": lambda **o: read_bids(str(images), **({"tables": table} if table else {}), **o),
        "adni_loni": lambda **o: read_adni_loni(str(table), str(images), **o),
        "adni_bids": lambda **o: read_adni_bids(str(table), str(images), **o),
        "oasis1": lambda **o: read_oasis1(str(table), str(images), **o),
        "oasis2": lambda **o: read_oasis2(str(table), str(images), **o),
        "ixi": lambda **o: read_ixi(str(table), str(images), **o),
        "table": lambda **o: read_paths_table(str(table), root=images, **{"image_column": "image", **o}),
    }
    try:
        frame, report = readers[kind](report=True, **(options or {}))
    except TableError as error:
        if "decimal=" not in str(error):
            raise
        raise TableError(f"{error} (on the command line: --source-options decimal=',')") from error
    except FileNotFoundError as error:
        raise TableError(f"--source {kind}: {error}; check --images and --table") from error
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise TableError(
            f"--source-options: expected what the reader of {kind!r} takes (docs/tables.md), got {dict(options or {})} "
            f"({error}); correct them"
        ) from error
    lost = report[report["kind"] == "several rows for an image"]
    if len(lost):
        shown = "; ".join(f"{s}: {i}" for s, i in lost[["subject", "image"]].iloc[:4].itertuples(index=False))
        raise TableError(
            f"--source {kind}: expected a file of its own for each row, got {len(lost)} rows that share one ({shown}); "
            "which row is right is not guessed: remove the others from the table"
        )
    if kind.startswith("adni") and bool((frame["DX"] == "Dementia").any()):
        frame = add_follow_up(frame)  # years_to_dementia, dementia_seen
    return frame, report


Flow = list[tuple[str, int, str]]


def choose_rows(frame: pd.DataFrame, rows: str | None, visits: str) -> tuple[pd.DataFrame, Flow]:
    """Rows with an image, those that the query wants, and of each subject the first visit or all; with the flow.

    Args:
        frame: a tidy frame.
        rows: a pandas query such as ``"Age >= 60"``; a row where a column that it needs is missing is not chosen.
        visits: ``"first"``: each subject's first visit after the query: by EXAMDATE where there is one, else by the
            sessions' names, where these tell an order.

    Raises:
        TableError: the query; sessions whose order their names do not tell; several images of a first visit.
    """
    if visits not in ("first", "all"):
        raise TableError(f"--visits: expected first or all, got {visits!r}")
    flow: Flow = [("rows of the source", len(frame), f"{frame['subject'].nunique()} subjects")]

    def keep(chosen: pd.Series, why: str, detail: str = "") -> pd.DataFrame:
        if not chosen.all():
            flow.append((why, -int((~chosen).sum()), detail))
        if not chosen.any():
            told = "; ".join(f"{count:+,d} {what}" for what, count, _ in flow)
            raise TableError(
                f"expected rows to study, got none ({told}); `python -m recipes.adni inspect` lists what did not match"
            )
        return frame[chosen]

    frame = keep(frame["image"].notna(), "without an image")
    if rows is not None:
        frame = keep(matches(frame, rows, "--rows"), "not among --rows", rows)
    if visits == "first":
        frame = keep(~frame.index.to_series().isin(_later_visits(frame)), "later visits")
    return frame, flow


def _later_visits(frame: pd.DataFrame) -> pd.Index:
    """The rows of each subject but the first visit's."""
    several = frame[frame["subject"].duplicated(keep=False)]
    if "EXAMDATE" in frame and pd.api.types.is_datetime64_any_dtype(frame["EXAMDATE"]):
        when: pd.Series = several["EXAMDATE"]
    else:
        places = {subject: _visit_places(subject, rows["session"]) for subject, rows in several.groupby("subject")}
        when = pd.concat(list(places.values())) if places else pd.Series(dtype=float)
    when = when.reindex(several.index)
    for subject, place in when.groupby(several["subject"], sort=False):
        first = place[place == place.min()] if place.notna().any() else place
        if len(first) > 1:
            rows = several.loc[first.index[:4]]
            raise TableError(
                f"--visits first: expected one image of the first visit of {subject}, got {len(first)} "
                f"({', '.join(map(str, rows['image']))}); which one is meant is not guessed: name the visits' column "
                "(--source-options session=COLUMN for a table), choose by --rows, or take --visits all"
            )
    order = when.sort_values(kind="stable", na_position="last").index
    return order[several.loc[order, "subject"].duplicated()]


def _visit_places(subject: object, sessions: pd.Series) -> pd.Series:
    """Each session's place in time, by its name: bl, sc, baseline; ses-M012, m12, MR2, visit-3, 3; 2020-01-31.

    Raises:
        TableError: the names do not tell an order.

    >>> _visit_places("a", pd.Series(["bl", "m06", "m120"])).tolist()
    [-1.0, 6.0, 120.0]
    >>> _visit_places("a", pd.Series(["2020-01-05", "2019-12-31"])).rank().tolist()
    [2.0, 1.0]
    """
    names = [str(name).removeprefix("ses-").lower() for name in sessions]
    if len(set(names)) == 1:
        return pd.Series(0.0, sessions.index)
    dates = [re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})", name) for name in names]
    if all(dates):
        return pd.Series([float("".join(date.groups())) for date in dates if date], sessions.index)
    numbers = [re.fullmatch(r"([a-z]*)[-_ ]?(\d+)", name) for name in names]
    starts = [name in ("bl", "sc", "baseline", "screening") for name in names]
    told = all(number or start for number, start in zip(numbers, starts, strict=True)) and sum(starts) < 2
    if not told or len({number[1] for number in numbers if number}) > 1:
        shown = ", ".join(map(repr, list(dict.fromkeys(map(str, sessions)))[:4]))
        raise TableError(
            f"--visits first: expected sessions whose names tell which comes first (m06 or ses-M012, bl, MR1, "
            f"2020-01-31), got {shown} of {subject}; choose by --rows, such as \"session == 'A'\", or take --visits all"
        )
    return pd.Series([float(number[2]) if number else -1.0 for number in numbers], sessions.index)


def matches(frame: pd.DataFrame, query: str, option: str) -> pd.Series:
    """True where a pandas query holds; False where it does not or where a column that it names is missing.

    A query that asks for the missing itself, ``CDR.isna() or CDR == 0``, is taken at its word for that column.

    Raises:
        TableError: the query is none, names an absent column, or does not give true or false.

    >>> frame = pd.DataFrame({"Age": [59, 60, None]})
    >>> matches(frame, "not Age < 60", "--rows").tolist()
    [False, True, False]
    >>> matches(frame, "Age.isna() or Age < 60", "--rows").tolist()
    [True, False, True]
    """
    names = columns_of(query)
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise TableError(
            f"{option}: expected columns of the table ({', '.join(map(str, frame))}), got "
            f"{', '.join(map(repr, absent))} in {query!r}; put text in quotes, and a column such as M/F in backticks"
        )
    asked = [name for name in names if re.search(rf"`?{re.escape(name)}`?\.(isna|isnull|notna|notnull)\(\)", query)]
    names = [name for name in names if name not in asked]
    known = frame[names].notna().all(axis=1) if names else pd.Series(True, index=frame.index)
    try:
        held = frame[known].eval(query, engine="python")
    except Exception as error:  # pandas raises many kinds
        raise TableError(
            f"{option}: expected a query such as \"Age >= 60 and DX == 'CN'\", got {query!r} ({error}); correct it"
        ) from error
    if not (isinstance(held, pd.Series) and pd.api.types.is_bool_dtype(held)):
        raise TableError(
            f"{option}: expected a query that is true or false for a row, such as CDR > 0, got {query!r}; correct it"
        )
    return known & held.reindex(frame.index, fill_value=False).astype(bool)


def columns_of(query: str) -> list[str]:
    """The columns that a query names.

    >>> columns_of("`M/F` == 'F' and CDR > 0")
    ['M/F', 'CDR']
    """
    quoted = re.findall(r"`([^`]+)`", query)
    try:
        tree = ast.parse(re.sub(r"`[^`]+`", "_quoted_", query), mode="eval")
    except SyntaxError as error:
        raise TableError(
            f"expected a query such as \"Age >= 60 and DX == 'CN'\", got {query!r} ({error.msg}); correct it"
        ) from error
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != "_quoted_"]
    return list(dict.fromkeys([*quoted, *names]))
