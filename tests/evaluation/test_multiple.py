"""Holm's correction against its definition as a closed test, and statsmodels where it is installed."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import holm

SHARES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=7)


def closed(p):
    """Each hypothesis is rejected where every set of hypotheses that holds it is, by Bonferroni: the largest |S| min p."""
    sets = [s for k in range(1, len(p) + 1) for s in combinations(range(len(p)), k)]
    return [min(1.0, max(len(s) * min(p[j] for j in s) for s in sets if i in s)) for i in range(len(p))]


@settings(max_examples=100, deadline=None)
@given(SHARES)
def test_it_is_the_closed_test_of_bonferroni(p):
    np.testing.assert_allclose(holm(p), closed(p), rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(SHARES)
def test_it_is_statsmodels(p):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], rtol=1e-12)


def test_a_test_that_was_not_defined_stays_so_and_is_not_counted():
    np.testing.assert_allclose(holm([0.01, float("nan"), 0.04]), [0.02, np.nan, 0.04])
    assert holm([]).shape == (0,)
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])  # by hand


def test_the_chance_of_any_false_alarm_is_kept():
    random = np.random.default_rng(0)
    shared = random.normal(size=(3000, 1))
    p = 2 * stats.norm.sf(np.abs((shared + random.normal(size=(3000, 6))) / np.sqrt(2)))
    assert np.mean([holm(row).min() < 0.05 for row in p]) <= 0.055
    assert np.mean(p.min(axis=1) < 0.05) > 0.15


@pytest.mark.parametrize("p", [[0.1, 1.2], [-0.1], [[0.1, 0.2]], ["small"]])
def test_it_refuses(p):
    with pytest.raises(EvaluationError, match="p_values: expected"):
        holm(p)
