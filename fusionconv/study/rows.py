"""Rows: from a table and a folder of images to the rows that a study analyses, and what became of all others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError, TableError
from fusionconv.study.sequences import with_sequences
from fusionconv.study.settings import Settings, require_places
from fusionconv.study.tasks import Task, make_task
from fusionconv.study.tasks.base import Array
from fusionconv.study.tasks.classes import as_text
from fusionconv.study.tasks.segmentation import read_classes

if TYPE_CHECKING:
    from fusionconv.study.image_store import ImageStore

__all__ = ["Flow", "Rows", "read_rows", "with_strata"]

_MOST_CLASSES = 20  # texts: more are no classes
_FEW_NUMBERS = 10  # different whole numbers: more are a measure


@dataclass
class Flow:
    """How many rows were read, left out (and why), and are analysed.

    Attributes:
        lines: step, rows, detail.
        lost: every row that was left out for its image: its place in the table -> its id and the reason.
    """

    lines: list[tuple[str, int, str]] = field(default_factory=list)
    lost: dict[int, tuple[str, str]] = field(default_factory=dict)

    def note(self, what: str, count: int, detail: str = "") -> None:
        """Add a line."""
        self.lines.append((what, count, detail))

    def note_analysed(self, frame: pd.DataFrame) -> None:
        """Add a line with the rows that are left."""
        self.note("analysed", len(frame), f"{frame['subject'].nunique()} subjects")


@dataclass(frozen=True)
class Rows:
    """The rows in use, in the table's order.

    Attributes:
        frame: the table's columns, and ``id`` and ``subject``, text; index 0 to N-1.
        images: the paths of each row's images, a column per image column, index ``id``; NaN where one is missing.
        targets: as `Task.targets` gives them.
        task: what is predicted.
        flow: what became of the rows.
        notes: what a person should know, such as which class is the positive one.
        target_files: the paths of each row's masks or target images, index ``id``; None for a task of numbers.
        places: id -> the row's place in the table, from 0.
    """

    frame: pd.DataFrame
    images: pd.DataFrame
    targets: Array
    task: Task
    flow: Flow
    notes: tuple[str, ...] = ()
    target_files: pd.DataFrame | None = None
    places: dict[str, int] = field(default_factory=dict)

    def usable(self, store: ImageStore, option: str, on_error: str) -> Rows:
        """The rows whose files the store could decode; the others are noted in the flow.

        Args:
            store: of these rows.
            option: ``images`` or ``target``, that named the files; for messages.
            on_error: fail or skip.

        Raises:
            StudyError: some cannot be used, and ``on_error`` is fail.
        """
        if not store.failed:
            return self
        what, first = option.removesuffix("s"), "; ".join(store.problems()[:3])
        if on_error == "fail":
            raise StudyError(
                f"{option}: expected {len(self.frame)} {what}s that can be used, got {len(store.failed)} that cannot: "
                f"{first}; --on-error skip leaves these rows out and counts them"
            )
        chosen = self.frame["id"].isin(store.ids).to_numpy()
        frame = self.frame[chosen].reset_index(drop=True)
        self.flow.note(f"{what} cannot be used", -int((~chosen).sum()), first)
        self.flow.note_analysed(frame)
        files = None if self.target_files is None else self.target_files.loc[frame["id"]]
        return replace(
            self, frame=frame, images=self.images.loc[frame["id"]], targets=self.targets[chosen], target_files=files
        )


def read_rows(settings: Settings, task: Task | None = None, *, with_target: bool = True) -> Rows:
    """Read the table, choose rows and classes, find the images.

    Args:
        settings: of the study.
        task: the task of a study that exists (its classes are known); None: decided from the target.
        with_target: False for rows to predict: no target is needed.

    Raises:
        StudyError: an option that does not fit the table.
        TableError: the table cannot be used as it is; see `fusionconv.tabular.read_table`.
    """
    require_places(settings.table, settings.images)
    from fusionconv.tabular import read_table, require_columns

    text = [*settings.image_column, *([settings.subject] if settings.subject else [])]
    where = str(settings.table)
    stay = settings.text
    if stay and not with_target:  # rows to predict need not have the columns that nothing asks for
        columns = set(read_table(where, numbers=False, sheet=settings.sheet))
        stay = [name for name in stay if name in columns]
    try:
        frame = read_table(
            where, text=list(dict.fromkeys([*text, *stay])), sheet=settings.sheet, decimal=settings.decimal
        )
    except TableError:
        _require_columns(where, settings, [*text, *stay])  # by our options' names, where that is why
        raise
    targets = list(settings.target) if with_target else []
    if with_target and not targets:
        raise StudyError(f"target: expected a column of the table, got none; it has {', '.join(map(str, frame))}")
    split = [settings.split_column] if settings.split_column and with_target else []
    pixels = [settings.pixel_size] if settings.pixel_size else []
    needed = [*text, *targets, *settings.covariates, *pixels, *split, *settings.subgroups, *settings.stratify]
    require_columns(frame, list(dict.fromkeys(needed)), where)
    answers = [name for name in settings.covariates if name in settings.target]
    if answers:
        raise StudyError(f"covariates: expected columns beside the target, got {answers}, the answer; leave it out")
    flow = Flow()
    notes: list[str] = []
    for line in _before(where):
        flow.note(*line)
    flow.note("rows of the table", len(frame))
    frame = _query(frame, settings.rows, flow)
    if with_target:
        frame, task, notes = _with_targets(frame, settings, flow, task)
    elif task is None:
        raise ValueError("a task is needed for rows without targets")
    files: pd.DataFrame | None = None
    if task.IMAGE_OUT and with_target:
        frame, files = _with_target_files(frame, settings, flow)
    frame, images, places = _with_images(frame, settings, flow)
    if files is not None:
        files = files.loc[frame["_row"]].set_axis(images.index)
        frame = frame.drop(columns="_row")
    frame = with_sequences(_with_subjects(frame, settings, notes), images, settings)
    if with_target and settings.limit is not None:
        frame = _limited(frame, settings, task, flow)
        images = images.loc[frame["id"]]
        files = None if files is None else files.loc[frame["id"]]
    flow.note_analysed(frame)
    values = task.targets(frame) if with_target else np.zeros((len(frame), 0))
    return Rows(frame, images, values, task, flow, tuple(notes), files, places)


def with_strata(frame: pd.DataFrame, task: Task, settings: Settings) -> tuple[pd.DataFrame, str]:
    """The rows with a column of what their target stratifies by, and its name, which warnings give."""
    name = "the target's " + ", ".join(settings.target)
    return frame.assign(**{name: task.strata(frame).to_numpy()}), name


def _before(table: str) -> list[tuple[str, int, str]]:
    """What happened to rows before they were in the table: TABLE.flow.csv beside it (step, rows, detail), if any."""
    path = Path(table).with_suffix(".flow.csv")
    if not path.is_file():
        return []
    lines = pd.read_csv(path, dtype={"step": str, "detail": str}, keep_default_na=False)
    return [(step, int(count), detail) for step, count, detail in lines.itertuples(index=False)]


def _require_columns(where: str, settings: Settings, names: Sequence[str]) -> None:
    """Raise where a column that stays text is absent, by our options' names rather than read_table's."""
    from fusionconv.tabular import read_table

    columns = [str(c) for c in read_table(where, numbers=False, sheet=settings.sheet)]
    options = {**dict.fromkeys(settings.text, "text"), **dict.fromkeys(settings.image_column, "image-column")}
    if settings.subject:
        options[settings.subject] = "subject"
    for name in names:
        if name not in columns:
            raise StudyError(
                f"--{options[name]}: expected a column of {where}, got {name!r}; it has {', '.join(columns)}"
            )


def _query(frame: pd.DataFrame, query: str | None, flow: Flow) -> pd.DataFrame:
    if query is None:
        return frame
    try:
        chosen = frame.eval(query)
    except Exception as error:  # pandas raises many kinds: names, syntax, types
        raise StudyError(f'rows: expected a query such as "age >= 18", got {query!r} ({error}); correct it') from error
    if not (isinstance(chosen, pd.Series) and pd.api.types.is_bool_dtype(chosen)):
        raise StudyError(f"rows: expected a query that says yes or no for each row, got {query!r}; correct it")
    chosen = chosen.fillna(False).to_numpy(dtype=bool)
    flow.note("not among --rows", -int((~chosen).sum()), query)
    if not chosen.any():
        raise StudyError(f"rows: expected at least one row with {query!r}, got none of {len(frame)}")
    return frame[chosen]


def _with_targets(
    frame: pd.DataFrame, settings: Settings, flow: Flow, task: Task | None
) -> tuple[pd.DataFrame, Task, list[str]]:
    """The rows with a target, and the task."""
    columns = list(settings.target)
    codes = {as_text(v) for v in settings.missing_codes}
    missing = frame[columns].isna() | frame[columns].map(lambda v: as_text(v) in codes)
    lost = missing.any(axis=1).to_numpy()
    flow.note("target missing", -int(lost.sum()), ", ".join(columns))
    frame = frame[~lost]
    if frame.empty:
        raise StudyError(f"target: expected rows with a value in {', '.join(columns)}, got none")
    if settings.drop:
        gone = {as_text(v) for v in settings.drop}
        values = frame[columns[0]].map(as_text)
        if unknown := sorted(gone - set(values)):
            raise StudyError(f"drop: expected values of {columns[0]!r}, got {unknown}; {_spread(frame[columns[0]])}")
        flow.note("target left out by --drop", -int(values.isin(gone).sum()), ", ".join(sorted(gone)))
        frame = frame[~values.isin(gone)]
    notes: list[str] = []
    if task is None:
        name = settings.task if settings.task != "auto" else _guess(frame, settings)
        made: dict[str, Any] = {"task": name, "columns": columns, "loss": settings.loss}
        if name == "segmentation" and settings.classes:
            made["classes"] = read_classes(settings.classes)
        if name in ("binary", "multiclass"):
            made["classes"] = _classes(frame[columns[0]], settings, name)
            if name == "binary":
                notes.append(f"the positive class is {list(made['classes'])[1]!r}")
        task = make_task(made)
    if hasattr(task, "classes"):
        known = {v for values in task.classes.values() for v in values}
        other = ~frame[columns[0]].map(as_text).isin(known)
        if other.any():
            names = ", ".join(f"{v} ({n})" for v, n in frame.loc[other, columns[0]].value_counts().head(6).items())
            flow.note("target of no class", -int(other.sum()), names)
            frame = frame[~other]
    return frame, task, notes


def _with_target_files(frame: pd.DataFrame, settings: Settings, flow: Flow) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose masks or target images are there, numbered in ``_row``, and the paths by that number."""
    base = Path(settings.target_folder or settings.images or Path(str(settings.table)).resolve().parent)
    files, why = _paths(frame, settings.target, base, empty_is_lost=True)
    lost = np.array([at in why for at in range(len(frame))])
    if lost.all():
        raise StudyError(
            f"target: expected files of masks or target images under {base}, got none: {next(iter(why.values()))}; "
            "check --target and --target-folder"
        )
    if lost.any():
        flow.note("target image not there", -int(lost.sum()), next(iter(why.values())))
    files, frame = files[~lost].reset_index(drop=True), frame[~lost]
    return frame.assign(_row=range(len(frame))), files


