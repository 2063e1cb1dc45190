"""Column: one column of one table as a kind sees it - its values, which are there, and how a bad one is refused.

Text and objects are looked at once for each different value, not once for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import RowsError, TableError
from fusionconv.tabular.labels import Label, is_label, plain_label, same_positions
from fusionconv.tabular.missing import is_code, is_date_code
from fusionconv.tabular.text import advice, read_cell, shape_of

__all__ = ["Column"]

_DO = "correct or drop these rows, or leave the column out of the covariates"
_EXACT = 2**53  # float64 holds every whole number below


@dataclass(frozen=True, eq=False)
class Column:
    """``values`` of the column ``name``, of which the ``missing_codes`` count as missing, beside empty ones.

    ``beside`` is a second column that a kind reads with it (the date of measurement beside the date of birth); where
    that one is missing, so is this.
    """

    name: str
    values: pd.Series[Any]
    missing_codes: tuple[Label, ...] = ()
    beside: Column | None = None

    def __post_init__(self) -> None:
        dtype = self.values.dtype
        if isinstance(dtype, pd.ArrowDtype) and (dtype.kind == "O" or dtype.name.startswith("date")):
            # decimals, dates without a time: pandas does little with these
            object.__setattr__(self, "values", self.values.astype(object))

    @cached_property
    def is_numbers(self) -> bool:
        """Whether the column is stored as real numbers or booleans."""
        dtype = self.values.dtype
        return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)

    @cached_property
    def is_dates(self) -> bool:
        """Whether the column is stored as dates."""
        return pd.api.types.is_datetime64_any_dtype(self.values.dtype)

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where a value is there."""
        if self.is_numbers or self.is_dates:
            missing = np.array(pd.isna(self.values), dtype=bool)
            if self.missing_codes:
                missing |= is_date_code(self.values, self.missing_codes) if self.is_dates else self._is_number_code()
        else:
            missing = self.factors[0] < 0
        return ~missing if self.beside is None else ~missing & self.beside.present

    def _is_number_code(self) -> npt.NDArray[np.bool_]:
        truth = pd.api.types.is_bool_dtype(self.values.dtype)
        codes = tuple(c for c in self.missing_codes if isinstance(c, bool) is truth)  # False is not the number 0
        numbers = self.values.to_numpy(dtype=self.precision, na_value=np.nan)
        return is_code(numbers, tuple(float(c) for c in codes) if truth else codes)

    @property
    def precision(self) -> np.dtype[Any]:
        """float32 or float16 where the numbers are stored so, else float64: a code is one in the column's precision."""
        own = str(getattr(self.values.dtype, "numpy_dtype", self.values.dtype))
        return np.dtype("float32" if own == "float32" else "float16" if own == "float16" else "float64")

    @cached_property
    def factors(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.object_]]:
        """For each row the position of its value among the different values (-1: missing), and these."""
        try:
            codes, uniques = pd.factorize(self.values)
            values = np.array(uniques, dtype=object)
        except (TypeError, OverflowError):  # something unhashable, such as a list in a cell; pandas 2: 10**400
            values = np.empty(len(self.values), dtype=object)
            values[:] = list(self.values)
            codes = np.arange(len(values))
        if len(values):
            lost = np.array([isinstance(v, str) and not v.strip() for v in values], dtype=bool)  # as a reader has it
            lost |= self._lost(values) if self.missing_codes else False
            if lost.any():
                codes = np.where((codes >= 0) & lost[codes], -1, codes)
        return codes.astype(np.intp, copy=False), values

    def _lost(self, values: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        if self.is_numbers and not pd.api.types.is_bool_dtype(self.values.dtype):
            codes = tuple(c for c in self.missing_codes if not isinstance(c, bool))
            return is_code(values.astype(self.precision), codes)
        return is_code(values, self.missing_codes)

    @cached_property
    def distinct(self) -> dict[Any, int]:
        """The different values that are there, in order of appearance, each with its number of rows."""
        codes, values = self.factors
        counts = np.bincount(codes[self.present], minlength=len(values))
        keep = [(at, int(count)) for at, count in enumerate(counts) if count]
        try:
            return {values[at]: count for at, count in keep}
        except TypeError:
            return {str(values[at]): count for at, count in keep}

    def refuse(self, bad: npt.NDArray[np.bool_], expected: str, got: str = "others", do: str = _DO) -> None:
        """Raise if any row is ``bad``, naming the column, how many rows, and the first of them by the index.

        Raises:
            RowsError: see above.
        """
        if bad.any():
            few = list(self.values.loc[bad].iloc[:3].astype(object).items())
            if isinstance(few[0][1], Decimal):
                do = f"make numbers of the decimals: frame[{self.name!r}].astype(float) (names: .astype(str))"
            called = "" if self.values.index.name is None else f"{self.values.index.name} "
            first = ", ".join(f"{called}{label!r}: {value!r}" for label, value in few)
            raise RowsError(
                f"column {self.name!r}: expected {expected}, got {got} in {bad.sum()} of {len(bad)} rows, first at "
                f"{first}; {do}",
                self.name,
                np.asarray(bad),
                (expected, got, do),
            )

    def fail(self, expected: str, got: str, do: str) -> NoReturn:
        """Raise about the column as a whole."""
        raise TableError(f"column {self.name!r}: expected {expected}, got {got}; {do}")

    def rows_of(self, of_values: npt.NDArray[Any], missing: Any) -> npt.NDArray[Any]:
        """What holds for each different value, for each row; ``missing`` where no value is there."""
        codes = np.where(self.present, self.factors[0], -1)
        return np.append(of_values, np.array([missing], dtype=of_values.dtype))[codes]

    @cached_property
    def holds_ages(self) -> bool:
        """Whether there is text that is an age as DICOM writes it, such as 045Y."""
        return not (self.is_numbers or self.is_dates) and any(
            isinstance(v, str) and shape_of(v) == "age" for v in self.distinct
        )

    def numbers(self, *, years: bool = False) -> npt.NDArray[np.float64]:
        """The values as float64, NaN where missing; text as :func:`~fusionconv.tabular.text.read_cell` reads it.

        Args:
            years: text are ages (045Y) and no numbers, and become years.

        Raises:
            TableError: a value that is there is no finite number, or a whole number that float64 cannot hold.
        """
        if self.is_numbers:
            numbers = np.array(self.values.to_numpy(dtype=np.float64, na_value=np.nan))
            numbers[~self.present] = np.nan
            whole = pd.api.types.is_integer_dtype(self.values.dtype)
            inexact = np.abs(numbers) >= _EXACT if whole else np.zeros(len(numbers), dtype=bool)
        else:
            values = self.factors[1]
            long = np.array([isinstance(v, Integral) and abs(int(v)) >= _EXACT for v in values], dtype=bool)
            shape = "age" if years else "number"

            def number(value: Any) -> float:
                if isinstance(value, str):
                    reading = read_cell(value)
                    return reading.number if reading.shape == shape and reading.number is not None else np.nan
                return float(value) if isinstance(value, (Real, np.bool_)) else np.nan

            floats = [0.0 if far else number(v) for v, far in zip(values, long, strict=True)]
            numbers = self.rows_of(np.array(floats, dtype=np.float64), np.nan)
            inexact = self.rows_of(long, False)
        bad = self.present & ~np.isfinite(numbers)
        if bad.any():
            texts = [v for v in self.values.loc[bad].iloc[:1000] if isinstance(v, str)]
            expected = "ages such as '045Y', or years as numbers" if years else "finite numbers"
            self.refuse(bad, expected, do=advice(texts, self.name) or _DO)
        self.refuse(
            inexact,
            "whole numbers below 2**53, which float64 holds exactly",
            do="so long a number is an identifier: leave the column out of the covariates",
        )
        return numbers

    def labels(self) -> list[Label]:
        """The different values that are there, as plain labels.

        Raises:
            TableError: a value is neither text nor a finite number, such as a date or an infinity.
        """
        values = self.factors[1]
        good = np.array([is_label(v) for v in values], dtype=bool)
        if not good.all():
            self.refuse(self.rows_of(~good, False), "text or finite numbers")
        return list(dict.fromkeys(plain_label(v) for v in self.distinct))

    def positions(self, labels: Sequence[Label]) -> npt.NDArray[np.intp]:
        """For each row the position of its value in ``labels``, however stored; -1 where it is none of them or missing.

        Raises:
            TableError: as :meth:`labels`.
        """
        self.labels()
        return self.rows_of(same_positions(self.factors[1], labels), -1)
