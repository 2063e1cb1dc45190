"""Censored: measurements that an assay cut off, written as ">1700" and "<8", as a clipped number and two flags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds.base import Block, Kind, Learnt
from fusionconv.tabular.kinds.scaling import Scale, Scaling, as_scaling
from fusionconv.tabular.text import advice, read_cell

__all__ = ["Censored", "LearntCensored"]

Flags: TypeAlias = Literal["both", "below", "above", "none"]
_SIDES = {"both": (-1, 1), "below": (-1,), "above": (1,), "none": ()}
_NAMES = {-1: "below", 1: "above"}


def _as_limits(lower: Any, upper: Any) -> tuple[float | None, float | None]:
    for limit in (lower, upper):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Real) or not math.isfinite(limit)):
            raise TableError(f"expected a finite number as limit, got {limit!r}")
    if lower is not None and upper is not None and not lower < upper:
        raise TableError(f"expected lower < upper, got {lower!r} and {upper!r}")
    return (None if lower is None else float(lower), None if upper is None else float(upper))


@dataclass(frozen=True)
class Censored(Kind):
    """A number, maybe cut off: ">1700" becomes 1700, scaled like a number, and 1 in the flag ``<column>_above``.

    Likewise ">=1700", "≥1700" and "1700+"; "<8", "<=8" and "≤8" become 8 and 1 in ``<column>_below``. Numbers
    may be text or numbers. Both flags are made whether or not training rows need them, so that the width does not
    depend on the rows; a side without a flag is refused when it
    turns up, unless ``flags="none"`` says to forget it.

    Args:
        scaling: as for :class:`~fusionconv.tabular.kinds.numeric.Numeric`, over the clipped values.
        flags: ``"both"``, ``"below"``, ``"above"`` or ``"none"``.
        lower: the assay's limit if known: smaller values are clipped to it and flagged.
        upper: likewise above.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import Censored, CovariateEncoder
        >>> frame = pd.DataFrame({"abeta": ["900", ">1700", "<200"]})
        >>> encoder = CovariateEncoder(["abeta"], kinds={"abeta": Censored(scaling="none")}).fit(frame)
        >>> list(encoder.get_feature_names_out()), encoder.transform(frame).tolist()
        (['abeta', 'abeta_below', 'abeta_above'], [[900.0, 0.0, 0.0], [1700.0, 0.0, 1.0], [200.0, 1.0, 0.0]])
    """

    scaling: Scaling = "zscore"
    flags: Flags = "both"
    lower: float | None = None
    upper: float | None = None
    tag: ClassVar[str] = "censored"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("scaling", as_scaling(self.scaling))
        if self.flags not in get_args(Flags):
            raise TableError(f"expected flags='both', 'below', 'above' or 'none', got {self.flags!r}")
        lower, upper = _as_limits(self.lower, self.upper)
        self._set("lower", lower)
        self._set("upper", upper)

    def learn(self, column: Column) -> LearntCensored:
        """Center and scale of the clipped values, and how many rows were cut off on either side."""
        clip = (self.flags, self.lower, self.upper)
        numbers, flags = _read(column, *clip)
        shares = tuple(float(share) for share in flags[column.present].mean(axis=0))
        return LearntCensored(Scale.learn(self.scaling, numbers, column), *clip, shares)


def _parse(value: Any) -> tuple[float, int] | None:
    """The number and the side (-1, 0, 1) of one value; None where it is no number."""
    if isinstance(value, str):
        reading = read_cell(value)
        return (
            (reading.number, reading.side)
            if reading.shape in ("number", "bound") and reading.number is not None
            else None
        )
    if isinstance(value, Integral) and abs(int(value)) >= 2**53:
        return None
    return (float(value), 0) if isinstance(value, (Real, np.bool_)) else None


def _read(
    column: Column, flags: Flags, lower: float | None, upper: float | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The clipped numbers, NaN where missing, and (N, flags) of 0 and 1."""
    parsed = [_parse(v) for v in column.factors[1]]
    numbers = column.rows_of(np.array([p[0] if p else math.nan for p in parsed], dtype=np.float64), math.nan)
    side = column.rows_of(np.array([p[1] if p else 0 for p in parsed], dtype=np.int8), 0)
    bad = column.present & ~np.isfinite(numbers)
    if bad.any():
        do = advice((v for v in column.values.loc[bad].iloc[:1000] if isinstance(v, str)), column.name)
        column.refuse(
            bad,
            "numbers, or bounds as '>1700', '<8', '≤8' or '89+'",
            do=do or "correct these rows, or declare missing_codes",
        )
    if upper is not None:
        side = np.where(numbers > upper, 1, side)
    if lower is not None:
        side = np.where(numbers < lower, -1, side)
    numbers = np.clip(numbers, lower, upper) if (lower is not None or upper is not None) else numbers
    if flags != "none":
        for other in set(_NAMES) - set(_SIDES[flags]):
            column.refuse(
                column.present & (side == other),
                f"no values cut off {_NAMES[other]} (flags={flags!r})",
                do="fit with Censored(flags='both')",
            )
    cut = np.zeros((len(numbers), len(_SIDES[flags])))
    for at, flagged in enumerate(_SIDES[flags]):
        cut[:, at] = side == flagged
    return numbers, cut


@dataclass(frozen=True)
class LearntCensored(Learnt):
    """A fitted censored column; ``shares`` are the flags' means over the training rows."""

    scale: Scale
    flags: Flags
    lower: float | None
    upper: float | None
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))
        if self.flags not in get_args(Flags) or len(self.shares) != len(_SIDES[self.flags]):
            raise ValueError(f"{len(self.shares)} shares for flags={self.flags!r}")
        _as_limits(self.lower, self.upper)

    @property
    def width(self) -> int:
        """1 and the flags."""
        return 1 + len(self.shares)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean clipped value, encoded, and the flags' shares."""
        return (self.scale.encoded_mean, *self.shares)

    def names(self, name: str) -> list[str]:
        """``tau``, ``tau_below``, ``tau_above``."""
        return [name, *(f"{name}_{_NAMES[s]}" for s in _SIDES[self.flags])]

    def encode(self, column: Column) -> Block:
        """(N, 1 + flags)."""
        numbers, flags = _read(column, self.flags, self.lower, self.upper)
        return np.concatenate([self.scale.apply(numbers)[:, None], flags], axis=1)

    def uncut(self, column: Column) -> npt.NDArray[np.float64]:
        """The numbers that are no bounds, not scaled; NaN elsewhere."""
        numbers, cut = _read(column, "both", self.lower, self.upper)
        return np.where(cut.any(axis=1), np.nan, numbers)

    def decode(self, block: Block) -> npt.NDArray[np.object_]:
        """Numbers, and text such as ">1700" where a flag is 1."""
        values = self.scale.undo(block[:, 0]).astype(object)
        for at, side in enumerate(_SIDES[self.flags], 1):
            for row in np.flatnonzero(block[:, at] == 1):
                values[row] = f"{'<' if side < 0 else '>'}{values[row]:.6g}"
        return values

    def describe(self) -> str:
        """Scale and shares."""
        cut = [f"{100 * share:.3g} % {_NAMES[s]}" for s, share in zip(_SIDES[self.flags], self.shares, strict=True)]
        return "; ".join([self.scale.describe(), *cut])

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """With its scale."""
        return cls(**{**saved, "scale": Scale(**saved["scale"])})
