"""Task multilabel: several yes-or-no answers at once, a logit each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import Tensor
from torch.nn import functional as F

from fusionconv.errors import TableError
from fusionconv.study.tasks.base import Array, Metric, Task, numbers_of

__all__ = ["Multilabel"]


class Multilabel(Task):
    """Each target column holds 0 and 1 (or -1 and 1, or false and true).

    Losses: ``bce`` of logits; ``mse`` of outputs against -1 and 1, with the threshold at 0.
    """

    NAME = "multilabel"
    LOSSES = ("bce", "mse")

    def __init__(self, columns: Sequence[str], loss: str = "default") -> None:
        super().__init__(columns, loss)
        if len(self.columns) < 2:
            raise TableError(
                f"multilabel: expected at least two target columns, got {list(columns)}; one column is --task binary"
            )

    @property
    def num_outputs(self) -> int:
        """A logit per label."""
        return len(self.columns)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Means over the labels: AUC, accuracy, balanced accuracy, F1."""
        return (
            Metric("auc", self._auc, bounds=(0, 1), compares=True),
            Metric("accuracy", lambda r: float(np.mean([(d == t).mean() for t, d, _ in self._each(r)])), bounds=(0, 1)),
            Metric("balanced_accuracy", lambda r: float(np.mean([_balanced(t, d) for t, d, _ in self._each(r)])),
                   bounds=(0, 1)),
            Metric("f1_macro", self._f1, bounds=(0, 1)),
        )  # fmt: skip

    def targets(self, rows: pd.DataFrame) -> Array:
        """0 and 1, (N, labels)."""
        values = np.stack([numbers_of(rows, name) for name in self.columns], axis=1)
        for at, name in enumerate(self.columns):
            found = np.unique(values[:, at])
            if not set(found) <= {-1.0, 0.0, 1.0} or {-1.0, 0.0} <= set(found):
                raise TableError(
                    f"target {name!r}: expected 0 and 1 (or -1 and 1), got {found[:6].tolist()}; declare codes of "
                    "missing values with missing_codes"
                )
        return np.asarray(values > 0, dtype=np.float64)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean over rows and labels."""
        if self.loss_name == "mse":
            return F.mse_loss(outputs, 2 * targets - 1)
        return F.binary_cross_entropy_with_logits(outputs, targets)

    def answers(self, outputs: Array) -> dict[str, Array]:
        """A column ``p_LABEL`` for each label; with ``mse`` (output + 1) / 2, cut at 0 and 1."""
        outputs = np.asarray(outputs)
        p = ((outputs + 1) / 2).clip(0, 1) if self.loss_name == "mse" else 1 / (1 + np.exp(-outputs.clip(-700, 700)))
        return {f"p_{name}": p[:, at] for at, name in enumerate(self.columns)}

    def truth(self, targets: Array) -> dict[str, Array]:
        """A column ``target_LABEL`` for each label."""
        return {f"target_{name}": targets[:, at].astype(int) for at, name in enumerate(self.columns)}

    def decide(self, predictions: pd.DataFrame, threshold: float = 0.5) -> pd.DataFrame:
        """1 where a probability is at least the threshold."""
        said = {f"decision_{n}": (predictions[f"p_{n}"] >= threshold).astype(int) for n in self.columns}
        return predictions.assign(**said)

    def describe(self, targets: Array) -> str:
        """Shares of the labels."""
        return ", ".join(f"{name} {share:.0%}" for name, share in zip(self.columns, targets.mean(0), strict=True))

    def scores(self, predictions: pd.DataFrame) -> Array:
        """Log odds."""
        p = predictions[self.score_columns(predictions)].to_numpy().clip(1e-7, 1 - 1e-7)
        return np.asarray(np.log(p / (1 - p)))

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The probabilities."""
        return [f"p_{name}" for name in self.columns]

    def absent(self, targets: Array) -> list[str]:
        """Labels with one value only."""
        return [name for at, name in enumerate(self.columns) if len(np.unique(targets[:, at])) < 2]

    def _each(self, rows: pd.DataFrame) -> list[tuple[Array, Array, Array]]:
        return [(rows[f"target_{n}"].to_numpy(int), rows[f"decision_{n}"].to_numpy(int), rows[f"p_{n}"].to_numpy())
                for n in self.columns]  # fmt: skip

    def _auc(self, rows: pd.DataFrame) -> float:
        from fusionconv.evaluation import roc_auc

        each = self._each(rows)
        if any(len(np.unique(target)) < 2 for target, _, _ in each):
            return math.nan
        return float(np.mean([roc_auc(target, p) for target, _, p in each]))

    def _f1(self, rows: pd.DataFrame) -> float:
        from sklearn.metrics import f1_score

        return float(np.mean([f1_score(t, d, labels=[0, 1], average="macro", zero_division=0)
                              for t, d, _ in self._each(rows)]))  # fmt: skip


def _balanced(target: Array, decision: Array) -> float:
    if len(np.unique(target)) < 2:
        return math.nan
    return float(np.mean([(decision[target == v] == v).mean() for v in (0, 1)]))
