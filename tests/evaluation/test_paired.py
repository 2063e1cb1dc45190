"""The paired tests against formulas written out, scipy, loops, and data of which the answer is known."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedKFold

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import (
    control_rows,
    corrected_resampled_ttest,
    mcnemar,
    paired_bootstrap,
    paired_bootstrap_scores,
    roc_auc,
)
from fusionconv.evaluation.bootstrap import Bootstrap, bootstrap


def mean_error(target, predicted):
    return float(np.abs(target - predicted).mean())


# corrected resampled t-test


@pytest.mark.parametrize(("folds", "n_train", "n_test"), [(5, 160, 40), (50, 178.2, 19.8), (2, 10, 10)])
def test_corrected_t_test_is_the_formula(folds, n_train, n_test):
    d = np.random.default_rng(folds).normal(0.01, 0.03, folds)
    mean = sum(d) / folds
    s2 = sum((x - mean) ** 2 for x in d) / (folds - 1)
    t = mean / math.sqrt((1 / folds + n_test / n_train) * s2)
    found = corrected_resampled_ttest(d, n_train, n_test, confidence=0.9)
    assert found.p_value == pytest.approx(2 * stats.t.cdf(-abs(t), folds - 1), rel=1e-10)
    assert found.estimate == pytest.approx(mean)
    assert (mean - found.low) * t / mean == pytest.approx(stats.t.ppf(0.95, folds - 1), rel=1e-9)
    assert found.high - mean == pytest.approx(mean - found.low)
    assert found.n == folds


def test_without_overlap_it_is_scipys_one_sample_t_test():
    d = np.random.default_rng(0).normal(0.01, 0.03, 12)
    naive = stats.ttest_1samp(d, 0)
    found = corrected_resampled_ttest(d, n_train=1e15, n_test=1)
    assert found.p_value == pytest.approx(naive.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(naive.confidence_interval(0.95)), rel=1e-9)


def test_p_and_interval_agree():
    for seed in range(20):
        d = np.random.default_rng(seed).normal(0.02, 0.03, 10)
        found = corrected_resampled_ttest(d, 90, 10)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_no_false_alarms_on_repeated_folds_of_noise_where_the_naive_test_has_many():
    """Two arms whose predictions are equally good by construction, judged on 5 folds x 5 repeats, 200 cohorts."""
    naive, corrected = 0, 0
    for cohort in range(200):
        random = np.random.default_rng(cohort)
        x, y = random.normal(size=(60, 2)), random.normal(size=60)
        d = []
        for train, test in RepeatedKFold(n_splits=5, n_repeats=5, random_state=cohort).split(x):
            errors = []
            for column in (0, 1):  # each arm fits a line to a column of noise of its own
                slope, intercept = np.polyfit(x[train, column], y[train], 1)
                errors.append(np.mean((y[test] - slope * x[test, column] - intercept) ** 2))
            d.append(errors[0] - errors[1])
        naive += stats.ttest_1samp(d, 0).pvalue < 0.05
        corrected += corrected_resampled_ttest(d, 48, 12).p_value < 0.05
    assert corrected / 200 <= 0.08  # nominal .05 and two standard errors of 200 trials
    assert naive / 200 > 0.15


def test_no_difference_at_all_is_p_1_and_a_copied_difference_an_error():
    found = corrected_resampled_ttest([0.0] * 5, 80, 20)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    with pytest.raises(EvaluationError, match=r"5 times 0\.1"):
        corrected_resampled_ttest([0.8 - 0.7, 0.1, 0.9 - 0.8, 0.1, 0.1], 80, 20)  # the same but for rounding


@pytest.mark.parametrize(
    ("differences", "n_train", "n_test", "says"),
    [
        ([0.1], 80, 20, "at least two folds"),
        ([], 80, 20, "at least one number"),
        ([0.1, float("nan")], 80, 20, "1 of 2 that are NaN"),
        ([[0.1, 0.2]], 80, 20, r"shape \(1, 2\)"),
        ([0.1, 0.2], 0, 20, "n_train"),
        ([0.1, 0.2], 80, float("nan"), "n_test"),
        (["a", "b"], 80, 20, "expected numbers"),
    ],
)
def test_corrected_t_test_refuses(differences, n_train, n_test, says):
    with pytest.raises(EvaluationError, match=says):
        corrected_resampled_ttest(differences, n_train, n_test)


# McNemar


def test_mcnemar_is_the_binomial_sum():
    random = np.random.default_rng(1)
    a, b = random.random(80) < 0.7, random.random(80) < 0.55
    only_a, only_b = sum(a & ~b), sum(b & ~a)
    m = only_a + only_b
    tail = sum(math.comb(m, k) for k in range(min(only_a, only_b) + 1)) / 2**m
    y = random.choice(["AD", "CN"], 80)
    other = np.where(y == "AD", "CN", "AD")
    found = mcnemar(y, np.where(a, y, other), np.where(b, y, other))
    assert found.p_value == pytest.approx(min(1, 2 * tail))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.both + found.only_a + found.only_b + found.neither == found.n == 80
    assert found.estimate == pytest.approx(a.mean() - b.mean())
    # Wald's interval of the mean of the rows' differences, after two pseudo-rows, half a row in each of the four cells
    d = np.concatenate([a.astype(float) - b, [1, -1, 0, 0]])
    weights = np.concatenate([np.ones(80), np.full(4, 0.5)])
    mean = np.average(d, weights=weights)
    error = math.sqrt(np.average((d - mean) ** 2, weights=weights) / 82)
    assert (found.low, found.high) == pytest.approx((mean - 1.959964 * error, mean + 1.959964 * error), abs=1e-6)


def test_mcnemar_interval_covers():
    """Of 300 cohorts with a true difference of .7 - .5, about 95 % of the intervals hold it."""
    held = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        u = random.random(60)
        a, b = u < 0.7, np.where(random.random(60) < 0.5, u < 0.5, random.random(60) < 0.5)
        found = mcnemar(np.ones(60), a, b)
        held += found.low <= 0.2 <= found.high
    assert 0.92 <= held / 300 <= 0.99


def test_mcnemar_without_disagreement_and_with_repeated_subjects():
    same = mcnemar([1, 0, 1], [1, 1, 1], [1, 1, 1])
    assert same.p_value == 1
    assert same.low < 0 < same.high
    with pytest.raises(EvaluationError, match="paired_bootstrap"):
        mcnemar([1, 0, 1], [1, 1, 1], [1, 1, 1], groups=["s1", "s1", "s2"])
    with pytest.raises(EvaluationError, match="one row for each"):
        mcnemar([1, 0], [1, 1, 1], [1, 0, 1])


# paired bootstrap


def test_paired_bootstrap_has_the_standard_error_of_the_mean_difference():
    random = np.random.default_rng(2)
    y = random.normal(size=200)
    a, b = y + random.normal(0, 1, 200), y + random.normal(0, 1.5, 200)
    d = np.abs(a - y) - np.abs(b - y)
    found = paired_bootstrap(mean_error, y, a, b)
    assert found.estimate == pytest.approx(d.mean())
    margin = 1.96 * d.std(ddof=1) / math.sqrt(200)
    assert (found.low, found.high) == pytest.approx((d.mean() - margin, d.mean() + margin), abs=0.15 * margin)


def test_subjects_are_drawn_with_all_their_rows():
    """Ten copies of each subject's row tell nothing new: by subject the interval stays, by row it would shrink."""
    random = np.random.default_rng(3)
    y = random.normal(size=40)
    a, b = y + random.normal(0, 1, 40), y + random.normal(0, 1, 40)
    once = paired_bootstrap(mean_error, y, a, b, seed=5)
    ten = [np.repeat(v, 10) for v in (y, a, b)]
    grouped = paired_bootstrap(mean_error, *ten, groups=np.repeat(np.arange(40), 10), seed=5)
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high))
    assert grouped.n == 40
    rows = paired_bootstrap(mean_error, *ten, seed=5)
    assert rows.high - rows.low < 0.5 * (once.high - once.low)


