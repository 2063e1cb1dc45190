"""Answers of a study's networks to a what-if question: what each says, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fusionconv.study.predict import Predictor

__all__ = ["Answer", "Effect", "Network", "Said"]


@dataclass(frozen=True)
class Network:
    """One saved network of an arm: the run that left it, and the fold that it was trained on."""

    name: str
    fold: str
    predictor: Predictor
    median: float | None = None  # survival: of the log hazards of its test rows


@dataclass(frozen=True)
class Said:
    """What one network says.

    Attributes:
        network: which.
        part: of its fold that has the row: ``test``, ``val``, ``train``, or empty. Only of ``test`` has it seen
            nothing.
        numbers: its answers by name, as in predictions.csv, and of images out the scores and shares.
        problem: why it cannot answer; empty where it can.
        decision: the class that it decides for, of tasks with classes.
        picture: of images out, what it makes of the image, (T, *size).
    """

    network: Network
    part: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    decision: str = ""
    picture: Tensor | None = None


@dataclass(frozen=True)
class Answer:
    """What all networks of an arm say for one row."""

    said: tuple[Said, ...]

    @property
    def able(self) -> tuple[Said, ...]:
        """Those that can answer."""
        return tuple(said for said in self.said if not said.problem)

    @property
    def unseen(self) -> tuple[Said, ...]:
        """Those that have not seen the row's subject in training: whose test part has it."""
        return tuple(said for said in self.able if said.part == "test")

    @property
    def first(self) -> Said | None:
        """The one whose picture, attribution and kernels are shown: the first that has not seen the row, or else the
        first that can answer."""
        return next(iter(self.unseen or self.able), None)

    def value(self, name: str) -> float:
        """The mean over the networks that have not seen the row; over all, where every one has. NaN where none can."""
        values = [said.numbers[name] for said in self.unseen or self.able if name in said.numbers]
        return float(np.mean(values)) if values else np.nan

    def over_folds(self, name: str) -> tuple[float, float, float]:
        """Mean, smallest and largest over all networks that can answer."""
        values = [said.numbers[name] for said in self.able if name in said.numbers]
        return (float(np.mean(values)), min(values), max(values)) if values else (np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Effect:
    """An answer against one covariate, all others held.

    Attributes:
        column: the covariate.
        values: along which.
        curves: run -> the answers, NaN where the network cannot answer.
        all_networks: whether every network was asked; of large images only the one that is shown.
    """

    column: str
    values: tuple[Any, ...]
    curves: Mapping[str, npt.NDArray[np.float64]]
    all_networks: bool
