"""What can be had without looking at an image: class balance, the majority answer, and the covariates alone."""

from __future__ import annotations

import pandas as pd

from recipes.celeba.objective import target_names


def majority_accuracy(targets: pd.Series) -> float:
    """Accuracy of always answering the split's more common class, max(p, 1 - p)."""
    positive = float(targets.mean())
    return max(positive, 1 - positive)


def mean_majority_accuracy(frame: pd.DataFrame, targets: list[str]) -> float:
    """The mean over the targets of `majority_accuracy`."""
    return sum(majority_accuracy(frame[name]) for name in targets) / len(targets)


def covariates_only_accuracy(train: pd.DataFrame, judged: pd.DataFrame, target: str, covariates: list[str]) -> float:
    """Accuracy of the majority answer of each combination of 0/1 covariates; answers from ``train``, on ``judged``.

    A combination that training never showed gets the training majority.

    >>> train = pd.DataFrame({"Male": [1, 1, 1, 0, 0], "Attractive": [0, 0, 1, 1, 1]})
    >>> covariates_only_accuracy(train, train, "Attractive", ["Male"])
    0.8
    """
    answers = (train.groupby(covariates)[target].mean() > 0.5).rename("answer").reset_index()
    fallback = bool(train[target].mean() > 0.5)
    merged = judged[[*covariates, target]].merge(answers, on=covariates, how="left")
    answer = merged["answer"].map(lambda value: fallback if pd.isna(value) else bool(value))
    return float((answer == (merged[target] == 1)).mean())


def describe(frames: dict[str, pd.DataFrame], target: list[str] | str, covariates: list[str]) -> list[str]:
    """Lines for the log: per split the count, the share of target = 1 and what the trivial answers reach."""
    targets = target_names(target)
    if len(targets) > 1:
        return [f"{len(targets)} targets: {', '.join(targets)}; covariates {', '.join(covariates) or 'none'}"] + [
            f"  {split:5s} {len(frame):7,d} images: always each target's more common answer gives a mean accuracy of "
            f"{mean_majority_accuracy(frame, targets):.4f}"
            for split, frame in frames.items()
        ]
    target = targets[0]
    lines = [f"target {target}; covariates {', '.join(covariates) or 'none'}"]
    train = frames.get("train")
    for split, frame in frames.items():
        line = (
            f"  {split:5s} {len(frame):7,d} images, {target} = 1 in {frame[target].mean():.2%}: "
            f"always the more common answer gives accuracy {majority_accuracy(frame[target]):.4f}"
        )
        if train is not None and covariates and frame[covariates].isin([0, 1]).all(axis=None):
            only = covariates_only_accuracy(train, frame, target, covariates)
            line += f", the covariates alone (majority of each combination in train) {only:.4f}"
        lines.append(line)
    return lines
