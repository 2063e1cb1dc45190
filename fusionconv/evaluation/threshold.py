"""Right and wrong at a threshold: the confusion matrix, sensitivity, specificity, and a threshold chosen elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    Floats,
    group_numbers,
    require_known_classes,
    require_labels,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.intervals import wilson
from fusionconv.evaluation.result import Estimate
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["confusion", "sensitivity", "specificity", "youden_threshold"]


@in_one_order
def confusion(target: Any, prediction: Any, classes: Sequence[Any] = (0, 1)) -> pd.DataFrame:
    """The confusion matrix: how many rows of each class (lines) were predicted as each class (columns).

    Args:
        target: (n,) classes.
        prediction: (n,) predicted classes, not probabilities: compare these with a threshold first.
        classes: all classes, in the order of lines and columns.

    Raises:
        EvaluationError: other lengths, or a target or prediction that is none of the classes.

    >>> table = confusion(["CN", "CN", "CN", "AD"], ["CN", "CN", "AD", "AD"], classes=["CN", "AD"])
    >>> int(table.loc["CN", "AD"])  # one CN was taken for AD
    1
    """
    y, p = require_known_classes(target, prediction, classes)
    counts = [[int(((y == c) & (p == d)).sum()) for d in classes] for c in classes]
    return pd.DataFrame(
        counts, index=pd.Index(list(classes), name="target"), columns=pd.Index(list(classes), name="prediction")
    )


@in_one_order
def sensitivity(target: Any, score: Any, threshold: float, groups: Any = None, confidence: float = 0.95) -> Estimate:
    """The share of the rows of class 1 whose score is at least ``threshold``, with Wilson's interval.

    Also called recall or true positive rate. The interval takes the threshold for given: choose it on other rows
    (:func:`youden_threshold`), since on its own rows it looks too good.

    Args:
        target: (n,) 0 and 1.
        score: (n,) higher means 1, on the threshold's scale; or predicted classes 0 and 1 with a threshold of 0.5.
        threshold: predicted as 1 from here on.
        groups: (n,) each row's subject; given, it is checked that no subject comes twice, as Wilson's interval needs.
        confidence: of the interval.

    Returns:
        An Estimate, n = rows of class 1.

    Raises:
        EvaluationError: other lengths, NaN, no row of class 1, a subject with several rows.

    >>> print(sensitivity([0, 0, 1, 1, 1], [0.2, 0.6, 0.4, 0.7, 0.9], threshold=0.5))
    0.6667 [95% 0.2077 to 0.9385], n = 3, sensitivity at 0.5, Wilson's interval, n = rows of class 1
    """
    y, s = _scored(target, score, threshold, groups)
    return _share(s[y] >= threshold, 1, f"sensitivity at {threshold:g}", confidence)


@in_one_order
def specificity(target: Any, score: Any, threshold: float, groups: Any = None, confidence: float = 0.95) -> Estimate:
    """The share of the rows of class 0 whose score is below ``threshold``, with Wilson's interval.

    Arguments, errors and limits as for :func:`sensitivity`; n = rows of class 0.

    >>> print(specificity([0, 0, 1, 1, 1], [0.2, 0.6, 0.4, 0.7, 0.9], threshold=0.5))
    0.5000 [95% 0.0945 to 0.9055], n = 2, specificity at 0.5, Wilson's interval, n = rows of class 0
    """
    y, s = _scored(target, score, threshold, groups)
    return _share(s[~y] < threshold, 0, f"specificity at {threshold:g}", confidence)


@in_one_order
def youden_threshold(target: Any, score: Any) -> float:
    r"""The threshold at which sensitivity + specificity is greatest: choose it on validation rows, never on test rows.

    .. math:: J = sensitivity + specificity - 1 = 2 \cdot balanced\ accuracy - 1

    (Youden 1950, Cancer 3:32), so that it is the threshold of the greatest balanced accuracy too. It lies in the middle
    of the gap between two scores, for rows that are new; of several equally good ones the lowest is taken, which has
    the highest sensitivity. It weighs a missed case and a false alarm alike; where they do not, choose another.

    Args:
        target: (n,) 0 and 1.
        score: (n,) higher means 1.

    Returns:
        The threshold: predict 1 where score >= threshold. Where no threshold is better than calling all rows 1, that
        is the lowest score.

    Raises:
        EvaluationError: other lengths, NaN, or one class only.

    >>> youden_threshold([0, 0, 1, 0, 1, 1], [0.1, 0.25, 0.75, 0.5, 0.8, 0.9])
    0.625
    """
    y, s = require_labels(target, "target"), require_vector(score, "score")
    require_rows(len(y), "score", s)
    positives = int(y.sum())
    if positives in (0, len(y)):
        raise EvaluationError(f"target: expected rows of both classes, got {positives} of 1 among {len(y)}")
    levels, place = np.unique(s, return_inverse=True)
    ones = np.bincount(place, y, minlength=len(levels))
    all_rows = np.bincount(place, minlength=len(levels))
    found = np.cumsum(ones[::-1])[::-1] / positives  # of a threshold at each level
    alarms = np.cumsum((all_rows - ones)[::-1])[::-1] / (len(y) - positives)
    J = found - alarms
    best = int(np.flatnonzero(J.max() - 1e-12 <= J)[0])
    if best == 0:
        return float(levels[0])
    middle = float(levels[best - 1] + (levels[best] - levels[best - 1]) / 2)
    return middle if levels[best - 1] < middle <= levels[best] else float(levels[best])


def _scored(target: Any, score: Any, threshold: float, groups: Any) -> tuple[npt.NDArray[np.bool_], Floats]:
    y, s = require_labels(target, "target"), require_vector(score, "score")
    require_rows(len(y), "score", s)
    if isinstance(threshold, bool) or np.ndim(threshold) or not np.isfinite(threshold):
        raise EvaluationError(f"threshold: expected one finite number, got {threshold!r}")
    if int(group_numbers(groups, len(y)).max()) + 1 < len(y):
        raise EvaluationError(
            "groups: expected one row for each subject, got subjects with several, which are not independent; use "
            "bootstrap_interval(..., groups=...)"
        )
    return y, s


def _share(right: npt.NDArray[np.bool_], label: int, what: str, confidence: float) -> Estimate:
    if not len(right):
        raise EvaluationError(f"target: expected at least one row of class {label}, got none; it is not defined here")
    found = wilson(int(right.sum()), len(right), confidence)
    return replace(found, method=f"{what}, Wilson's interval, n = rows of class {label}")
