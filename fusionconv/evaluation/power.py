"""What could this study have told apart? So that "no difference was found" is not read as "they are equal"."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import importable_stats, require_vector
from fusionconv.evaluation.folds import size_ratio
from fusionconv.evaluation.result import Estimate

__all__ = ["smallest_difference", "smallest_difference_by_subject"]


def smallest_difference(
    differences: Any, n_train: float, n_test: float, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    r"""The smallest true difference that the corrected resampled t-test would have found with this chance.

    .. math:: P\left(|T| > t_{J-1,\, 1 - \alpha/2}\right) = power, \quad
        T \sim t_{J-1}(\delta / SE), \quad SE = \sqrt{\left(\tfrac1J + \tfrac{n_{test}}{n_{train}}\right) s^2}

    solved for :math:`\delta`: T has the noncentral t distribution (Cohen 1988, Statistical Power Analysis, chapter 2)
    with the variance of Nadeau & Bengio 2003. It rests on the spread s of the differences between folds, not on their
    mean: power at the observed difference would say no more than p (Hoenig & Heisey 2001, The American Statistician
    55:19). With few folds s is itself uncertain: read one digit of it.

    Args:
        differences: (J,) metric of arm A minus that of arm B on the same fold, as for
            :func:`~fusionconv.evaluation.corrected_resampled_ttest`.
        n_train: subjects that a fold is trained on.
        n_test: subjects that a fold is tested on.
        power: the chance to find it.
        alpha: the two-sided level of the test.

    Returns:
        The difference, above 0, in the metric's unit.

    Raises:
        EvaluationError: fewer than two differences, NaN, no spread between folds, sizes that are not above 0.

    >>> round(smallest_difference([0.03, 0.01, 0.04, 0.00, 0.02], n_train=160, n_test=40), 3)
    0.04
    """
    d = require_vector(differences, "differences")
    _require_shares(power, alpha)
    ratio, J = size_ratio(n_train, n_test), len(d)
    if J < 2 or np.ptp(d) <= 1e-12 * max(1.0, float(np.abs(d).max())):
        raise EvaluationError(
            f"differences: expected at least two that vary from fold to fold, got {J} from {d.min():g} to {d.max():g}; "
            "without a spread nothing says what could have been found"
        )
    error = math.sqrt((1 / J + ratio) * d.var(ddof=1))
    stats, df = importable_stats(), J - 1
    limit = float(stats.t.ppf(1 - alpha / 2, df))

    def chance(shift: float) -> float:
        wrong_side = float(stats.nct.cdf(-limit, df, shift))  # scipy gives NaN for some shifts where it is below 1e-10
        return float(stats.nct.sf(limit, df, shift)) + (0.0 if math.isnan(wrong_side) else wrong_side)

    return error * _solve(chance, power)


def smallest_difference_by_subject(found: Estimate, *, power: float = 0.8, alpha: float = 0.05) -> float:
    r"""The smallest true difference that a paired bootstrap over as many subjects would have found with this chance.

    .. math:: P\left(|Z + \delta / SE| > z_{1 - \alpha/2}\right) = power, \quad Z \sim N(0, 1)

    about :math:`(z_{1 - \alpha/2} + z_{power}) \, SE = 2.8 \, SE`, with SE the standard deviation of the difference
    over the resamples (Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 6). For two trained models;
    it takes the difference for normally distributed, which needs some tens of subjects.

    Args:
        found: what :func:`~fusionconv.evaluation.paired_bootstrap`,
            :func:`~fusionconv.evaluation.paired_bootstrap_scores` or :func:`~fusionconv.evaluation.delong` gave.
        power: the chance to find it.
        alpha: the two-sided level of the test.

    Returns:
        The difference, above 0, in the metric's unit.

    Raises:
        EvaluationError: an Estimate of folds (see :func:`smallest_difference`), without a test or a spread, or of
            so few subjects that no p falls below alpha.

    >>> found = Estimate(0.02, -0.02, 0.06, n=100, method="paired bootstrap", p_value=0.3, standard_error=0.02)
    >>> round(smallest_difference_by_subject(found), 3)
    0.056
    """
    _require_shares(power, alpha)
    if not isinstance(found, Estimate) or found.p_value is None or found.method.startswith("corrected resampled"):
        got = found.method if isinstance(found, Estimate) else type(found).__name__
        raise EvaluationError(
            f"found: expected what paired_bootstrap, paired_bootstrap_scores or delong gave, got {got}; for folds use "
            "smallest_difference"
        )
    if 2.0 ** (1 - found.n) >= alpha:
        raise EvaluationError(
            f"found: expected more subjects, got {found.n}, whose p cannot fall below {2.0 ** (1 - found.n):g}: no "
            f"difference, however large, could have been found at alpha={alpha:g}"
        )
    error = found.standard_error
    if error is None or not error > 0:
        raise EvaluationError(
            f"found: expected a difference that varies with the subjects, got a standard error of {error}; without a "
            "spread nothing says what could have been found"
        )
    normal = importable_stats().norm
    limit = float(normal.ppf(1 - alpha / 2))
    return error * _solve(lambda shift: float(normal.sf(limit - shift) + normal.cdf(-limit - shift)), power)


def _solve(chance: Any, power: float) -> float:
    """The shift, in standard errors, at which the chance to find it is ``power``."""
    from scipy.optimize import brentq

    high = 1.0
    while chance(high) < power:
        high *= 2
    return float(brentq(lambda shift: chance(shift) - power, 0, high, xtol=1e-10))


def _require_shares(power: float, alpha: float) -> None:
    if not (0 < alpha < power < 1):
        raise EvaluationError(
            f"expected 0 < alpha < power < 1, such as alpha=0.05 and power=0.8, got alpha={alpha!r} and power={power!r}"
        )
