"""FittedColumn: one column of a fitted encoder - what it learnt, and what becomes of a missing value."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import RowsError, TableError, TableWarning
from fusionconv.tabular.column import Column
from fusionconv.tabular.inference import doubts, infer_kind
from fusionconv.tabular.kinds import Binary, Categorical, Kind, Learnt, LearntNumeric, kind_from_dict, learnt_from_dict
from fusionconv.tabular.kinds.base import Block
from fusionconv.tabular.kinds.categorical import Unknown
from fusionconv.tabular.kinds.dates import OLDEST, LearntAge
from fusionconv.tabular.labels import Label, listed, plain_label
from fusionconv.tabular.missing import Indicator, Missing
from fusionconv.tabular.suspicious import Suspicion, has_code_shape

__all__ = ["Defaults", "FittedColumn", "fit_column"]

_FAR = 8


@dataclass(frozen=True)
class Defaults:
    """What the encoder does about missing values and unknown categories where a column's kind does not say."""

    missing: Missing
    indicator: Indicator
    missing_codes: tuple[Label, ...]
    unknown: Unknown = "error"

    def resolve(self, kind: Kind) -> Kind:
        """``kind`` with nothing left open."""
        missing = self.missing if kind.missing is None else kind.missing
        indicator = self.indicator if kind.indicator is None else kind.indicator
        if isinstance(kind, (Binary, Categorical)) and kind.unknown is None:
            kind = dataclasses.replace(kind, unknown=self.unknown)
        return dataclasses.replace(
            kind,
            missing=missing,
            indicator="never" if missing == "error" else indicator,
            missing_codes=self.missing_codes if kind.missing_codes is None else kind.missing_codes,
        )


def _column(frame: pd.DataFrame, name: str, codes: tuple[Label, ...], beside: str | None) -> Column:
    return Column(name, frame[name], codes, None if beside is None else Column(beside, frame[beside], codes))


