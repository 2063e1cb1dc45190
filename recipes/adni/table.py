"""From a source to the study's table, OUT/table/study.csv: one row per image, classes by queries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError, TableError
from fusionconv.study.files import write_csv
from fusionconv.study.folder import claim
from fusionconv.study.tasks.classes import as_text
from fusionconv.tabular import read_table
from recipes.adni.sources import Flow, choose_rows, columns_of, matches, read_source

__all__ = ["OPTIONS", "Source", "as_list", "classify", "make_table", "require_same", "used_columns"]

#: the recipe's own options beside the engine's: name -> (default, help). `--table` and `--images` are the source's.
OPTIONS: dict[str, tuple[Any, str]] = {
    "source": ("bids", "bids, adni_loni, adni_bids, oasis1, oasis2, ixi or table; --images and --table are its"),
    "source_options": ({}, "of its reader (docs/tables.md), such as datatype=t1_linear, image_column=file subject=id"),
    "visits": ("first", "first: one image of each subject; all: every visit (subjects are never split)"),
    "define": ({}, "columns made by queries: {dx: {CN: \"DX == 'CN'\", AD: \"DX == 'Dementia'\"}}, then --target dx"),
}


@dataclass(frozen=True)
class Source:
    """What a source holds: all rows, what did not match, the folder that image paths start from."""

    frame: pd.DataFrame
    report: pd.DataFrame
    folder: str

    @classmethod
    def read(cls, own: Mapping[str, Any], settings: Mapping[str, Any]) -> Source:
        """Read it; of the options --source, --source-options, --images and --table."""
        images, table = settings.get("images"), settings.get("table")
        frame, report = read_source(own["source"], images, table, _reader_options(own, settings))
        return cls(frame, report, str(images) if images is not None else os.path.dirname(os.path.abspath(str(table))))


#: names of columns and files that are the source's, as the engine calls them, and what the recipe's table has
_OF_THE_SOURCE = {"image_column": "image", "subject": "subject", "suffix": "", "sheet": None, "decimal": "."}


def _reader_options(own: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """--source-options, and of a table also --image-column, --subject, --suffix, --sheet and --decimal.

    Raises:
        TableError: one of them beside a source that knows its own; two values; several image columns.
    """
    options = dict(own["source_options"])
    for name, usual in _OF_THE_SOURCE.items():
        said = as_list(settings.get(name))
        option = f"--{name.replace('_', '-')}"
        if len(said) > 1:
            raise TableError(f"{option}: expected one column, got {said}; `fusionconv compare` takes several sequences")
        if not said or said[0] == usual:
            continue
        if own["source"] != "table":
            raise TableError(
                f"{option}: expected none beside --source {own['source']}, which knows it, got {said[0]!r}"
            )
        if options.setdefault(name, said[0]) != said[0]:
            raise TableError(
                f"{option}: expected that of --source-options, {options[name]!r}, got {said[0]!r}; give one"
            )
    return options


def make_table(own: Mapping[str, Any], settings: Mapping[str, Any], source: Source | None = None) -> dict[str, Any]:
    """Write OUT/table/study.csv, study.flow.csv and unmatched.csv; returns the settings of the study of it.

    Args:
        own: the recipe's options, and ``out``; perhaps ``arms`` and ``overwrite``.
        settings: the engine's, where ``table``, ``images`` and ``rows`` are the source's.
        source: where it has been read already.

    Raises:
        TableError: what the source, the queries or the covariates are refused for.
        StudyError: OUT holds a study of another table.
    """
    source = source or Source.read(own, settings)
    made = dict(settings)
    if taken := [name for name in own["define"] if name in source.frame]:
        raise TableError(
            f"--define: expected new columns, got {', '.join(taken)}, which the source has; give other names"
        )
    frame, flow = choose_rows(source.frame, made.pop("rows", None), own["visits"])
    target = as_list(made.get("target")) or list(own["define"])[:1]
    answers = set(target)
    for name, queries in own["define"].items():
        answers |= _columns_of(queries) if name in target else set()
        classes = classify(frame, name, queries, require=name in target)
        if name in target:
            frame, classes = _with_a_class(frame, classes, queries, flow)
            made.setdefault("classes", list(queries))
            _require_classes(made, queries)
        frame = frame.assign(**{name: classes})
    made_of = {name: {name} | _columns_of(own["define"].get(name, {})) for name in _covariates(own, made)}
    if told := [name for name, columns in made_of.items() if columns & answers]:
        raise TableError(
            f"--covariates: expected columns beside those that the answer is made of, got {', '.join(told)}; the "
            "network would be given the answer: leave it out"
        )
    base = os.path.abspath(source.folder)
    frame = frame.assign(image=[os.path.relpath(os.path.abspath(path), base) for path in frame["image"]])
    folder = Path(own["out"]) / "table"
    table = folder / "study.csv"
    _require_unchanged(table, frame, own)
    claim(Path(own["out"]), False)
    folder.mkdir(exist_ok=True)
    write_csv(table, frame)
    write_csv(table.with_suffix(".flow.csv"), pd.DataFrame(flow, columns=["step", "rows", "detail"]))
    write_csv(folder / "unmatched.csv", source.report)
    made |= _OF_THE_SOURCE | {"table": str(table), "images": source.folder}
    made |= {"target": target, "dims": made.get("dims", 3)}
    require_same(frame, table, ["subject", *used_columns(own, made)])
    return made


def classify(frame: pd.DataFrame, column: str, queries: Any, require: bool = True) -> pd.Series:
    """Each row's class by queries; missing where none holds.

    A row where a column that the query names is missing does not have that class.

    Args:
        frame: a tidy frame.
        column: what the new column is called, for messages.
        queries: class -> pandas query.
        require: refuse classes that no row has.

    Raises:
        TableError: fewer than two classes; a query that is none; a row in two classes; a class without a row.

    >>> frame = pd.DataFrame({"subject": list("abc"), "DX": ["CN", "Dementia", "MCI"]})
    >>> classify(frame, "dx", {"CN": "DX == 'CN'", "AD": "DX == 'Dementia'"}).tolist()
    ['CN', 'AD', nan]
    """
    _columns_of(queries)
    if len(queries) < 2:
        raise TableError(f"--define {column}: expected at least two classes, each with a query, got {queries}")
    held = pd.DataFrame({name: matches(frame, query, f"--define {column} {name}") for name, query in queries.items()})
    several = held.sum(axis=1) > 1
    if several.any():
        first = held[several].iloc[0]
        raise TableError(
            f"--define {column}: expected each row in one class, got {int(several.sum())} in several, such as "
            f"{frame.loc[several, 'subject'].iloc[0]} in {' and '.join(first.index[first])}; make the queries exclude "
            "each other"
        )
    empty = [name for name in held if not held[name].any()]
    if require and empty:
        raise TableError(
            f"--define {column}: expected rows of every class, got no row of "
            f"{', '.join(f'{name} ({queries[name]})' for name in empty)}; rows per class: {held.sum().to_dict()}; "
            "check the spelling of the values, `inspect` lists them"
        )
    return held.idxmax(axis=1).where(held.any(axis=1))


def _columns_of(queries: Any) -> set[str]:
    if not isinstance(queries, Mapping) or not all(isinstance(query, str) for query in queries.values()):
        raise TableError(
            f"--define: expected a query for each class, such as {{dx: {{CN: \"DX == 'CN'\", AD: \"DX == 'AD'\"}}}}, "
            f"got {queries!r}"
        )
    if odd := [name for name in queries if not isinstance(name, (str, int)) or isinstance(name, bool)]:
        raise TableError(
            f"--define: expected names of classes, got {odd[0]!r}; YAML reads yes, no, on and off as true and false: "
            "put them in quotes"
        )
    return {name for query in queries.values() for name in columns_of(query)}


def _with_a_class(
    frame: pd.DataFrame, classes: pd.Series, queries: Mapping[str, str], flow: Flow
) -> tuple[pd.DataFrame, pd.Series]:
    """The rows that have a class; in the flow what the others' values are."""
    lost = classes.isna()
    if lost.any():
        others = frame.loc[lost, sorted(_columns_of(queries))]
        counts = {n: others[n].value_counts(dropna=False).head(6).items() for n in others if others[n].nunique() <= 50}
        told = [f"{name}: {', '.join(f'{v} ({count})' for v, count in values)}" for name, values in counts.items()]
        flow.append(("of no class", -int(lost.sum()), "; ".join(told)))
    return frame[~lost], classes[~lost]


