"""AUC of several classes: each against the rest, or each pair, averaged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import require_probabilities, require_rows
from fusionconv.evaluation.classification import roc_auc
from fusionconv.evaluation.missing import as_array, require_no_missing
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["multiclass_roc_auc"]


@in_one_order
def multiclass_roc_auc(
    target: Any,
    probability: Any,
    classes: Sequence[Any] | None = None,
    *,
    method: Literal["one_vs_rest", "hand_till"] = "one_vs_rest",
) -> float:
    r"""The area under the ROC curve for several classes, every class with the same weight.

    ``"one_vs_rest"``: the mean over classes of the AUC of that class's probability against all other rows. It depends
    on how frequent the others are (Fawcett 2006, Pattern Recognition Letters 27:861, section 9).

    ``"hand_till"``: the mean over pairs of classes c < d, on the rows of these two only, of

    .. math:: \tfrac12 \left(AUC(p_c; c \text{ against } d) + AUC(p_d; d \text{ against } c)\right)

    which does not (Hand & Till 2001, Machine Learning 45:171).

    Both are scikit-learn's ``roc_auc_score(multi_class="ovr" or "ovo", average="macro")``, but NaN where a class is
    absent, as the bootstrap needs. With two classes both are :func:`~fusionconv.evaluation.roc_auc`.

    Args:
        target: (n,) classes; without ``classes`` their numbers, 0 to C-1.
        probability: (n, C), a column for each class; rows add up to 1.
        classes: the classes in the order of the columns, such as ``["AD", "CN", "MCI"]``.
        method: see above.

    Raises:
        EvaluationError: other shapes, NaN, rows that do not add up to 1, a target that is none of the classes.

    >>> probability = [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6], [0.5, 0.1, 0.4]]
    >>> round(multiclass_roc_auc([0, 0, 1, 2, 2], probability), 4)
    0.9444
    """
    p = require_probabilities(probability)
    if p.ndim != 2:
        raise EvaluationError(f"probability: expected shape (n, classes), got {p.shape}; for one column use roc_auc")
    known = list(range(p.shape[1])) if classes is None else list(classes)
    if len(known) != p.shape[1] or len(set(known)) != len(known):
        raise EvaluationError(f"classes: expected {p.shape[1]} different ones, one a column, got {known}")
    y = require_no_missing(as_array(target, "target"), "target", known)
    require_rows(len(p), "target", y)
    if y.ndim != 1 or not set(y.tolist()) <= set(known):
        odd = sorted(set(y.ravel().tolist()) - set(known), key=str)[:3]
        raise EvaluationError(
            f"target: expected classes among {known}, got shape {y.shape} with {odd}; name the classes in the order of "
            "the columns, and give the target before the probability"
        )
    if method == "one_vs_rest":
        areas = [roc_auc(y == c, p[:, k]) for k, c in enumerate(known)]
    elif method == "hand_till":
        areas = []
        for (j, c), (k, d) in combinations(enumerate(known), 2):
            rows = (y == c) | (y == d)
            first, second = y[rows] == c, y[rows] == d
            if not (first.any() and second.any()):
                return float("nan")
            areas.append((roc_auc(first, p[rows, j]) + roc_auc(second, p[rows, k])) / 2)
    else:
        raise EvaluationError(f"method: expected 'one_vs_rest' or 'hand_till', got {method!r}")
    return float(np.mean(areas))
