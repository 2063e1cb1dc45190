"""Figures of a split: rows gathered over all processes, measured with TorchMetrics, written as JSON and CSV."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
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

from recipes.celeba.runs import RunError


def gather(items: list[Any]) -> list[Any]:
    """The lists of all processes as one; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return items
    lists: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(lists, items)
    return [item for part in lists for item in part]


def gather_rows(rows: list[pd.DataFrame]) -> pd.DataFrame:
    """All processes' rows, each once, in the table's order.

    A distributed sampler repeats a few rows so that every process gets as many; here they are counted once, and so the
    figures of 8 devices are those of one.
    """
    frames = gather(rows)
    if not frames:
        return pd.DataFrame({"index": [], "probability": [], "target": [], "loss": []})
    return pd.concat(frames).drop_duplicates("index").sort_values("index", ignore_index=True)


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


def write_results(folder: Path, split: str, result: dict[str, Any], files: list[str], rows: pd.DataFrame) -> None:
    """``results-<split>.json`` and ``predictions-<split>.csv``; ``result`` brings what the rows do not tell."""
    metrics, confusion = measure(rows)
    result = {
        **result,
        "split": split,
        "num_images": len(rows),
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        "confusion": confusion,
        "versions": versions(),
        "hardware": hardware(),
    }
    (folder / f"results-{split}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = pd.DataFrame(
        {
            "file": [files[int(index)] for index in rows["index"]],
            "probability": rows["probability"],
            "prediction": (rows["probability"] > 0.5).astype(int),
            "target": rows["target"].astype(int),
        }
    )
    table.to_csv(folder / f"predictions-{split}.csv", index=False, float_format="%.9g")  # every float32


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "lightning", "fusionconv"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a clone without installing it
            found[package] = "not installed"
    return found


def hardware() -> str:
    """The accelerator, or the processor and its cores."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"CPU {name}, {os.cpu_count()} cores"
