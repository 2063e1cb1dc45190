"""Rows: from a table and a folder of images to the rows that a study analyses, and what became of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError, TableError
from fusionconv.study.flow import Flow
from fusionconv.study.row_images import with_images, with_target_files
from fusionconv.study.row_targets import with_targets
from fusionconv.study.sequences import with_sequences
from fusionconv.study.settings import Settings, require_places
from fusionconv.study.tasks import Task
from fusionconv.study.tasks.base import Array
from fusionconv.tabular.ids import id_text

if TYPE_CHECKING:
    from fusionconv.study.image_store import ImageStore

__all__ = ["Rows", "read_rows", "with_strata"]


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
    if not with_target:  # rows to predict need not have the columns that nothing asks for, nor numbers in them
        asked = {*settings.covariates, *_read_beside(settings)}
        columns = [str(name) for name in read_table(where, numbers=False, sheet=settings.sheet)]
        stay = [name for name in columns if name not in asked or name in settings.text]
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
    _refuse_own_names(settings)
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
        frame, task, notes = with_targets(frame, settings, flow, task)
    elif task is None:
        raise ValueError("a task is needed for rows without targets")
    files: pd.DataFrame | None = None
    if task.IMAGE_OUT and with_target:
        frame, files = with_target_files(frame, settings, flow)
    frame, images, places = with_images(frame, settings, flow)
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


def _read_beside(settings: Settings) -> list[str]:
    """The columns that kinds read beside their own, such as the date of the exam for an age."""
    return [str(kind["at"]) for kind in settings.kinds.values() if isinstance(kind, dict) and "at" in kind]


def _refuse_own_names(settings: Settings) -> None:
    """Raise where an option names a column ``id`` or ``subject`` of the table, which the rows have of their own.

    ``--subject`` and ``--image-column`` may: they are what these are made from.
    """
    options: dict[str, Sequence[str | None]] = {
        "target": settings.target, "covariates": settings.covariates,
        "pixel-size": [settings.pixel_size], "split-column": [settings.split_column],
        "stratify": settings.stratify, "subgroups": settings.subgroups, "kinds": _read_beside(settings),
    }  # fmt: skip
    for option, names in options.items():
        for name in names:
            if name in ("id", "subject"):
                raise StudyError(
                    f"--{option}: expected a column with a name of its own, got {name!r}, which in a study is the "
                    f"{'image' if name == 'id' else 'person'} of a row; rename the column in the table"
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


def _with_subjects(frame: pd.DataFrame, settings: Settings, notes: list[str]) -> pd.DataFrame:
    column = settings.subject
    if column != "subject" and "subject" in frame:
        frame = frame.rename(columns={"subject": "subject (table)"})
    if column is None:
        notes.append("no --subject was given: every row counts as a subject of its own")
        return frame.assign(subject=frame["id"])
    if column == "id" and "id (table)" in frame:  # `with_images` made room for its own
        column = "id (table)"
    lost = frame[column].map(id_text).isna()
    if lost.any():
        said = frame.loc[lost, column].iloc[0]
        raise TableError(
            f"subject: expected a value of {settings.subject!r} in every row, got {int(lost.sum())} without, such as "
            f"{frame.loc[lost, 'id'].iloc[0]}{f' ({said!r})' if isinstance(said, str) else ''}; fill them in, or leave "
            "these rows out with --rows"
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
