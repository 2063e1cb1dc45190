"""What is predicted: a class, a number, or a time to an event. Each task has its target, its loss and its metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from fusionconv.errors import TableError
from fusionconv.study.tasks.survival import cox_loss
from recipes.adni.sources import columns_of, matches

Kind = Literal["classification", "regression", "survival"]


class Targets(NamedTuple):
    """The rows that have a target, the target, and how many rows had none."""

    rows: pd.DataFrame
    values: pd.DataFrame  # classification: "target" (code); regression: "target"; survival: "time", "event"
    left_out: int


@dataclass(frozen=True)
class Task:
    """What to predict.

    Args:
        kind: classification, regression or survival.
        classes: classification: class name -> pandas query; a row has the class whose query holds. Rows for which none
            holds (or a column is missing) are left out and counted. In the order of the codes 0, 1, ...
        target: regression: the column, such as Age (years).
        time: survival: column of the time to the event or to the end of observation, positive, in any unit.
        event: survival: column that is 1 where the event was seen and 0 where observation ended before it.
    """

    kind: Kind = "classification"
    classes: dict[str, str] | None = None
    target: str | None = None
    time: str | None = None
    event: str | None = None

    def check(self) -> None:
        """Raise unless the task is complete."""
        if self.kind == "classification" and len(self.queries) < 2:
            raise TableError(
                f"--data.task.classes should name at least two classes, each with a query, such as "
                f"{{CN: \"DX == 'CN'\", AD: \"DX == 'Dementia'\"}}, and is {self.queries}."
            )
        if self.kind == "regression" and self.target is None:
            raise TableError("--data.task.target should name the column to predict, such as Age, and was not given.")
        if self.kind == "survival" and (self.time is None or self.event is None):
            raise TableError("--data.task.time and --data.task.event should name the two columns of a survival task.")
        if self.kind == "survival" and self.time == self.event:
            raise TableError(f"--data.task.time and --data.task.event are both {self.time!r}; they are two columns.")

    @property
    def queries(self) -> dict[str, str]:
        """The classes' queries by name, in the order of the codes; none for other tasks."""
        return self.classes or {}

    @property
    def columns(self) -> list[str]:
        """The columns that hold the answer; none of them may be a covariate."""
        if self.kind == "classification":
            return list(dict.fromkeys(name for query in self.queries.values() for name in columns_of(query)))
        return [name for name in (self.target, self.time, self.event) if name is not None]

    @property
    def num_outputs(self) -> int:
        """Outputs of a network for this task: a logit per class, or one number."""
        return len(self.queries) if self.kind == "classification" else 1

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that chooses a checkpoint, and whether more (max) or less (min) of it is better."""
        return {"classification": ("auc", "max"), "regression": ("mae", "min"), "survival": ("c_index", "max")}[
            self.kind
        ]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what `measure` gives, the main one first."""
        return {
            "classification": ("auc", "balanced_accuracy", "accuracy", "loss"),
            "regression": ("mae", "r2", "pearson", "loss"),
            "survival": ("c_index", "loss"),
        }[self.kind]

    def targets(self, frame: pd.DataFrame) -> Targets:
        """Rows of a tidy frame with a target.

        Raises:
            TableError: two classes' queries hold for one row; a class that no row has; times that are not positive; an
                event that is not 0 or 1; a target that is no number.
        """
        self.check()
        if self.kind == "classification":
            held = pd.DataFrame(
                {name: matches(frame, query, f"--data.task.classes.{name}") for name, query in self.queries.items()}
            )
            several = held.sum(axis=1) > 1
            if several.any():
                first = held[several].iloc[0]
                raise TableError(
                    f"--data.task.classes: {int(several.sum())} rows are in several classes, such as "
                    f"{frame.loc[several, 'subject'].iloc[0]} in {' and '.join(first.index[first])}. Make the queries "
                    "exclude each other."
                )
            empty = [name for name in held if not held[name].any()]
            if empty:
                raise TableError(
                    f"--data.task.classes: no row is {', '.join(f'{n} ({self.queries[n]})' for n in empty)}; rows per "
                    f"class: {held.sum().to_dict()}. Check the spelling of the values; `inspect` lists them."
                )
            chosen = held.any(axis=1)
            codes = held[chosen].to_numpy().argmax(axis=1)
            return Targets(
                frame[chosen], pd.DataFrame({"target": codes}, index=frame.index[chosen]), int((~chosen).sum())
            )
        columns = self.columns
        absent = [name for name in columns if name not in frame.columns]
        if absent:
            raise TableError(
                f"--data.task: the table has no column {', '.join(absent)}; it has {', '.join(map(str, frame))}."
            )
        numbers = frame[columns].apply(pd.to_numeric, errors="coerce")
        text = [c for c in columns if (numbers[c].isna() & frame[c].notna()).any()]
        if text:
            bad = frame.loc[numbers[text[0]].isna() & frame[text[0]].notna(), text[0]].iloc[0]
            raise TableError(f"--data.task: {text[0]} should hold numbers, and holds {bad!r}.")
        chosen = numbers.notna().all(axis=1) & np.isfinite(numbers).all(axis=1)
        values = numbers[chosen].astype(float)
        if self.kind == "survival":
            values.columns = pd.Index(["time", "event"])
            if (values["time"] <= 0).any() or not values["event"].isin([0, 1]).all():
                raise TableError(
                    f"--data.task: {self.time} should be positive and {self.event} 0 or 1; came times from "
                    f"{values['time'].min():g} and events {sorted(values['event'].unique())[:5]}. A visit after "
                    f"the event, or without any time behind it, tells nothing: leave it out with "
                    f"--data.rows '{self.time} > 0'."
                )
        else:
            values.columns = pd.Index(["target"])
        return Targets(frame[chosen], values, int((~chosen).sum()))

    # ---- learning ----

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch.

        classification: cross-entropy of logits (N, C) and codes (N,). regression: mean squared error of (N, 1) and
        standardised targets (N,). survival: negative log partial likelihood (Cox 1972, Efron's ties) of the batch's
        risk set, of log hazards (N, 1) and targets (N, 2) of time and event, divided by the number of events; 0 where
        the batch has no event.
        """
        if self.kind == "classification":
            return F.cross_entropy(outputs, targets.long())
        if self.kind == "regression":
            return F.mse_loss(outputs.squeeze(1), targets)
        return cox_loss(outputs.squeeze(1), targets[:, 0], targets[:, 1] > 0)

    def rows(self, outputs: Tensor) -> dict[str, np.ndarray]:
        """The columns of predictions.csv that outputs become (of a regression still standardised)."""
        outputs = outputs.detach().double().cpu()
        if self.kind == "classification":
            probabilities = outputs.softmax(1).numpy()
            return {f"p_{name}": probabilities[:, i] for i, name in enumerate(self.queries)}
        return {"prediction" if self.kind == "regression" else "log_hazard": outputs.squeeze(1).numpy()}

    def measure(self, rows: pd.DataFrame) -> dict[str, float]:
        """The metrics of predictions (the columns of `rows` and `targets`). NaN where a metric is not defined."""
        if self.kind == "classification":
            return self._measure_classes(rows)
        if self.kind == "survival":
            return {"c_index": c_index(rows["log_hazard"], rows["time"], rows["event"])}
        error = rows["prediction"] - rows["target"]
        spread = ((rows["target"] - rows["target"].mean()) ** 2).sum()
        varies = len(rows) > 1 and rows["prediction"].std() > 0 and rows["target"].std() > 0
        return {
            "mae": float(error.abs().mean()),
            "r2": float(1 - (error**2).sum() / spread) if spread > 0 else math.nan,
            "pearson": float(np.corrcoef(rows["prediction"], rows["target"])[0, 1]) if varies else math.nan,
        }

    def _measure_classes(self, rows: pd.DataFrame) -> dict[str, float]:
        from torchmetrics.functional.classification import multiclass_accuracy, multiclass_auroc

        probabilities = torch.tensor(rows[[f"p_{name}" for name in self.queries]].to_numpy(), dtype=torch.float64)
        target = torch.tensor(rows["target"].to_numpy(), dtype=torch.int64)
        present = target.unique()
        recalls = multiclass_accuracy(probabilities.argmax(1), target, num_classes=len(self.queries), average="none")
        auc = math.nan  # not defined where a class is absent
        if len(present) == len(self.queries):
            each = multiclass_auroc(probabilities, target, num_classes=len(self.queries), average="none")
            auc = float(each[1] if len(self.queries) == 2 else each.mean())  # three or more: one against the rest
        return {
            "auc": auc,
            "balanced_accuracy": float(recalls[present].mean()) if len(present) == len(self.queries) else math.nan,
            "accuracy": float((probabilities.argmax(1) == target).double().mean()),
        }


def c_index(risk: pd.Series, time: pd.Series, event: pd.Series) -> float:
    """Harrell's concordance: of the pairs whose order is known, the share that the risk orders so (ties half)."""
    from fusionconv.evaluation import concordance_index

    return float(concordance_index(time.to_numpy(), event.to_numpy(), risk.to_numpy()))
