"""Tasks binary and multiclass: one class of several; a logit per class, cross-entropy, probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from fusionconv.study.tasks.base import Array, Metric, Task

__all__ = ["Binary", "Multiclass"]


class Multiclass(Task):
    """Classes 0 to C-1 in the order of ``classes``: text name -> values of the target column.

    Loss ``cross_entropy``; ``balanced`` weights each class by N / (C N_c), as scikit-learn does.
    """

    NAME = "multiclass"
    LOSSES = ("cross_entropy", "balanced")

    def __init__(
        self, columns: Sequence[str], loss: str = "default", classes: Mapping[str, Sequence[Any]] = {}
    ) -> None:
        super().__init__(columns, loss)
        self.classes = {str(name): [str(v) for v in values] for name, values in classes.items()}
        self.names = list(self.classes)

    @property
    def num_outputs(self) -> int:
        """A logit per class."""
        return len(self.names)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Mean one-against-the-rest AUC, balanced accuracy, accuracy, macro F1."""
        return (
            Metric("auc", self._auc, bounds=(0, 1), compares=True),
            Metric("balanced_accuracy", self._balanced_accuracy, bounds=(0, 1)),
            Metric("accuracy", lambda rows: float((rows["decision"] == rows["target"]).mean()), bounds=(0, 1)),
            Metric("f1_macro", self._f1, bounds=(0, 1)),
        )

    def targets(self, rows: pd.DataFrame) -> Array:
        """The classes' codes."""
        code = {value: at for at, values in enumerate(self.classes.values()) for value in values}
        return np.array([code[as_text(v)] for v in rows[self.columns[0]]], dtype=np.float64)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, targets.long(), weight=weights)

    def class_weights(self, targets: Array) -> Array | None:
        """N / (C N_c) for loss ``balanced``."""
        if self.loss_name != "balanced":
            return None
        counts = np.bincount(targets.astype(int), minlength=len(self.names))
        return len(targets) / (len(self.names) * np.maximum(counts, 1))

    def probabilities(self, outputs: Array) -> Array:
        """Softmax in float64."""
        return np.asarray(torch.as_tensor(outputs, dtype=torch.float64).softmax(1).numpy())

    def answers(self, outputs: Array) -> dict[str, Array]:
        """A column ``p_CLASS`` for each class."""
        probabilities = self.probabilities(outputs)
        return {f"p_{name}": probabilities[:, at] for at, name in enumerate(self.names)}

    def decide(self, predictions: pd.DataFrame, threshold: float = 0.5) -> pd.DataFrame:
        """The likeliest class as ``decision``."""
        best = predictions[self.score_columns(predictions)].to_numpy().argmax(1)
        return predictions.assign(decision=np.array(self.names, dtype=object)[best])

    def named(self, decisions: pd.Series[Any]) -> Array:
        """The classes' names of the column ``decision``."""
        return decisions.to_numpy(dtype=object)

    def truth(self, targets: Array) -> dict[str, Array]:
        """The classes' names."""
        return {"target": np.array(self.names, dtype=object)[targets.astype(int)]}

    def describe(self, targets: Array) -> str:
        """Rows per class."""
        counts = np.bincount(targets.astype(int), minlength=len(self.names))
        return ", ".join(f"{count} {name}" for name, count in zip(self.names, counts, strict=True))

    def scores(self, predictions: pd.DataFrame) -> Array:
        """Log probabilities against the first class's."""
        p = np.log(predictions[self.score_columns(predictions)].to_numpy().clip(1e-7))
        return np.asarray(p[:, 1:] - p[:, :1])

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The probabilities."""
        return [f"p_{name}" for name in self.names]

    def absent(self, targets: Array) -> list[str]:
        """Classes without a row."""
        there = set(targets.astype(int).tolist())
        return [name for at, name in enumerate(self.names) if at not in there]

    def _codes(self, rows: pd.DataFrame, column: str) -> Array:
        return np.asarray(pd.Categorical(rows[column].astype(str), categories=self.names).codes)

    def _auc(self, rows: pd.DataFrame) -> float:
        from fusionconv.evaluation import roc_auc

        codes = self._codes(rows, "target")
        if len(np.unique(codes)) < len(self.names):
            return math.nan
        p = rows[self.score_columns(rows)].to_numpy()
        return float(np.mean([roc_auc(codes == at, p[:, at]) for at in range(len(self.names))]))

    def _balanced_accuracy(self, rows: pd.DataFrame) -> float:
        codes, said = self._codes(rows, "target"), self._codes(rows, "decision")
        if len(np.unique(codes)) < len(self.names):
            return math.nan
        return float(np.mean([(said[codes == at] == at).mean() for at in range(len(self.names))]))

    def _f1(self, rows: pd.DataFrame) -> float:
        from sklearn.metrics import f1_score

        codes, said = self._codes(rows, "target"), self._codes(rows, "decision")
        return float(f1_score(codes, said, labels=range(len(self.names)), average="macro", zero_division=0))

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values."""
        return {**super().settings, "classes": self.classes}


class Binary(Multiclass):
    """Two classes; the second is the positive one: ``probability`` is its, ``decision`` its at a threshold."""

    NAME = "binary"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """AUC, balanced accuracy, accuracy, macro F1, sensitivity and specificity."""
        sensitivity = Metric("sensitivity", lambda rows: _rate(rows, 1), bounds=(0, 1))
        specificity = Metric("specificity", lambda rows: _rate(rows, 0), bounds=(0, 1))
        return (*super().metrics, sensitivity, specificity)

    def answers(self, outputs: Array) -> dict[str, Array]:
        """The positive class's probability."""
        return {"probability": self.probabilities(outputs)[:, 1]}

    def decide(self, predictions: pd.DataFrame, threshold: float = 0.5) -> pd.DataFrame:
        """1 where the probability is at least the threshold."""
        return predictions.assign(decision=(predictions["probability"] >= threshold).astype(int))

    def named(self, decisions: pd.Series[Any]) -> Array:
        """The classes' names of 0 and 1."""
        return np.asarray(np.array(self.names, dtype=object)[decisions.to_numpy(dtype=int)])

    def truth(self, targets: Array) -> dict[str, Array]:
        """0 or 1."""
        return {"target": targets.astype(int)}

    def scores(self, predictions: pd.DataFrame) -> Array:
        """Log odds."""
        p = predictions["probability"].to_numpy().clip(1e-7, 1 - 1e-7)
        return np.asarray(np.log(p / (1 - p))[:, None])

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The probability."""
        return ["probability"]

    def _codes(self, rows: pd.DataFrame, column: str) -> Array:
        return rows[column].to_numpy(dtype=int)

    def _auc(self, rows: pd.DataFrame) -> float:
        from fusionconv.evaluation import roc_auc

        target = rows["target"].to_numpy(dtype=int)
        return roc_auc(target, rows["probability"].to_numpy()) if 0 < target.sum() < len(target) else math.nan


def _rate(rows: pd.DataFrame, target: int) -> float:
    chosen = rows.loc[rows["target"] == target, "decision"]
    return float((chosen == target).mean()) if len(chosen) else math.nan


def as_text(value: Any) -> str:
    """A value of a target as its class's text: 1, 1.0 and "1" are one class."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)
