"""AUC and balanced accuracy against scikit-learn, DeLong against its formula in slow loops and against noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import balanced_accuracy, delong, f1_macro, roc_auc
from fusionconv.evaluation.auc_difference import _newcombe


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
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    # the interval of a difference of two AUCs from their own logit intervals, in the large its own normal one
    assert found.high - found.low == pytest.approx(2 * stats.norm.ppf(0.95) * math.sqrt(variance), rel=0.3)
    assert -1 <= found.low < found.estimate < found.high <= 1


def by_hand(y, a, b, z):
    """MOVER written out, with the covariance matrix of the paper."""
    positives, negatives = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    psi = lambda x, o: float(o < x) + 0.5 * (o == x)  # noqa: E731
    V10 = [[np.mean([psi(s[i], s[j]) for j in negatives]) for i in positives] for s in (a, b)]
    V01 = [[np.mean([psi(s[i], s[j]) for i in positives]) for j in negatives] for s in (a, b)]
    S = np.cov(V10) / len(positives) + np.cov(V01) / len(negatives)
    (A, B), (sa, sb) = np.mean(V10, axis=1), np.sqrt(np.diag(S))
    logit, back = lambda p: math.log(p / (1 - p)), lambda x: 1 / (1 + math.exp(-x))
    (la, ua), (lb, ub) = (
        (back(logit(p) - z * s / (p * (1 - p))), back(logit(p) + z * s / (p * (1 - p)))) for p, s in ((A, sa), (B, sb))
    )
    r = S[0, 1] / (sa * sb)
    low = A - B - math.sqrt((A - la) ** 2 + (ub - B) ** 2 - 2 * r * (A - la) * (ub - B))
    return low, A - B + math.sqrt((ua - A) ** 2 + (B - lb) ** 2 - 2 * r * (ua - A) * (B - lb))


@pytest.mark.parametrize("seed", range(5))
def test_delongs_interval_is_made_of_the_two_aucs_own(seed):
    random = np.random.default_rng(seed)
    y = np.array([0] * 22 + [1] * 13)
    a, b = (y + random.normal(0, scale, 35) for scale in (1, 2))
    found = delong(y, a, b)
    assert (found.low, found.high) == pytest.approx(by_hand(y, a, b, stats.norm.ppf(0.975)), abs=1e-9)


def test_delongs_interval_covers_and_never_leaves_its_bounds():
    """400 cohorts of 15 and 15, a true difference known from 200 000 rows: about 95 % of the intervals hold it."""
    random = np.random.default_rng(0)

    def cohort(rows):
        y = np.repeat([0, 1], rows)
        shared = 1.8 * y + random.normal(0, 1, 2 * rows)
        return y, shared + random.normal(0, 0.3, 2 * rows), shared + random.normal(0, 3, 2 * rows)

    y, a, b = cohort(100_000)
    true, held = roc_auc(y, a) - roc_auc(y, b), 0
    for _ in range(400):
        found = delong(*cohort(15))
        assert -1 <= found.low <= found.high <= 1
        held += found.low <= true <= found.high
    assert 0.92 <= held / 400 <= 0.985


def test_an_auc_of_1_has_an_interval_below_1():
    """No variance by DeLong; Newcombe's method 5 as in R's auRoc: its equation holds at the end."""
    y = np.repeat([0, 1], 12)
    a, b = np.arange(24.0), np.random.default_rng(0).normal(size=24)
    found = delong(y, a, b)
    assert roc_auc(y, a) == 1
    assert found.estimate - found.low > found.high - found.estimate > 0
    assert found.high < 1
    low, high = _newcombe(1.0, 12, 12, 1.96)
    spread = low * (1 - low) * (1 + 11 * (1 - low) / (2 - low) + 11 * low / (1 + low)) / 144
    assert high == 1
    assert (1 - low) / math.sqrt(spread) == pytest.approx(1.96)
    assert _newcombe(0.0, 12, 12, 1.96) == pytest.approx((0, 1 - low))


@pytest.mark.parametrize("rows", [(3, 3), (3, 300), (9, 10), (10, 9)])
def test_delong_of_few_rows_is_refused(rows):
    y = np.repeat([0, 1], rows)
    with pytest.raises(EvaluationError, match=f"at least 10 rows of each class, got {rows[1]} of 1 and {rows[0]} of 0"):
        delong(y, y + np.arange(len(y)), -y + np.arange(len(y)) % 2)


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_scikit_learns(seed):
    random = np.random.default_rng(seed)
    y, p = random.choice(["CN", "MCI", "AD"], (2, 50))
    assert f1_macro(y, p, ["CN", "MCI", "AD"]) == pytest.approx(f1_score(y, p, average="macro"))
    assert f1_macro(y == "AD", p == "AD", (False, True)) == pytest.approx(
        f1_score(y == "AD", p == "AD", average="macro")
    )
    assert math.isnan(f1_macro(y, p, ["CN", "MCI", "AD", "FTD"]))
    assert f1_macro([0, 0, 0], [0, 0, 1]) == pytest.approx(f1_score([0, 0, 0], [0, 0, 1], average="macro"))


def test_delong_has_no_false_alarms_on_two_equally_good_scores():
    alarms = 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        y = np.repeat([0, 1], 40)
        shared = y + random.normal(0, 1, 80)
        alarms += delong(y, shared + random.normal(0, 1, 80), shared + random.normal(0, 1, 80)).p_value < 0.05
    assert 0.02 < alarms / 400 < 0.085


def test_the_same_order_is_p_1_and_a_full_separation_has_no_test():
    y = np.repeat([0, 1], 10)
    score = np.arange(20) + np.tile([0, 5], 10)
    assert delong(y, score, 10 * score).p_value == 1
    with pytest.raises(EvaluationError, match="separates"):
        delong(y, np.arange(20), -np.arange(20))


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