def _guess(frame: pd.DataFrame, settings: Settings) -> str:
    """The task that the target's values say; an error that asks where they could say two."""
    columns = list(settings.target)
    if len(columns) > 1:
        small = all(frame[c].map(as_text).nunique() <= 2 for c in columns)
        if small:
            return "multilabel"
        raise StudyError(f"task: expected to be told what {len(columns)} target columns mean; give --task survival "
                         "(time and event) or --task multilabel")  # fmt: skip
    column = frame[columns[0]]
    different = column.map(as_text).nunique()
    if settings.positive:
        return "binary"
    if settings.classes:
        return "binary" if len(settings.classes) == 2 else "multiclass"
    if different < 2:
        raise StudyError(
            f"target: expected at least two different values in {columns[0]!r}, got only {_counts(column)}"
        )
    if different == 2:
        return "binary"
    if pd.api.types.is_numeric_dtype(column):
        whole = bool((column % 1 == 0).all())
        if whole and different <= _FEW_NUMBERS:
            raise StudyError(
                f"task: expected to be told whether {columns[0]!r} holds classes or numbers ({_spread(column)}); give "
                "--task multiclass, --task regression, or --positive VALUES"
            )
        return "regression"
    if different > _MOST_CLASSES:
        raise StudyError(
            f"target: expected up to {_MOST_CLASSES} classes or numbers in {columns[0]!r}, got {different} different "
            f"texts; group them with --positive or --classes, or choose another column"
        )
    return "multiclass"


