"""What every kind of column has: a declaration (:class:`Kind`) that learns from training rows to a :class:`Learnt`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.labels import Label
from fusionconv.tabular.missing import Indicator, Missing, as_codes, as_indicator, as_missing

__all__ = ["Block", "Kind", "Learnt"]

Block = npt.NDArray[np.float64]  # (rows, width): the covariates that one column becomes


@dataclass(frozen=True)
class Learnt(ABC):
    """What a kind has learnt of one column; frozen, made of numbers and labels, and so fit for JSON."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many covariates the column becomes."""

    @property
    @abstractmethod
    def mean(self) -> tuple[float, ...]:
        """The mean of the encoded training rows that had a value: what ``missing="mean"`` fills in."""

    @abstractmethod
    def names(self, name: str) -> list[str]:
        """The names of the covariates."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """The categories outside which a value is unknown; none where values are numbers."""
        return ()

    @abstractmethod
    def encode(self, column: Column) -> Block:
        """The covariates of every row that is there; the other rows are not looked at."""

    @abstractmethod
    def decode(self, block: Block) -> npt.NDArray[Any]:
        """The values that :meth:`encode` makes these rows of."""

    @abstractmethod
    def describe(self) -> str:
        """What was learnt, in a few words for the summary."""

    def encode_constant(self, name: str, value: Label) -> tuple[float, ...]:
        """The covariates of one value, given by hand."""
        column = Column(name, pd.Series([value], dtype=object))
        return tuple(float(v) for v in self.encode(column)[0])

    def to_dict(self) -> dict[str, Any]:
        """The fields as numbers, texts, lists and dicts."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` told of."""
        return cls(**saved)


@dataclass(frozen=True)
class Kind(ABC):
    """How one column is read. The three fields below belong to every kind; None takes the encoder's.

    Args:
        missing: what a missing value becomes: ``"error"``; ``"mean"``, the mean of the encoded training rows that have
            a value (a category's share, where it is one of several); ``"zero"``, covariates that are all 0; or a
            constant in the column's own unit, encoded like any value.
        indicator: a further covariate ``<column>_missing``, 1 where the value was missing: ``"auto"`` if any training
            row missed it, ``"always"``, ``"never"``.
        missing_codes: values that mean "missing", such as ``[-4, "NA", ""]``. An empty list says that there are none.
    """

    missing: Missing | None = field(default=None, kw_only=True)
    indicator: Indicator | None = field(default=None, kw_only=True)
    missing_codes: tuple[Label, ...] | None = field(default=None, kw_only=True)

    tag: ClassVar[str]

    def __post_init__(self) -> None:
        if self.missing is not None:
            self._set("missing", as_missing(self.missing))
        if self.indicator is not None:
            self._set("indicator", as_indicator(self.indicator))
        if self.missing_codes is not None:
            self._set("missing_codes", as_codes(self.missing_codes))
        if self.missing == "error" and self.indicator == "always":
            raise TableError(
                "expected an indicator only where missing values are taken, got missing='error' with "
                "indicator='always'; give missing='mean', 'zero' or a constant"
            )

    def _set(self, field_name: str, value: Any) -> None:
        object.__setattr__(self, field_name, value)

    @property
    def beside(self) -> str | None:
        """A second column that this kind reads."""
        return None

    @abstractmethod
    def learn(self, column: Column) -> Learnt:
        """Learn from the training rows that are there; there is at least one.

        Raises:
            TableError: the values are not of this kind, or teach nothing (a constant column).
        """

    def to_dict(self) -> dict[str, Any]:
        """The declaration as numbers, texts, lists and dicts."""
        return {"kind": self.tag, **asdict(self)}
