"""Task: what every kind of answer has: targets of rows, outputs, a loss, columns of predictions, metrics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from fusionconv.errors import StudyError, TableError

__all__ = ["Array", "Metric", "Task", "numbers_of"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """One number of a table of predictions.

    ``compute(rows)`` gives NaN where it is not defined; ``bounds`` are its least and largest value; ``compares`` says
    that it sets the scores of rows beside each other (AUC), which is fair among scores of one network only.
    """

    name: str
    compute: Callable[[pd.DataFrame], float]
    greater_is_better: bool = True
    bounds: tuple[float, float] = (-math.inf, math.inf)
    compares: bool = False

    def out_of_fold(self, rows: pd.DataFrame) -> float:
        """The metric of rows of several folds (column ``fold``).

        One that compares rows is taken within each fold, whose network gave the scores, and averaged by the folds'
        rows; folds where it is not defined are left out. Ranks of one network's scores among another's say nothing.
        """
        if not self.compares:
            return self.compute(rows)
        parts = [part for _, part in rows.groupby("fold", sort=False)]
        values = np.array([self.compute(part) for part in parts])
        known = np.isfinite(values)
        sizes = np.array([len(part) for part in parts])
        return float(np.average(values[known], weights=sizes[known])) if known.any() else math.nan


class Task(ABC):
    """What a study predicts. Made from the rows that have a target, so that the classes are known.

    Args:
        columns: the target columns of the table.
        loss: the name of the loss, one of ``LOSSES``.
    """

    NAME: ClassVar[str]
    LOSSES: ClassVar[tuple[str, ...]]
    #: whether the answer is an image (`fusionconv.study.tasks.image_out`)
    IMAGE_OUT: ClassVar[bool] = False

    def __init__(self, columns: Sequence[str], loss: str = "default") -> None:
        self.columns = tuple(columns)
        self.loss_name = self.LOSSES[0] if loss == "default" else loss
        if self.loss_name not in self.LOSSES:
            raise StudyError(f"loss: expected one of {', '.join(self.LOSSES)} for task {self.NAME}, got {loss!r}")

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Numbers that the network puts out for an image."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]:
        """Its metrics, the main one first."""

    @abstractmethod
    def targets(self, rows: pd.DataFrame) -> Array:
        """The targets of rows as numbers, (N,) or (N, T) float64."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss of outputs (N, num_outputs) and targets as `targets` gives them (a regression's standardised)."""

    @abstractmethod
    def answers(self, outputs: Array) -> dict[str, Array]:
        """The columns of predictions.csv of outputs (N, num_outputs)."""

    @abstractmethod
    def truth(self, targets: Array) -> dict[str, Array]:
        """The columns of predictions.csv of targets."""

    @abstractmethod
    def describe(self, targets: Array) -> str:
        """How the targets are spread, in one line."""

    @abstractmethod
    def scores(self, predictions: pd.DataFrame) -> Array:
        """The answers as covariates of a model on top (arm `stacked`), (N, S): log odds, a number, a log hazard."""

    @abstractmethod
    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The columns that are averaged over seeds and networks."""

    def decide(self, predictions: pd.DataFrame, threshold: float = 0.5) -> pd.DataFrame:
        """Predictions with what follows from their scores, such as ``decision``."""
        return predictions

    def class_weights(self, targets: Array) -> Array | None:
        """Weights of the classes in the loss, of the training targets; None for none."""
        return None

    def strata(self, rows: pd.DataFrame) -> pd.Series[Any]:
        """What folds are stratified by."""
        return rows[self.columns[0]]

    def metric(self, name: str | None) -> Metric:
        """A metric by name; None: the main one."""
        known = {m.name: m for m in self.metrics}
        if name is not None and name not in known:
            raise StudyError(f"metric: expected one of {', '.join(known)} for task {self.NAME}, got {name!r}")
        return self.metrics[0] if name is None else known[name]

    def chooses(self, select: str | None) -> tuple[str, bool]:
        """What chooses the epoch on the validation part, ``loss`` or a metric, and whether more of it is better.

        The default is the loss: a metric of ranks, such as AUC, is often the same for many epochs, the first of them
        badly calibrated. Cox's loss depends on the batch, so survival is chosen by its metric.
        """
        if select == "loss" or (select in (None, "last") and self.NAME != "survival"):
            return "loss", False
        metric = self.metric(None if select == "last" else select)
        return metric.name, metric.greater_is_better

    def measure(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Every metric of predictions."""
        return {m.name: m.compute(predictions) for m in self.metrics}

    def absent(self, targets: Array) -> list[str]:
        """The classes that these targets lack; for other tasks none."""
        return []

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values from which `fusionconv.study.tasks.make_task` makes the same task."""
        return {"task": self.NAME, "columns": list(self.columns), "loss": self.loss_name}


def numbers_of(rows: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """A column as finite float64.

    Raises:
        TableError: the column holds text or no finite numbers.
    """
    values = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        first = rows.loc[bad, column].iloc[0]
        raise TableError(
            f"target {column!r}: expected finite numbers, got {first!r} and others in {int(bad.sum())} of {len(rows)} "
            "rows; correct or drop these rows, declare codes with missing_codes, or give --task"
        )
    return values
