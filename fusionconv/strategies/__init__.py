"""The ways to compute a hybrid convolution: same arguments, same result, different cost; one file each."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from fusionconv.strategies.auto import choose
from fusionconv.strategies.chunked import chunked
from fusionconv.strategies.distinct import distinct
from fusionconv.strategies.geometry import Geometry
from fusionconv.strategies.grouped import grouped
from fusionconv.strategies.loop import loop
from fusionconv.strategies.scaled import scaled
from fusionconv.strategies.stacked import stacked
from fusionconv.strategies.tiled import tiled

__all__ = ["STRATEGIES", "Geometry", "choose"]

Strategy = Callable[[Tensor, Tensor, Tensor, Tensor, "Tensor | None", "Tensor | None", Geometry], Tensor]

STRATEGIES: dict[str, Strategy] = {
    "loop": loop,
    "grouped": grouped,
    "chunked": chunked,
    "tiled": tiled,
    "stacked": stacked,
    "scaled": scaled,
    "distinct": distinct,
}
