"""How strongly one column goes with another: one number, its measure chosen by what the two columns hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Association", "associate"]

_CLASSES = 10  # a target of numbers with more different values than this is a measurement
_STRONG = 0.95


@dataclass(frozen=True)
class Association:
    """``value`` of the ``measure``: "AUC for <class>" (0.5: none), "Spearman", "eta" or "Cramer's V" (0: none)."""

    measure: str
    value: float
    rows: int

    @property
    def strong(self) -> bool:
        """Whether the column nearly says the target."""
        auc = self.measure.startswith("AUC")
        return abs(2 * self.value - 1) >= 2 * _STRONG - 1 if auc else abs(self.value) >= _STRONG


def associate(column: pd.Series[Any], target: pd.Series[Any]) -> Association | None:
    """The association over the rows that have both; None where fewer than three have, or one of the two is constant.

    ============================ ===================== =====================================================
    column                       target                measure
    ============================ ===================== =====================================================
    numbers                      two classes           area under the ROC curve for the second (sorted)
    numbers                      more classes          eta: root of the share of variance between classes
    numbers                      numbers               Spearman's rank correlation
    text                         classes               Cramer's V, not corrected for small samples
    text                         numbers               eta
    ============================ ===================== =====================================================

    >>> ages, dx = pd.Series([60, 70, 80, 90]), pd.Series(["CN", "CN", "AD", "AD"])
    >>> associate(ages, dx)
    Association(measure='AUC for CN', value=0.0, rows=4)
    """
    both = pd.DataFrame({"x": column.reset_index(drop=True), "y": target.reset_index(drop=True)}).dropna()
    if len(both) < 3 or both["x"].nunique() < 2 or both["y"].nunique() < 2:
        return None
    numbers = pd.api.types.is_numeric_dtype(both["x"])
    measured = pd.api.types.is_numeric_dtype(both["y"]) and both["y"].nunique() > _CLASSES
    rows = len(both)
    if numbers and measured:
        ranks = both.astype(float).rank()
        return Association("Spearman", float(np.corrcoef(ranks["x"], ranks["y"])[0, 1]), rows)
    if not numbers and not measured:
        return Association("Cramer's V", _cramers_v(both["x"], both["y"]), rows)
    if numbers and both["y"].nunique() == 2:
        positive = sorted(both["y"].unique())[1]
        is_positive = (both["y"] == positive).to_numpy()
        ranks_x = both["x"].astype(float).rank().to_numpy()
        size = int(is_positive.sum())
        area = (ranks_x[is_positive].mean() - (size + 1) / 2) / (rows - size)
        return Association(f"AUC for {positive}", float(area), rows)
    value, group = (both["x"], both["y"]) if numbers else (both["y"], both["x"])
    return Association("eta", _eta(value.to_numpy(dtype=np.float64), pd.factorize(group)[0]), rows)


def _eta(values: npt.NDArray[np.float64], groups: npt.NDArray[np.intp]) -> float:
    means = np.bincount(groups, values) / np.bincount(groups)
    centred = values - values.mean()
    return float(np.sqrt(((means[groups] - values.mean()) ** 2).sum() / (centred**2).sum()))


def _cramers_v(one: pd.Series[Any], two: pd.Series[Any]) -> float:
    counts = pd.crosstab(one, two).to_numpy(dtype=np.float64)
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / counts.sum() / (min(counts.shape) - 1)))
