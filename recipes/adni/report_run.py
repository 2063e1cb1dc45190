"""A cross-validation as it lies on the disk: what was asked, which folds are done, their results, rows and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fusionconv.tabular import read_table
from recipes.adni.arms import ARMS
from recipes.adni.summary import read_predictions, read_results
from recipes.adni.tasks import Task
from recipes.common.runs import RunError

IDS = ["subject", "session", "image"]


@dataclass(frozen=True)
class CrossRun:
    """What crossval left in a run's folder, its arms in the order of the configuration."""

    folder: Path
    config: dict[str, Any]
    task: Task
    arms: list[str]  # those with a finished fold
    folds: list[str]  # as planned
    reference: str
    results: pd.DataFrame  # `summary.read_results`
    predictions: pd.DataFrame  # `summary.read_predictions` with the true covariates, a categorical column arm
    facts: list[dict[str, Any]]  # the result.json of each arm and fold
    rows: pd.DataFrame | None  # rows.csv: the columns of the table, a row per image; None in an older run
    source: dict[str, Any]  # source.json
    undone: dict[str, int]  # arm -> folds that are planned and not finished

    @property
    def metric(self) -> str:
        """The task's main metric."""
        return self.task.metrics[0]

    @property
    def metrics(self) -> list[str]:
        """The task's metrics that were measured."""
        return [name for name in self.task.metrics if name in self.results]

    @property
    def first_repeat(self) -> pd.DataFrame:
        """Predictions of the first repeat: every subject once, each by a network that was not trained on it."""
        repeat = self.predictions["fold"].str.split("-").str[0]
        return self.predictions[repeat == "repeat0"]

    def options(self, arm: str) -> dict[str, Any]:
        """What an arm changes in --model."""
        return next(fact["options"] for fact in self.facts if fact["arm"] == arm)


def read_run(folder: Path) -> CrossRun:
    """Read a run's folder.

    Raises:
        RunError: it is no folder of crossval, or no fold is finished.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "folds").is_dir():
        raise RunError(
            f"{folder} is no cross-validation (config.yaml and folds/ are expected in it). Give the --experiment and "
            "--root_dir of `python -m recipes.adni crossval`."
        )
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    task = Task(**config["data"]["task"])
    results, predictions = read_results(folder), read_predictions(folder)
    found = list(dict.fromkeys(results["arm"]))
    planned = [*(config.get("arms") or ARMS)]
    arms = [arm for arm in planned if arm in found] + [arm for arm in found if arm not in planned]
    folds = _planned_folds(folder) or sorted(results["fold"].unique())
    facts = [
        json.loads((folder / "folds" / arm / fold / "result.json").read_text(encoding="utf-8"))
        for arm in arms
        for fold in folds
        if (folder / "folds" / arm / fold / "result.json").is_file()
    ]
    done = results[results["control"] == "true"].groupby("arm")["fold"].nunique()
    undone = {arm: len(folds) - int(done.get(arm, 0)) for arm in dict.fromkeys([*planned, *arms])}
    finished = predictions.set_index(["arm", "fold"]).index.isin(results.set_index(["arm", "fold"]).index)
    predictions = predictions[finished & (predictions["control"] == "true")]
    source = folder / "source.json"
    return CrossRun(
        folder=folder,
        config=config,
        task=task,
        arms=arms,
        folds=folds,
        reference=config.get("reference") or planned[0],
        results=_in_order(results, arms, folds),
        predictions=_in_order(predictions, arms, folds),
        facts=facts,
        rows=_read_rows(folder / "rows.csv"),
        source=json.loads(source.read_text(encoding="utf-8")) if source.is_file() else {},
        undone={arm: count for arm, count in undone.items() if count},
    )


def _planned_folds(folder: Path) -> list[str]:
    path = folder / "folds.csv"
    return [name for name in pd.read_csv(path, nrows=0) if name.startswith("repeat")] if path.is_file() else []


def _read_rows(path: Path) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    rows = read_table(path, text=IDS)
    return rows.assign(session=rows["session"].astype(object).where(rows["session"].notna(), ""))


def _in_order(table: pd.DataFrame, arms: list[str], folds: list[str]) -> pd.DataFrame:
    """Arms and folds as they were asked for; files come in alphabetical order."""
    order = table["arm"].map(arms.index) * len(folds) + table["fold"].map(folds.index)
    return table.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def with_rows(run: CrossRun, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions beside the columns of the source's table, joined by subject, session and image.

    Raises:
        RunError: rows.csv is not there, or is not of these predictions.
    """
    if run.rows is None:
        raise RunError(f"{run.folder / 'rows.csv'} is not there; run crossval again, which writes it.")
    keys = predictions[IDS].assign(session=predictions["session"].fillna(""))
    own = run.rows[[*IDS, *(name for name in run.rows if name not in set(predictions))]]
    joined = predictions.drop(columns=IDS).join(keys).merge(own, on=IDS, how="left", indicator="_found")
    if len(joined) != len(predictions) or (joined["_found"] != "both").any():
        raise RunError(
            f"{run.folder / 'rows.csv'} is expected to hold each predicted image once, and does not; was it changed?"
        )
    return joined.drop(columns="_found")
