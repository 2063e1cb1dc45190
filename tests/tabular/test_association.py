"""Associations against scipy, scikit-learn and sums written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from scipy.stats.contingency import association as cramer
from sklearn.metrics import roc_auc_score

from fusionconv.tabular.association import Association, associate


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"dx": rng.choice(["AD", "CN"], 200), "site": rng.choice(["A", "B", "C"], 200)})
    frame["age"] = (rng.normal(70, 8, 200) + 5 * (frame["dx"] == "AD")).round()  # rounded: ties
    frame["volume"] = rng.normal(0, 1, 200) - 0.1 * frame["age"]
    frame.loc[::13, "age"] = np.nan
    return frame


def test_auc_with_ties_is_scikit_learn_s(rows):
    known = rows.dropna()
    expected = roc_auc_score(known["dx"] == "CN", known["age"])
    assert associate(rows["age"], rows["dx"]) == Association("AUC for CN", pytest.approx(expected), len(known))
    assert associate(-rows["age"], rows["dx"]).value == pytest.approx(1 - expected)


def test_rank_correlation_is_scipy_s(rows):
    known = rows.dropna()
    result = associate(rows["age"], rows["volume"])
    assert result == Association("Spearman", pytest.approx(spearmanr(known["age"], known["volume"])[0]), len(known))


def test_cramers_v_is_scipy_s(rows):
    result = associate(rows["site"], rows["dx"])
    assert result.measure == "Cramer's V"
    assert result.value == pytest.approx(cramer(pd.crosstab(rows["site"], rows["dx"]).to_numpy(), method="cramer"))
    assert associate(rows["dx"], rows["dx"]).value == pytest.approx(1)


def test_eta_is_the_share_of_variance_between_classes(rows):
    known = rows.dropna()
    mean = known["age"].mean()
    between = sum(len(g) * (g.mean() - mean) ** 2 for _, g in known.groupby("site")["age"])
    expected = (between / ((known["age"] - mean) ** 2).sum()) ** 0.5
    assert associate(rows["age"], rows["site"]) == Association("eta", pytest.approx(expected), len(known))
    assert associate(rows["site"], rows["age"]).value == pytest.approx(expected)


def test_strong_ones_are_told_in_both_directions():
    dx = pd.Series(["CN"] * 20 + ["AD"] * 20)
    score = pd.Series(range(40))
    assert associate(score, dx).strong
    assert associate(-score, dx).strong
    assert not associate(score % 7, dx).strong
    assert associate(score, -score).strong


def test_where_there_is_nothing_to_compute_there_is_none():
    assert associate(pd.Series([1.0, 2.0]), pd.Series([0, 1])) is None
    assert associate(pd.Series([1.0, 1.0, 1.0]), pd.Series([0, 1, 0])) is None
    assert associate(pd.Series([1.0, 2.0, None, None]), pd.Series([None, 1, 0, 1])) is None
