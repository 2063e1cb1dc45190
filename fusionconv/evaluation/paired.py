"""Is one arm better than the other on the same folds or subjects? Corrected t-test, McNemar, paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    as_array,
    group_numbers,
    importable_stats,
    require_classes,
    require_confidence,
    require_rows,
    require_vector,
)
from fusionconv.evaluation.bootstrap import Interval, bootstrap
from fusionconv.evaluation.result import Estimate

__all__ = ["McNemar", "corrected_resampled_ttest", "mcnemar", "paired_bootstrap"]


def corrected_resampled_ttest(differences: Any, n_train: float, n_test: float, confidence: float = 0.95) -> Estimate:
    r"""The t-test for differences over folds, corrected for training sets that overlap.

    .. math:: t = \frac{\bar d}{\sqrt{\left(\frac1J + \frac{n_{test}}{n_{train}}\right) s^2}}, \quad
        s^2 = \frac{1}{J-1} \sum_j (d_j - \bar d)^2, \quad J - 1 \text{ degrees of freedom}

    Nadeau & Bengio 2003, Machine Learning 52:239, section 4; for k-fold repeated r times there are J = k * r
    differences (Bouckaert & Frank 2004, PAKDD). The naive paired t-test has 1/J alone, takes the folds for independent,
    and finds differences that are not there. The corrected one is an approximation, and says nothing of other cohorts.

    Several seeds on one split are not further folds: give their mean for each fold. Repeats need splits of their own.

    Args:
        differences: (J,) metric of arm A less that of arm B on the same fold, one for each fold of each repeat.
        n_train: subjects that a fold is trained on (with those of its validation part left out).
        n_test: subjects that a fold is tested on. In k-fold without a validation part n_test / n_train = 1 / (k - 1).
        confidence: of the interval of the mean difference.

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
    sizes = {"n_train": n_train, "n_test": n_test}
    for name, size in sizes.items():
        if not (np.ndim(size) == 0 and np.isfinite(size) and size > 0):
            raise EvaluationError(f"{name}: expected a number of subjects above 0, got {size!r}")
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
    error = math.sqrt((1 / J + n_test / n_train) * d.var(ddof=1))
    margin = float(stats.t.ppf((1 + confidence) / 2, J - 1)) * error
    p = float(2 * stats.t.sf(abs(mean / error), J - 1))
    return Estimate(mean, mean - margin, mean + margin, J, method, p, confidence)


@dataclass(frozen=True)
class McNemar(Estimate):
    """An Estimate of accuracy A - accuracy B, with the four counts of rows: both, one, the other, none right."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0


def mcnemar(target: Any, a: Any, b: Any, groups: Any = None, confidence: float = 0.95) -> McNemar:
    """McNemar's exact test: is A right more often than B on the same rows?

    Only rows that exactly one of them has right count. Were both equally good, each such row would be a fair coin:
    two-sided p = min(1, 2 P(X <= smaller count)), X ~ Binomial(only_a + only_b, 1/2); p = 1 without such rows
    (McNemar 1947, Psychometrika 12:153). The interval is that of Agresti & Min 2005 (Statistics in Medicine 24:729):
    Wald's after 0.5 is added to each of the four counts; near the limit it can disagree with the exact p.

    The rows must be independent: one for each subject. It compares two trained models, not two ways to train: for that
    see :func:`corrected_resampled_ttest`.

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
    arms = {"target": as_array(target), "a": as_array(a), "b": as_array(b)}
    rows = len(arms["target"]) if arms["target"].ndim else 0
    for name, array in arms.items():
        require_rows(rows, name, array)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise EvaluationError(
                f"{name}: expected no NaN, got {int(np.isnan(array).sum())}; find out why before leaving such rows out"
            )
    truth, first, second = arms.values()
    done = bootstrap(
        lambda r: metric(truth[r], first[r]) - metric(truth[r], second[r]),
        rows,
        groups,
        strata,
        n_resamples,
        seed,
        interval,
    )
    low, high = done.interval(confidence)
    method = f"paired bootstrap, {n_resamples} resamples, {interval}, n = {'rows' if groups is None else 'subjects'}"
    return Estimate(done.estimate, low, high, done.groups, method, done.p_value(), confidence, done.undefined)
