"""AUC and balanced accuracy that are NaN where a class is absent, and DeLong's test of two AUCs on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    Floats,
    as_array,
    group_numbers,
    importable_stats,
    require_confidence,
    require_labels,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.result import Estimate

__all__ = ["balanced_accuracy", "delong", "roc_auc"]


def roc_auc(target: Any, score: Any) -> float:
    """The area under the ROC curve: the share of (positive, negative) pairs that the score puts right, ties half.

    The same figure as scikit-learn's ``roc_auc_score``, from ranks, without its checks of input types and so many times
    faster, as the bootstrap needs. NaN where a class is absent.

    Args:
        target: (n,) 0 and 1.
        score: (n,) higher means 1.

    Raises:
        EvaluationError: other lengths, NaN, or targets other than 0 and 1.

    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    y, s = require_labels(target, "target"), require_vector(score, "score")
    require_rows(len(y), "score", s)
    m = int(y.sum())
    if m in (0, len(y)):
        return float("nan")
    ranks = importable_stats().rankdata(s)
    return float((ranks[y].sum() - m * (m + 1) / 2) / (m * (len(y) - m)))


def balanced_accuracy(target: Any, prediction: Any, classes: Sequence[Any] = (0, 1)) -> float:
    """The mean over ``classes`` of the share of its rows that are predicted right; a constant has 1 / len(classes).

    NaN where a class has no row: scikit-learn's ``balanced_accuracy_score`` then averages over the other classes, which
    is another figure (Brodersen et al. 2010, ICPR).

    Args:
        target: (n,) classes.
        prediction: (n,) predicted classes, not probabilities.
        classes: all classes, in any order.

    Raises:
        EvaluationError: other lengths, or a target or prediction that is none of the classes.

    >>> balanced_accuracy(["CN", "CN", "CN", "AD"], ["CN", "CN", "AD", "AD"], classes=["CN", "AD"])
    0.8333333333333333
    """
    y, p = as_array(target), as_array(prediction)
    if y.ndim != 1 or not y.size:
        raise EvaluationError(f"target: expected a vector of at least one class, got shape {y.shape}")
    require_rows(len(y), "prediction", p)
    known = list(classes)
    for name, array in (("target", y), ("prediction", p)):
        if array.ndim != 1 or not set(array.tolist()) <= set(known):
            odd = sorted(set(array.ravel().tolist()) - set(known), key=str)[:3]
            raise EvaluationError(
                f"{name}: expected a vector of classes among {known}, got shape {array.shape} with {odd}; name all "
                "classes, and give classes, not probabilities"
            )
    right = y == p
    rates = [float(right[y == c].mean()) if (y == c).any() else float("nan") for c in known]
    return sum(rates) / len(rates)


def delong(target: Any, a: Any, b: Any, groups: Any = None, confidence: float = 0.95) -> Estimate:
    r"""AUC of scores ``a`` less AUC of scores ``b`` on the same rows, by DeLong, DeLong & Clarke-Pearson 1988.

    With :math:`V_{10}(i)` the share of negatives below positive i and :math:`V_{01}(j)` the share of positives above
    negative j (ties half), for each score, and :math:`D_{10}, D_{01}` their differences between the two scores
    (Biometrics 44:837):

    .. math:: \widehat{Var} = s^2(D_{10}) / m + s^2(D_{01}) / n

    for m positives and n negatives; z = difference / sqrt(Var) is compared with a normal distribution. For independent
    rows, one a subject, in numbers that a normal distribution allows (some tens of each class); else the paired
    bootstrap. Not for nested models that were fitted on these very rows.

    Args:
        target: (n,) 0 and 1.
        a, b: (n,) scores, higher means 1; any scale.
        groups: (n,) each row's subject; given, it is checked that no subject comes twice.
        confidence: of the interval.

    Raises:
        EvaluationError: other lengths, NaN, fewer than two rows of a class, a subject with several rows.

    >>> found = delong([0, 0, 0, 1, 1, 1], a=[1, 2, 4, 3, 5, 6], b=[1, 4, 2, 3, 6, 2.5])
    >>> round(found.estimate, 4)
    0.1111
    """
    y = require_labels(target, "target")
    scores = [require_vector(s, name) for name, s in (("a", a), ("b", b))]
    for name, s in zip("ab", scores, strict=True):
        require_rows(len(y), name, s)
    require_confidence(confidence)
    if int(group_numbers(groups, len(y)).max()) + 1 < len(y):
        raise EvaluationError(
            "groups: expected one row for each subject, got subjects with several; use paired_bootstrap(roc_auc, ...)"
        )
    m, n = int(y.sum()), int((~y).sum())
    if m < 2 or n < 2:
        raise EvaluationError(f"target: expected at least two rows of each class, got {m} of 1 and {n} of 0")
    (above_a, below_a), (above_b, below_b) = (_placements(y, s) for s in scores)
    difference = float(above_a.mean() - above_b.mean())
    variance = (above_a - above_b).var(ddof=1) / m + (below_a - below_b).var(ddof=1) / n
    stats, method = importable_stats(), "DeLong's test, n = rows"
    if variance <= 0:
        if difference == 0:
            return Estimate(0.0, 0.0, 0.0, len(y), method + ", the same order", 1.0, confidence)
        raise EvaluationError(
            f"expected scores whose difference has a variance, got AUCs {difference:+.3f} apart without any; "
            "one of them separates the classes fully and the other in no row: say so instead of a p value"
        )
    error = math.sqrt(variance)
    margin = float(stats.norm.ppf((1 + confidence) / 2)) * error
    p = float(2 * stats.norm.sf(abs(difference) / error))
    return Estimate(difference, difference - margin, difference + margin, len(y), method, p, confidence)


def _placements(y: Any, score: Floats) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative of positives above it."""
    rank = importable_stats().rankdata
    positive, negative = score[y], score[~y]
    ranks = rank(score)
    below = (ranks[y] - rank(positive)) / len(negative)
    above = 1 - (ranks[~y] - rank(negative)) / len(positive)
    return np.asarray(below, dtype=np.float64), np.asarray(above, dtype=np.float64)
