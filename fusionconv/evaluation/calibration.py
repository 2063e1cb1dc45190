"""Calibration: of those given 70 %, do 70 % have it? The reliability table, and its mean gap (ECE)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import (
    Floats,
    Ints,
    require_confidence,
    require_count,
    require_labels,
    require_probabilities,
    require_rows,
)
from fusionconv.evaluation.intervals import wilson
from fusionconv.evaluation.missing import as_array, require_no_missing
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["expected_calibration_error", "reliability_table"]


@in_one_order
def reliability_table(target: Any, probability: Any, bins: int = 10, confidence: float = 0.95) -> pd.DataFrame:
    """A row for each of ``bins`` bins of equal width: mean probability and observed frequency with Wilson's interval.

    Args:
        target: (n,) 0 and 1; or (n,) the number of the class, 0 to C-1.
        probability: (n,) of class 1; or (n, C) of all classes, of which the most probable one counts (top-label
            calibration).
        bins: how many; a bin holds its lower edge (and what is less than a millionth of a bin below it, such as .3 of
            float32), the last one also 1.
        confidence: of the interval of the frequency, for independent rows (one a subject).

    Returns:
        A DataFrame: low, high (the bin), n, probability (its mean), observed (share of class 1, or of right answers),
        observed_low, observed_high. An empty bin has n = 0 and NaN.

    Raises:
        EvaluationError: other lengths, NaN, values outside 0 to 1 (logits), rows that do not add up to 1, or targets
            that are no classes.

    >>> table = reliability_table([0, 1, 1, 0, 1], [0.1, 0.2, 0.8, 0.9, 1.0], bins=2)
    >>> table[["low", "high", "n", "probability", "observed"]].round(3).values.tolist()
    [[0.0, 0.5, 2.0, 0.15, 0.5], [0.5, 1.0, 3.0, 0.9, 0.667]]
    """
    p, right = _binary(target, probability)
    require_count(bins, "bins", 1)
    require_confidence(confidence)
    edges = np.linspace(0, 1, bins + 1)
    place = _bin(p, bins)
    rows = []
    for b in range(bins):
        inside = place == b
        n, ones = int(inside.sum()), int(right[inside].sum())
        found = wilson(ones, n, confidence) if n else None
        mean = float(p[inside].mean()) if n else np.nan
        observed = (found.estimate, found.low, found.high) if found else (np.nan,) * 3
        rows.append((edges[b], edges[b + 1], n, mean, *observed))
    names = ["low", "high", "n", "probability", "observed", "observed_low", "observed_high"]
    return pd.DataFrame(rows, columns=names)


@in_one_order
def expected_calibration_error(target: Any, probability: Any, bins: int = 15) -> float:
    r"""The mean gap between probability and observed frequency, over bins by their share of rows.

    .. math:: ECE = \sum_b \frac{n_b}{n} \left| \overline{p}_b - \overline{y}_b \right|

    Naeini et al. 2015, AAAI; of several classes the most probable one counts (Guo et al. 2017, ICML). It depends on the
    number of bins, and is above 0 for a perfectly calibrated model too, the more so with few rows: tell both.

    The bins are those of :func:`reliability_table`, so that figure and table agree. torchmetrics 1.9 differs in two
    points: probabilities of exactly 1 get a bin of their own there, and values outside 0 to 1, an error here, are taken
    for logits.

    Args:
        target, probability: as for :func:`reliability_table`.
        bins: how many of equal width.

    Raises:
        EvaluationError: as :func:`reliability_table`.

    >>> round(expected_calibration_error([0, 1, 1, 0, 1], [0.1, 0.2, 0.8, 0.9, 1.0], bins=2), 3)
    0.28
    """
    p, right = _binary(target, probability)
    require_count(bins, "bins", 1)
    place = _bin(p, bins)
    gaps = np.bincount(place, p - right, minlength=bins)  # n_b times the gap of the bin
    return float(np.abs(gaps).sum() / len(p))


def _bin(p: Floats, bins: int) -> Ints:
    """The bin of each probability. Edges such as .3 are no binary numbers: 3 / 10 would fall below linspace's own."""
    return np.clip(np.floor(p * bins + 1e-6).astype(np.intp), 0, bins - 1)


def _binary(target: Any, probability: Any) -> tuple[Floats, Any]:
    """Probabilities (n,) and what happened: of class 1 as they are, of several classes those of the top class."""
    p = require_probabilities(probability)
    if p.ndim == 1:
        right = require_labels(target, "target")
        require_rows(len(p), "target", right)
        return p, right
    y = as_array(target, "target")
    require_rows(len(p), "target", y)
    require_no_missing(y, "target")
    odd = sorted(set(y.ravel().tolist()) - set(range(p.shape[1])), key=str)[:5]
    if y.ndim != 1 or odd:
        raise EvaluationError(
            f"target: expected class numbers from 0 to {p.shape[1] - 1}, got shape {y.shape} with {odd}; the target "
            "comes first, then the probability"
        )
    return p.max(axis=1), p.argmax(axis=1) == y
