"""Scale: s = (v - centre) / spread, learnt from training values as z-score, robust or min-max."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.columns import require_names

__all__ = ["Scale", "Scaling", "as_scaling"]

Scaling: TypeAlias = Literal["zscore", "robust", "minmax", "none"]
# by the bytes of a number: a spread, as a share of the value, that is rounding (doubles may have been floats)
_NOISE = {8: 2.0**-23, 4: 2.0**-21, 2: 2.0**-8}
_WORDS = {"robust": ("median", "interquartile range"), "minmax": ("min", "range"), "zscore": ("mean", "scale")}


def as_scaling(scaling: Any) -> Scaling:
    """``scaling`` if it is known.

    Raises:
        TableError: it is not.
    """
    require_names([scaling], get_args(Scaling), "scaling")
    return scaling  # type: ignore[no-any-return]


def _noise(low: float, high: float, known: npt.NDArray[np.float64], column: Column) -> bool:
    """Whether low and high differ as a constant does after arithmetic: one in float32, or 0 but for the last bits."""
    whole = not bool((known % 1).any()) and max(abs(low), abs(high)) < 2**53
    return not whole and high - low <= max(
        _NOISE[column.precision.itemsize] * max(abs(low), abs(high)), 1e-14 if 0 in known else 0
    )


@dataclass(frozen=True)
class Scale:
    """s = (v - center) / scale; ``mean`` is the training values' mean, which fills gaps.

    ====== ======================= ============================================== ==========================
    name   center                  scale                                          scikit-learn's
    ====== ======================= ============================================== ==========================
    zscore mean                    population standard deviation (divided by n)   ``StandardScaler``
    robust median                  3rd minus 1st quartile (linear interpolation)  ``RobustScaler``
    minmax smallest training value largest minus smallest                         ``MinMaxScaler``, unclipped
    none   0                       1
    ====== ======================= ============================================== ==========================
    """

    scaling: Scaling
    center: float
    scale: float
    mean: float

    def __post_init__(self) -> None:
        if self.scaling not in get_args(Scaling):
            raise ValueError(f"no scaling {self.scaling!r}")
        if not (math.isfinite(self.center) and math.isfinite(self.mean) and 0 < self.scale < math.inf):
            raise ValueError(f"center {self.center!r}, scale {self.scale!r}, mean {self.mean!r} standardise nothing")
        if self.scaling == "none" and (self.center, self.scale) != (0, 1):
            raise ValueError(f"scaling 'none' with center {self.center!r} and scale {self.scale!r}")

    @classmethod
    def learn(cls, scaling: Scaling, values: npt.NDArray[np.float64], column: Column) -> Scale:
        """The scale of the training ``values``, NaN where missing.

        Raises:
            TableError: the values do not vary, or by rounding errors only: nothing can be divided by their spread.
        """
        known = values[column.present]
        low, high = float(known.min()), float(known.max())
        with np.errstate(all="ignore"):
            mean = low if low == high else float(known.mean())
            if scaling == "zscore":
                center, scale = mean, float(known.std())
            elif scaling == "robust":
                first, center, third = (float(q) for q in np.percentile(known, (25, 50, 75)))
                scale = third - first
            elif scaling == "minmax":
                center, scale = low, high - low
            else:
                center, scale = 0.0, 1.0
        flat = scaling == "robust" and low < high and not _noise(low, high, known, column)
        first, third = (float(q) for q in np.percentile(known, (25, 75)))
        noise = _noise(first, third, known, column) if flat else _noise(low, high, known, column)
        if (scaling != "none" and (low == high or noise)) or not (0 < scale < math.inf and math.isfinite(mean)):
            told = "interquartile range" if flat else "standard deviation"
            raise TableError(
                f"expected numeric column {column.name!r} to vary over the training rows, got {len(known)} rows "
                f"between {low:g} and {high:g} ({told} {scale if flat else float(known.std()):g}"
                f"{', no more than rounding errors' * (noise and scale > 0)}); it cannot be standardised: "
                + ("use another scaling than 'robust'" if flat else "leave it out of the covariates")
            )
        return cls(scaling, center, scale, mean)

    @property
    def encoded_mean(self) -> float:
        """The training mean as a covariate; exactly 0 under zscore."""
        return (self.mean - self.center) / self.scale

    def apply(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values to covariates."""
        with np.errstate(over="ignore"):
            return (values - self.center) / self.scale

    def undo(self, encoded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Covariates to values."""
        return encoded * self.scale + self.center

    def describe(self) -> str:
        """Such as ``mean 70, scale 8.16497``."""
        if self.scaling == "none":
            return "as it is"
        center, scale = _WORDS[self.scaling]
        return f"{center} {self.center:g}, {scale} {self.scale:g}"
