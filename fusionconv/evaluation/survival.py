"""Harrell's concordance index for survival: of the pairs whose order is known, how many does the risk put right?"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import require_labels, require_rows, require_vector
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["concordance_index"]

_PAIRS = 4_000_000  # pairs compared at a time: a few tens of MB


@in_one_order
def concordance_index(time: Any, event: Any, risk: Any) -> float:
    r"""The share of comparable pairs in which the one who had the event first has the higher risk.

    .. math:: C = \frac{\sum_{i,j} c_{ij} \, (1[r_i > r_j] + \tfrac12 1[r_i = r_j])}{\sum_{i,j} c_{ij}},
        \quad c_{ij} = 1[e_i = 1] \cdot 1[t_i < t_j \text{ or } (t_i = t_j \text{ and } e_j = 0)]

    Harrell et al. 1982, JAMA 247:2543. A pair is comparable where i had the event, and j had it later or was under
    observation at least until then; who was censored at the very time of i's event outlived i. Two events at one time
    are no pair. Equal risks count half; equal means equal. 0.5 is a constant or random risk, 1 a perfect order.

    torchsurv 0.2.0 takes the same pairs, but compares risks in single precision with a tolerance of 1e-8, so that risks
    of 100000003 and 100000002, or 2e-9 and 1e-9, are tied, and a NaN risk counts as wrong without an error; hence this
    function of our own.

    Args:
        time: (n,) follow-up until the event or until censoring, in any one unit, greater than or equal to 0.
        event: (n,) 1 where the event was seen, 0 where censored.
        risk: (n,) higher means earlier, such as the log hazard; give ``-predicted_time`` for a predicted time.

    Raises:
        EvaluationError: other lengths, NaN, a negative time, events other than 0 and 1, or no comparable pair.

    >>> concordance_index(time=[2, 4, 6, 8], event=[1, 1, 0, 1], risk=[0.9, 0.3, 0.5, 0.1])
    0.8
    """
    t, r = require_vector(time, "time"), require_vector(risk, "risk")
    e = require_labels(event, "event")
    require_rows(len(t), "event", e)
    require_rows(len(t), "risk", r)
    if (t < 0).any():
        raise EvaluationError(f"time: expected follow-up times from 0 on, got {t.min():g}; count from the first image")
    comparable, score = 0, 0.0
    had = np.flatnonzero(e)
    step = max(1, _PAIRS // len(t))
    for start in range(0, len(had), step):
        i = had[start : start + step, None]
        pairs = (t[i] < t) | ((t[i] == t) & ~e)
        comparable += int(pairs.sum())
        score += int((pairs & (r[i] > r)).sum()) + 0.5 * int((pairs & (r[i] == r)).sum())
    if not comparable:
        raise EvaluationError(
            f"expected at least one event with someone under observation after it, got {e.sum()} events among "
            f"{len(t)} rows and no comparable pair; the concordance index is not defined here"
        )
    return score / comparable