@dataclass(frozen=True)
class FittedColumn:
    """One fitted column. ``fill`` are the covariates of a missing value, None where it is refused.

    ``num_missing`` counts the training rows that missed it; ``suspects`` and ``notes`` are for the summary;
    ``looked``: the column has a list of codes of its own, so that no code is suspected.
    """

    name: str
    kind: Kind
    learnt: Learnt
    inferred: bool
    num_missing: int
    fill: tuple[float, ...] | None
    indicator: bool
    suspects: tuple[Suspicion, ...] = ()
    notes: tuple[str, ...] = ()
    looked: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "suspects", tuple(Suspicion(*s) for s in self.suspects))
        for field in ("fill", "notes"):
            value = getattr(self, field)
            object.__setattr__(self, field, None if value is None else tuple(value))
        if not (isinstance(self.name, str) and isinstance(self.inferred, bool) and isinstance(self.indicator, bool)):
            raise ValueError(f"no fitted column: {self.name!r}, {self.inferred!r}, {self.indicator!r}")
        if self.fill is not None and not (len(self.fill) == self.learnt.width and all(map(math.isfinite, self.fill))):
            raise ValueError(f"fill {self.fill!r} for {self.learnt.width} covariates of {self.name!r}")
        if self.fill is None and self.indicator:
            raise ValueError(f"an indicator of {self.name!r}, whose missing values are refused")

    @property
    def width(self) -> int:
        """How many covariates the column becomes, with its indicator."""
        return self.learnt.width + self.indicator

    @property
    def feature_names(self) -> list[str]:
        """Their names."""
        return self.learnt.names(self.name) + [f"{self.name}_missing"] * self.indicator

    def encode(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """(N, width), each row by itself.

        Raises:
            TableError: a value that the kind refuses, or a missing one where none is taken.
        """
        column = _column(frame, self.name, self.kind.missing_codes or (), self.kind.beside)
        missing = ~column.present
        if missing.any():
            self._require_fill(column)
        block = np.zeros((len(missing), self.width), dtype=np.float32)
        encoded = self.learnt.encode(column)
        with np.errstate(over="ignore", invalid="ignore"):
            block[:, : self.learnt.width] = encoded
        if missing.any():
            block[missing, : self.learnt.width] = self.fill
        if self.indicator:
            block[:, -1] = missing
        fits = np.isfinite(block)
        if not fits.all():
            column.refuse(np.asarray(~fits.all(axis=1)), "values that fit float32 when standardised")
        self._warn_of_codes(encoded)
        return block

    def _warn_of_codes(self, encoded: Block) -> None:
        """Warn of what fit could not see: numbers like a code far outside the training rows, and impossible ages."""
        if isinstance(self.learnt, LearntAge) and not (self.looked or self.suspects):
            years = self.learnt.decode(encoded)
            if old := int((years > OLDEST).sum()):
                warnings.warn(
                    f"column {self.name!r}: {old} rows have an age above {OLDEST}, up to {np.nanmax(years):.5g} years, "
                    "as no training row has; does one of their dates stand for no date? They are encoded as they are. "
                    "Fit with missing_codes=[...] if it does",
                    TableWarning,
                    stacklevel=4,
                )
        if self.looked or not isinstance(self.learnt, LearntNumeric) or self.learnt.scale.scaling == "none":
            return
        far = encoded[np.abs(encoded[:, 0]) > _FAR]
        if not len(far):
            return
        seen = {s.value for s in self.suspects}
        values = [v for v in np.round(self.learnt.decode(far), 6).tolist() if has_code_shape(v) and v not in seen]
        if values:
            warnings.warn(
                f"column {self.name!r}: {len(values)} rows hold what may be codes for missing values ("
                f"{listed(sorted({plain_label(v) for v in values}), 5)}), more than {_FAR} scales outside the training "
                "rows, which have none; they are encoded as numbers. Fit with missing_codes=[...] if they are codes",
                TableWarning,
                stacklevel=4,
            )

    def bad_rows(self, frame: pd.DataFrame) -> list[tuple[int, str, str]]:
        """The position, the column and the reason for each row that :meth:`encode` refuses.

        Raises:
            TableError: the column is refused as a whole.
        """
        found: list[tuple[int, str, str]] = []
        left = np.arange(len(frame))
        while len(left):
            try:
                self.encode(frame.iloc[left])
            except RowsError as error:
                bad = left[error.rows]
                values = frame[error.name].iloc[bad].astype(object)
                found += [(int(at), error.name, error.reason(v)) for at, v in zip(bad, values, strict=True)]
                left = left[~error.rows]
            else:
                break
        return found

    def missing(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Which rows have no value."""
        column = _column(frame, self.name, self.kind.missing_codes or (), self.kind.beside)
        return np.asarray(~column.present)

    def unknown(self, frame: pd.DataFrame) -> npt.NDArray[np.bool_] | None:
        """Which rows have a value that is none of the categories; None for a column without categories."""
        labels = self.learnt.labels
        if not labels:
            return None
        column = _column(frame, self.name, self.kind.missing_codes or (), self.kind.beside)
        return column.present & (column.positions(labels) < 0)

    def missing_block(self) -> tuple[float, ...]:
        """The covariates of a missing value, with the indicator.

        Raises:
            TableError: a missing value is refused.
        """
        self._require_fill(None)
        assert self.fill is not None
        return self.fill + (1.0,) * self.indicator

    def decode(self, block: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """The values of encoded rows; missing where the indicator says so."""
        values = self.learnt.decode(block[:, : self.learnt.width])
        if self.indicator:
            values[block[:, -1] == 1] = np.nan if values.dtype.kind == "f" else None
        return values

    def _require_fill(self, column: Column | None) -> None:
        """Raise where a missing value is refused: always, or because the training rows had none."""
        if self.kind.missing == "error":
            expected = "finite numbers" if isinstance(self.learnt, LearntNumeric) else "a value"
            expected += " in every row (missing='error')"
            do = "correct or drop these rows, or fit the encoder with missing='mean', 'zero' or a constant"
        elif not self.indicator and self.kind.indicator == "auto":
            expected = "a value in every row, as in the training rows (indicator='auto' made no indicator)"
            do = (
                f"fit the encoder with indicator='always' for {self.name!r} to learn from rows that miss it, or "
                "indicator='never' to fill such a value in without a trace"
            )
        else:
            return
        if column is None:
            raise TableError(
                f"column {self.name!r}: expected an encoder that takes missing values, got one with {expected}; {do}"
            )
        column.refuse(~column.present, expected, "missing values", do)

    def to_dict(self) -> dict[str, Any]:
        """The fields as numbers, texts, lists and dicts."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**fields, "kind": self.kind.to_dict(), "learnt": self.learnt.to_dict()}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> FittedColumn:
        """What :meth:`to_dict` told of."""
        kind = kind_from_dict(saved["kind"])
        return cls(**{**saved, "kind": kind, "learnt": learnt_from_dict(kind, saved["learnt"])})


def fit_column(frame: pd.DataFrame, name: str, declared: Kind | None, defaults: Defaults) -> FittedColumn:
    """Learn the column ``name`` from the training rows.

    Raises:
        TableError: nothing but missing values, missing values that are refused, or what the kind refuses.
    """
    codes = declared.missing_codes if declared is not None else None
    codes = defaults.missing_codes if codes is None else codes
    column = _column(frame, name, codes, declared.beside if declared else None)
    missing = ~column.present
    if missing.all():
        column.fail("a value in some training rows", f"none in {len(missing)}", "leave it out of the covariates")
    kind = defaults.resolve(infer_kind(column) if declared is None else declared)
    if missing.any() and kind.missing == "error":
        expected = "finite numbers" if kind.tag == "numeric" else "a value"
        column.refuse(
            missing,
            f"{expected} in every row (missing='error')",
            "missing values",
            "correct or drop these rows, or give the encoder missing='mean', 'zero' or a constant",
        )
    learnt = kind.learn(column)
    if kind.missing == "error":
        fill: tuple[float, ...] | None = None
    elif kind.missing == "mean":
        fill = learnt.mean
    elif kind.missing == "zero":
        fill = (0.0,) * learnt.width
    else:
        assert kind.missing is not None
        try:
            fill = learnt.encode_constant(name, kind.missing)
        except TableError as error:
            raise TableError(
                f"column {name!r}: expected missing='error', 'mean', 'zero' or a value of the column, got "
                f"missing={kind.missing!r} ({error})"
            ) from error
    with np.errstate(over="ignore"):
        holds = fill is None or bool(np.isfinite(np.asarray(fill, dtype=np.float64).astype(np.float32)).all())
    if not holds:
        column.fail(
            "what stands for a missing value to fit float32 when standardised",
            f"{fill}",
            "the values hardly differ from each other: leave the column out, or give it scaling='none'",
        )
    indicator = kind.indicator == "always" or (kind.indicator == "auto" and bool(missing.any()))
    suspects, notes = doubts(column, kind, learnt, declared is None)
    looked = declared is not None and declared.missing_codes is not None  # its own list of codes, maybe an empty one
    if looked and suspects:
        suspects = _missed(frame[name], suspects, codes)
    return FittedColumn(
        name, kind, learnt, declared is None, int(missing.sum()), fill, indicator, tuple(suspects), tuple(notes), looked
    )


def _missed(values: pd.Series[Any], suspects: list[Suspicion], codes: tuple[Label, ...]) -> list[Suspicion]:
    """The suspects that ``codes``, declared for this column, fail to name; the others were looked at, and are values.

    They are all, where no row has any of the codes, and else one that is a code but for its spelling.
    """
    if not codes:
        return []
    if (Column("", values, codes).present == Column("", values).present).all():
        why = f"; none of the declared missing_codes ({listed(codes, 5)}) is in a training row"
        return [s._replace(reason=s.reason + why) for s in suspects]
    folded = {str(c).casefold() for c in codes}
    why = "; a declared code is spelled otherwise"
    return [s._replace(reason=s.reason + why) for s in suspects if str(s.value).casefold() in folded]
