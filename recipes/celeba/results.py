"""Figures of a split: rows gathered over all processes, measured with TorchMetrics, written as JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_confusion_matrix,
    multiclass_f1_score,
)

from fusionconv.study.environment import versions
from recipes.celeba.attributes import answers_frame, columns_of, means, per_attribute, write_table
from recipes.common.runs import RunError

COLUMNS = columns_of(["target"])  # of the rows that an evaluation of one attribute collects


def measure(rows: pd.DataFrame) -> tuple[dict[str, float], list[list[int]]]:
    """Loss, accuracy, macro F1 and AUROC of rows (probability, target, loss), and the confusion [[tn, fp], [fn, tp]].

    The prediction is 1 where the probability is above 0.5. AUROC is NaN where only one class is present.
    """
    if lost := int(rows["probability"].isna().sum()):
        raise RunError(
            f"the network's answer is not a number for {lost:,d} of {len(rows):,d} images: its weights are NaN or "
            "infinite. Start again with a smaller --model.lr, or take another checkpoint."
        )
    probability = torch.tensor(rows["probability"].to_numpy(), dtype=torch.float64)
    target = torch.tensor(rows["target"].to_numpy(), dtype=torch.int64)
    if len(target) == 0:
        return dict.fromkeys(("loss", "accuracy", "f1_macro", "auroc"), math.nan), [[0, 0], [0, 0]]
    prediction = (probability > 0.5).long()
    one_class = bool((target == target[0]).all())
    metrics = {
        "loss": float(rows["loss"].mean()),
        "accuracy": float(binary_accuracy(prediction, target)),
        "f1_macro": float(multiclass_f1_score(prediction, target, num_classes=2, average="macro")),
        "auroc": math.nan if one_class else float(binary_auroc(probability, target)),
    }
    return metrics, binary_confusion_matrix(prediction, target).tolist()


def measure_all(rows: pd.DataFrame, targets: Sequence[str]) -> dict[str, float]:
    """The figures that a run logs: of one attribute, or the means over several."""
    if len(targets) == 1:
        return measure(rows)[0]
    return means(per_attribute(rows, targets), float(rows["loss"].mean()))


def one_class_answers(rows: pd.DataFrame, targets: Sequence[str]) -> list[str]:
    """A line for each target of which every answer is the same class: an accuracy that says nothing of the images."""
    lines = []
    for target in targets:
        prefix = "" if len(targets) == 1 else f"{target}_"
        answers, truth = rows[f"{prefix}probability"] > 0.5, rows[f"{prefix}target"]
        if len(rows) > 1 and answers.nunique() == 1:
            answer = int(answers.iloc[0])
            lines.append(
                f"{target}: all {len(rows):,d} answers are {answer}, so the accuracy is the share of {answer} "
                f"({(truth == answer).mean():.4f}), whatever the images show; look at auroc, or train for longer"
            )
    return lines


def write_results(
    folder: Path,
    split: str,
    result: dict[str, Any],
    files: list[str],
    rows: pd.DataFrame,
    targets: Sequence[str] = ("target",),
    loss: str = "cross_entropy",
) -> None:
    """``results-<split>.json`` and ``predictions-<split>.csv``; ``result`` brings what the rows do not tell.

    Several attributes: ``attributes-<split>.csv`` and ``.md`` too, with a line for each.
    """
    single = len(targets) == 1
    metrics = measure_all(rows, targets)
    if not single:
        write_table(per_attribute(rows, targets), folder, split)
    result = {
        **result,
        "split": split,
        "num_images": len(rows),
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        **({"confusion": measure(rows)[1]} if single else {}),
        "versions": versions("torch", "torchvision", "lightning", "fusionconv"),
    }
    (folder / f"results-{split}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    prefixes = [""] if single else [f"{name}_" for name in targets]
    table = answers_frame(rows[[f"{prefix}probability" for prefix in prefixes]].to_numpy(), loss, targets)
    table.insert(0, "file", [files[int(index)] for index in rows["index"]])
    for prefix in prefixes:
        table[f"{prefix}target"] = rows[f"{prefix}target"].astype(int)
    table.to_csv(folder / f"predictions-{split}.csv", index=False, float_format="%.9g")  # every float32
