"""The bootstrap by subject: draw subjects with all their rows, again and again, and take the spread of the figure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusionconv.errors import EvaluationError, UndefinedMetricError
from fusionconv.evaluation.arrays import (
    Floats,
    Ints,
    group_numbers,
    importable_stats,
    require_confidence,
    require_count,
    require_rows,
)
from fusionconv.evaluation.missing import as_array, require_no_missing

__all__ = ["LEAST", "Bootstrap", "Interval", "bootstrap", "require_arms"]

Interval = Literal["percentile", "bca"]
LEAST = 100  # resamples


@dataclass(frozen=True)
class Bootstrap:
    """The figure, its value on each resample where it is defined, and what BCa needs besides.

    Attributes:
        estimate: the figure on all rows.
        values: its values on the resamples, those that are NaN left out.
        undefined: how many were left out.
        groups: how many subjects were drawn from.
        acceleration: BCa's constant a, from leaving out one subject at a time; None where it was not asked for.
    """

    estimate: float
    values: Floats
    undefined: int
    groups: int
    acceleration: float | None = None

    def interval(self, confidence: float) -> tuple[float, float]:
        """The percentile interval, or with an acceleration the BCa interval (Efron 1987, JASA 82:171, eq. 2.3)."""
        tail = (1 - require_confidence(confidence)) / 2
        levels = np.array([tail, 1 - tail])
        if self.acceleration is not None:
            normal = importable_stats().norm
            z0 = self._bias()
            shifted = z0 + normal.ppf(levels)
            levels = normal.cdf(z0 + shifted / (1 - self.acceleration * shifted))
        low, high = np.quantile(self.values, levels)
        return float(low), float(high)

    @property
    def remark(self) -> str:
        """What to add to the method's words: an interval without a width is no certainty."""
        return "" if np.ptp(self.values) > 0 else ", every resample the same: no width can be told"

    @property
    def standard_error(self) -> float:
        """The standard deviation of the figure over the resamples."""
        return float(self.values.std(ddof=1))

    def p_value(self) -> float:
        """Two-sided p of a figure of 0: where the interval just excludes 0 (an estimate on it counts half).

        For B resamples no p below 1 / (B + 1) can be told, and for n subjects none below 2 / 2^n, the least of the
        exact sign test. Under some 20 subjects p and interval are still too small: the bootstrap's theory is for many.
        """
        B = len(self.values)
        below = (self.values < 0).sum() + 0.5 * (self.values == 0).sum()
        share = (below + 0.5) / (B + 1)
        if self.acceleration is not None:
            normal = importable_stats().norm
            shift = normal.ppf(share) - self._bias()
            share = normal.cdf(shift / (1 + self.acceleration * shift) - self._bias())
        least = max(1 / (B + 1), 2.0 ** (1 - self.groups))
        return float(max(min(1.0, 2 * min(share, 1 - share)), least))

    def _bias(self) -> float:
        below = (self.values < self.estimate).sum() + 0.5 * (self.values == self.estimate).sum()
        share = below / len(self.values)
        if share in (0, 1):
            raise EvaluationError(
                "expected resamples on both sides of the estimate, which BCa corrects by, got all on one; use "
                "interval='percentile'"
            )
        return float(importable_stats().norm.ppf(share))


