"""Task survival: time to an event, seen or not; the network puts out a log hazard (Cox 1972)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fusionconv.errors import EvaluationError, TableError
from fusionconv.study.tasks.base import Array, Metric, Task, numbers_of

__all__ = ["Survival", "cox_loss"]


class Survival(Task):
    """Targets: the time to the event or to the end of observation (positive), and whether the event was seen (0, 1)."""

    NAME = "survival"
    LOSSES = ("cox",)

    def __init__(self, columns: Sequence[str], loss: str = "default") -> None:
        super().__init__(columns, loss)
        if len(self.columns) != 2 or self.columns[0] == self.columns[1]:
            raise TableError(
                f"survival: expected two target columns, time and event, got {list(columns)}; --target TIME EVENT"
            )

    @property
    def num_outputs(self) -> int:
        """One log hazard."""
        return 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Harrell's concordance."""
        return (Metric("c_index", _c_index, True, (0, 1), compares=True),)

    def targets(self, rows: pd.DataFrame) -> Array:
        """(N, 2): time, event."""
        time, event = (numbers_of(rows, name) for name in self.columns)
        if (time <= 0).any() or not np.isin(event, [0, 1]).all():
            raise TableError(
                f"survival: expected positive times in {self.columns[0]!r} and 0 or 1 in {self.columns[1]!r}, got "
                f"times from {time.min():g} and events {np.unique(event)[:5].tolist()}; leave such rows out with "
                f"--rows '{self.columns[0]} > 0'"
            )
        return np.stack([time, event], axis=1)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Negative log partial likelihood of the batch's risk sets, divided by its events."""
        return cox_loss(outputs.squeeze(1), targets[:, 0], targets[:, 1] > 0)

    def answers(self, outputs: Array) -> dict[str, Array]:
        """``log_hazard``."""
        return {"log_hazard": np.asarray(outputs)[:, 0]}

    def truth(self, targets: Array) -> dict[str, Array]:
        """``time`` and ``event``."""
        return {"time": targets[:, 0], "event": targets[:, 1].astype(int)}

    def describe(self, targets: Array) -> str:
        """Events and times."""
        return f"{int(targets[:, 1].sum())} events in {len(targets)} rows, {self.columns[0]} to {targets[:, 0].max():g}"

    def scores(self, predictions: pd.DataFrame) -> Array:
        """The log hazard."""
        return predictions[["log_hazard"]].to_numpy()

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The log hazard."""
        return ["log_hazard"]

    def absent(self, targets: Array) -> list[str]:
        """An event that was seen: without any there is nothing to learn from or to choose by."""
        return [] if (targets[:, 1] > 0).any() else ["event"]

    def strata(self, rows: pd.DataFrame) -> pd.Series[Any]:
        """Whether the event was seen."""
        return rows[self.columns[1]]


def _c_index(rows: pd.DataFrame) -> float:
    from fusionconv.evaluation import concordance_index

    try:
        return float(
            concordance_index(rows["time"].to_numpy(), rows["event"].to_numpy(), rows["log_hazard"].to_numpy())
        )
    except EvaluationError:  # no pair can be compared
        return math.nan


def cox_loss(log_hazard: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Negative Cox log partial likelihood per event (Efron's ties), through torchsurv; 0 without any event.

    With the risk set R_i = {j: t_j >= t_i} and no ties: ``-1/E sum_{i: event} (h_i - log sum_{j in R_i} exp h_j)``.
    """
    from torchsurv.loss.cox import neg_partial_log_likelihood

    if not bool(event.any()):
        return log_hazard.sum() * 0.0
    log_hazard = log_hazard.float()
    log_hazard = log_hazard - log_hazard.max().detach()  # the likelihood knows only differences; exp must not overflow
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Ties in `time`")  # Efron's way with them is what is asked for
        loss: Tensor = neg_partial_log_likelihood(log_hazard, event, time.float(), "efron", reduction="sum")
    return loss / event.sum()
