"""What kind a column is, judged from its training rows; where it could be two things, an error asks."""

from __future__ import annotations

import datetime
from collections import Counter
from numbers import Real

import numpy as np
import pandas as pd

from fusionconv.tabular.column import Column
from fusionconv.tabular.kinds import (
    Age,
    Binary,
    Categorical,
    Censored,
    Kind,
    LearntBinary,
    LearntNumeric,
    Numeric,
    Ordinal,
)
from fusionconv.tabular.kinds.base import Learnt
from fusionconv.tabular.kinds.censored import LearntCensored
from fusionconv.tabular.kinds.dates import OLDEST, days_of
from fusionconv.tabular.labels import is_label, listed
from fusionconv.tabular.missingwords import suspicious_texts
from fusionconv.tabular.numbercodes import code_note, number_codes
from fusionconv.tabular.numberdates import date_format
from fusionconv.tabular.suspicious import Suspicion, suspicious_dates, suspicious_numbers
from fusionconv.tabular.text import ODD_SHAPES, Shape, advice, shape_of

__all__ = ["doubts", "infer_kind"]

#: Text with more different values than this is taken for names or free text.
MOST_CATEGORIES = 50
_EXACT = 2**53
_ALL_DIFFERENT = 10  # so many rows and no value twice: an identifier


def infer_kind(column: Column) -> Kind:
    """The kind of a column with at least one value.

    ================================================== ============================================
    truth values; numbers that are all 0 or 1          binary, as they are
    other numbers                                      numeric, z-scored
    two different texts                                binary, the first in sorted order 0
    3 to 50 different texts                            categorical, sorted
    text that is all numbers, some as ">1700" or "89+" censored
    text that is all ages as DICOM writes them (045Y)  numeric, in years
    an ordered pandas categorical                      ordinal, the levels as declared
    a pandas categorical of numbers or truth values    binary or categorical, by the values that occur
    another pandas categorical                         as the same texts
    ================================================== ============================================

    Raises:
        TableError: dates, also as numbers such as 20050908, numbers stored as text, text and numbers mixed, one text
            in every row, names or free text.
    """
    dtype = column.values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if dtype.ordered:
            return Ordinal(list(dtype.categories))
        if not any(isinstance(v, str) for v in column.distinct):
            return Binary() if set(column.labels()) <= {0, 1} else Categorical()
    if column.is_numbers:
        if pd.api.types.is_bool_dtype(dtype):
            return Binary()
        return Binary() if bool(column.values[column.present].isin([0, 1]).all()) else _numeric(column)
    found = column.distinct
    if column.is_dates or isinstance(next(iter(found)), (datetime.date, np.datetime64, pd.Period, pd.Timedelta)):
        column.fail("numbers, text or truth values", f"dates or times ({dtype})", advice(["2000-01-01"], column.name))
    texts = {v: count for v, count in found.items() if isinstance(v, str)}
    in_text, rows = sum(texts.values()), sum(found.values())
    if 2 * in_text < rows:
        return Binary() if all(isinstance(v, (Real, np.bool_)) and v in (0, 1) for v in found) else _numeric(column)
    if in_text < rows:
        mixed = np.array([not isinstance(v, str) for v in column.factors[1]], dtype=bool)
        column.refuse(
            column.rows_of(mixed, False), "text, as in most rows", do="make the column all text or all numbers"
        )
    return _of_texts(column, texts)


def _numeric(column: Column) -> Numeric:
    """Numeric, unless the numbers are dates."""
    numbers = column.numbers()
    codes = [s.value for s in suspicious_numbers(numbers, column.name)]
    if form := date_format(numbers[~np.isin(numbers, codes)]):
        first = int(numbers[np.isfinite(numbers) & ~np.isin(numbers, codes)][0])
        kept = f", missing_codes={codes}" if codes else ""
        column.fail(
            "numbers that measure or count",
            f"dates stored as numbers, such as {first}",
            f"kinds={{{column.name!r}: Age(at=..., format={form!r}{kept})}} makes years of them; 'numeric' if they are "
            "no dates",
        )
    return Numeric()


