"""Scaled: what number, rank and age share once learnt: one covariate, and the scale that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from fusionconv.tabular.kinds.base import Learnt
from fusionconv.tabular.kinds.scaling import Scale

__all__ = ["Scaled"]


class Scaled(Learnt):
    """A fitted column that becomes one scaled covariate. ``scale`` is a field of the subclasses, in their own order."""

    scale: Scale

    @property
    def width(self) -> int:
        """1."""
        return 1

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of the training rows, encoded."""
        return (self.scale.encoded_mean,)

    def names(self, name: str) -> list[str]:
        """The column's own name."""
        return [name]

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """With its scale."""
        return cls(**{**saved, "scale": Scale(**saved["scale"])})