def test_every_resample_holds_whole_subjects_only():
    groups = np.array(["a", "b", "a", "c", "b", "a"])
    seen = []

    def figure(rows):
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[2] == counts[5]
        assert counts[1] == counts[4]
        assert counts[0] + counts[1] + counts[3] == 3
        seen.append(tuple(counts))
        return float(rows.sum())

    bootstrap(figure, 6, groups, n_resamples=200)
    assert len(set(seen)) == 10  # all ways to draw three of three with replacement


def test_strata_keep_their_numbers():
    y = np.array([0] * 20 + [1] * 3)
    shares = []
    bootstrap(lambda r: shares.append(y[r].sum()) or float(r.mean()), 23, strata=y, n_resamples=100)
    assert set(shares) == {3}
    with pytest.raises(EvaluationError, match="several for 1 subjects"):
        bootstrap(lambda r: 0.0, 3, groups=["a", "a", "b"], strata=[0, 1, 1])


def test_bca_is_scipys():
    """scipy makes its BCa interval from our resamples and its own jackknife."""
    x = np.random.default_rng(4).exponential(size=30)
    ours = bootstrap(lambda r: float(np.var(x[r])), 30, n_resamples=999, interval="bca")
    seed = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"  # before scipy 1.15
    like = stats.bootstrap((x,), np.var, n_resamples=2, method="BCa", **{seed: 0})
    like.bootstrap_distribution = ours.values
    theirs = stats.bootstrap((x,), np.var, n_resamples=0, bootstrap_result=like, method="BCa").confidence_interval
    assert ours.interval(0.95) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.interval(0.95) != pytest.approx(Bootstrap(ours.estimate, ours.values, 0, 30).interval(0.95), rel=0.01)


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_p_is_below_5_percent_where_the_interval_excludes_0(interval):
    ps = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        x = random.exponential(size=25) - 0.6
        done = bootstrap(lambda r, x=x: float(x[r].mean()), 25, n_resamples=400, interval=interval)
        low, high = done.interval(0.95)
        ps.append(done.p_value())
        if abs(ps[-1] - 0.05) > 0.01:  # within the resamples' grid both answers are right
            assert (ps[-1] < 0.05) == (low > 0 or high < 0)
    assert min(ps) < 0.05 < max(ps)


