"""Columns that carry labels are not paired by position where the labels say another order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import fusionconv.evaluation as evaluation
from fusionconv.errors import EvaluationError

DRAW = np.random.default_rng(0)
TARGET = pd.Series(DRAW.integers(0, 2, 60), index=[f"s{n}" for n in range(60)])
SCORE = (TARGET + DRAW.normal(size=60)).clip(-3, 4)
P = 1 / (1 + np.exp(-SCORE))
GROUPS = pd.Series([f"g{n // 2}" for n in range(60)], index=TARGET.index)

CALLS = {
    "roc_auc": lambda y, s: evaluation.roc_auc(y, s),
    "delong": lambda y, s: evaluation.delong(y, SCORE, s),
    "paired_bootstrap": lambda y, s: evaluation.paired_bootstrap(evaluation.roc_auc, y, SCORE, s, n_resamples=100),
    "paired_bootstrap_scores": lambda y, s: evaluation.paired_bootstrap_scores(SCORE, s, n_resamples=100),
    "bootstrap_interval": lambda y, s: evaluation.bootstrap_interval(evaluation.roc_auc, y, s, n_resamples=100),
    "mcnemar": lambda y, s: evaluation.mcnemar(y, (SCORE > 0).astype(int), (s > 0).astype(int)),
    "balanced_accuracy": lambda y, s: evaluation.balanced_accuracy(y, (s > 0).astype(int)),
    "f1_macro": lambda y, s: evaluation.f1_macro(target=y, prediction=(s > 0).astype(int)),
    "confusion": lambda y, s: evaluation.confusion(y, (s > 0).astype(int)),
    "sensitivity": lambda y, s: evaluation.sensitivity(y, s, 0.5),
    "specificity": lambda y, s: evaluation.specificity(y, s, 0.5),
    "youden_threshold": lambda y, s: evaluation.youden_threshold(y, s),
    "reliability_table": lambda y, s: evaluation.reliability_table(y, 1 / (1 + np.exp(-s))),
    "expected_calibration_error": lambda y, s: evaluation.expected_calibration_error(y, 1 / (1 + np.exp(-s))),
    "regression_summary": lambda y, s: evaluation.regression_summary(SCORE, s),
    "age_bias": lambda y, s: evaluation.age_bias(SCORE, s),
    "concordance_index": lambda y, s: evaluation.concordance_index(SCORE + 4, y, s),
    "multiclass_roc_auc": lambda y, s: evaluation.multiclass_roc_auc(
        y, pd.DataFrame({0: 1 - 1 / (1 + np.exp(-s)), 1: 1 / (1 + np.exp(-s))}, index=s.index), [0, 1]
    ),
    "control_rows": lambda y, s: evaluation.control_rows(
        pd.DataFrame({"a": SCORE}), "permuted", groups=GROUPS.loc[s.index]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_same_labels_in_another_order_are_refused(name):
    CALLS[name](TARGET, SCORE)  # in the same order
    with pytest.raises(EvaluationError, match=r"got the same labels in another order \('s\d+' in the place of 's0'\)"):
        CALLS[name](TARGET, SCORE[::-1])


def test_labels_that_say_nothing_of_each_other_are_taken_by_position():
    """A part of a table beside fresh answers, numbered from 0, as scikit-learn's users have them."""
    known = evaluation.roc_auc(TARGET.to_numpy(), SCORE.to_numpy())
    assert evaluation.roc_auc(TARGET, SCORE.reset_index(drop=True)) == known
    assert evaluation.roc_auc(TARGET, SCORE.to_numpy()[::1]) == known
    assert evaluation.roc_auc(TARGET.set_axis(["a", "b"] * 30), SCORE.set_axis(["a", "b"] * 30)) == known


def test_ids_of_one_person_are_one_however_they_are_stored():
    """As splits take them; as several people, intervals are too narrow and repeated rows go unseen."""
    pairs = [*range(15), *map(str, range(15)), *(f"{n} " for n in range(15)), *(float(n) for n in range(15))]
    found = evaluation.paired_bootstrap_scores(SCORE, SCORE - 1, pairs, n_resamples=100)
    assert found.n == 15
    accents = evaluation.paired_bootstrap_scores(SCORE, SCORE - 1, ["Zoë", "Zoe\u0308", "Ada"] * 20, n_resamples=100)
    assert accents.n == 2
    with pytest.raises(EvaluationError, match="expected one row for each subject"):
        evaluation.delong(TARGET, SCORE, -SCORE, groups=pairs)


def test_two_perfect_scores_in_other_orders_are_not_certain():
    """Newcombe's method 5 for each, by hand: 12 of each class, both AUCs 1."""
    target = np.repeat([0, 1], 12)
    a = np.arange(24.0)
    b = np.r_[np.arange(12.0)[::-1], np.arange(12.0, 24)[::-1]]
    same, other = evaluation.delong(target, a, a * 2), evaluation.delong(target, a, b)
    assert (same.low, same.high) == (0.0, 0.0)
    assert (other.estimate, other.p_value) == (0.0, 1.0)
    m = n = 12
    star = (m + n) / 2 - 1
    t = np.linspace(0.5, 1 - 1e-9, 2_000_001)
    sd = np.sqrt(t * (1 - t) * (1 + star * (1 - t) / (2 - t) + star * t / (1 + t)) / (m * n))
    low = t[(1 - t) <= 1.959964 * sd].min()  # all t whose distance from 1 is within z sd
    assert other.low == pytest.approx(low - 1, abs=1e-5)
    assert other.high == pytest.approx(1 - low, abs=1e-5)


def test_one_answer_that_is_rounded_differently_has_no_correlation():
    target = np.linspace(50, 90, 40)
    answer = np.where(np.arange(40) < 20, np.float32(70), np.nextafter(np.float32(70), np.float32(80)))
    assert np.isnan(evaluation.regression_summary(target, answer).pearson)
    assert evaluation.regression_summary(target, 70 + 1e-3 * (target - 70)).pearson == pytest.approx(1)


def test_groups_that_are_called_alike_are_one_and_missing_ones_too():
    frame = pd.DataFrame({"subject": range(60), "score": np.arange(60.0)})
    frame["site"] = np.array([1, "1", "B ", "B", "missing", None, " "], dtype=object)[np.arange(60) % 7]
    table = evaluation.subgroup_table(frame, "site", {"mean": lambda rows: rows["score"].mean()}, n_resamples=100)
    place = np.arange(60) % 7
    rows = {"1": place <= 1, "B": (place == 2) | (place == 3), "missing": place >= 4}
    assert table.loc[table["by"] == "site", "group"].tolist() == list(rows)
    for group, chosen in rows.items():
        found = table[(table["by"] == "site") & (table["group"] == group)].iloc[0]
        assert (found["rows"], found["value"]) == (chosen.sum(), pytest.approx(np.flatnonzero(chosen).mean()))
    with pytest.raises(EvaluationError, match="expected another column than 'all'"):
        evaluation.subgroup_table(frame.assign(all=1), "all", {"mean": lambda rows: 0.0})
