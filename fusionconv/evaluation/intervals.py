"""Intervals of one figure: Wilson's for a proportion, the bootstrap by subject for any metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import importable_stats, require_confidence, require_count
from fusionconv.evaluation.bootstrap import Interval, bootstrap, require_arms
from fusionconv.evaluation.result import Estimate
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["bootstrap_interval", "wilson"]


def wilson(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval of the proportion successes / n (Wilson 1927, JASA 22:209).

    Unlike p ± 1.96 sqrt(p (1 - p) / n) it stays within 0 and 1, and has a width at 0 of n and n of n. The n things must
    be independent: subjects, not images.

    Args:
        successes: how many of the n, from 0 to n.
        n: how many things.
        confidence: of the interval.

    Raises:
        EvaluationError: n below 1, or successes that are not from 0 to n.

    >>> print(wilson(81, 263))
    0.3080 [95% 0.2553 to 0.3662], n = 263, Wilson's interval
    """
    require_count(n, "n", 1)
    require_count(successes, "successes", 0)
    if successes > n:
        raise EvaluationError(f"successes: expected at most n = {n}, got {successes}")
    ends = importable_stats().binomtest(int(successes), int(n)).proportion_ci(require_confidence(confidence), "wilson")
    return Estimate(successes / n, float(ends.low), float(ends.high), int(n), "Wilson's interval", None, confidence)


@in_one_order
def bootstrap_interval(
    metric: Callable[[Any, Any], float],
    target: Any,
    prediction: Any,
    groups: Any = None,
    n_resamples: int = 2000,
    seed: int = 0,
    *,
    strata: Any = None,
    interval: Interval = "percentile",
    confidence: float = 0.95,
) -> Estimate:
    """metric(target, prediction) with an interval from resampling subjects, each with all its rows.

    Arguments, errors and limits as for :func:`~fusionconv.evaluation.paired_bootstrap`. The interval tells how the
    figure varies with the subjects that are tested, for this trained model.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> age = rng.uniform(50, 90, 100)
    >>> error = lambda target, predicted: abs(target - predicted).mean()
    >>> found = bootstrap_interval(error, age, age + rng.normal(0, 4, 100))
    >>> found.low < found.estimate < found.high
    True
    """
    truth, (values,) = require_arms(metric, target, {"prediction": prediction})
    done = bootstrap(lambda r: metric(truth[r], values[r]), len(truth), groups, strata, n_resamples, seed, interval)
    low, high = done.interval(confidence)
    method = (
        f"bootstrap, {n_resamples} resamples, {interval}, n = {'rows' if groups is None else 'subjects'}{done.remark}"
    )
    return Estimate(
        done.estimate, low, high, done.groups, method, None, confidence, done.undefined, done.standard_error
    )
