"""CovariateEncoder: from a table's columns to the vector s_i that a hybrid layer takes, fitted on training rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import CheckpointError, TableError
from fusionconv.tabular.columns import require_columns, require_names

__all__ = ["CovariateEncoder"]

Kind = Literal["binary", "numeric"]
_FORMAT, _VERSION = "fusionconv.CovariateEncoder", 1


@dataclass(frozen=True)
class _Column:
    """One fitted column: s = (value - mean) / scale; a binary column has mean 0 and scale 1 and so stays 0/1."""

    name: str
    kind: Kind
    mean: float
    scale: float

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.kind in get_args(Kind)):
            raise ValueError(f"no column: name {self.name!r}, kind {self.kind!r}")
        if not (math.isfinite(self.mean) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"mean {self.mean!r} and scale {self.scale!r} of {self.name!r} standardise nothing")
        if self.kind == "binary" and (self.mean, self.scale) != (0, 1):
            raise ValueError(f"binary column {self.name!r} with mean {self.mean!r} and scale {self.scale!r}")


class CovariateEncoder:
    r"""Turn named columns of a table into float32 covariates, row by row, with what was learnt from the training rows.

    A *binary* column stays 0/1, so that all-zero covariates mean the ordinary convolution. A *numeric* column becomes

    .. math:: s = (v - \mu) / \sigma, \quad \mu = \tfrac1n \sum v, \quad \sigma^2 = \tfrac1n \sum (v - \mu)^2

    over the training rows (the population standard deviation, as scikit-learn's ``StandardScaler``); s is 0 at the
    training mean, and has no unit. Fit on the training rows only: statistics of other rows would leak into training.

    Args:
        columns: the names of the columns, in the order of the covariates.
        kinds: ``{"column": "binary" | "numeric"}`` for columns where the inference is not wanted. Inferred: a column
            with no value but 0 and 1 (or False and True) in the training rows is binary, every other one is numeric.

    Raises:
        TableError: no columns, a name twice, an unknown kind, or a kind for a column that is not encoded.

    >>> train = pd.DataFrame({"age": [60, 70, 80], "Male": [0, 1, 1], "site": ["A", "B", "A"]})
    >>> encoder = CovariateEncoder(["Male", "age"]).fit(train)
    >>> encoder
    CovariateEncoder(Male: binary, age: numeric (mean 70, scale 8.16497); fitted on 3 rows)
    >>> encoder.transform(pd.DataFrame({"age": [70, 80], "Male": [True, False]}))
    array([[1.       , 0.       ],
           [0.       , 1.2247449]], dtype=float32)
    """

    def __init__(self, columns: Sequence[str], kinds: Mapping[str, Kind] | None = None) -> None:
        names = [] if isinstance(columns, str) else list(columns)
        if not names or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
            raise TableError(
                f"expected a list of different column names such as ['Male', 'Young'], came {columns!r}; name at least "
                "one column, each once (a model without covariates needs no encoder)"
            )
        self.columns: tuple[str, ...] = tuple(names)
        self.kinds: dict[str, Kind] = dict(kinds or {})
        require_names(self.kinds, self.columns, "column in kinds", "columns")
        for name, kind in self.kinds.items():
            require_names([kind], get_args(Kind), f"kind for column {name!r}:")
        self._fitted: tuple[_Column, ...] | None = None
        self._num_rows = 0

    def fit(self, frame: pd.DataFrame) -> CovariateEncoder:
        """Infer each column's kind and learn its mean and scale from ``frame``, the training rows.

        Raises:
            TableError: an absent or doubled column, no rows, a value that is not a finite number, a numeric column that
                is the same in every row, or a column declared binary that has other values than 0 and 1.
        """
        fitted = []
        for name, values in self._values(frame).items():
            kind = self.kinds.get(name) or ("binary" if np.isin(values, (0, 1)).all() else "numeric")
            if kind == "binary":
                self._require_binary(name, values, frame)
                fitted.append(_Column(name, kind, 0.0, 1.0))
                continue
            with np.errstate(all="ignore"):
                mean, scale = float(values.mean()), float(values.std())
            if values.min() == values.max() or not 0 < scale < math.inf:
                raise TableError(
                    f"expected numeric column {name!r} to vary over the training rows, came {len(values)} rows between "
                    f"{values.min():g} and {values.max():g} (standard deviation {scale:g}); it cannot be standardised: "
                    "leave it out of the covariates"
                )
            fitted.append(_Column(name, kind, mean, scale))
        self._fitted, self._num_rows = tuple(fitted), len(frame)
        return self

    def transform(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """Encode the rows of ``frame`` in their order; each row by itself, whatever other rows there are.

        Returns:
            float32 array of shape (N, K), K = :attr:`num_covariates`.

        Raises:
            TableError: not fitted, an absent or doubled column, no rows, a value that is not a finite number, or a
                value other than 0 and 1 in a binary column.
        """
        fitted = self._require_fitted()
        encoded = []
        for column, values in zip(fitted, self._values(frame).values(), strict=True):
            if column.kind == "binary":
                self._require_binary(column.name, values, frame)
            with np.errstate(over="ignore"):
                scaled = ((values - column.mean) / column.scale).astype(np.float32)
            self._refuse(~np.isfinite(scaled), column.name, frame, "values that fit float32 when standardised")
            encoded.append(scaled)
        return np.stack(encoded, axis=1)

    def fit_transform(self, frame: pd.DataFrame) -> npt.NDArray[np.float32]:
        """``fit(frame)`` and then ``transform(frame)``; for the training rows only."""
        return self.fit(frame).transform(frame)

    @property
    def num_covariates(self) -> int:
        """K, the length of the vector that :meth:`transform` makes of a row; known once fitted."""
        return len(self._require_fitted())

    def get_feature_names_out(self) -> npt.NDArray[np.object_]:
        """The K names of the covariates, in order, as scikit-learn's transformers give them."""
        return np.array([c.name for c in self._require_fitted()], dtype=object)

    def to_dict(self) -> dict[str, Any]:
        """Everything of a fitted encoder as strings, numbers, lists and dicts: fit for JSON and for a checkpoint."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "columns": [asdict(c) for c in self._require_fitted()],
            "kinds": dict(self.kinds),
            "num_rows": self._num_rows,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CovariateEncoder:
        """The encoder of which :meth:`to_dict` told; floats come back exactly.

        Raises:
            CheckpointError: this is not what ``to_dict`` wrote, or a newer version wrote it.

        >>> encoder = CovariateEncoder(["age"]).fit(pd.DataFrame({"age": [60, 70, 81]}))
        >>> import json
        >>> CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
        True
        """
        came = (saved.get("format"), saved.get("version")) if isinstance(saved, Mapping) else type(saved).__name__
        if came != (_FORMAT, _VERSION):
            raise CheckpointError(
                f"expected an encoder as {(_FORMAT, _VERSION)}, came {came}; give the dict that to_dict() wrote, "
                "or install the fusionconv that wrote it"
            )
        try:
            fitted = tuple(_Column(**column) for column in saved["columns"])
            encoder = cls([c.name for c in fitted], saved["kinds"])
            encoder._fitted, encoder._num_rows = fitted, int(saved["num_rows"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"expected the fields that to_dict() writes, came a damaged encoder ({type(error).__name__}: {error}); "
                "load the checkpoint again from its source, or fit a new encoder"
            ) from error
        return encoder

    def require_same(self, names: Sequence[str]) -> None:
        """Raise unless ``names`` are this encoder's columns in this order: kernel j belongs to covariate j.

        Call it on the encoder of a checkpoint, with the columns of the run that wants to use the checkpoint.

        Raises:
            CheckpointError: names or their order differ.
        """
        own, run = list(self.columns), list(names)
        if own == run:
            return
        absent, extra = [n for n in own if n not in run], [n for n in run if n not in own]
        parts = [f"without {', '.join(absent)}"] * bool(absent) + [f"with {', '.join(extra)} too"] * bool(extra)
        raise CheckpointError(
            f"expected the checkpoint's covariates {own}, came {run} ({', '.join(parts) or 'the order differs'}); each "
            "learnt kernel belongs to one covariate: give the run the checkpoint's list, or train from another start"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CovariateEncoder):
            return NotImplemented
        mine = (self.columns, self.kinds, self._fitted, self._num_rows)
        return mine == (other.columns, other.kinds, other._fitted, other._num_rows)

    __hash__ = None  # type: ignore[assignment]  # fit changes it

    def __repr__(self) -> str:
        if self._fitted is None:
            declared = (f"{n}: {self.kinds[n]}" if n in self.kinds else n for n in self.columns)
            return f"CovariateEncoder({', '.join(declared)}; not fitted)"
        parts = (
            f"{c.name}: {c.kind}" + (f" (mean {c.mean:g}, scale {c.scale:g})" if c.kind == "numeric" else "")
            for c in self._fitted
        )
        return f"CovariateEncoder({', '.join(parts)}; fitted on {self._num_rows} rows)"

    def _require_fitted(self) -> tuple[_Column, ...]:
        if self._fitted is None:
            raise TableError(
                f"expected a fitted encoder, came {self!r}; call .fit(training_rows) first, or load one with from_dict"
            )
        return self._fitted

    def _values(self, frame: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
        """The encoder's columns of ``frame`` as finite float64 values."""
        require_columns(frame, self.columns)
        if frame.empty:
            raise TableError(f"expected at least one row with {list(self.columns)}, came none; is the split empty?")
        values = {}
        for name in self.columns:
            values[name] = _to_float(frame[name])
            expected = "finite numbers (nothing missing; pandas.to_numeric reads numbers from text)"
            self._refuse(~np.isfinite(values[name]), name, frame, expected)
        return values

    def _require_binary(self, name: str, values: npt.NDArray[np.float64], frame: pd.DataFrame) -> None:
        expected = f"0 or 1 (it is binary; fit with kinds={{{name!r}: 'numeric'}} if it counts or measures)"
        self._refuse(~np.isin(values, (0, 1)), name, frame, expected)

    @staticmethod
    def _refuse(bad: npt.NDArray[np.bool_], name: str, frame: pd.DataFrame, expected: str) -> None:
        """Raise if any row is ``bad``, naming the column, how many rows, and the first of them."""
        if bad.any():
            first = [f"{label!r}: {value!r}" for label, value in frame.loc[bad, name].iloc[:3].astype(object).items()]
            raise TableError(
                f"column {name!r}: expected {expected}, came others in {bad.sum()} of {len(bad)} rows, first at "
                f"{', '.join(first)}; correct or drop these rows, or leave the column out of the covariates"
            )


def _to_float(column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """A column as float64, NaN where a value is no real number; text that looks like a number is text."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    real = (float(v) if isinstance(v, (Real, np.bool_)) else math.nan for v in column)
    return np.fromiter(real, np.float64, len(column))
