"""Confusion, sensitivity, specificity, Youden's threshold and AUC of several classes against scikit-learn and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, recall_score, roc_auc_score

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import (
    confusion,
    multiclass_roc_auc,
    roc_auc,
    sensitivity,
    specificity,
    wilson,
    youden_threshold,
)


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 70)
    return y, np.round(y + random.normal(0, 1, 70), 1)


def test_the_confusion_matrix_is_scikit_learns():
    random = np.random.default_rng(0)
    y, p = random.choice(["CN", "MCI", "AD"], (2, 60))
    classes = ["CN", "MCI", "AD", "FTD"]
    table = confusion(y, p, classes)
    np.testing.assert_array_equal(table, confusion_matrix(y, p, labels=classes))
    assert table.loc["AD", "CN"] == ((y == "AD") & (p == "CN")).sum()
    assert (table.index.name, table.columns.name) == ("target", "prediction")


@pytest.mark.parametrize("threshold", [-0.5, 0.3, 0.5, 9.0])  # .3 and .5 are scores too: "at least"
def test_sensitivity_and_specificity_at_a_threshold(scored, threshold):
    y, s = scored
    p = (s >= threshold).astype(int)
    found, other = sensitivity(y, s, threshold), specificity(y, s, threshold)
    assert found.estimate == pytest.approx(recall_score(y, p))
    assert other.estimate == pytest.approx(recall_score(1 - y, 1 - p))
    expected = wilson(int((p[y == 1] == 1).sum()), int((y == 1).sum()))
    assert (found.low, found.high, found.n) == (expected.low, expected.high, expected.n)
    expected = wilson(int((p[y == 0] == 0).sum()), int((y == 0).sum()))
    assert (other.low, other.high, other.n) == (expected.low, expected.high, expected.n)
    assert sensitivity(y, p, 0.5).low == found.low  # classes go in as scores


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=25))
def test_no_threshold_is_better_than_youdens(rows):
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 3
    if y.all() or not y.any():
        return

    def balanced(threshold):
        return balanced_accuracy_score(y, s >= threshold)

    best = youden_threshold(y, s)
    assert balanced(best) == pytest.approx(max(balanced(t) for t in np.linspace(-2, 2, 97)))


def test_youdens_threshold_lies_between_two_scores():
    y, s = [0, 0, 1, 1], np.array([0.1, 0.2, 0.6, 0.9])
    assert youden_threshold(y, s) == pytest.approx(0.4)
    close = np.array([0.0, 1.0, np.nextafter(1.0, 2), 2.0])  # nothing between the two in the middle
    assert (close >= youden_threshold(y, close)).tolist() == [False, False, True, True]
    assert youden_threshold(y, -s) == pytest.approx(-0.9)  # no threshold helps: all rows are called 1


@pytest.fixture
def three():
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 90)
    logits = random.normal(size=(90, 3)) + np.eye(3)[y]
    p = np.exp(logits)
    return y, np.round(p / p.sum(1, keepdims=True), 2) / np.round(p / p.sum(1, keepdims=True), 2).sum(1, keepdims=True)


@pytest.mark.parametrize(("method", "theirs"), [("one_vs_rest", "ovr"), ("hand_till", "ovo")])
def test_auc_of_several_classes_is_scikit_learns(three, method, theirs):
    y, p = three
    expected = roc_auc_score(y, p, multi_class=theirs, average="macro")
    assert multiclass_roc_auc(y, p, method=method) == pytest.approx(expected)
    names = np.array(["MCI", "AD", "CN"])  # columns in this order, not in that of the alphabet
    assert multiclass_roc_auc(names[y], p, ["MCI", "AD", "CN"], method=method) == pytest.approx(expected)
    two = y < 2
    q = p[two][:, :2] / p[two][:, :2].sum(1, keepdims=True)
    assert multiclass_roc_auc(y[two], q, method=method) == pytest.approx(roc_auc(y[two], q[:, 1]))
    assert math.isnan(multiclass_roc_auc(y[two], p[two], method=method))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda y, p: multiclass_roc_auc(y, np.log(p + 0.01)), "softmax"),
        (lambda y, p: multiclass_roc_auc(y, p[:, :2]), "add up to 1"),
        (lambda y, p: multiclass_roc_auc(y, p[:, 0]), "use roc_auc"),
        (lambda y, p: multiclass_roc_auc(y + 1, p), r"among \[0, 1, 2\], got .* with \[3\]"),
        (lambda y, p: multiclass_roc_auc(y, p, ["a", "b"]), "3 different ones"),
        (lambda y, p: multiclass_roc_auc(y, p, method="weighted"), "'one_vs_rest' or 'hand_till'"),
        (lambda y, p: multiclass_roc_auc(y[:5], p), "one row for each"),
        (lambda y, p: sensitivity(y == 0, p[:, 0], float("nan")), "one finite number"),
        (lambda y, p: sensitivity(y == 0, p[:, 0], 0.5, groups=y), "subjects with several"),
        (lambda y, p: sensitivity(y < 0, p[:, 0], 0.5), "class 1, got none"),
        (lambda y, p: specificity(y >= 0, p[:, 0], 0.5), "class 0, got none"),
        (lambda y, p: youden_threshold(y >= 0, p[:, 0]), "both classes"),
        (lambda y, p: confusion(y, p[:, 0], [0, 1, 2]), "not probabilities"),
    ],
)
def test_they_refuse(three, call, says):
    with pytest.raises(EvaluationError, match=says):
        call(*three)
