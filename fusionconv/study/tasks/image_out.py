"""ImageTask: what segmentation and restoration share. An answer is an image; predictions.csv holds images' scores."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionconv.errors import StudyError
from fusionconv.study.tasks.base import Array, Metric, Task

__all__ = ["ImageTask", "score_metric", "subject_mean"]


def subject_mean(rows: pd.DataFrame, column: str) -> float:
    """The mean over subjects of each one's mean over its images; NaN where the column is not there.

    A resample of the bootstrap may hold a subject several times, each time with all its images: so often does it count.

    >>> rows = pd.DataFrame({"id": ["a1", "a2", "b1"], "subject": ["a", "a", "b"], "dice": [0.0, 1.0, 1.0]})
    >>> subject_mean(rows, "dice"), subject_mean(rows.iloc[[0, 1, 0, 1, 2]], "dice")
    (0.75, 0.6666666666666666)
    """
    if column not in rows or not len(rows):
        return math.nan
    values = rows[column].to_numpy(dtype=np.float64)
    ids = rows["id"].to_numpy() if "id" in rows else rows.index.to_numpy()
    if np.isnan(values).any():
        return math.nan  # a score that some images lack is no score of these subjects
    subjects, of_row = np.unique(rows["subject"].to_numpy().astype(str), return_inverse=True)
    _, first = np.unique(ids.astype(str), return_index=True)
    images = np.bincount(of_row[first], minlength=len(subjects))
    weights = 1.0 / images[of_row]
    return float((weights * values).sum() / weights.sum())


def score_metric(
    name: str, greater_is_better: bool = True, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Metric:
    """The metric of a column of scores of images: its mean by subject."""
    return Metric(name, lambda rows: subject_mean(rows, name), greater_is_better, bounds)


class ImageTask(Task):
    """An image for an image. The target columns hold paths; `target_images` of the engine reads them.

    Targets of rows are zeros here, so that everything that the engine does with numbers has something to do it with:
    what is learned comes in ``batch["target"]``, (N, T, *size).
    """

    IMAGE_OUT = True
    #: whether nearest pixels are taken where a target is resized or turned (labels), or values in between
    LABELS: ClassVar[bool]

    @abstractmethod
    def score(
        self, outputs: Tensor, targets: Tensor, spacing: Sequence[Sequence[float]], wanted: Sequence[str]
    ) -> dict[str, Array]:
        """The scores of each image, a column for each metric of ``wanted`` (and those that come with them).

        Args:
            outputs: (N, num_outputs, *size) of the network.
            targets: (N, T, *size).
            spacing: of each image, the length of a pixel's sides.
            wanted: names of metrics.
        """

    @abstractmethod
    def picture(self, outputs: Tensor) -> Tensor:
        """The answer as an image: class numbers (N, T, *size), or values (N, C, *size)."""

    @abstractmethod
    def chances(self, outputs: Tensor) -> Tensor:
        """What several networks' answers are averaged as, (N, num_outputs, *size): probabilities, or values."""

    @abstractmethod
    def of_chances(self, chances: Tensor) -> Tensor:
        """As `picture`, of `chances`."""

    @abstractmethod
    def summary(self, picture: Tensor) -> dict[str, Array]:
        """Numbers that sum an answer up (a class's share of the image, a mean value), of `picture`."""

    def answers(self, outputs: Array) -> dict[str, Array]:
        """`summary` of the outputs."""
        return self.summary(self.picture(torch.as_tensor(outputs)))

    @property
    def quick(self) -> tuple[str, ...]:
        """The metrics that take no time: those after every epoch, and of controls."""
        return tuple(m.name for m in self.metrics)

    def targets(self, rows: pd.DataFrame) -> Array:
        """Zeros."""
        return np.zeros(len(rows))

    def truth(self, targets: Array) -> dict[str, Array]:
        """Nothing beside the scores."""
        return {}

    def scores(self, predictions: pd.DataFrame) -> Array:
        """There are none for a model on top.

        Raises:
            StudyError: always.
        """
        raise StudyError(f"arm stacked: expected a task with numbers, got {self.NAME}; leave the arm out")

    def score_columns(self, predictions: pd.DataFrame) -> list[str]:
        """The scores that are there."""
        return [m.name for m in self.metrics if m.name in predictions]

    def strata(self, rows: pd.DataFrame) -> pd.Series[Any]:
        """Nothing: paths are no classes."""
        return pd.Series(0, index=rows.index)


def one_per_image(values: Mapping[str, Tensor]) -> dict[str, Array]:
    """Columns of float64."""
    return {name: value.double().cpu().numpy() for name, value in values.items()}
