"""What a test or an interval gives back: Estimate, with the figure, its interval, p, n and the method in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Estimate", "format_p"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        estimate: the figure itself, such as a mean difference or an AUC.
        low, high: the ends of the interval; NaN where there is none, and ``method`` says why.
        n: how many independent things it rests on: subjects, images or folds, as ``method`` says.
        method: the method in words, fit for a table's footnote.
        p_value: two-sided p; None where nothing was tested.
        confidence: of the interval.
        undefined: bootstrap only: resamples that were left out since the metric is not defined on them.
        standard_error: of the estimate, on its own scale; None where the method has none.

    >>> print(Estimate(0.021, -0.004, 0.046, n=25, method="corrected resampled t-test", p_value=0.094))
    0.0210 [95% -0.0040 to 0.0460], p = 0.094, n = 25, corrected resampled t-test
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    p_value: float | None = None
    confidence: float = 0.95
    undefined: int = 0
    standard_error: float | None = None

    def __str__(self) -> str:
        p = "" if self.p_value is None else f", p {format_p(self.p_value)}"
        left_out = f"; metric undefined on {self.undefined} resamples, left out" if self.undefined else ""
        ends = "none" if math.isnan(self.low + self.high) else f"{self.low:.4f} to {self.high:.4f}"
        interval = f"[{100 * self.confidence:.4g}% {ends}]"
        return f"{self.estimate:.4f} {interval}{p}, n = {self.n}, {self.method}{left_out}"


def format_p(p: float) -> str:
    """A p value with its sign, for print.

    >>> format_p(0.0312), format_p(0.00001), format_p(float("nan"))
    ('= 0.031', '< 0.001', 'not defined')
    """
    if math.isnan(p):
        return "not defined"
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
