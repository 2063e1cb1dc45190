"""Several tests at once: the better of ten arms is better by chance more often than one arm is."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import Floats
from fusionconv.evaluation.missing import as_array

__all__ = ["holm"]


def holm(p_values: Any) -> Floats:
    r"""P values corrected for their number by Holm's step-down method, in the order given.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \, \min\left(1, (m - j + 1) \, p_{(j)}\right)

    for the sorted :math:`p_{(1)} \le \ldots \le p_{(m)}` (Holm 1979, Scandinavian Journal of Statistics 6:65). The
    chance that any test whose null hypothesis is true falls below .05 is at most .05, however the tests depend on one
    another. A NaN, a test that was not defined, stays NaN and is not counted in m.

    Args:
        p_values: (m,) such as those of all arms against the reference, of one metric.

    Raises:
        EvaluationError: another shape, or values outside 0 to 1.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    array = as_array(p_values, "p_values")
    if array.ndim != 1:
        raise EvaluationError(f"p_values: expected a vector, got shape {array.shape}")
    try:
        p = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"p_values: expected numbers, got {array.dtype} such as {array.item(0)!r}") from error
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise EvaluationError(f"p_values: expected values from 0 to 1, got {p[known].min():g} to {p[known].max():g}")
    order = known[np.argsort(p[known], kind="stable")]
    corrected = p.copy()
    corrected[order] = np.minimum(1, np.maximum.accumulate((len(order) - np.arange(len(order))) * p[order]))
    return corrected
