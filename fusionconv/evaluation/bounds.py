"""Where a metric can lie, and intervals of a mean that stay there: AUC in 0..1, an error above 0, R^2 below 1."""

from __future__ import annotations

import math
from typing import TypeAlias

from fusionconv.errors import EvaluationError

__all__ = ["Bounds", "bounded_interval", "metric_bounds"]

Bounds: TypeAlias = str | tuple[float | None, float | None] | None

_BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "auc", "balanced_accuracy", "c_index", "dice", "f1_macro"), (0.0, 1.0)),
    **dict.fromkeys(("sensitivity", "specificity", "ece"), (0.0, 1.0)),
    **dict.fromkeys(("mae", "rmse"), (0.0, math.inf)),
    "r2": (-math.inf, 1.0),
    "pearson": (-1.0, 1.0),
    "ssim": (-1.0, 1.0),
    "psnr": (-math.inf, math.inf),
}


def metric_bounds(bounds: Bounds) -> tuple[float, float]:
    """The least and the greatest value that a metric can have.

    Args:
        bounds: a metric's name (``"auc"``, ``"balanced_accuracy"``, ``"accuracy"``, ``"f1_macro"``, ``"c_index"``,
            ``"dice"``, ``"sensitivity"``, ``"specificity"``, ``"ece"``, ``"mae"``, ``"rmse"``, ``"r2"``, ``"pearson"``,
            ``"psnr"``, ``"ssim"``), or two numbers, of which one may be None; or None for no bounds.

    Raises:
        EvaluationError: an unknown name, or numbers that do not rise.

    >>> metric_bounds("mae"), metric_bounds((None, 1)), metric_bounds(None)
    ((0.0, inf), (-inf, 1.0), (-inf, inf))
    """
    if bounds is None:
        return -math.inf, math.inf
    if isinstance(bounds, str):
        if bounds not in _BOUNDS:
            raise EvaluationError(
                f"bounds: expected one of {', '.join(_BOUNDS)}, or two numbers, got {bounds!r}; give the metric's "
                "least and greatest value, such as (0, 1) or (0, None)"
            )
        return _BOUNDS[bounds]
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise EvaluationError(f"bounds: expected two numbers such as (0, 1), a metric's name or None, got {bounds!r}")
    low = -math.inf if bounds[0] is None else float(bounds[0])
    high = math.inf if bounds[1] is None else float(bounds[1])
    if not low < high:
        raise EvaluationError(f"bounds: expected two numbers that rise, such as (0, 1), got {bounds!r}")
    return low, high


def bounded_interval(mean: float, margin: float, bounds: Bounds) -> tuple[float, float]:
    r"""mean ± margin within the bounds: on the logit scale between two of them, cut at one that stands alone.

    .. math:: low + (high - low) \, \sigma\left(\operatorname{logit}(m) \pm
        \frac{margin}{(high - low) \, m (1 - m)}\right), \quad m = \frac{mean - low}{high - low}

    by the delta method (Agresti 2013, Categorical Data Analysis, section 3.1.6). A cut interval holds the true mean as
    often as before it was cut. (The log scale, the other way beside one bound, has ends without measure for few folds:
    an R^2 of -1 from two folds would reach down to minus some millions.)

    Returns:
        The two ends; both NaN where the mean lies on one of two bounds, on which the logit is not defined.

    >>> [round(end, 3) for end in bounded_interval(0.9, 0.2, (0, 1))]  # not 0.7 to 1.1
    [0.494, 0.988]
    >>> bounded_interval(2.0, 3.0, "mae")
    (0.0, 5.0)
    """
    low, high = metric_bounds(bounds)
    width = high - low
    if math.isinf(width):
        return max(low, mean - margin), min(high, mean + margin)
    share = (mean - low) / width
    if not 0 < share < 1:
        return math.nan, math.nan
    odds, shift = share / (1 - share), min(margin / (width * share * (1 - share)), 700.0)
    below, above = odds * math.exp(-shift), math.exp(-shift) / odds
    return low + width * below / (1 + below), low + width / (1 + above)
