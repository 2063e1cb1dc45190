"""Read finished run folders and set them side by side: intervals, the paired test, accuracy in groups of images."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from recipes.celeba.runs import RunError

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


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
        raise RunError(f"a comparison needs at least two run folders, and {len(folders)} came. Name both arms' folders.")
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
    return Run(
        folder=folder,
        result=json.loads(result.read_text(encoding="utf-8")),
        config=yaml.safe_load(config.read_text(encoding="utf-8")),
        curves=pd.read_csv(metrics),
        predictions=pd.read_csv(predictions, index_col="file").sort_index(),
    )


def wilson_interval(right: int, total: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (E. B. Wilson, JASA 1927, 22:209); 95 % unless ``z`` says otherwise.

    Centre (p + z²/2n) / (1 + z²/n), half width z sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n), with p = right / total.
    Unlike p ± z sqrt(p(1-p)/n) it has a width at p = 1, and stays within 0 and 1.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"expected 0 <= right <= total and total > 0, but right is {right} and total {total}.")
    p, shrink = right / total, 1 + z**2 / total
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / shrink
    centre = (p + z**2 / (2 * total)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(first: Run, second: Run) -> Paired:
    """McNemar's exact paired test (Q. McNemar, Psychometrika 1947, 12:153): is one run right more often than the other?

    Only images that exactly one run has right count. If the runs were equally good, each such image would be a fair
    coin: p = min(1, 2 P(X <= smaller count)) with X ~ Binomial(only_first + only_second, 1/2).
    """
    a, b = first.right, second.right.loc[first.right.index]
    only_first, only_second = int((a & ~b).sum()), int((~a & b).sum())
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return Paired(int((a & b).sum()), only_first, only_second, int((~a & ~b).sum()), min(1.0, 2 * tail / 2**n))


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
