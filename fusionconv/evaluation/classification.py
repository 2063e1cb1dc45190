"""AUC, balanced accuracy and F1 that are NaN where they are not defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusionconv.evaluation.arrays import (
    importable_stats,
    require_known_classes,
    require_labels,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["balanced_accuracy", "f1_macro", "roc_auc"]


@in_one_order
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


@in_one_order
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
    y, p = require_known_classes(target, prediction, classes)
    right = y == p
    rates = [float(right[y == c].mean()) if (y == c).any() else float("nan") for c in classes]
    return sum(rates) / len(rates)


@in_one_order
def f1_macro(target: Any, prediction: Any, classes: Sequence[Any] = (0, 1)) -> float:
    r"""The mean over ``classes`` of F1, each class against all others.

    .. math:: F_1(c) = \frac{2 \, TP_c}{2 \, TP_c + FP_c + FN_c}

    scikit-learn's ``f1_score(average="macro", labels=classes)``, but NaN where a class is neither in the target nor in
    the prediction: there F1 is 0 / 0, which scikit-learn takes for 0 (Opitz & Burst 2019, arXiv:1911.03347, on the two
    things that are called macro F1; this is the mean of F1, not F1 of the means).

    Args:
        target: (n,) classes.
        prediction: (n,) predicted classes, not probabilities.
        classes: all classes, in any order.

    Raises:
        EvaluationError: other lengths, or a target or prediction that is none of the classes.

    >>> f1_macro(["CN", "CN", "CN", "AD"], ["CN", "CN", "AD", "AD"], classes=["CN", "AD"])
    0.7333333333333334
    """
    y, p = require_known_classes(target, prediction, classes)
    scores = []
    for c in classes:
        both, either = int(((y == c) & (p == c)).sum()), int((y == c).sum() + (p == c).sum())
        scores.append(2 * both / either if either else float("nan"))
    return sum(scores) / len(scores)
