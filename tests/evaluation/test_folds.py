"""Means over folds within the metric's bounds, and the smallest difference, against scipy, simulation and known data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import (
    bootstrap_interval,
    corrected_resampled_ttest,
    fold_interval,
    metric_bounds,
    paired_bootstrap,
    smallest_difference,
    smallest_difference_by_subject,
)

N = np.arange(10.0)


def by_root(mean, margin, forward):
    """The ends whose distance on the scale `forward` is its slope at the mean (by differences) times the margin."""
    h = 1e-6
    slope = (forward(mean + h) - forward(mean - h)) / (2 * h)
    return [forward(mean) - abs(slope) * margin, forward(mean) + abs(slope) * margin]


@pytest.mark.parametrize(
    ("bounds", "forward"),
    [
        ((0, 1), lambda x: math.log(x / (1 - x))),
        ("auc", lambda x: math.log(x / (1 - x))),
        ((-1, 1), lambda x: math.atanh(x)),
        ("mae", lambda x: x),
        ("r2", lambda x: x),
        ((0.0, math.inf), lambda x: x),
        ("psnr", lambda x: x),
        (None, lambda x: x),
    ],
)
def test_the_interval_is_made_on_the_metrics_scale(bounds, forward):
    x = np.random.default_rng(0).uniform(0.4, 0.95, 10)
    found = fold_interval(x, 90, 10, bounds=bounds, confidence=0.9)
    error = math.sqrt((1 / 10 + 1 / 9) * x.var(ddof=1))
    low, high = by_root(x.mean(), stats.t.ppf(0.95, 9) * error, forward)
    assert (forward(found.low), forward(found.high)) == pytest.approx((low, high), rel=1e-6)
    assert (found.estimate, found.n, found.standard_error) == pytest.approx((x.mean(), 10, error))


@pytest.mark.parametrize(
    ("bounds", "x", "cut"), [("mae", [9.0, 0.1], 0), ((0, None), [9.0, 0.1], 0), ("r2", [0.9, -3.0], 1)]
)
def test_beside_one_bound_it_is_cut(bounds, x, cut):
    free, found = fold_interval(x, 80, 20, bounds=None), fold_interval(x, 80, 20, bounds=bounds)
    assert (found.low, found.high) == ((0, free.high) if cut == 0 else (free.low, 1))


def test_without_sizes_and_bounds_it_is_scipys_t_interval_and_says_so():
    x = np.random.default_rng(1).normal(size=7)
    found = fold_interval(x, bounds=None)
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_1samp(x, 0).confidence_interval(0.95)))
    assert "independent" in found.method


@pytest.mark.parametrize("aucs", [[0.52, 0.45], [0.92, 0.22], [0.999, 0.6, 0.99], [1.0, 1.0, 0.98], [0.0, 0.01]])
def test_no_auc_leaves_0_to_1(aucs):
    """The t interval of the second goes from -3.9 to 5.0; of the third to 1.4."""
    found = fold_interval(aucs, 20, 10, bounds="auc")
    assert 0 <= found.low < found.estimate < found.high <= 1


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([("auc", 0, 1), ("mae", 0, 50), ("r2", -30, 1), ("ssim", -1, 1), ((0, 100), 0, 100)]),
    st.lists(st.floats(0, 1), min_size=2, max_size=12),
    st.floats(0.01, 2),
)
def test_the_interval_never_leaves_the_bounds(metric, shares, ratio):
    bounds, low, high = metric
    values = [min(high, low + share * (high - low)) for share in shares]
    found = fold_interval(values, 1, ratio, bounds=bounds)
    least, greatest = metric_bounds(bounds)
    if math.isnan(found.low):
        assert "no interval" in found.method
    else:
        assert least <= found.low <= found.estimate <= found.high <= greatest


def test_it_covers():
    """600 studies of 10 folds whose AUC has a known mean: about 95 % of the intervals hold it."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        study = fold_interval(random.beta(16, 4, 10), bounds="auc")
        held += study.low <= 0.8 <= study.high
    assert 0.925 <= held / 600 <= 0.975


