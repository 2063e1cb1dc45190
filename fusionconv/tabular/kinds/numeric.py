"""Numeric: a measured or counted column, standardised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds.base import Block, Kind
from fusionconv.tabular.kinds.scaled import Scaled
from fusionconv.tabular.kinds.scaling import Scale, Scaling, as_scaling

__all__ = ["LearntNumeric", "Numeric"]


@dataclass(frozen=True)
class Numeric(Kind):
    """A number becomes one covariate s = (v - center) / scale; see :class:`~fusionconv.tabular.kinds.scaling.Scale`.

    Args:
        scaling: ``"zscore"``, ``"robust"`` (median and quartiles), ``"minmax"`` (0 to 1 over the training rows; other
            rows may lie beyond) or ``"none"``.
    """

    scaling: Scaling = "zscore"
    tag: ClassVar[str] = "numeric"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("scaling", as_scaling(self.scaling))

    def learn(self, column: Column) -> LearntNumeric:
        """Center and scale of the training rows."""
        return LearntNumeric(Scale.learn(self.scaling, column.numbers(), column))


@dataclass(frozen=True)
class LearntNumeric(Scaled):
    """A fitted numeric column."""

    scale: Scale

    def encode(self, column: Column) -> Block:
        """(N, 1)."""
        return self.scale.apply(column.numbers())[:, None]

    def decode(self, block: Block) -> npt.NDArray[np.float64]:
        """The numbers."""
        return self.scale.undo(block[:, 0])

    def describe(self) -> str:
        """Center and scale."""
        return self.scale.describe()
