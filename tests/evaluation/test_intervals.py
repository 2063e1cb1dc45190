"""Wilson's interval by its formula, the bootstrap interval by the standard error, and how both print."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import Estimate, bootstrap_interval, roc_auc, wilson
from fusionconv.evaluation.bootstrap import bootstrap


@pytest.mark.parametrize(("k", "n"), [(81, 263), (0, 10), (10, 10), (1, 1)])
def test_wilson_is_the_formula(k, n):
    z, p = 1.959963984540054, k / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = wilson(k, n)
    assert (found.low, found.high) == pytest.approx((centre - margin, centre + margin), abs=1e-9)
    assert found.estimate == p


@pytest.mark.parametrize(
    ("k", "n", "says"), [(3, 2, "at most n"), (0, 0, "n: "), (-1, 2, "successes"), (1.5, 2, "succ")]
)
def test_wilson_refuses(k, n, says):
    with pytest.raises(EvaluationError, match=says):
        wilson(k, n)


def mean_error(target, predicted):
    return float(np.abs(target - predicted).mean())


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_bootstrap_interval_has_the_standard_error(interval):
    random = np.random.default_rng(0)
    y = random.normal(size=300)
    p = y + random.normal(size=300)
    d = np.abs(p - y)
    margin = 1.96 * d.std(ddof=1) / math.sqrt(300)
    found = bootstrap_interval(mean_error, y, p, interval=interval)
    assert (found.low, found.high) == pytest.approx((d.mean() - margin, d.mean() + margin), abs=0.2 * margin)
    assert found.p_value is None


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [2, 2, 2, 2], [1, 3, 2, 2]])
def test_a_resample_holds_every_row_of_the_subjects_drawn(sizes):
    """Also where all subjects have as many rows, which is computed in another way; subjects come in no order."""
    subject = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    seen = []

    def note(rows):
        seen.append(rows.tolist())
        return 0.0

    bootstrap(note, len(subject), subject, n_resamples=100, seed=5)
    first = list(dict.fromkeys(subject.tolist()))  # subjects are numbered as they come
    random = np.random.default_rng(5)
    for rows in seen[1:]:  # the first is the figure on all rows
        drawn = random.choice(np.arange(len(sizes)), len(sizes))
        assert rows == [row for number in drawn for row in np.flatnonzero(subject == first[number])]


def test_metric_is_called_with_the_target_first():
    found = bootstrap_interval(lambda target, p: float(p.mean() - target.mean()), [1.0, 1.0], [3.0, 3.0])
    assert found.estimate == 2


def test_an_interval_without_a_width_says_so():
    """A full separation: every resample has an AUC of 1, which is no certainty."""
    y = np.repeat([0, 1], 15)
    found = bootstrap_interval(roc_auc, y, y + 0.1, n_resamples=100)
    assert (found.low, found.high) == (1, 1)
    assert "no width can be told" in str(found)
    assert "no width" not in str(bootstrap_interval(roc_auc, y, np.arange(30) % 7, n_resamples=100))


def test_rows_may_have_several_columns():
    time_event = np.array([[1.0, 1], [2, 1], [3, 0], [4, 1]])
    found = bootstrap_interval(lambda t, p: float((t[:, 0] * p).mean()), time_event, np.arange(4.0), n_resamples=100)
    assert found.estimate == (0 + 2 + 6 + 12) / 4


def test_bootstrap_interval_refuses():
    with pytest.raises(EvaluationError, match="prediction: expected one row"):
        bootstrap_interval(mean_error, [1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(EvaluationError, match="target: expected a value in every row"):
        bootstrap_interval(mean_error, [1.0, float("nan")], [1.0, 2.0])


def test_an_estimate_prints_all_that_a_reader_needs():
    text = str(Estimate(0.5, 0.25, 0.75, n=12, method="some test", p_value=0.00001, confidence=0.9, undefined=3))
    assert (
        text == "0.5000 [90% 0.2500 to 0.7500], p < 0.001, n = 12, some test; metric undefined on 3 resamples, left out"
    )


def test_without_scipy_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"fusionconv\[evaluation\]"):
        wilson(1, 2)