def _of_texts(column: Column, texts: dict[str, int]) -> Kind:
    shapes: Counter[Shape] = Counter(shape_of(text) for text in texts)
    if shapes["bound"] and shapes["bound"] + shapes["number"] == len(texts):
        return Censored()
    if shapes["age"] == len(texts):
        return Numeric()
    words = shapes["text"]
    if 2 * (len(texts) - words) >= len(texts) or not ODD_SHAPES.isdisjoint(shapes):
        odd = [t for t in texts if shape_of(t) in ODD_SHAPES] or [t for t in texts if shape_of(t) != "text"]
        codes = [t for t in texts if shape_of(t) == "text"]
        also = f" beside {listed(codes, 3)} (missing_codes={codes[:3]!r} if they mean a missing value)" if codes else ""
        if 2 * words > len(texts):  # words in the main
            also = (
                f" beside words ({listed(codes, 3)}): missing_codes={odd[:3]!r} if it means a missing value, declare "
                "the column 'categorical' if not"
            )
        column.fail(
            "numbers as numbers, or words",
            f"text that looks like numbers or dates, such as {odd[0]!r}{also}",
            advice([t for t in texts if shape_of(t) != "text"], column.name),
        )
    if len(texts) == 1:
        column.fail(
            "several values",
            f"{next(iter(texts))!r} in every training row",
            "leave it out of the covariates, or declare it",
        )
    rows = sum(texts.values())
    if len(texts) > MOST_CATEGORIES or (len(texts) == rows and rows > _ALL_DIFFERENT):
        column.fail(
            f"up to {MOST_CATEGORIES} different texts, some of them more than once",
            f"{len(texts)} in {rows} rows",
            "that looks like names or free text: leave it out of the covariates, or declare it 'categorical' if meant",
        )
    return Binary() if len(texts) == 2 else Categorical()


def doubts(column: Column, kind: Kind, learnt: Learnt, inferred: bool) -> tuple[list[Suspicion], list[str]]:
    """What a person should look at: values that may mean "missing", and whole numbers that may be codes."""
    if isinstance(learnt, LearntNumeric):
        numbers = column.numbers(years=learnt.years)
        suspects = suspicious_numbers(numbers, column.name)
        rest = np.where(np.isin(numbers, [s.value for s in suspects]), np.nan, numbers)
        values = number_codes(rest, column.name) if inferred else []
        notes = [code_note(column.name, values, [s.value for s in suspects])] * bool(values)
        return suspects, notes
    if isinstance(learnt, LearntCensored):
        return suspicious_numbers(learnt.uncut(column), column.name), []
    if isinstance(kind, Age):
        return _odd_dates(column, kind, learnt), []
    named = getattr(kind, "categories", None) or getattr(kind, "levels", None) or getattr(kind, "codes", None)
    if named is not None or column.is_dates or (isinstance(learnt, LearntBinary) and learnt.plain):
        return [], []
    texts = [(v, count) for v, count in column.distinct.items() if isinstance(v, str)]
    if texts:
        return suspicious_texts(texts), []
    labels = [float(v) if is_label(v) and abs(v) < _EXACT else np.nan for v in column.factors[1]]
    return suspicious_numbers(column.rows_of(np.array(labels, dtype=np.float64), np.nan), column.name), []


def _odd_dates(column: Column, kind: Age, learnt: Learnt) -> list[Suspicion]:
    """Dates that stand for no date, in the column and in that beside it, and what else makes too great an age."""
    found, told = list[Suspicion](), np.zeros(len(column.values), dtype=bool)
    for dates in (column, column.beside):
        if dates is None:
            continue
        days = np.floor(days_of(dates, kind.format))
        odd = suspicious_dates(days)
        told |= np.isin(days, np.array([s.value for s in odd], dtype="datetime64[D]").astype(float))
        among = f" (in {dates.name!r})" if dates is column.beside else ""
        found += [s._replace(reason=s.reason + among) for s in odd]
    years = learnt.decode(learnt.encode(column))
    far = (years > OLDEST) & column.present & ~told
    if far.any():
        at = int(np.nanargmax(np.where(far, years, np.nan)))
        born = str(np.datetime64(int(np.floor(days_of(column, kind.format)[at])), "D"))
        found.append(Suspicion(born, int(far.sum()), f"with an age above {OLDEST} (here {years[at]:.5g} years)"))
    return found
