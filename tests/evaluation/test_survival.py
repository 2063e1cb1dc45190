"""The concordance index against a pair loop, and against torchsurv where that is exact."""

from __future__ import annotations

import numpy as np
import pytest

from fusionconv.errors import EvaluationError
from fusionconv.evaluation import concordance_index, survival


def by_pairs(time, event, risk):
    """Harrell's definition, pair by pair: for each two rows, who is known to have had the event first?"""
    total, score = 0, 0.0
    for i in range(len(time)):
        for j in range(i + 1, len(time)):
            if time[i] == time[j]:
                if event[i] == event[j]:
                    continue  # two events at once, or two censored: not known
                first, later = (i, j) if event[i] else (j, i)
            else:
                first, later = (i, j) if time[i] < time[j] else (j, i)
                if not event[first]:
                    continue
            total += 1
            score += 1.0 if risk[first] > risk[later] else 0.5 if risk[first] == risk[later] else 0.0
    return score / total


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_pair_loop_with_ties_in_time_and_risk(seed):
    random = np.random.default_rng(seed)
    n = 45
    time = random.integers(0, 9, n).astype(float)
    event, risk = random.random(n) < 0.6, random.integers(0, 6, n).astype(float)
    assert len(set(time)) < n
    assert concordance_index(time, event, risk) == pytest.approx(by_pairs(time, event, risk), abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 100, 1000])
def test_pieces_make_no_difference(pairs, monkeypatch):
    random = np.random.default_rng(0)
    time, risk = random.random(50), random.random(50)
    event = random.random(50) < 0.5
    whole = concordance_index(time, event, risk)
    monkeypatch.setattr(survival, "_PAIRS", pairs)
    assert concordance_index(time, event, risk) == whole


def test_it_is_torchsurvs_on_risks_that_single_precision_tells_apart():
    torchsurv = pytest.importorskip("torchsurv.metrics.cindex")
    import torch

    random = np.random.default_rng(1)
    time, risk = random.integers(1, 20, 60).astype(float), random.integers(0, 10, 60).astype(float)
    event = random.random(60) < 0.5
    theirs = torchsurv.ConcordanceIndex()(torch.tensor(risk), torch.tensor(event), torch.tensor(time))
    assert concordance_index(time, event, risk) == pytest.approx(float(theirs), abs=1e-6)


def test_known_answers():
    assert concordance_index([1, 2, 3], [1, 1, 1], [3, 2, 1]) == 1
    assert concordance_index([1, 2, 3], [1, 1, 1], [1, 2, 3]) == 0
    assert concordance_index([1, 2, 3], [1, 1, 1], [5, 5, 5]) == 0.5
    assert concordance_index([1, 2, 3], [1, 1, 1], [3e-9, 2e-9, 1e-9]) == 1
    assert concordance_index([1, 2, 3], [1, 1, 1], [1e8 + 3, 1e8 + 2, 1e8 + 1]) == 1
    assert concordance_index([2, 2], [1, 0], [1, 0]) == 1  # censored at the time of the event: outlived it


@pytest.mark.parametrize(
    ("time", "event", "risk", "says"),
    [
        ([1, 2], [0, 0], [1, 2], "got 0 events"),
        ([2, 2], [1, 1], [1, 2], "no comparable pair"),
        ([1], [1], [1], "no comparable pair"),
        ([1, 2], [1, 1], [1, float("nan")], "risk: expected finite"),
        ([1, float("inf")], [1, 1], [1, 2], "time: expected finite"),
        ([-1, 2], [1, 1], [1, 2], "from 0 on"),
        ([1, 2], [1, 2], [1, 2], "only 0 and 1"),
        ([1, 2, 3], [1, 1], [1, 2], "event: expected one row"),
        ([1, 2], [1, 1], [[1], [2]], r"shape \(2, 1\)"),
    ],
)
def test_it_refuses(time, event, risk, says):
    with pytest.raises(EvaluationError, match=says):
        concordance_index(time, event, risk)
