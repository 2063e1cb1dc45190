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
from fusionconv.tabular.text import shape_of

__all__ = ["LearntNumeric", "Numeric"]


@dataclass(frozen=True)
class Numeric(Kind):
    """A number becomes one covariate s = (v - center) / scale; see :class:`~fusionconv.tabular.kinds.scaling.Scale`.

    Numbers may be text (``"61.5"``). Text that is all ages as DICOM writes them (``"045Y"``, ``"006M"``) becomes years.

    Args:
        scaling: ``"zscore"``, ``"robust"`` (median and quartiles), ``"minmax"`` (0 to 1 over the training rows; other
            rows may lie beyond) or ``"none"``.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import CovariateEncoder, Numeric
        >>> frame = pd.DataFrame({"age": [60.0, 70.0, 80.0]})
        >>> CovariateEncoder(["age"], kinds={"age": Numeric("minmax")}).fit(frame).transform(frame).tolist()
        [[0.0], [0.5], [1.0]]
    """

    scaling: Scaling = "zscore"
    tag: ClassVar[str] = "numeric"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("scaling", as_scaling(self.scaling))

    def learn(self, column: Column) -> LearntNumeric:
        """Center and scale of the training rows."""
        years = column.holds_ages
        if years:
            other = [not (isinstance(v, str) and shape_of(v) == "age") for v in column.factors[1]]
            column.refuse(
                column.rows_of(np.array(other, dtype=bool), False),
                "ages such as '045Y' in every row, as in others",
                do="write them all so (045Y, 006M, 030W, 010D), or all as numbers in one unit",
            )
        return LearntNumeric(Scale.learn(self.scaling, column.numbers(years=years), column), years)


@dataclass(frozen=True)
class LearntNumeric(Scaled):
    """A fitted numeric column; with ``years`` its text are ages as DICOM writes them."""

    scale: Scale
    years: bool = False

    def encode(self, column: Column) -> Block:
        """(N, 1)."""
        return self.scale.apply(column.numbers(years=self.years))[:, None]

    def decode(self, block: Block) -> npt.NDArray[np.float64]:
        """The numbers."""
        return self.scale.undo(block[:, 0])

    def describe(self) -> str:
        """Center and scale."""
        return "years, " * self.years + self.scale.describe()
