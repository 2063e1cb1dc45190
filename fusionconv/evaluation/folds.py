"""Figures of folds: is one way to train better, how sure is a mean over folds, and what could this study have seen?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import importable_stats, require_confidence, require_vector
from fusionconv.evaluation.bounds import Bounds, bounded_interval, metric_bounds
from fusionconv.evaluation.result import Estimate

__all__ = ["corrected_resampled_ttest", "fold_interval", "size_ratio"]


def corrected_resampled_ttest(
    differences: Any, n_train: float, n_test: float, confidence: float = 0.95, *, bounds: Bounds = None
) -> Estimate:
    r"""The t-test for differences over folds, corrected for training sets that overlap.

    .. math:: t = \frac{\bar d}{\sqrt{\left(\frac1J + \frac{n_{test}}{n_{train}}\right) s^2}}, \quad
        s^2 = \frac{1}{J-1} \sum_j (d_j - \bar d)^2, \quad J - 1 \text{ degrees of freedom}

    Nadeau & Bengio 2003, Machine Learning 52:239, section 4; for k-fold repeated r times there are J = k * r
    differences (Bouckaert & Frank 2004, PAKDD). The naive paired t-test has 1/J alone, takes the folds for independent,
    and finds differences that are not there. The corrected one is an approximation, and says nothing of other cohorts.

    Several seeds on one split are not further folds: give their mean for each fold. Repeats need splits of their own.

    Args:
        differences: (J,) metric of arm A minus that of arm B on the same fold, one for each fold of each repeat.
        n_train: subjects that a fold is trained on (with those of its validation part left out).
        n_test: subjects that a fold is tested on. In k-fold without a validation part n_test / n_train = 1 / (k - 1).
        confidence: of the interval of the mean difference.
        bounds: the metric's, by name (``"auc"``) or two numbers, as :func:`~fusionconv.evaluation.metric_bounds` takes
            them. A difference of a metric from 0 to 1 lies between -1 and 1, where the interval is cut: it holds the
            true difference as often as before. None: it is not cut.

    Returns:
        An Estimate: the mean difference, its interval, two-sided p, n = J. Differences that are all 0 give p = 1.

    Raises:
        EvaluationError: fewer than two differences, NaN, sizes that are not above 0, or differences that are all the
            same and not 0.

    >>> print(corrected_resampled_ttest([0.03, 0.01, 0.04, 0.00, 0.02], n_train=160, n_test=40))
    0.0200 [95% -0.0094 to 0.0494], p = 0.132, n = 5, corrected resampled t-test (Nadeau & Bengio 2003), n = folds
    """
    d = require_vector(differences, "differences")
    require_confidence(confidence)
    ratio = size_ratio(n_train, n_test)
    least, greatest = metric_bounds(bounds)
    width = greatest - least
    if np.abs(d).max() > width * (1 + 1e-9):
        raise EvaluationError(
            f"differences: expected at most {width:g} apart, since the metric lies within {least:g} and {greatest:g}, "
            f"got {d[np.abs(d).argmax()]:g}; are they percent?"
        )
    J, mean = len(d), float(d.mean())
    if J < 2:
        raise EvaluationError(f"differences: expected at least two folds, got {J}; one fold has no spread")
    method = "corrected resampled t-test (Nadeau & Bengio 2003), n = folds"
    if np.ptp(d) <= 1e-12 * max(1.0, float(np.abs(d).max())):  # the same but for rounding
        if abs(mean) <= 1e-12:
            return Estimate(0.0, 0.0, 0.0, J, method + ", all differences 0", 1.0, confidence)
        raise EvaluationError(
            f"differences: expected values that vary from fold to fold, got {J} times {d[0]:g}, for which the test is "
            "not defined; was one fold's result copied to all?"
        )
    stats = importable_stats()
    error = math.sqrt((1 / J + ratio) * d.var(ddof=1))
    margin = float(stats.t.ppf((1 + confidence) / 2, J - 1)) * error
    p = float(2 * stats.t.sf(abs(mean / error), J - 1))
    low, high = max(mean - margin, -width), min(mean + margin, width)
    return Estimate(mean, low, high, J, method, p, confidence, standard_error=error)


def fold_interval(
    values: Any,
    n_train: float | None = None,
    n_test: float | None = None,
    *,
    bounds: Bounds = (0, 1),
    confidence: float = 0.95,
) -> Estimate:
    r"""The mean of a metric over folds (of all repeats), with an interval that stays within the metric's bounds.

    .. math:: \bar x \pm t_{J-1} \sqrt{\left(\frac1J + \frac{n_{test}}{n_{train}}\right) s^2}

    (Nadeau & Bengio 2003, Machine Learning 52:239, section 3; without the sizes 1/J alone, which takes the folds for
    independent and is too narrow). For a metric between two bounds it is made on the logit scale, so that no AUC has
    an interval from -0.04 to 1.02; beside one bound, such as an error's 0, it is cut there.

    Args:
        values: (J,) the metric on each fold of each repeat.
        n_train: subjects that a fold is trained on.
        n_test: subjects that a fold is tested on.
        bounds: the metric's, by name (``"auc"``, ``"mae"``) or as two numbers; ``(0, None)`` for an error, None for no
            bounds.
        confidence: of the interval.

    Returns:
        An Estimate: mean, low, high, n = J. low and high are NaN, and ``method`` says why, for one fold, for folds that
        are all alike, and for a mean on a bound: of these, no interval can be told.

    Raises:
        EvaluationError: NaN, values outside the bounds, one size without the other.

    >>> print(fold_interval([0.95, 0.99, 0.80, 0.97, 0.93], n_train=32, n_test=8))
    0.9280 [95% 0.6146 to 0.9905], n = 5, mean over folds (Nadeau & Bengio 2003), n = folds
    """
    x = require_vector(values, "values")
    require_confidence(confidence)
    least, greatest = metric_bounds(bounds)
    if x.min() < least or x.max() > greatest:
        raise EvaluationError(
            f"values: expected a metric within {least:g} and {greatest:g}, got {x.min():g} to {x.max():g}; give its "
            "bounds=, or shares instead of percent"
        )
    if (n_train is None) != (n_test is None):
        raise EvaluationError("expected n_train and n_test together, got one of them; give both sizes")
    ratio = 0.0 if n_train is None or n_test is None else size_ratio(n_train, n_test)
    J, mean = len(x), float(x.mean())
    method = "mean over folds (Nadeau & Bengio 2003), n = folds" if ratio else "mean over folds, taken for independent"
    nothing = "one fold" if J == 1 else "all folds alike" if np.ptp(x) <= 1e-12 * max(1.0, abs(mean)) else ""
    if nothing:
        return Estimate(mean, math.nan, math.nan, J, f"{method}, no interval: {nothing}", None, confidence)
    error = math.sqrt((1 / J + ratio) * x.var(ddof=1))
    low, high = bounded_interval(mean, float(importable_stats().t.ppf((1 + confidence) / 2, J - 1)) * error, bounds)
    return Estimate(mean, low, high, J, method, None, confidence, standard_error=error)


def size_ratio(n_train: float, n_test: float) -> float:
    """n_test / n_train.

    Raises:
        EvaluationError: one of them is not above 0.
    """
    for name, size in {"n_train": n_train, "n_test": n_test}.items():
        if not (np.ndim(size) == 0 and np.isfinite(size) and size > 0):
            raise EvaluationError(f"{name}: expected a number of subjects above 0, got {size!r}")
    return n_test / n_train
