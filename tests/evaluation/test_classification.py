"""AUC and balanced accuracy against scikit-learn, DeLong against its formula in slow loops and against noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import balanced_accuracy, delong, roc_auc


@pytest.mark.parametrize("levels", [4, 1000])
def test_auc_is_scikit_learns_with_ties(levels):
    random = np.random.default_rng(levels)
    y, s = random.integers(0, 2, 80), random.integers(0, levels, 80) / levels
    assert roc_auc(y, s) == pytest.approx(roc_auc_score(y, s))
    assert math.isnan(roc_auc([1, 1], [0.2, 0.3]))


def test_balanced_accuracy_is_scikit_learns_where_all_classes_are_there():
    random = np.random.default_rng(0)
    y, p = random.choice(["CN", "MCI", "AD"], (2, 60))
    assert balanced_accuracy(y, p, ["CN", "MCI", "AD"]) == pytest.approx(balanced_accuracy_score(y, p))
    assert math.isnan(balanced_accuracy(y, p, ["CN", "MCI", "AD", "FTD"]))


def slow_delong(y, a, b):
    """Formulas of the paper, pair by pair: the covariance matrices of V10 and V01 of the two scores."""
    positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)

    def psi(x, z):
        return 1.0 if z < x else 0.5 if z == x else 0.0

    V10 = [[np.mean([psi(s[i], s[j]) for j in negatives]) for i in positives] for s in (a, b)]
    V01 = [[np.mean([psi(s[i], s[j]) for i in positives]) for j in negatives] for s in (a, b)]
    S = np.cov(V10) / len(positives) + np.cov(V01) / len(negatives)
    L = np.array([1, -1])
    return np.mean(V10[0]) - np.mean(V10[1]), L @ S @ L


@pytest.mark.parametrize("seed", range(5))
def test_delong_is_the_papers_formula(seed):
    random = np.random.default_rng(seed)
    y = np.array([0] * 22 + [1] * 13)
    a, b = (np.round(y + random.normal(0, scale, 35), 1) for scale in (1, 2))  # rounded: ties
    difference, variance = slow_delong(y, a, b)
    found = delong(y, a, b, confidence=0.9)
    assert found.estimate == pytest.approx(difference)
    assert found.estimate == pytest.approx(roc_auc_score(y, a) - roc_auc_score(y, b))
    assert found.p_value == pytest.approx(math.erfc(abs(difference) / math.sqrt(2 * variance)))
    assert found.high - found.low == pytest.approx(2 * stats.norm.ppf(0.95) * math.sqrt(variance))


def test_delong_has_no_false_alarms_on_two_equally_good_scores():
    alarms = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        y = np.repeat([0, 1], 40)
        shared = y + random.normal(0, 1, 80)
        alarms += delong(y, shared + random.normal(0, 1, 80), shared + random.normal(0, 1, 80)).p_value < 0.05
    assert 0.02 < alarms / 400 < 0.085


def test_the_same_order_is_p_1_and_a_full_separation_has_no_test():
    y = [0, 0, 1, 1]
    assert delong(y, [1, 3, 2, 4], [10, 30, 20, 40]).p_value == 1
    with pytest.raises(EvaluationError, match="separates"):
        delong(y, [1, 2, 3, 4], [4, 3, 2, 1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: roc_auc([0, 2], [0.1, 0.2]), "only 0 and 1"),
        (lambda: roc_auc([0, 1], [0.1, float("nan")]), "score: expected finite"),
        (lambda: roc_auc([0, 1], [0.1]), "one row for each"),
        (lambda: balanced_accuracy([0, 1], [0.3, 0.7]), "not probabilities"),
        (lambda: balanced_accuracy([0, 1], [0, 1, 1]), "one row for each"),
        (lambda: balanced_accuracy([0, 2], [0, 1]), r"target: .*\[2\]"),
        (lambda: delong([0, 0, 1], [1, 2, 3], [1, 2, 3]), "1 of 1 and 2 of 0"),
        (lambda: delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3]), "b: expected one row"),
        (lambda: delong([0, 0, 1, 1], [1, 2, 3, 4], [1, 2, 3, 5], groups=list("aabc")), "subjects with several"),
    ],
)
def test_they_refuse(call, says):
    with pytest.raises(EvaluationError, match=says):
        call()