def _require_classes(made: Mapping[str, Any], queries: Mapping[str, str]) -> None:
    """The classes of the study, in whatever order, are those that --define names."""
    classes = made["classes"]
    if made.get("positive"):
        return
    said = [value for values in classes.values() for value in values] if isinstance(classes, Mapping) else classes
    if sorted(map(str, said)) != sorted(map(str, queries)):
        raise TableError(
            f"--classes: expected those of --define, {', '.join(queries)}, got {', '.join(map(str, said))}"
        )


def _covariates(own: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The study's covariates and those of single arms."""
    each = [settings, *(arm for arm in as_list(own.get("arms")) if isinstance(arm, Mapping))]
    return list(dict.fromkeys(name for one in each for name in as_list(one.get("covariates"))))


def used_columns(own: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The columns that a study takes from its table."""
    more = [n for name in ("target", "subgroups", "stratify", "split_column") for n in as_list(settings.get(name))]
    return list(dict.fromkeys([*_covariates(own, settings), *more]))


def as_list(value: Any) -> list[Any]:
    """An option of several words as a list: YAML may give one word, or none."""
    return [] if value is None else [value] if isinstance(value, (str, Mapping)) else list(value)


def require_same(frame: pd.DataFrame, table: Path, names: Iterable[str]) -> None:
    """Raise where the table, read as the engine reads it, does not hold what the source's reader gave.

    Raises:
        TableError: the column and the first row that differ.
    """
    back = read_table(table, text=["image", "subject"])
    for name in names:
        if name not in frame.columns:
            continue  # the engine says which columns there are
        dates = pd.api.types.is_datetime64_any_dtype(frame[name])
        own, its = frame[name].astype(object).reset_index(drop=True), back[name].astype(object)
        its = pd.to_datetime(back[name]).astype(object) if dates else its
        same = (own.isna() & its.isna()) | (own.map(as_text) == its.map(as_text))
        if not same.all():
            at = int(same.to_numpy().argmin())
            raise TableError(
                f"column {name!r}: expected the same values in {table} as in the source, got {its[at]!r} for "
                f"{own[at]!r} of {frame['subject'].iloc[at]}; write the source's column so that it reads one way only"
            )


def _require_unchanged(table: Path, frame: pd.DataFrame, own: Mapping[str, Any]) -> None:
    """A study that has begun keeps its table."""
    if not (table.is_file() and (table.parent.parent / "study.yaml").is_file()) or own.get("overwrite"):
        return
    if table.read_text(encoding="utf-8") != frame.to_csv(index=False):
        before = sum(1 for _ in table.open(encoding="utf-8")) - 1
        raise StudyError(
            f"{table}: expected the rows that this study began with ({before}), got others of the source "
            f"({len(frame)}) or other values; give another --out, or --overwrite to throw the old results away"
        )
