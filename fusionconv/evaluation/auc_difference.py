"""Do two scores on the same rows differ in AUC? DeLong's test, with an interval that stays within -1 and 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    Floats,
    group_numbers,
    importable_stats,
    require_confidence,
    require_labels,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.bounds import bounded_interval
from fusionconv.evaluation.result import Estimate
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["delong", "placements"]

LEAST = 10  # rows of a class
_NONE = 1e-12  # rounding, not a variance


@in_one_order
def delong(target: Any, a: Any, b: Any, groups: Any = None, confidence: float = 0.95) -> Estimate:
    r"""AUC of scores ``a`` minus AUC of scores ``b`` on the same rows, by DeLong, DeLong & Clarke-Pearson 1988.

    With :math:`V_{10}(i)` the share of negatives below positive i and :math:`V_{01}(j)` the share of positives above
    negative j (ties half), for each score, and :math:`D_{10}, D_{01}` their differences between the two scores
    (Biometrics 44:837):

    .. math:: \widehat{Var} = s^2(D_{10}) / m + s^2(D_{01}) / n

    for m positives and n negatives; z = difference / sqrt(Var) is compared with a normal distribution. For independent
    rows, one a subject, at least ten of each class; else the paired bootstrap. Not for nested models that were fitted
    on these very rows.

    The interval is made of the two AUCs' own intervals [l, u], so that it never leaves -1 to 1 (MOVER; Zou & Donner
    2008, Statistics in Medicine 27:1693), with r the correlation of the two AUCs:

    .. math:: low = A - B - \sqrt{(A - l_A)^2 + (u_B - B)^2 - 2 r (A - l_A)(u_B - B)}

    and high alike. The AUCs' own intervals are DeLong's on the logit scale (Pepe 2003, section 5.2.4); of an AUC of
    exactly 0 or 1, which has no variance, Newcombe's method 5 (2006, Statistics in Medicine 25:559). Near its limit the
    interval can disagree with p.

    Args:
        target: (n,) 0 and 1.
        a, b: (n,) scores, higher means 1; any scale.
        groups: (n,) each row's subject; given, it is checked that no subject comes twice.
        confidence: of the interval.

    Raises:
        EvaluationError: other lengths, NaN, fewer than ten rows of a class, a subject with several rows.

    >>> target = [0] * 10 + [1] * 10
    >>> a = [*range(10), *range(5, 15)]
    >>> b = [*range(10), *range(2, 12)]
    >>> print(delong(target, a, b))
    0.1950 [95% 0.1056 to 0.3813], p < 0.001, n = 20, DeLong's test, n = rows
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
    if min(m, n) < LEAST:
        raise EvaluationError(
            f"target: expected at least {LEAST} rows of each class, got {m} of 1 and {n} of 0, too few for DeLong's "
            "normal distribution; report both AUCs without a p value, or compare over folds"
        )
    (above_a, below_a), (above_b, below_b) = (placements(y, s) for s in scores)
    area_a, area_b = float(above_a.mean()), float(above_b.mean())
    difference = area_a - area_b
    variance = (above_a - above_b).var(ddof=1) / m + (below_a - below_b).var(ddof=1) / n
    stats, method = importable_stats(), "DeLong's test, n = rows"
    errors = [math.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) for above, below in
              ((above_a, below_a), (above_b, below_b))]  # fmt: skip
    if variance <= _NONE**2 and abs(difference) <= _NONE:
        if max(errors) > _NONE or (stats.rankdata(scores[0]) == stats.rankdata(scores[1])).all():
            return Estimate(0.0, 0.0, 0.0, len(y), method + ", the same order", 1.0, confidence)
    elif variance <= _NONE**2:
        raise EvaluationError(
            f"expected scores whose difference has a variance, got AUCs {difference:+.3f} apart without any; "
            "one of them separates the classes fully and the other in no row: say so instead of a p value"
        )
    error = math.sqrt(variance)
    p = float(2 * stats.norm.sf(abs(difference) / error)) if error > _NONE else 1.0
    # Var(A - B) = Var(A) + Var(B) - 2 r sd(A) sd(B)
    product = errors[0] * errors[1]
    r = (errors[0] ** 2 + errors[1] ** 2 - variance) / (2 * product) if product > _NONE**2 else 0.0
    r = min(1.0, max(-1.0, r))
    z = float(stats.norm.ppf((1 + confidence) / 2))
    (low_a, high_a), (low_b, high_b) = (
        bounded_interval(area, z * e, (0, 1)) if e > _NONE else _newcombe(area, m, n, z)
        for area, e in zip((area_a, area_b), errors, strict=True)
    )
    low = difference - _recovered(area_a - low_a, high_b - area_b, r)
    high = difference + _recovered(high_a - area_a, area_b - low_b, r)
    return Estimate(difference, low, high, len(y), method, p, confidence, standard_error=error)


def _recovered(x: float, y: float, r: float) -> float:
    return math.sqrt(max(0.0, x**2 + y**2 - 2 * r * x * y))


def _newcombe(area: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Newcombe's method 5 for an area of 0 or 1: all t within z sd(t) of it, both sizes n* = (m + n) / 2 - 1.

    sd(t)^2 = t (1 - t) (1 + n* (1 - t) / (2 - t) + n* t / (1 + t)) / (m n), after Hanley & McNeil 1982.
    """
    from scipy.optimize import brentq

    mean = (m + n) / 2 - 1

    def outside(t: float) -> float:  # the formula is the same for t and 1 - t
        return (1 - t) - z * math.sqrt(t * (1 - t) * (1 + mean * (1 - t) / (2 - t) + mean * t / (1 + t)) / (m * n))

    low = float(brentq(outside, 1e-12, 1 - 1e-12))
    return (low, 1.0) if area > 0.5 else (0.0, 1 - low)


def placements(y: Any, score: Floats) -> tuple[Floats, Floats]:
    """For each positive the share of negatives below it, for each negative of positives above it."""
    rank = importable_stats().rankdata
    positive, negative = score[y], score[~y]
    ranks = rank(score)
    below = (ranks[y] - rank(positive)) / len(negative)
    above = 1 - (ranks[~y] - rank(negative)) / len(positive)
    return np.asarray(below, dtype=np.float64), np.asarray(above, dtype=np.float64)