@pytest.mark.parametrize(("values", "why"), [([0.7], "one fold"), ([0.7] * 5, "all folds alike"), ([1.0] * 5, "alike")])
def test_where_there_is_no_interval_it_says_why(values, why):
    found = fold_interval(values, 80, 20)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert why in found.method
    assert "none" in str(found)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: fold_interval([71.0, 75.0]), "instead of percent"),
        (lambda: fold_interval([0.7, -0.1], bounds="mae"), "within 0 and inf"),
        (lambda: fold_interval([0.7, 0.8], bounds="auroc"), "expected one of accuracy, auc"),
        (lambda: fold_interval([0.7, 0.8], bounds=(1, 0)), "that rise"),
        (lambda: fold_interval([0.7, 0.8], bounds=3), "two numbers"),
        (lambda: fold_interval([0.7, 0.8], n_train=80), "together"),
        (lambda: fold_interval([0.7, 0.8], 0, 20), "n_train"),
        (lambda: fold_interval([]), "at least one number"),
        (lambda: corrected_resampled_ttest([3.0, 5.0], 80, 20, bounds="auc"), "percent"),
        (lambda: smallest_difference([0.1], 80, 20), "at least two"),
        (lambda: smallest_difference([0.1, 0.1], 80, 20), "vary from fold to fold"),
        (lambda: smallest_difference([0.1, 0.2], 80, 20, power=0.01), "alpha < power"),
        (lambda: smallest_difference_by_subject(corrected_resampled_ttest([0.1, 0.2], 80, 20)), "for folds"),
        (lambda: smallest_difference_by_subject(bootstrap_interval(mean, [1.0, 2.0], [1.0, 2.0])), "got bootstrap"),
        (lambda: smallest_difference_by_subject(0.1), "got float"),
        (
            lambda: smallest_difference_by_subject(paired_bootstrap(mean, [1, 2], [1, 2], [1, 2])),
            "cannot fall below 0.5",
        ),
        (lambda: smallest_difference_by_subject(paired_bootstrap(mean, N, N, N)), "standard error of 0"),
        (
            lambda: smallest_difference_by_subject(paired_bootstrap(mean, N[:5], N[:5], N[5:])),
            "cannot fall below 0.0625",
        ),
    ],
)
def test_they_refuse(call, says):
    with pytest.raises(EvaluationError, match=says):
        call()


def mean(target, prediction):
    return float(np.mean(prediction))


# differences


@pytest.mark.parametrize("d", [[0.9, -0.8], [0.5, 0.4, -0.6]])
def test_a_difference_of_aucs_lies_between_minus_1_and_1(d):
    free, cut = corrected_resampled_ttest(d, 80, 20), corrected_resampled_ttest(d, 80, 20, bounds="auc")
    assert free.high > 1
    assert (cut.low, cut.high) == (max(free.low, -1), 1)
    assert (cut.p_value, cut.estimate) == (free.p_value, free.estimate)
    assert corrected_resampled_ttest(d, 80, 20, bounds="mae") == free  # an error may differ by any amount


def folds_of(random, J, ratio, mean):
    """Differences of folds that correlate as Nadeau & Bengio assume: rho = n_test / (n_train + n_test)."""
    rho = ratio / (1 + ratio)
    return mean + math.sqrt(rho) * random.normal() + math.sqrt(1 - rho) * random.normal(size=J)


@pytest.mark.parametrize(("J", "ratio"), [(5, 0.25), (10, 0.25), (15, 1 / 9)])
def test_at_the_smallest_difference_four_of_five_studies_find_it(J, ratio):
    """The folds' spread is known here (1 - rho); simulated studies, tested by the t-test itself."""
    spread = math.sqrt(1 - ratio / (1 + ratio))
    shape = np.resize([1.0, -1.0], J) - np.resize([1.0, -1.0], J).mean()
    known = shape * spread / shape.std(ddof=1)
    delta = smallest_difference(known, 1, ratio)
    random = np.random.default_rng(J)
    found = [corrected_resampled_ttest(folds_of(random, J, ratio, delta), 1, ratio).p_value < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.027)  # three standard errors
    alarms = [corrected_resampled_ttest(folds_of(random, J, ratio, 0), 1, ratio).p_value < 0.05 for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)


def test_the_smallest_difference_by_integrating_over_the_spread():
    """The power of a t-test as the mean over s of the normal's, without scipy's noncentral t."""
    d = np.random.default_rng(0).normal(0, 0.02, 8)
    error = math.sqrt((1 / 8 + 0.25) * d.var(ddof=1))
    limit = stats.t.ppf(0.975, 7)
    s = np.sqrt(stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, 7) / 7)

    def power(shift):
        return np.mean(stats.norm.sf(limit * s - shift) + stats.norm.cdf(-limit * s - shift))

    expected = optimize.brentq(lambda shift: power(shift) - 0.8, 0, 20)
    assert smallest_difference(d, 80, 20) == pytest.approx(error * expected, rel=1e-4)


def test_more_folds_less_overlap_and_less_power_need_less():
    d = np.random.default_rng(0).normal(0, 0.02, 10)
    whole = smallest_difference(d, 80, 20)
    assert smallest_difference(np.tile(d, 5), 80, 20) < whole
    assert smallest_difference(d, 90, 10) < whole
    assert smallest_difference(d, 80, 20, power=0.5) < whole
    assert smallest_difference(100 * d, 80, 20) == pytest.approx(100 * whole)
    assert smallest_difference(d + 0.3, 80, 20) == pytest.approx(whole)  # not of the difference that was seen


def test_by_subject_four_of_five_bootstraps_find_it():
    random = np.random.default_rng(0)
    target = np.zeros(60)
    figure = lambda _, p: float(p.mean())  # noqa: E731
    one = paired_bootstrap(figure, target, random.normal(size=60), target, n_resamples=2000)
    d = smallest_difference_by_subject(one)
    assert d == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * one.standard_error, rel=1e-4)
    d *= (1 / math.sqrt(60)) / one.standard_error  # the spread that is true here
    found = [
        paired_bootstrap(figure, target, d + random.normal(size=60), target, n_resamples=400, seed=i).p_value < 0.05
        for i in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
