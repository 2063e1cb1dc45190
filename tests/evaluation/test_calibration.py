"""Calibration against a loop over bins, scikit-learn's curve, and torchmetrics where it computes the same figure."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import expected_calibration_error, reliability_table, wilson


def slow_ece(y, p, bins):
    total = 0.0
    for b in range(bins):
        last = b == bins - 1
        inside = [i for i in range(len(p)) if b / bins <= p[i] < (b + 1) / bins or (last and p[i] == 1)]
        if inside:
            total += len(inside) / len(p) * abs(np.mean([p[i] for i in inside]) - np.mean([y[i] for i in inside]))
    return total


@pytest.fixture
def said():
    random = np.random.default_rng(0)
    p = random.random(300)
    return np.append(p, [0.0, 1.0, 1.0]), np.append(random.random(300) < p**1.5, [0, 1, 0]).astype(int)


@pytest.mark.parametrize("bins", [1, 7, 16])
def test_ece_is_the_loop_and_the_table_s_own(said, bins):
    p, y = said
    found = expected_calibration_error(y, p, bins)
    assert found == pytest.approx(slow_ece(y, p, bins))
    table = reliability_table(y, p, bins).dropna()
    assert found == pytest.approx((table["n"] * (table["probability"] - table["observed"]).abs()).sum() / len(p))


def test_the_table_is_scikit_learns_curve_with_wilsons_intervals(said):
    p, y = said
    table = reliability_table(y, p, 8)
    observed, mean = calibration_curve(y, p, n_bins=8)
    np.testing.assert_allclose(table["observed"], observed)
    np.testing.assert_allclose(table["probability"], mean)
    assert table["n"].sum() == len(p)
    first = table.iloc[0]
    expected = wilson(round(first["observed"] * first["n"]), int(first["n"]))
    assert (first["observed_low"], first["observed_high"]) == (expected.low, expected.high)


def test_ece_is_torchmetrics_below_1_for_two_and_three_classes(said):
    import torch
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    p, y = said[0][:300], said[1][:300]
    theirs = binary_calibration_error(torch.tensor(p), torch.tensor(y), n_bins=15)
    assert expected_calibration_error(torch.tensor(y), torch.tensor(p)) == pytest.approx(float(theirs), abs=1e-9)
    probabilities = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(1)
    classes = torch.arange(200) % 3
    theirs = multiclass_calibration_error(probabilities, classes, num_classes=3, n_bins=10)
    assert expected_calibration_error(classes, probabilities, 10) == pytest.approx(
        float(theirs), abs=1e-6
    )  # single precision there


def test_torchmetrics_still_differs_at_exactly_1():
    """Why the figure is our own: .95 and 1 share the bin from .9 to 1. When this fails, take torchmetrics' again."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    p, y = [0.95, 1.0], [1, 0]
    assert expected_calibration_error(y, p, 10) == pytest.approx(abs(0.975 - 0.5))
    assert float(binary_calibration_error(torch.tensor(p), torch.tensor(y), n_bins=10)) == pytest.approx(0.525)


def test_an_empty_bin_is_there_without_a_frequency():
    table = reliability_table([0, 1], [0.1, 0.9], 4)
    assert table["n"].tolist() == [1, 0, 0, 1]
    assert table["observed"].isna().tolist() == [False, True, True, False]


def test_a_bin_holds_its_lower_edge_and_the_last_one_also_1():
    p, y = [0.0, 0.25, 0.5, 1.0], [1, 0, 1, 1]
    assert reliability_table(y, p, 4)["n"].tolist() == [1, 1, 1, 1]
    assert expected_calibration_error(y, p, 4) == pytest.approx((1 + 0.25 + 0.5 + 0) / 4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_tenths_lie_in_the_bins_that_they_begin(dtype):
    """Shares of ten votes: .3, .6 and .7 are no binary numbers, and 3 / 10 lies below linspace's own edge."""
    p = (np.arange(1, 10) / 10).astype(dtype)
    table = reliability_table(np.zeros(9, int), p, bins=10)
    assert table["n"].tolist() == [0, *[1] * 9]
    # 50 rows say .2 with 20 right, 50 say .3 with 5 right: |.2 - .4| / 2 + |.3 - .1| / 2 = .2; in one bin they cancel
    p = np.repeat(np.array([0.2, 0.3], dtype), 50)
    target = np.concatenate([np.arange(50) < 20, np.arange(50) < 5]).astype(int)
    assert expected_calibration_error(target, p, bins=10) == pytest.approx(0.2)


def test_rounding_beyond_1_is_1():
    assert expected_calibration_error([1, 0], np.float32([1.0000001, 0])) == 0


@pytest.mark.parametrize(
    ("probability", "target", "says"),
    [
        ([0.2, 1.3], [0, 1], "softmax or sigmoid"),
        ([-2.0, 0.3], [0, 1], "softmax or sigmoid"),
        ([0.2, float("nan")], [0, 1], "expected finite"),
        ([0.2, 0.3], [0, 2], "only 0 and 1"),
        ([0.2, 0.3], [0], "one row for each"),
        ([[0.2, 0.3], [0.5, 0.5]], [0, 1], "add up to 1"),
        ([[0.2], [0.5]], [0, 1], "goes in as a vector"),
        ([[0.2, 0.8], [0.5, 0.5]], [0, 2], "class numbers from 0 to 1"),
        ([], [], r"got \(0,\)"),
    ],
)
def test_they_refuse(probability, target, says):
    with pytest.raises(EvaluationError, match=says):
        expected_calibration_error(target, probability)
    with pytest.raises(EvaluationError, match="bins"):
        reliability_table([0], [0.1], bins=0)
