"""Is one trained model better than the other on the same subjects? McNemar's test and the paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    group_numbers,
    importable_stats,
    require_classes,
    require_confidence,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.bootstrap import Interval, bootstrap, require_arms
from fusionconv.evaluation.result import Estimate
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["McNemar", "mcnemar", "paired_bootstrap", "paired_bootstrap_scores"]


@dataclass(frozen=True)
class McNemar(Estimate):
    """An `Estimate` of accuracy A - accuracy B, with the four counts of rows.

    Attributes:
        both, only_a, only_b, neither: rows that both have right, only A, only B, neither.
        estimate, low, high, n, method, p_value, confidence, undefined, standard_error: as in `Estimate`.

    Example:
        >>> from fusionconv.evaluation import mcnemar
        >>> found = mcnemar([1, 1, 1, 1, 0, 0, 0, 1], a=[1, 1, 1, 1, 0, 0, 0, 0], b=[1, 1, 0, 0, 1, 1, 1, 0])
        >>> found.both, found.only_a, found.only_b, found.neither
        (2, 5, 0, 1)
    """

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0


@in_one_order
def mcnemar(target: Any, a: Any, b: Any, groups: Any = None, confidence: float = 0.95) -> McNemar:
    """McNemar's exact test: is A right more often than B on the same rows?

    Only rows that exactly one of them has right count. Were both equally good, each such row would be a fair coin:
    two-sided p = min(1, 2 P(X <= smaller count)), X ~ Binomial(only_a + only_b, 1/2); p = 1 without such rows
    (McNemar 1947, Psychometrika 12:153). The interval is that of Agresti & Min 2005 (Statistics in Medicine 24:729):
    Wald's after 0.5 is added to each of the four counts; near the limit it can disagree with the exact p.

    The rows must be independent: one for each subject. It compares two trained models, not two ways to train: for that
    see :func:`~fusionconv.evaluation.corrected_resampled_ttest`.

    Args:
        target: (n,) classes, such as 0 and 1 or texts.
        a, b: (n,) the classes that A and B predict, not probabilities. Where you have right or wrong only, give ones as
            the target, and 1 or True where A, or B, is right.
        groups: (n,) each row's subject; given, it is checked that no subject comes twice.
        confidence: of the interval.

    Raises:
        EvaluationError: other lengths, a missing class, predictions that are no classes of the target's kind, or a
            subject with several rows.

    >>> print(mcnemar([1, 1, 1, 1, 0, 0, 0, 1], a=[1, 1, 1, 1, 0, 0, 0, 0], b=[1, 1, 0, 0, 1, 1, 1, 0]))
    0.6250 [95% 0.1333 to 0.8667], p = 0.062, n = 8, McNemar's exact test, interval of Agresti & Min 2005, n = rows
    """
    truth, said_a, said_b = require_classes(target, {"a": a, "b": b})
    require_confidence(confidence)
    n, right_a, right_b = len(truth), said_a == truth, said_b == truth
    subjects = int(group_numbers(groups, n).max()) + 1
    if subjects < n:
        raise EvaluationError(
            f"groups: expected one row for each subject, got {n} rows of {subjects} subjects, which are not "
            "independent; use paired_bootstrap(..., groups=...), or one row a subject"
        )
    both, only_a, only_b = (int(c.sum()) for c in (right_a & right_b, right_a & ~right_b, ~right_a & right_b))
    stats = importable_stats()
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    x, y = (only_a + 0.5) / (n + 2), (only_b + 0.5) / (n + 2)
    margin = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((x + y - (x - y) ** 2) / (n + 2))
    return McNemar(
        estimate=(only_a - only_b) / n,
        low=max(-1.0, x - y - margin),
        high=min(1.0, x - y + margin),
        n=n,
        method="McNemar's exact test, interval of Agresti & Min 2005, n = rows",
        p_value=p,
        confidence=confidence,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=n - both - only_a - only_b,
    )


@in_one_order
def paired_bootstrap(
    metric: Callable[[Any, Any], float],
    target: Any,
    a: Any,
    b: Any,
    groups: Any = None,
    n_resamples: int = 2000,
    seed: int = 0,
    *,
    strata: Any = None,
    interval: Interval = "percentile",
    confidence: float = 0.95,
) -> Estimate:
    """The difference metric(target, a) - metric(target, b) on the same subjects, with an interval by bootstrap.

    Subjects are drawn with replacement, each with all its rows, the same for both arms (Efron & Tibshirani 1993). p is
    where the interval just excludes 0, and at least 2 / 2^n for n subjects; under some 20 subjects p and interval are
    still too small, and a test that is exact is better. Like :func:`mcnemar` it compares two sets of predictions, not
    two ways to train: the training's own chance is not in it.

    Args:
        metric: called as ``metric(target, prediction)`` with rows of ``target`` and of ``a`` or ``b``: the order of
            scikit-learn. NaN or a ValueError where it is not defined (an AUC of one class): such a resample is left
            out and counted. scikit-learn's balanced accuracy averages over the classes that are there, another figure
            where one is absent: use :func:`~fusionconv.evaluation.balanced_accuracy` or ``strata``.
        target: (n, ...), such as classes, ages, or (n, 2) times and events.
        a, b: (n, ...) predictions of the arms.
        groups: (n,) each row's subject. None: every row is its own.
        n_resamples: how many resamples.
        seed: of the resampling.
        strata: (n,) labels, such as the class, whose numbers of subjects every resample keeps.
        interval: ``"percentile"``, or ``"bca"`` (bias-corrected and accelerated; Efron 1987).
        confidence: of the interval.

    Raises:
        EvaluationError: other lengths, NaN among predictions, one subject only, a metric that is not defined.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> age = rng.uniform(50, 90, 100)
    >>> a, b = age + rng.normal(0, 4, 100), age + rng.normal(0, 8, 100)
    >>> error = lambda target, predicted: abs(target - predicted).mean()
    >>> paired_bootstrap(error, age, a, b).high < 0
    True
    """
    truth, (first, second) = require_arms(metric, target, {"a": a, "b": b})
    done = bootstrap(
        lambda r: metric(truth[r], first[r]) - metric(truth[r], second[r]),
        len(truth),
        groups,
        strata,
        n_resamples,
        seed,
        interval,
    )
    low, high = done.interval(confidence)
    of = "rows" if groups is None else "subjects"
    method = f"paired bootstrap, {n_resamples} resamples, {interval}, n = {of}{done.remark}"
    return Estimate(
        done.estimate, low, high, done.groups, method, done.p_value(), confidence, done.undefined, done.standard_error
    )


@in_one_order
def paired_bootstrap_scores(
    score_a: Any,
    score_b: Any,
    groups: Any = None,
    n_resamples: int = 2000,
    seed: int = 0,
    *,
    strata: Any = None,
    interval: Interval = "percentile",
    confidence: float = 0.95,
) -> Estimate:
    """The mean of ``score_a - score_b`` over rows, with an interval from resampling subjects, each with all its rows.

    For a score that each row has of itself, such as Dice, PSNR or an absolute error: see
    :func:`paired_bootstrap` for one that needs all rows together, such as AUC. Every row counts alike, so that a
    subject of three rows has three times the weight of a subject of one; give one mean a subject where all subjects are
    to count alike. Arguments, p and limits as for :func:`paired_bootstrap`.

    Args:
        score_a, score_b: (n,) the score of each row, of arm A and of arm B, in the same order.
        groups: (n,) each row's subject. None: every row is its own.

    Raises:
        EvaluationError: other lengths, NaN (a Dice of an empty mask must be decided before), one subject only.

    >>> found = paired_bootstrap_scores([0.8, 0.9, 0.7, 0.8], [0.7, 0.8, 0.7, 0.6], groups=["a", "a", "b", "c"])
    >>> round(found.estimate, 3), found.n
    (0.1, 3)
    """
    a, b = require_vector(score_a, "score_a"), require_vector(score_b, "score_b")
    require_rows(len(a), "score_b", b)
    d = a - b
    done = bootstrap(lambda r: float(d[r].mean()), len(d), groups, strata, n_resamples, seed, interval)
    low, high = done.interval(confidence)
    of = "rows" if groups is None else "subjects"
    method = f"paired bootstrap of the rows' scores, {n_resamples} resamples, {interval}, n = {of}{done.remark}"
    return Estimate(done.estimate, low, high, done.groups, method, done.p_value(), confidence, 0, done.standard_error)