def test_the_same_predictions_give_no_difference():
    y = np.arange(10.0)
    found = paired_bootstrap(mean_error, y, y + 1, y + 1, n_resamples=200)
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_seed_gives_one_answer_and_another_seed_another():
    random = np.random.default_rng(6)
    y, a, b = random.normal(size=(3, 30))
    one, again, other = (paired_bootstrap(mean_error, y, a, b, n_resamples=200, seed=s) for s in (1, 1, 2))
    assert one == again
    assert one.low != other.low


@pytest.mark.filterwarnings("error")
def test_resamples_without_a_class_are_left_out_and_counted():
    y = np.array([1, 1] + [0] * 18)
    scores = np.random.default_rng(7).random((2, 20))
    found = paired_bootstrap(roc_auc, y, scores[0], scores[1], n_resamples=1000)
    assert found.undefined / 1000 == pytest.approx(0.9**20, abs=0.04)
    by_sklearn = paired_bootstrap(roc_auc_score, y, scores[0], scores[1], n_resamples=100)
    assert by_sklearn == paired_bootstrap(roc_auc, y, scores[0], scores[1], n_resamples=100)
    assert "left out" in str(found)
    assert np.isfinite([found.low, found.high]).all()
    assert paired_bootstrap(roc_auc, y, scores[0], scores[1], strata=y, n_resamples=200).undefined == 0


