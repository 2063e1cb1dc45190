"""Binary: one of two values, as 0 and 1; not standardised, so that zeros mean the ordinary convolution."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds.base import Block, Kind, Learnt
from fusionconv.tabular.kinds.categorical import Unknown, as_unknown, require_tidy
from fusionconv.tabular.labels import Label, listed, plain_label, refuse_blank

__all__ = ["Binary", "Codes", "LearntBinary"]

Codes = tuple[tuple[Label, int], ...]
_PLAIN: Codes = ((0, 0), (1, 1))


def _as_codes(codes: Mapping[Any, int] | Iterable[tuple[Any, int]]) -> Codes:
    """``{"F": 0, "M": 1}`` as pairs, zeros first, so that equal codes compare equal."""
    try:
        pairs = [(plain_label(v), c) for v, c in (codes.items() if isinstance(codes, Mapping) else codes)]
    except (TypeError, ValueError):
        pairs = []
    values = [v for v, _ in pairs]
    if len(set(values)) < len(values) or {c for _, c in pairs} != {0, 1}:
        raise TableError(f"expected codes such as {{'F': 0, 'M': 1}}, each value once and both 0 and 1, got {codes!r}")
    refuse_blank(values, "values")
    return tuple(sorted(((v, int(c)) for v, c in pairs), key=lambda pair: pair[1]))


def _as_stored(codes: Codes, column: Column) -> Codes:
    """Codes whose values are all numbers as text, as JSON writes keys, as numbers for a column of numbers."""
    texts = [v for v, _ in codes if isinstance(v, str) and re.fullmatch(r"[+-]?\d+(?:\.\d+)?", v, re.ASCII)]
    if not column.is_numbers or len(texts) < len(codes):
        return codes
    return _as_codes([(float(v), c) for v, c in codes])


@dataclass(frozen=True)
class Binary(Kind):
    """Two values become 0 and 1.

    Args:
        codes: which value is 0 and which is 1, as ``{"F": 0, "M": 1}``; several spellings may share a code. Without it
            0/1 and False/True stay what they are, and of two texts the first in sorted order is 0; the name of the
            covariate, such as ``sex_M``, and the summary say which became 1.
        unknown: what :meth:`transform` does about a value that has no code: ``"error"``, or ``"ignore"``: the share of
            ones among the training rows, which is neither code. By default as the encoder's ``unknown`` says. Columns
            of plain 0 and 1 always refuse other numbers: these may count.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    >>> Binary({"F": 0, "M": 1}, missing="mean")
    Binary(missing='mean', indicator=None, missing_codes=None, codes=(('F', 0), ('M', 1)), unknown=None)
    """

    codes: Codes | Mapping[Any, int] | None = None
    unknown: Unknown | None = None
    tag: ClassVar[str] = "binary"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.codes is not None:
            self._set("codes", _as_codes(self.codes))
        if self.unknown is not None:
            self._set("unknown", as_unknown(self.unknown))

    def learn(self, column: Column) -> LearntBinary:
        """The two codes, and the share of ones."""
        codes = self._infer(column) if self.codes is None else _as_stored(_as_codes(self.codes), column)
        unknown = self.unknown or "error"
        learnt = LearntBinary(codes, math.nan, unknown)
        known = learnt.encode(column)[column.present, 0]
        known = known[np.isfinite(known)]
        if not len(known):
            column.fail(
                f"one of {listed([v for v, _ in codes])} in some training rows", "none", "correct the codes of Binary"
            )
        return LearntBinary(codes, float(known.mean()), unknown)

    @staticmethod
    def _infer(column: Column) -> Codes:
        found = column.labels()
        texts = sorted(v for v in found if isinstance(v, str))
        if len(texts) < len(found) or len(texts) < 2:
            if texts and len(texts) == len(found):
                column.fail(
                    "two values",
                    f"{texts[0]!r} in every training row",
                    f"leave it out of the covariates, or say which is which: Binary({{'...': 0, {texts[0]!r}: 1}})",
                )
            return _PLAIN
        if len(texts) > 2:
            column.fail("two values", listed(texts), "declare it 'categorical', or give Binary the code of each value")
        require_tidy(texts, column)
        return ((texts[0], 0), (texts[1], 1))


@dataclass(frozen=True)
class LearntBinary(Learnt):
    """A fitted binary column: its codes and the share of ones among the training rows."""

    codes: Codes
    share: float
    unknown: Unknown = "error"

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", _as_codes(self.codes))
        if self.unknown not in ("error", "ignore"):
            raise ValueError(f"unknown={self.unknown!r}")

    @property
    def labels(self) -> tuple[Label, ...]:
        """The values that have a code; none where 0 and 1 are numbers."""
        return () if self.plain else tuple(v for v, _ in self.codes)

    @property
    def width(self) -> int:
        """1."""
        return 1

    @property
    def mean(self) -> tuple[float, ...]:
        """The share of ones."""
        return (self.share,)

    @property
    def plain(self) -> bool:
        """Whether 0 stays 0 and 1 stays 1."""
        return self.codes == _PLAIN

    def names(self, name: str) -> list[str]:
        """The column's name, with the value that became 1 unless that is 1."""
        return [name if self.plain else f"{name}_{self._value(1)}"]

    def encode(self, column: Column) -> Block:
        """(N, 1) of 0 and 1."""
        if self.plain:
            if isinstance(self.codes[0][0], bool) and not column.is_numbers:
                text = np.array([isinstance(v, str) for v in column.factors[1]], dtype=bool)
                column.refuse(
                    column.rows_of(text, False),
                    "True or False",
                    do="YAML reads an unquoted yes and no as True and False: quote the codes",
                )
            numbers = column.numbers()
            column.refuse(
                column.present & ~((numbers == 0) | (numbers == 1)),
                f"0 or 1 (it is binary; fit with kinds={{{column.name!r}: 'numeric'}} if it counts or measures, with "
                "Binary({1: 0, 2: 1}) if these are other codes)",
            )
            return numbers[:, None]
        values = [v for v, _ in self.codes]
        at = column.positions(values)
        expected = ", ".join(f"{v!r} ({c})" for v, c in self.codes)
        if self.unknown == "error":
            column.refuse(column.present & (at < 0), f"one of {expected}")
        codes = np.array([float(c) for _, c in self.codes] + [self.share])
        return codes[np.where(at < 0, len(codes) - 1, at)][:, None]

    def decode(self, block: Block) -> npt.NDArray[np.object_]:
        """The value of each code; None where a number is neither 0 nor 1."""
        values = np.array([self._value(0), self._value(1), None], dtype=object)
        return values[np.where(block[:, 0] == 0, 0, np.where(block[:, 0] == 1, 1, 2))]

    def describe(self) -> str:
        """Which value became 1."""
        others = f"; others: {self.share:.3g}" if self.unknown == "ignore" else ""
        return "" if self.plain else ", ".join(f"{v} = {c}" for v, c in self.codes) + others

    def _value(self, code: int) -> Label:
        return next(v for v, c in self.codes if c == code)
