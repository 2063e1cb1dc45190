"""Brain age and other regressions: mean error, R^2, correlation, and the bias with age, told and corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import Floats, require_rows, require_vector
from fusionconv.evaluation.row_order import in_one_order

__all__ = ["AgeBias", "RegressionSummary", "age_bias", "correct_age_bias", "regression_summary"]


@dataclass(frozen=True)
class RegressionSummary:
    """Figures of a regression, in the target's unit where they have one.

    Attributes:
        mae: mean absolute error.
        rmse: root mean squared error.
        mean_error: mean of predicted - target; above 0: predicted too high.
        r2: 1 - sum (y - p)^2 / sum (y - mean y)^2, of these rows; below 0: worse than their mean.
        pearson: Pearson's r of predicted and target; NaN where the prediction is constant.
        n: rows.

    Example:
        >>> from fusionconv.evaluation import regression_summary
        >>> summary = regression_summary(target=[60, 70, 80], prediction=[62, 69, 78])
        >>> round(summary.mae, 3), summary.n
        (1.667, 3)
    """

    mae: float
    rmse: float
    mean_error: float
    r2: float
    pearson: float
    n: int

    def __str__(self) -> str:
        return (
            f"MAE {self.mae:.3f}, RMSE {self.rmse:.3f}, mean error {self.mean_error:+.3f}, R2 {self.r2:.3f}, "
            f"r {self.pearson:.3f}, n = {self.n}"
        )


@in_one_order
def regression_summary(target: Any, prediction: Any) -> RegressionSummary:
    """Mean absolute error, root mean squared error, mean error, R^2 and Pearson's r.

    MAE depends on the range of ages: compare it only on the same subjects, and beside that of predicting the mean.

    Args:
        target: (n,) the true values, such as ages in years.
        prediction: (n,) in the same unit.

    Raises:
        EvaluationError: other lengths, NaN, fewer than two rows, or a constant target.

    >>> print(regression_summary(target=[60, 70, 80], prediction=[62, 69, 78]))
    MAE 1.667, RMSE 1.732, mean error -0.333, R2 0.955, r 0.997, n = 3
    """
    y, p = _pair(target, prediction)
    error, around = p - y, y - y.mean()
    spread = p.std() * y.std()
    r = float(((p - p.mean()) * around).mean() / spread) if np.ptp(p) > 1e-6 * np.ptp(y) else float("nan")
    return RegressionSummary(
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        mean_error=float(error.mean()),
        r2=float(1 - (error**2).sum() / (around**2).sum()),
        pearson=r,
        n=len(y),
    )


@dataclass(frozen=True)
class AgeBias:
    """The line through predicted-age differences: predicted - age = slope * age + intercept.

    Attributes:
        slope: years of difference for each year of age; negative where the old look too young, as is usual.
        intercept: of that line, in years.
        n: rows that it was fitted on.

    Example:
        >>> from fusionconv.evaluation import age_bias
        >>> bias = age_bias([60, 70, 80], [65, 70, 75])
        >>> round(bias.slope, 3), round(bias.intercept, 3), bias.n
        (-0.5, 35.0, 3)
    """

    slope: float
    intercept: float
    n: int

    @property
    def alpha(self) -> float:
        """The slope of predicted on age: predicted = alpha * age + intercept."""
        return self.slope + 1

    def __str__(self) -> str:
        return f"predicted - age = {self.slope:+.3f} * age {self.intercept:+.3f} (fitted on {self.n} rows)"


@in_one_order
def age_bias(target: Any, prediction: Any) -> AgeBias:
    """Least squares of the predicted-age difference on age.

    A model that minimises an error predicts towards the mean: the young come out too old and the old too young,
    and a difference between patients and controls of other ages is then partly this line.

    Args:
        target: (n,) true ages in years.
        prediction: (n,) predicted ages in years.

    Raises:
        EvaluationError: other lengths, NaN, fewer than two rows, or one age only.

    >>> bias = age_bias(target=[60, 70, 80], prediction=[65, 70, 75])
    >>> print(bias)
    predicted - age = -0.500 * age +35.000 (fitted on 3 rows)
    """
    y, p = _pair(target, prediction)
    around = y - y.mean()
    difference = p - y
    slope = float((around * (difference - difference.mean())).sum() / (around**2).sum())
    return AgeBias(slope, float(difference.mean() - slope * y.mean()), len(y))


@in_one_order
def correct_age_bias(
    target: Any, prediction: Any, bias: AgeBias, method: Literal["de_lange", "cole"] = "de_lange"
) -> Floats:
    r"""Predicted ages without the line that was fitted **on other rows** (validation rows; never those of the test).

    With predicted = alpha * age + beta on the fitting rows:

    - ``"de_lange"`` (de Lange & Cole 2020, NeuroImage: Clinical 26:102229):
      corrected = predicted + (age - (alpha * age + beta))
    - ``"cole"`` (Cole et al. 2018, Molecular Psychiatry 23:1385): corrected = (predicted - beta) / alpha

    ``"de_lange"`` **uses the true age of the row that it corrects**. What comes out is meant for the difference
    corrected - age (is this brain older than others of its age?). Its mean absolute error is *not* the error of a
    prediction for a person of unknown age: a model that predicts one constant has alpha = 0 and a corrected error of
    0. Always report the uncorrected error beside it. ``"cole"`` needs no true age and widens the scatter by 1 / alpha.

    Args:
        target: (n,) true ages of the rows to correct; not read by ``"cole"`` but for its length.
        prediction: (n,) their predicted ages.
        bias: what :func:`age_bias` gave on the fitting rows.
        method: see above.

    Returns:
        (n,) corrected ages.

    Raises:
        EvaluationError: other lengths or NaN; ``"cole"`` where alpha is not above 0.

    >>> bias = age_bias(target=[60, 70, 80], prediction=[65, 70, 75])  # validation rows
    >>> correct_age_bias([60, 80], [66, 77], bias).tolist()  # one and two years above the line
    [61.0, 82.0]
    """
    if not isinstance(bias, AgeBias):
        raise EvaluationError(
            f"bias: expected what age_bias(target, prediction) gave on validation rows, got {type(bias).__name__}"
        )
    y, p = require_vector(target, "target"), require_vector(prediction, "prediction")
    require_rows(len(y), "prediction", p)
    if method == "de_lange":
        return p - (bias.slope * y + bias.intercept)
    if method != "cole":
        raise EvaluationError(f"method: expected 'de_lange' or 'cole', got {method!r}")
    if bias.alpha <= 0:
        raise EvaluationError(
            f"method 'cole' divides by alpha: expected predictions that rise with age, got alpha = {bias.alpha:.3g}; "
            "this model does not follow age"
        )
    return (p - bias.intercept) / bias.alpha


def _pair(target: Any, prediction: Any) -> tuple[Floats, Floats]:
    y, p = require_vector(target, "target"), require_vector(prediction, "prediction")
    require_rows(len(y), "prediction", p)
    if len(y) < 2 or not np.ptp(y):
        raise EvaluationError(
            f"target: expected at least two rows of different values, got {len(y)} of {np.unique(y)[:3].tolist()}"
        )
    return y, p
