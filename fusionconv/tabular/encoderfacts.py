"""EncoderFacts: what a fitted encoder says of itself, and of rows before it encodes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import named_rows, require_columns
from fusionconv.tabular.fitted import FittedColumn
from fusionconv.tabular.kinds import Kind
from fusionconv.tabular.summary import summarise
from fusionconv.tabular.suspicious import Suspicion

__all__ = ["EncoderFacts"]


class EncoderFacts(ABC):
    """The part of :class:`~fusionconv.tabular.CovariateEncoder` that changes nothing and encodes nothing."""

    columns: tuple[str, ...]
    kinds: Mapping[str, Kind]
    _num_rows: int

    @abstractmethod
    def _require_fitted(self) -> tuple[FittedColumn, ...]:
        """The fitted columns, or an error."""

    @property
    def num_covariates(self) -> int:
        """K, the length of the vector that :meth:`transform` makes of a row; known once fitted."""
        return sum(c.width for c in self._require_fitted())

    @property
    def groups(self) -> dict[str, slice]:
        """Which covariates belong to which column: one-hot covariates, flags and the indicator stand together.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, None], "site": ["A", "B", "C"]})
        >>> CovariateEncoder(["age", "site"], missing="mean").fit(train).groups
        {'age': slice(0, 2, None), 'site': slice(2, 5, None)}
        """
        groups, start = {}, 0
        for column in self._require_fitted():
            groups[column.name] = slice(start, start + column.width)
            start += column.width
        return groups

    @property
    def suspects(self) -> dict[str, tuple[Suspicion, ...]]:
        """For each column with values that may mean "missing": ``(value, rows, reason)`` for each of them.

        >>> import warnings
        >>> from fusionconv.tabular import CovariateEncoder
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     encoder = CovariateEncoder(["age"]).fit(pd.DataFrame({"age": [61, 70, -9, 82]}))
        >>> [(s.value, s.rows) for s in encoder.suspects["age"]]
        [(-9, 1)]
        """
        return {c.name: c.suspects for c in self._require_fitted() if c.suspects}

    def missing_vector(self) -> npt.NDArray[np.float32]:
        """The K covariates of a patient of whom no column is known: what :meth:`transform` makes of an all-missing row.

        Each column gives what its ``missing`` fills in ("mean": 0 for a z-scored number, the shares for categories;
        "zero": zeros) and 1 in its indicator.

        Raises:
            TableError: not fitted, or a column refuses missing values; fit with ``missing="mean", indicator="always"``.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, 80, 90], "site": ["A", "A", "B", "C"]})
        >>> encoder = CovariateEncoder(["age", "site"], missing="mean", indicator="always").fit(train)
        >>> dict(zip(encoder.get_feature_names_out().tolist(), encoder.missing_vector().tolist()))
        {'age': 0.0, 'age_missing': 1.0, 'site_A': 0.5, 'site_B': 0.25, 'site_C': 0.25, 'site_missing': 1.0}
        """
        return np.array([v for c in self._require_fitted() for v in c.missing_block()], dtype=np.float32)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """The K names of the covariates, in order, as scikit-learn's transformers give them."""
        return np.array([name for c in self._require_fitted() for name in c.feature_names], dtype=object)

    def summary(self) -> str:
        """A table for people: each column's kind, whether that was inferred, missing values, covariates, and doubts.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, 80, None], "sex": ["F", "M", "M", "F"]})
        >>> print(CovariateEncoder(["age", "sex"], missing="mean").fit(train).summary())
        2 columns -> 3 covariates, fitted on 4 rows
        column  kind                              from       missing  a missing value     covariates
        age     numeric (mean 70, scale 8.16497)  inferred  1 (25 %)  mean                age, age_missing
        sex     binary (F = 0, M = 1)             inferred         0  none seen: refused  sex_M
        """
        return summarise(self._require_fitted(), self._num_rows)

    def check(self, frame: pd.DataFrame, *, ids: str | Sequence[Any] | None = None) -> list[tuple[Any, str, str]]:
        """What :meth:`transform` would refuse: ``(row, column, reason)`` for each bad value, in the order of the rows.

        The other rows can be transformed. ``row`` is the row's label in the index, or its id.

        Args:
            frame: the rows.
            ids: as for :meth:`transform`.

        Raises:
            TableError: not fitted, an absent or doubled column, or a column that is refused as a whole.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, 80], "site": ["A", "B", "C"]})
        >>> new = pd.DataFrame({"subject": ["s1", "s2", "s3"], "age": [61, None, 75], "site": ["A", "B", "D"]})
        >>> encoder = CovariateEncoder(["age", "site"]).fit(train)
        >>> bad = encoder.check(new, ids="subject")
        >>> [(row, column) for row, column, reason in bad]
        [('s2', 'age'), ('s3', 'site')]
        >>> encoder.transform(new[~new["subject"].isin([row for row, _, _ in bad])]).shape
        (1, 4)
        """
        fitted = self._require_fitted()
        self._require_rows(frame)
        frame = named_rows(frame, ids)
        found = sorted((at, place, name, why) for place, c in enumerate(fitted) for at, name, why in c.bad_rows(frame))
        return [(frame.index[at], name, why) for at, _, name, why in found]

    def gaps(self, frame: pd.DataFrame) -> list[tuple[Any, str, str]]:
        """The values that say nothing to :meth:`transform`, which takes them: ``(row, column, reason)`` for each.

        They are missing (the fill and its flag stand in), or categories that no training row had (zeros). ``row`` is
        the row's label in the index; the order is that of the columns, then of the rows.

        Raises:
            TableError: not fitted, an absent or doubled column, or a value that is neither text nor a number.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, 80], "site": ["A", "B", "C"]})
        >>> encoder = CovariateEncoder(["age", "site"], missing="mean", unknown="ignore").fit(train)
        >>> encoder.gaps(pd.DataFrame({"age": [61, None, 75], "site": ["A", "B", "D"]}))
        [(1, 'age', 'missing'), (2, 'site', "'D' is no category of the training rows")]
        """
        fitted = self._require_fitted()
        self._require_rows(frame)
        found: list[tuple[Any, str, str]] = []
        for column in fitted:
            missing, unknown = column.missing(frame), column.unknown(frame)
            found += [(row, column.name, "missing") for row in frame.index[missing]]
            if unknown is not None:
                values = zip(frame.index[unknown], frame[column.name][unknown], strict=True)
                found += [(row, column.name, f"{v!r} is no category of the training rows") for row, v in values]
        return found

    def unknown_counts(self, frame: pd.DataFrame) -> dict[str, int]:
        """For each column of categories, how many rows of ``frame`` have a value that no training row had.

        Columns of categories are categorical ones, and binary ones of texts or with codes.

        Raises:
            TableError: not fitted, an absent or doubled column, or a value that is neither text nor a number.

        >>> from fusionconv.tabular import CovariateEncoder
        >>> train = pd.DataFrame({"age": [60, 70, 80], "site": ["A", "B", "C"]})
        >>> encoder = CovariateEncoder(["age", "site"], unknown="ignore").fit(train)
        >>> encoder.unknown_counts(pd.DataFrame({"age": [61, 71, 75], "site": ["A", "D", "E"]}))
        {'site': 2}
        """
        fitted = self._require_fitted()
        self._require_rows(frame)
        found = {c.name: c.unknown(frame) for c in fitted}
        return {name: int(rows.sum()) for name, rows in found.items() if rows is not None}

    def _require_rows(self, frame: pd.DataFrame) -> None:
        beside = [k.beside for k in self.kinds.values() if k.beside is not None]
        require_columns(frame, [*self.columns, *beside])
        if not len(frame):
            raise TableError(f"expected at least one row with {list(self.columns)}, got none; is the split empty?")
