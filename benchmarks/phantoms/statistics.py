"""From records to figures: shares of the Bayes rate with t intervals over seeds, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = ["LATE", "MARGIN", "Interval", "choose", "difference", "interval", "label", "share"]

Record = dict[str, Any]
MARGIN = 1.0  # points of accuracy; "does not lose" means: the 95 % interval of the difference lies above -MARGIN
LATE = ("concat linear", "concat MLP")  # and every arm at "head": behind the pooling


class Interval(NamedTuple):
    """A mean and its 95 % t interval."""

    mean: float
    low: float
    high: float

    def text(self, digits: int = 1) -> str:
        """``mean [low, high]``."""
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def interval(values: Sequence[float]) -> Interval:
    """The mean over seeds and its 95 % t interval, n - 1 degrees of freedom; NaN ends for fewer than two."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Interval(float(x.mean()), float("nan"), float("nan"))
    half = stats.t.ppf(0.975, len(x) - 1) * stats.sem(x)
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def share(record: Record, control: str = "true") -> Interval:
    """Accuracy as a share of the Bayes rate, in percent; the interval is cut at 100, the most that can be had.

    2000 test images may by chance give one network a little more than 100; a mean above it is kept.
    """
    found = interval([100 * a / record["bayes"] for a in record["accuracy"][control]])
    return Interval(found.mean, found.low, max(found.mean, min(found.high, 100.0)))


def difference(record: Record, reference: Record) -> Interval:
    """Accuracy less the reference's on the same seeds and test sets, in points."""
    pairs = zip(record["accuracy"]["true"], reference["accuracy"]["true"], strict=True)
    return interval([100 * (a - b) for a, b in pairs])


def choose(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """The records of a task, an arm, ... in their order; what is not named has its default (width 2, nothing else)."""
    plain = {"width": 2, "count": None, "samples": None, "extended": False}
    wanted = {**plain, **wanted}
    return [r for r in records if all(r[k] == v or v == "any" for k, v in wanted.items())]


def label(record: Record) -> str:
    """``late``: the covariates enter behind the pooling only; ``early``: before it; nothing: not both are used.

    condconv makes kernels of the image; where its head gets the covariates (selection) it is a late fusion.
    """
    arm = record["arm"]
    if arm in ("image only", "covariates only") or (arm.startswith("condconv") and record["task"] != "selection"):
        return ""
    return "late" if arm in LATE or arm.endswith(", head") or arm.startswith("condconv") else "early"