def bootstrap(
    figure: Callable[[Ints], float],
    rows: int,
    groups: Any = None,
    strata: Any = None,
    n_resamples: int = 2000,
    seed: int = 0,
    interval: Interval = "percentile",
) -> Bootstrap:
    """Resample subjects with replacement, each with all its rows, and compute ``figure`` on each resample.

    Args:
        figure: ``figure(row_numbers) -> float``; NaN or a ValueError where it is not defined (an AUC of one class).
        rows: how many rows there are.
        groups: each row's subject; None: every row is a subject of its own.
        strata: a label for each row, the same for all rows of a subject: each stratum keeps its number of subjects.
        n_resamples: how many.
        seed: of numpy's generator.
        interval: ``"bca"`` computes the acceleration too, which takes the figure once more for each subject.

    Raises:
        EvaluationError: fewer than two subjects; a figure that is not defined on all rows, or on more than half of the
            resamples; a subject in two strata.
    """
    if interval not in ("percentile", "bca"):
        raise EvaluationError(f"interval: expected 'percentile' or 'bca', got {interval!r}")
    require_count(n_resamples, "n_resamples", LEAST)
    numbers = group_numbers(groups, rows)
    count = int(numbers.max()) + 1
    if count < 2:
        raise EvaluationError(f"expected at least two subjects to resample, got {count} (with {rows} rows)")
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    same = bool((sizes == sizes[0]).all())  # then a resample is one indexing, however many subjects there are
    members = order.reshape(count, -1) if same else np.split(order, np.cumsum(sizes)[:-1])
    estimate = float(figure(np.arange(rows)))
    if not np.isfinite(estimate):
        raise EvaluationError(f"expected a metric that is defined on all {rows} rows, got {estimate}")
    strata_members = _strata(strata, numbers, rows)
    random = np.random.default_rng(seed)
    values = np.empty(n_resamples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns for each resample without a class; they are counted below
        for i in range(n_resamples):
            drawn = np.concatenate([random.choice(stratum, len(stratum)) for stratum in strata_members])
            values[i] = _value(figure, _rows_of(members, drawn))
        kept = values[np.isfinite(values)]
        if len(kept) < n_resamples / 2:
            raise UndefinedMetricError(
                f"expected a metric that is defined on most resamples, got {n_resamples - len(kept)} of {n_resamples} "
                "where it is not, so that an interval would be one of the others; a class or event is too rare here: "
                "give strata= (the class), or report the figure without an interval"
            )
        acceleration = None
        if interval == "bca":
            left_out = np.array([_value(figure, order[numbers[order] != g]) for g in range(count)])
            acceleration = _acceleration(left_out)
    return Bootstrap(estimate, kept, n_resamples - len(kept), count, acceleration)


def require_arms(
    metric: Any, target: Any, predictions: Mapping[str, Any]
) -> tuple[npt.NDArray[Any], list[npt.NDArray[Any]]]:
    """The target and each arm's predictions as arrays with one row each, none missing.

    Raises:
        EvaluationError: no metric in the first place, other lengths, or a missing value.
    """
    if not callable(metric):
        raise EvaluationError(
            f"metric: expected a function (target, prediction) -> float, got {type(metric).__name__}; the order is "
            "metric, target, predictions"
        )
    truth = require_no_missing(as_array(target, "target"), "target", ("None",))
    rows = len(truth) if truth.ndim else 0
    require_rows(rows, "target", truth)
    classes = {v for v in truth.ravel().tolist() if isinstance(v, str)} if truth.dtype.kind in "USO" else ()
    found = []
    for name, values in predictions.items():
        array = as_array(values, name)
        require_rows(rows, name, array)
        found.append(require_no_missing(array, name, classes))
    return truth, found


def _rows_of(members: Ints | list[Ints], drawn: Ints) -> Ints:
    """The rows of the subjects drawn, subject after subject; an array of members has one line for each subject."""
    return (
        members[drawn].reshape(-1) if isinstance(members, np.ndarray) else np.concatenate([members[g] for g in drawn])
    )


def _value(figure: Callable[[Ints], float], rows: Ints) -> float:
    try:
        return float(figure(rows))
    except ValueError:  # what scikit-learn raises where a metric is not defined; on all rows it did not
        return float("nan")


def _strata(strata: Any, numbers: Ints, rows: int) -> list[Ints]:
    """The groups of each stratum; one stratum without ``strata``."""
    count = int(numbers.max()) + 1
    if strata is None:
        return [np.arange(count, dtype=np.intp)]
    labels = group_numbers(strata, rows, "strata")
    of_group = np.empty(count, dtype=np.intp)
    of_group[numbers] = labels
    if (of_group[numbers] != labels).any():
        raise EvaluationError(
            f"strata: expected one label for all rows of a subject, got several for "
            f"{len(np.unique(numbers[of_group[numbers] != labels]))} subjects; leave strata out"
        )
    return [np.flatnonzero(of_group == s) for s in range(int(labels.max()) + 1)]


def _acceleration(left_out: Floats) -> float:
    """a = sum d^3 / (6 (sum d^2)^1.5), d the mean of the leave-one-out values less each (Efron 1987, eq. 6.6)."""
    if not np.isfinite(left_out).all():
        raise EvaluationError(
            "expected a metric that stays defined when any one subject is left out, as BCa needs, got one that does "
            "not; use interval='percentile'"
        )
    d = left_out.mean() - left_out
    spread = (d**2).sum()
    return float((d**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