def _classes(column: pd.Series[Any], settings: Settings, name: str) -> dict[str, list[str]]:
    """The classes by name, each with its values; binary: negative, positive."""
    values = column.map(as_text)
    found = sorted(set(values), key=lambda v: (0, float(v), v) if _is_number(v) else (1, 0.0, v))
    if settings.positive:
        positive = [as_text(v) for v in settings.positive]
        if unknown := [v for v in positive if v not in found]:
            raise StudyError(f"positive: expected values of the target, got {unknown}; {_spread(column)}")
        negative = [v for v in found if v not in positive]
        if not negative:
            raise StudyError(f"positive: expected some of the target's values, got all of {found}; leave some out")
        return {_title(negative, "negative"): negative, _title(positive, "positive"): positive}
    if isinstance(settings.classes, dict):
        classes = {
            str(k): [as_text(v) for v in (w if isinstance(w, list) else [w])] for k, w in settings.classes.items()
        }
    elif settings.classes:
        classes = {as_text(v): [as_text(v)] for v in settings.classes}
    else:
        classes = {v: [v] for v in found}
    each = [v for values_ in classes.values() for v in values_]
    if unknown := [v for v in each if v not in found]:
        raise StudyError(f"classes: expected values of the target, got {unknown}; {_spread(column)}")
    if len(set(each)) < len(each):
        raise StudyError(f"classes: expected each value in one class, got {each}")
    if len(classes) < 2 or (name == "binary" and len(classes) != 2):
        need = "two classes" if name == "binary" else "at least two classes"
        raise StudyError(f"task {name}: expected {need}, got {', '.join(classes)} ({_spread(column)}); group them with "
                         "--positive VALUES or --classes")  # fmt: skip
    return classes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _title(values: Sequence[str], other: str) -> str:
    return values[0] if len(values) == 1 else other


