"""Brain age: figures against scikit-learn and scipy, the bias line against least squares, corrections by formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import AgeBias, age_bias, correct_age_bias, regression_summary


@pytest.fixture
def cohort():
    random = np.random.default_rng(0)
    age = random.uniform(20, 90, 150)
    return 0.6 * age + 22 + random.normal(0, 5, 150), age


def test_figures_are_scikit_learns_and_scipys(cohort):
    predicted, age = cohort
    found = regression_summary(age, predicted)
    assert found.mae == pytest.approx(metrics.mean_absolute_error(age, predicted))
    assert found.rmse == pytest.approx(metrics.root_mean_squared_error(age, predicted))
    assert found.r2 == pytest.approx(metrics.r2_score(age, predicted))
    assert found.pearson == pytest.approx(stats.pearsonr(age, predicted).statistic)
    assert found.mean_error == pytest.approx(np.mean(predicted) - np.mean(age))
    assert found.n == 150


def test_a_constant_prediction_has_no_correlation():
    found = regression_summary([1, 2, 3], [5, 5, 5])
    assert np.isnan(found.pearson)
    assert "r nan" in str(found)


def test_the_bias_is_scipys_line(cohort):
    predicted, age = cohort
    line, on_age = stats.linregress(age, predicted - age), stats.linregress(age, predicted)
    bias = age_bias(age, predicted)
    assert (bias.slope, bias.intercept) == pytest.approx((line.slope, line.intercept))
    assert (bias.alpha, bias.intercept) == pytest.approx((on_age.slope, on_age.intercept))


def test_corrections_are_their_formulas(cohort):
    predicted, age = cohort
    line = stats.linregress(age[:75], predicted[:75])
    alpha, beta = line.slope, line.intercept
    bias = age_bias(age[:75], predicted[:75])
    new, its_age = predicted[75:], age[75:]
    np.testing.assert_allclose(correct_age_bias(its_age, new, bias), new + (its_age - (alpha * its_age + beta)))
    np.testing.assert_allclose(correct_age_bias(its_age, new, bias, "cole"), (new - beta) / alpha)


def test_the_correction_takes_the_slope_away(cohort):
    predicted, age = cohort
    bias = age_bias(age, predicted)
    for method in ("de_lange", "cole"):
        after = age_bias(age, correct_age_bias(age, predicted, bias, method))
        assert (after.slope, after.intercept) == pytest.approx((0, 0), abs=1e-9)


def test_a_model_that_knows_nothing_looks_perfect_after_de_langes_correction():
    """Why a corrected error is no error of a prediction: it is told beside the uncorrected one."""
    age = np.linspace(20, 90, 50)
    constant = np.full(50, 55.0)
    corrected = correct_age_bias(age, constant, age_bias(age, constant))
    assert regression_summary(age, constant).mae > 17
    assert regression_summary(age, corrected).mae == pytest.approx(0, abs=1e-9)
    with pytest.raises(EvaluationError, match="does not follow age"):
        correct_age_bias(age, constant, AgeBias(-1.0, 55.0, 50), "cole")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: regression_summary([1, 2], [1, 2, 3]), "one row for each"),
        (lambda: regression_summary([1, 2], [1, float("nan")]), "prediction: expected finite"),
        (lambda: regression_summary([3, 3], [1, 2]), "different values"),
        (lambda: age_bias([60.0], [61.0]), "at least two rows"),
        (lambda: correct_age_bias([60.0], [61.0], (0.1, 2)), "what age_bias"),
        (lambda: correct_age_bias([60.0], [61.0], AgeBias(0.1, 1, 2), "smith"), "'de_lange' or 'cole'"),
        (lambda: correct_age_bias([60.0, 61.0], [61.0], AgeBias(0.1, 1, 2)), "one row for each"),
    ],
)
def test_they_refuse(call, says):
    with pytest.raises(EvaluationError, match=says):
        call()
