"""Several attributes at once: the figures of each, their means, and both as files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    multilabel_accuracy,
    multilabel_f1_score,
    multilabel_recall,
    multilabel_specificity,
)

from recipes.celeba.objective import Objective
from recipes.common.runs import RunError

MEANS = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy", "f1_macro": "f1", "auroc": "auroc"}


def columns_of(targets: Sequence[str]) -> tuple[str, ...]:
    """The columns of the rows that an evaluation collects: those of one attribute, or a pair for each."""
    if len(targets) == 1:
        return ("probability", "target", "loss")
    return (*(f"{name}_probability" for name in targets), *(f"{name}_target" for name in targets), "loss")


def rows_of(
    objective: Objective, targets: Sequence[str], outputs: Tensor, wanted: Tensor, index: Tensor
) -> pd.DataFrame:
    """The rows of a batch: ``index`` and the columns of `columns_of`.

    Args:
        objective: makes probabilities and losses of the outputs.
        targets: T names.
        outputs: (N, O) of the network.
        wanted: (N,) or (N, T), 0 and 1.
        index: (N,) places in the split's table.
    """
    parts = [
        objective.probability(outputs),
        wanted.view(len(outputs), -1),
        objective.losses(outputs, wanted, each=True)[:, None],
    ]
    names = list(columns_of(targets))
    rows = pd.DataFrame(torch.cat([part.double().cpu() for part in parts], dim=1).numpy(), columns=names)
    rows = rows.astype({name: "int64" if name.endswith("target") else "float32" for name in names})
    rows.insert(0, "index", index.cpu().numpy())
    return rows


def per_attribute(rows: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """A line for each attribute: images, base_rate, majority, accuracy, balanced_accuracy, f1, auroc.

    ``base_rate`` is the share of 1, ``majority`` the accuracy of always giving the more common answer. The answer is 1
    where the probability is above 0.5. ``f1`` is that of the answer 1. Balanced accuracy, F1 and AUROC are NaN where
    only one answer occurs among the targets.

    Args:
        rows: (N rows) with the columns of `columns_of`.
        targets: the attributes, several.
    """
    # Contiguous: pandas gives views with negative strides where names go backwards, which torch does not take.
    probability = np.ascontiguousarray(rows[[f"{name}_probability" for name in targets]], np.float64)
    if lost := int(np.isnan(probability).any(1).sum()):
        raise RunError(
            f"the network's answer is not a number for {lost:,d} of {len(rows):,d} images: its weights are NaN or "
            "infinite. Start again with a smaller --model.lr, or take another checkpoint."
        )
    truth = np.ascontiguousarray(rows[[f"{name}_target" for name in targets]], np.int64)
    base = truth.mean(0) if len(rows) else np.full(len(targets), math.nan)
    table = pd.DataFrame(
        {"images": len(rows), "base_rate": base, "majority": np.maximum(base, 1 - base)},
        index=pd.Index(targets, name="attribute"),
    )
    if len(rows) == 0:
        return table.assign(accuracy=math.nan, balanced_accuracy=math.nan, f1=math.nan, auroc=math.nan)
    answers, wanted = torch.from_numpy((probability > 0.5).astype(np.int64)), torch.from_numpy(truth)
    # TorchMetrics takes scores outside 0 ... 1 (loss mse) for logits: a ranking keeps the order, and so the AUROC.
    ranks = torch.from_numpy(pd.DataFrame(probability).rank(pct=True).to_numpy(copy=True))
    options = {"num_labels": len(targets), "average": None}
    table["accuracy"] = multilabel_accuracy(answers, wanted, **options).numpy()
    recall, specificity = (f(answers, wanted, **options) for f in (multilabel_recall, multilabel_specificity))
    table["balanced_accuracy"] = ((recall + specificity) / 2).numpy()
    table["f1"] = multilabel_f1_score(answers, wanted, **options).numpy()
    both = (base > 0) & (base < 1)
    table["auroc"] = [
        float(binary_auroc(ranks[:, i], wanted[:, i])) if defined else math.nan for i, defined in enumerate(both)
    ]
    table.loc[~both, ["balanced_accuracy", "f1"]] = math.nan
    return table


def means(table: pd.DataFrame, loss: float) -> dict[str, float]:
    """What a run logs: the means over the attributes (where a figure is defined), and the loss.

    ``f1_macro`` is the mean of each attribute's F1 of the answer 1, as scikit-learn's for several labels.
    """
    return {"loss": loss, **{key: float(table[column].mean()) for key, column in MEANS.items()}}


def write_table(table: pd.DataFrame, folder: Path, split: str) -> None:
    """``attributes-<split>.csv`` and ``.md``, the latter with the means as its last line."""
    table.to_csv(folder / f"attributes-{split}.csv", float_format="%.6g")
    figures = [column for column in table if column != "images"]
    lines = [
        "| attribute | " + " | ".join(column.replace("_", " ") for column in figures) + " |",
        "|---|" + "--:|" * len(figures),
    ]
    for name, row in [*table.iterrows(), ("**mean**", table[figures].mean())]:
        cells = ["not defined" if math.isnan(row[column]) else f"{row[column]:.4f}" for column in figures]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    images = int(table["images"].iloc[0])
    note = (
        f"{images:,d} {split} images. base rate: share of 1; majority: accuracy of always giving the more common "
        "answer; F1: of the answer 1. Means leave out what is not defined (one answer only among the targets)."
    )
    (folder / f"attributes-{split}.md").write_text("\n".join([*lines, "", note, ""]), encoding="utf-8")


def answers_frame(probability: np.ndarray, loss: str, targets: Sequence[str]) -> pd.DataFrame:
    """Probabilities (N, T) as columns of a predictions file.

    One attribute: ``probability`` and ``prediction``; several: ``<name>_probability`` and ``<name>_prediction``. For
    the loss mse the probability is cut to 0 ... 1, and ``output`` is the network's own.
    """
    columns: dict[str, np.ndarray] = {}
    for place, name in enumerate(targets):
        prefix = "" if len(targets) == 1 else f"{name}_"
        own = probability[:, place]
        columns[f"{prefix}probability"] = own.clip(0, 1) if loss == "mse" else own
        columns[f"{prefix}prediction"] = (own > 0.5).astype(int)
        if loss == "mse":
            columns[f"{prefix}output"] = 2 * own - 1
    return pd.DataFrame(columns)
