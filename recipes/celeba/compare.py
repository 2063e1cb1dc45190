"""Read finished run folders and set them side by side: intervals, the paired test, accuracy in groups of images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fusionconv import evaluation
from fusionconv.evaluation import wilson
from recipes.common.runs import RunError


@dataclass(frozen=True)
class Run:
    """What a finished run left in its folder."""

    folder: Path
    result: dict[str, Any]  # results-<split>.json
    config: dict[str, Any]  # config.yaml
    curves: pd.DataFrame  # metrics.csv
    predictions: pd.DataFrame  # predictions-<split>.csv, indexed by file

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.result["experiment"])

    @property
    def right(self) -> pd.Series:
        """True where the prediction is the target, indexed by file."""
        return self.predictions["prediction"] == self.predictions["target"]


@dataclass(frozen=True)
class Paired:
    """Two runs on the same images: how often both, one or none of them is right, and McNemar's exact p value."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


def load_runs(folders: Sequence[str | Path], split: str = "test") -> list[Run]:
    """Read run folders that judged the same images of the same target.

    Raises:
        RunError: a file is absent, or the runs differ in target or images and so cannot be compared.
    """
    if len(folders) < 2:
        raise RunError(
            f"a comparison needs at least two run folders, and {len(folders)} came. Name both arms' folders."
        )
    runs = [_load(Path(folder), split) for folder in folders]
    first = runs[0]
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"the runs must have names of their own, and came as {[run.name for run in runs]}.")
    for run in runs[1:]:
        if run.result["target"] != first.result["target"]:
            raise RunError(
                f"{first.folder} predicts {first.result['target']!r} and {run.folder} {run.result['target']!r}: "
                "only runs of the same target can be compared."
            )
        apart = first.predictions.index.symmetric_difference(run.predictions.index)
        if len(apart):
            raise RunError(
                f"{first.folder} and {run.folder} judged different images ({len(apart)} are in one only, such as "
                f"{apart[0]}). Run `{'validate' if split == 'valid' else split}` for both on the same data."
            )
    return runs


def _load(folder: Path, split: str) -> Run:
    names = ("config.yaml", "metrics.csv", f"results-{split}.json", f"predictions-{split}.csv")
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise RunError(
            f"{folder} lacks {', '.join(absent)}: expected a run that has been fitted and judged. "
            f"Run `fit`, then `{'validate' if split == 'valid' else split}`."
        )
    config, metrics, result, predictions = (folder / name for name in names)
    judged = json.loads(result.read_text(encoding="utf-8"))
    if not isinstance(judged["target"], str):
        raise RunError(
            f"{folder} predicts {len(judged['target'])} attributes: expected runs of one target. Its figures stand in "
            f"attributes-{split}.md."
        )
    return Run(
        folder=folder,
        result=judged,
        config=yaml.safe_load(config.read_text(encoding="utf-8")),
        curves=pd.read_csv(metrics),
        predictions=pd.read_csv(predictions, index_col="file").sort_index(),
    )


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The ends of `fusionconv.evaluation.wilson`, 95 %, of the proportion right / total.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    found = wilson(right, total)
    return found.low, found.high


def mcnemar(first: Run, second: Run) -> Paired:
    """Is one run right more often than the other on the same images? See `fusionconv.evaluation.mcnemar`."""
    found = evaluation.mcnemar(pd.Series(True, first.right.index), first.right, second.right.loc[first.right.index])
    assert found.p_value is not None
    return Paired(found.both, found.only_a, found.only_b, found.neither, found.p_value)


def accuracy_by_group(runs: Sequence[Run], labels: pd.Series) -> pd.DataFrame:
    """Accuracy of each run within each label: columns group, images, run, accuracy, low, high (Wilson, 95 %).

    Args:
        runs: runs on the same images.
        labels: a label for every judged file, indexed by file.
    """
    rows = []
    for run in runs:
        for group, right in run.right.groupby(labels.loc[run.right.index]):
            low, high = wilson_interval(int(right.sum()), len(right))
            rows.append((str(group), len(right), run.name, float(right.mean()), low, high))
    return pd.DataFrame(rows, columns=["group", "images", "run", "accuracy", "low", "high"])


def comparison_text(runs: Sequence[Run], references: Mapping[str, float]) -> str:
    """The comparison in a few lines, for the terminal."""
    wide = max(18, *(len(run.name) + 2 for run in runs))
    lines = [" " * 16 + "".join(f"{run.name:>{wide}s}" for run in runs)]
    intervals = [wilson_interval(int(run.right.sum()), len(run.right)) for run in runs]
    lines.append(f"{'accuracy':16s}" + "".join(f"{run.right.mean():{wide}.1%}" for run in runs))
    lines.append(f"{'95% interval':16s}" + "".join(f"{f'{low:.1%} to {high:.1%}':>{wide}s}" for low, high in intervals))
    for key, label in (("f1_macro", "macro F1"), ("auroc", "AUROC"), ("loss", "loss")):
        lines.append(f"{label:16s}" + "".join(f"{number(run.result['metrics'][key]):>{wide}s}" for run in runs))
    lines.append("for comparison: " + ", ".join(f"{name} {value:.1%}" for name, value in references.items()))
    for run in runs[1:]:
        paired = mcnemar(runs[0], run)
        lines.append(
            f"{runs[0].name} and {run.name} on the same images: only {run.name} right {paired.only_second}, only "
            f"{runs[0].name} right {paired.only_first}, McNemar's exact p = {p_value(paired.p_value)}"
        )
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Four decimals; AUROC is not defined where only one class is present."""
    return "not defined" if value is None else f"{value:.4f}"


def p_value(value: float) -> str:
    """Three decimals, or a power of ten."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
