"""Ordinal: values with an order, as their rank 0 to n-1, scaled like a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds.base import Block, Kind
from fusionconv.tabular.kinds.categorical import refuse_unknown
from fusionconv.tabular.kinds.scaled import Scaled
from fusionconv.tabular.kinds.scaling import Scale, Scaling, as_scaling
from fusionconv.tabular.labels import Label, plain_labels, refuse_blank

__all__ = ["LearntOrdinal", "Ordinal"]


@dataclass(frozen=True)
class Ordinal(Kind):
    """The levels, lowest first, become their ranks 0 to n - 1, and the ranks are scaled as a number is.

    So equal steps are taken between levels; where that is wrong, declare the column categorical. With the default
    z-score an ordinal covariate has the size of the numeric ones (scikit-learn's ``OrdinalEncoder``, then
    ``StandardScaler``); ``scaling="none"`` leaves the ranks. A value that is no level is an error.

    Args:
        levels: all levels in order. May be left out where the column is an ordered pandas categorical, which says them.
        scaling: as for :class:`~fusionconv.tabular.kinds.numeric.Numeric`.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import CovariateEncoder, Ordinal
        >>> frame = pd.DataFrame({"stage": ["II", "I", "III"]})
        >>> kind = Ordinal(["I", "II", "III"], scaling="none")
        >>> CovariateEncoder(["stage"], kinds={"stage": kind}).fit(frame).transform(frame).tolist()
        [[1.0], [0.0], [2.0]]
    """

    levels: tuple[Label, ...] | Sequence[Any] | None = None
    scaling: Scaling = "zscore"
    tag: ClassVar[str] = "ordinal"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels is not None:
            self._set("levels", plain_labels(self.levels, "levels", least=2))
            refuse_blank(self.levels, "levels")
        self._set("scaling", as_scaling(self.scaling))

    def learn(self, column: Column) -> LearntOrdinal:
        """The levels, unless given, and the ranks' center and scale."""
        levels = self.levels
        if levels is None:
            dtype = column.values.dtype
            if not (isinstance(dtype, pd.CategoricalDtype) and dtype.ordered):
                column.fail(
                    "the order of the levels", "none", f"declare kinds={{{column.name!r}: Ordinal(['low', 'high'])}}"
                )
            levels = plain_labels(dtype.categories, "levels", least=2)
        ranks = _ranks(column, tuple(levels))
        return LearntOrdinal(tuple(levels), Scale.learn(self.scaling, ranks, column))


def _ranks(column: Column, levels: tuple[Label, ...]) -> npt.NDArray[np.float64]:
    at = column.positions(levels)
    refuse_unknown(column, column.present & (at < 0), levels, ", or name the level in Ordinal([...])")
    return np.where(column.present, at, np.nan)


@dataclass(frozen=True)
class LearntOrdinal(Scaled):
    """A fitted ordinal column: its levels, lowest first, and the scale of the ranks."""

    levels: tuple[Label, ...]
    scale: Scale

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", plain_labels(self.levels, "levels", least=2))

    def encode(self, column: Column) -> Block:
        """(N, 1)."""
        return self.scale.apply(_ranks(column, self.levels))[:, None]

    def decode(self, block: Block) -> npt.NDArray[np.object_]:
        """The nearest level."""
        ranks = np.clip(np.rint(self.scale.undo(block[:, 0])), 0, len(self.levels) - 1).astype(int)
        return np.asarray(np.array(self.levels, dtype=object)[ranks])

    def describe(self) -> str:
        """The levels and the scale of their ranks."""
        return f"{' < '.join(str(v) for v in self.levels)}; rank: {self.scale.describe()}"
