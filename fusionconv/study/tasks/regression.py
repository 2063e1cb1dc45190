"""Task regression: one number in its own unit; the network learns it standardised by the training rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from fusionconv.study.tasks.base import Array, Metric, Task, numbers_of

__all__ = ["Regression"]


class Regression(Task):
    """Losses: ``mse``, ``l1``, ``huber``, of standardised targets. Metrics in the target's unit."""

    NAME = "regression"
    LOSSES = ("mse", "l1", "huber")

    @property
    def num_outputs(self) -> int:
        """One number."""
        return 1

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean absolute error, root mean squared error, R2, Pearson's r."""
        return (
            Metric("mae", lambda r: float(_error(r).abs().mean()), False, (0, math.inf)),
            Metric("rmse", lambda r: float(math.sqrt((_error(r) ** 2).mean())), False, (0, math.inf)),
            Metric("r2", _r2, True, (-math.inf, 1)),
            Metric("pearson", _pearson, True, (-1, 1), compares=True),
        )

    def targets(self, rows: pd.DataFrame) -> Array:
        """The column's numbers."""
        return numbers_of(rows, self.columns[0])

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss."""
        losses: dict[str, Any] = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
        loss: Tensor = losses[self.loss_name](outputs.squeeze(1), targets)
        return loss

    def answers(self, outputs: Array) -> dict[str, Array]:
        """``prediction``, in the unit of the outputs."""
        return {"prediction": np.asarray(outputs)[:, 0]}

    def truth(self, targets: Array) -> dict[str, Array]:
        """``target``."""
        return {"target": targets}

    def describe(self, targets: Array) -> str:
        """Mean, standard deviation and range."""
        spread = f"mean {targets.mean():.4g}, standard deviation {targets.std():.4g}"
        return f"{self.columns[0]}: {spread}, {targets.min():.4g} to {targets.max():.4g}"

    def scores(self, predictions: pd.DataFrame) -> Array:
        """The prediction."""
        return predictions[["prediction"]].to_numpy()

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The prediction."""
        return ["prediction"]


def _error(rows: pd.DataFrame) -> pd.Series[float]:
    return rows["prediction"] - rows["target"]


def _r2(rows: pd.DataFrame) -> float:
    spread = ((rows["target"] - rows["target"].mean()) ** 2).sum()
    return float(1 - (_error(rows) ** 2).sum() / spread) if spread > 0 else math.nan


def _pearson(rows: pd.DataFrame) -> float:
    if len(rows) < 2 or rows["prediction"].std() <= 1e-6 * rows["target"].std():  # float32's rounding of one answer
        return math.nan
    return float(np.corrcoef(rows["prediction"], rows["target"])[0, 1])