def test_a_metric_that_most_resamples_lack_is_an_error():
    def needs_all_three(target, predicted):
        return float(np.mean(target == predicted)) if len(set(target)) == 3 else float("nan")

    with pytest.raises(EvaluationError, match="most resamples"):  # three of three: 6 of 27 resamples
        paired_bootstrap(needs_all_three, [0, 1, 2], [0, 1, 1], [0, 1, 2], n_resamples=400)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"a": [1.0, 2.0]}, "a: expected one row for each of 3"),
        ({"b": [1.0, float("nan"), 2.0]}, "b: expected a value in every row"),
        ({"groups": ["s", "s", "s"]}, "at least two subjects"),
        ({"groups": ["s", None, "t"]}, "an id in every row, got none in 1 of 3"),
        ({"n_resamples": 10}, "n_resamples"),
        ({"interval": "normal"}, "'percentile' or 'bca'"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"metric": lambda target, p: float("nan")}, "defined on all 3 rows"),
    ],
)
def test_paired_bootstrap_refuses(change, says):
    good = {"metric": mean_error, "a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 4.0], "target": [1.0, 2.0, 2.0]}
    with pytest.raises(EvaluationError, match=says):
        paired_bootstrap(**{**good, **change})


def test_a_mistake_in_the_metric_is_not_hidden():
    with pytest.raises(ValueError, match="multi_class"):
        paired_bootstrap(roc_auc_score, [0, 1, 2], np.eye(3), np.eye(3))


def test_ids_from_a_loader_are_the_numbers_they_hold():
    """[i for batch in loader for i in batch["subject"]] is a list of tensors: equal ones are different objects."""
    rng = np.random.default_rng(0)
    subject = torch.arange(12).repeat_interleave(5)
    a, b = rng.normal(size=60), rng.normal(size=60) + 1
    metric = lambda target, value: float((target * value).mean())  # noqa: E731
    target = np.ones(60)
    for ids in (list(subject), subject, [np.int64(i) for i in subject], tuple(subject)):
        found = paired_bootstrap(metric, target, a, b, groups=ids, n_resamples=200)
        assert found == paired_bootstrap(metric, target, a, b, groups=subject.tolist(), n_resamples=200)
        assert found.n == 12
    rows = control_rows(np.arange(60.0)[:, None], "permuted", groups=list(subject))
    assert not (rows[:, 0] // 5 == np.arange(60) // 5).any()  # nobody gets a row of their own
    with pytest.raises(EvaluationError, match=r"expected one id .* got shape \(60, 2\)"):
        paired_bootstrap(metric, target, a, b, groups=[(i, 0) for i in subject.tolist()], n_resamples=200)


@pytest.mark.parametrize(("subjects", "least"), [(2, 0.5), (3, 0.25), (5, 1 / 16)])
def test_few_subjects_cannot_have_a_smaller_p_than_the_sign_test(subjects, least):
    found = paired_bootstrap(
        lambda target, value: float((target == value).mean()), np.ones(subjects), np.ones(subjects), np.zeros(subjects)
    )
    assert found.p_value == pytest.approx(least)
    assert found.p_value >= mcnemar(np.ones(subjects), np.ones(subjects), np.zeros(subjects)).p_value - 1e-12


def test_scores_of_rows_are_the_bootstrap_of_their_mean():
    """Dice of each row: the same figure as paired_bootstrap with a mean, by subject; the mean by hand."""
    random = np.random.default_rng(0)
    subject = np.repeat(np.arange(15), [1, 2, 3] * 5)
    a, b = random.uniform(0.5, 1, (2, 30))
    found = paired_bootstrap_scores(a, b, subject, seed=3, n_resamples=300)
    same = paired_bootstrap(lambda _, v: float(v.mean()), np.zeros(30), a, b, subject, seed=3, n_resamples=300)
    assert (found.estimate, found.low, found.high) == pytest.approx((same.estimate, same.low, same.high))
    assert (found.p_value, found.standard_error) == pytest.approx((same.p_value, same.standard_error))
    assert (found.estimate, found.n) == (pytest.approx((a - b).mean()), 15)
    sums = np.bincount(subject, a - b)  # the ratio of two sums over subjects, by its linearised standard error
    sizes = np.bincount(subject)
    error = math.sqrt(((sums - found.estimate * sizes) ** 2).sum()) / 30
    many = paired_bootstrap_scores(a, b, subject, n_resamples=4000)
    assert many.standard_error == pytest.approx(error, rel=0.15)
    with pytest.raises(EvaluationError, match="score_b: expected one row"):
        paired_bootstrap_scores(a, b[:5])


def test_differences_that_are_0_but_for_rounding():
    assert corrected_resampled_ttest([0, 0, 1.1e-16, 0, 0], 80, 20).p_value == 1.0


def test_tensors_come_as_they_are():
    import torch

    y = torch.randn(20)
    a, b = (y + torch.randn(20)).requires_grad_(), (y + torch.randn(20)).bfloat16()
    found = paired_bootstrap(mean_error, y, a, b, n_resamples=100)
    assert found.estimate == pytest.approx(((a - y).abs().mean() - (b.float() - y).abs().mean()).item(), abs=1e-6)