def _spread(column: pd.Series[Any]) -> str:
    return f"there are {_counts(column)}"


def _counts(column: pd.Series[Any]) -> str:
    counts = column.map(as_text).value_counts()
    more = f" and {len(counts) - 8} more" if len(counts) > 8 else ""
    return ", ".join(f"{value} ({count})" for value, count in counts.head(8).items()) + more


def _with_images(
    frame: pd.DataFrame, settings: Settings, flow: Flow
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The rows whose images are there, each with an ``id``, the paths, and each id's place in the table.

    The frame's index is the place in the table. Every row that is left out goes into ``flow.lost``.
    """
    base = Path(settings.images) if settings.images else Path(str(settings.table)).resolve().parent
    if taken := [n for n in ("id",) if n in frame.columns and n not in settings.image_column]:
        frame = frame.rename(columns={n: f"{n} (table)" for n in taken})
    images, why = _paths(frame, settings.image_column, base, settings.suffix)
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


def _id_of_cells(cells: Sequence[Any], suffix: str) -> str:
    """What would be the id of a row whose image is not there: the first path that it names; empty where none."""
    said = (_said(cell, suffix) for cell in cells)
    return next((os.path.normpath(path) for path in said if path is not None), "")


def _said(cell: Any, suffix: str) -> str | None:
    """The path that a cell names; None where it is empty."""
    if cell is None or cell != cell or not str(cell).strip():
        return None
    return str(cell).strip().replace("\\", "/") + suffix


def image_path(cell: Any, base: Path, suffix: str = "") -> tuple[str | None, str | None]:
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
        raise TableError(f"expected paths inside {base}, got {said!r}, which leaves it; give as --images the folder "
                         "that all images are in")  # fmt: skip
    if full.is_file():
        return str(full), None
    if full.is_symlink():
        return None, f"{full} is a link to a file that is not there (fetch it: datalad get, git annex get)"
    if full.is_dir():
        return None, f"{full} is a folder"
    return None, f"there is no file {full}"


def _paths(
    frame: pd.DataFrame, columns: Sequence[str], base: Path, suffix: str = "", empty_is_lost: bool = False
) -> tuple[pd.DataFrame, dict[int, str]]:
    """The paths that some columns name, NaN where there is none, and why (by a row's place) one is missing."""
    why: dict[int, str] = {}
    paths: dict[str, list[Any]] = {}
    for name in columns:
        found = [image_path(cell, base, suffix) for cell in frame[name]]
        for at, (path, reason) in enumerate(found):
            if path is None and (reason is not None or empty_is_lost):
                why.setdefault(at, reason or f"{name} is empty")
        paths[name] = [np.nan if path is None else path for path, _ in found]
    return pd.DataFrame(paths, dtype=object), why


def _with_subjects(frame: pd.DataFrame, settings: Settings, notes: list[str]) -> pd.DataFrame:
    if settings.subject is None:
        notes.append("no --subject was given: every row counts as a subject of its own")
        return frame.assign(subject=frame["id"])
    column = settings.subject
    if column == "id" and "id (table)" in frame:  # `_with_images` made room for its own
        column = "id (table)"
    lost = frame[column].isna()
    if lost.any():
        raise TableError(
            f"subject: expected a value of {settings.subject!r} in every row, got {int(lost.sum())} without, such as "
            f"{frame.loc[lost, 'id'].iloc[0]}; fill them in, or leave these rows out with --rows"
        )
    return frame.assign(subject=frame[column].map(str))


def _limited(frame: pd.DataFrame, settings: Settings, task: Task, flow: Flow) -> pd.DataFrame:
    """So many subjects, drawn by the seed, the classes in proportion."""
    from fusionconv.tabular import holdout

    subjects = frame["subject"].nunique()
    limit = int(settings.limit or subjects)
    if limit >= subjects:
        return frame
    share = limit / subjects
    told, by_target = with_strata(frame, task, settings)
    sides = holdout(told, {"in": share, "out": 1 - share}, stratify=by_target, seed=settings.seed)
    chosen = (sides == "in").to_numpy()
    flow.note("beyond --limit", -int((~chosen).sum()), f"{limit} of {subjects} subjects")
    return frame[chosen].reset_index(drop=True)
