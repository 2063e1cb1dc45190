"""Two finished studies, or runs of them, on the same rows and folds: fusionconv report ONE --against OTHER."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.evaluation import holm
from fusionconv.study.files import read_json, write_csv
from fusionconv.study.folder import read_study
from fusionconv.study.results import compared, measured, read_runs
from fusionconv.study.settings import Settings, make_settings
from fusionconv.study.tasks import Task, make_task

__all__ = ["compare_studies"]


@dataclass(frozen=True)
class _Side:
    """A finished study, or one arm of it."""

    out: Path
    arm: str | None
    task: Task
    settings: Settings
    runs: pd.DataFrame
    predictions: pd.DataFrame


def compare_studies(one: str | Path, other: str | Path) -> tuple[pd.DataFrame, Path]:
    """Each arm of ``one`` minus the arm of ``other`` with the same name, by the tests of comparisons.csv.

    Where no name is in both (two runs of different arms, say), every arm is compared with every other. ``p_holm`` is
    corrected over all of these pairs.

    Args:
        one: folder of a finished comparison, or of an arm of it (``OUT/runs/ARM``).
        other: another one, of the same rows, targets and folds.

    Returns:
        The table, and the file that it is in: ``against-OTHER.csv`` in ``one``'s folder.

    Raises:
        StudyError: rows, targets, test folds or tasks are not the same; a run is not finished.
    """
    first, second = _open(Path(one)), _open(Path(other))
    if (first.out.resolve(), first.arm) == (second.out.resolve(), second.arm):
        raise StudyError(f"against: expected another study or run, got {other} twice")
    _require_same(first, second)
    mine, theirs = (list(dict.fromkeys(side.runs["arm"])) for side in (first, second))
    pairs = [(arm, arm) for arm in mine if arm in theirs] or [(a, b) for a in mine for b in theirs]
    title = second.out.name if second.out.resolve() != first.out.resolve() else "here"
    metric = first.task.metric(first.settings.metric)
    tables = []
    for arm, reference in pairs:
        name = f"{title}: {reference}"
        own = first.predictions[first.predictions["arm"] == arm]
        base = second.predictions[second.predictions["arm"] == reference].assign(arm=name)
        both = pd.concat([own, base], ignore_index=True)
        runs = first.runs[first.runs["arm"] == arm]
        sizes = float(runs["n_train"].mean()), float(runs["n_test"].mean())
        tables.append(compared(both, measured(both, first.task), first.task, metric, first.settings, name, sizes))
    table = pd.concat(tables, ignore_index=True)
    table["p_holm"] = table.groupby(["test", "metric"])["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    path = first.out / f"against-{second.out.name if second.arm is None else f'{second.out.name}-{second.arm}'}.csv"
    write_csv(path, table)
    return table, path


def _open(path: Path) -> _Side:
    arm = None
    if path.parent.name == "runs" and (path.parent.parent / "study.yaml").is_file():
        path, arm = path.parent.parent, path.name
    saved, notes = read_study(path), read_json(path / "notes.json")
    if notes is None or not (path / "folds.csv").is_file():
        raise StudyError(f"{path}: expected a finished comparison, got one that never began; run fusionconv compare")
    task, settings = make_task(notes["task"]), make_settings(saved["settings"])
    runs, predictions = read_runs(path, task)
    if arm is not None:
        runs, predictions = runs[runs["arm"] == arm], predictions[predictions["arm"] == arm]
        if runs.empty:
            raise StudyError(f"{path}: expected finished runs of {arm!r}, got none; run fusionconv compare")
    folds = set(_folds(path).columns) - {"subject"}
    for name, own in runs.groupby("arm"):
        if left := sorted(folds - set(own["fold"])):
            raise StudyError(f"{path}: expected a run of {name} on every fold, got none on {', '.join(left)}; "
                             "the same compare command does what is left")  # fmt: skip
    return _Side(path, arm, task, settings, runs, predictions)


def _folds(path: Path) -> pd.DataFrame:
    return pd.read_csv(path / "folds.csv", dtype=str, keep_default_na=False).set_index("id").sort_index()


def _require_same(first: _Side, second: _Side) -> None:
    where = f"against: expected the rows, targets and folds of {first.out}, got others in {second.out}"
    do = "; compare both on one table with the same --subject, --folds and --seed"
    if first.task.settings != second.task.settings:
        raise StudyError(f"{where} (task {first.task.NAME} of {', '.join(first.task.columns)}, and {second.task.NAME} "
                         f"of {', '.join(second.task.columns)}, or other classes or losses){do}")  # fmt: skip
    one, other = _folds(first.out), _folds(second.out)
    if only := sorted(set(one.index) ^ set(other.index)):
        raise StudyError(f"{where} ({len(only)} rows are in one only, such as {only[0]}){do}")
    if list(one.columns) != list(other.columns):
        raise StudyError(f"{where} (folds {', '.join(one.columns[1:])} and {', '.join(other.columns[1:])}){do}")
    for column in one.columns:
        differ = one[column] != other[column]
        if differ.any():
            name = str(differ.index[differ][0])
            raise StudyError(f"{where} ({column} of {int(differ.sum())} rows, such as {name}: {one[column][name]} "
                             f"and {other[column][name]}){do}")  # fmt: skip
    truth = [c for c in map(str, first.predictions) if c in ("target", "time", "event") or c.startswith("target_")]
    keys: list[Any] = ["fold", "id"]
    targets = [side.predictions.drop_duplicates(keys).set_index(keys)[truth].sort_index() for side in (first, second)]
    if not targets[0].equals(targets[1].reindex(targets[0].index)):
        raise StudyError(f"{where} ({', '.join(truth)} of some rows){do}")
