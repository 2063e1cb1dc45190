"""Whole numbers that may name something (1 = left, 2 = right): the one rule, and the line that says what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionconv.tabular.labels import Label, listed
from fusionconv.tabular.namewords import names_category, names_measure

__all__ = ["code_note", "coded_kind", "number_codes", "python_kind"]

_MOST = 12  # a row of codes from 1 on is not longer, as a rule: the months
_MOST_NAMED = 50  # under a name such as site


def number_codes(numbers: npt.NDArray[np.float64], name: str) -> list[int]:
    """The values of a column, if it may hold codes in place of measures or counts; else an empty list (NaN: missing).

    All values are whole numbers, some occur several times, and

    * the name says a category (sex, race, side, laterality, eye, site, location, type, group, stage of smoking, ...)
      and the numbers are at most 50 different ones, or each is in two rows on average, or
    * the name says nothing, and there are two different numbers, or at most 12 that run from 1 upward with few gaps,
      each in two rows on average.

    A name that counts or measures is never asked about (``n_...``, ``..._count``, age, years, education, score, dose,
    thickness, APOE4, a plural such as lesions); nor are numbers that begin at 0, as counts do, or at 2 and more, unless
    the name says a category.

    >>> number_codes(np.array([1, 2, 3, 3, 1, 2.0]), "laterality"), number_codes(np.array([0, 1, 2, 2.0]), "APOE4")
    ([1, 2, 3], [])
    """
    known = numbers[np.isfinite(numbers)]
    values = np.unique(known)
    if len(values) < 2 or len(values) == len(known) or bool((values % 1).any()) or names_measure(name):
        return []
    if bool(np.isin(values, (0, 1)).all()):
        return []
    if names_category(name):
        return [int(v) for v in values] if len(values) <= _MOST_NAMED or 2 * len(values) <= len(known) else []
    two = len(values) == 2
    row = values[0] == 1 and values[-1] <= _MOST and 3 * len(values) >= 2 * values[-1]
    return [int(v) for v in values] if (two or row) and 2 * len(values) <= len(known) else []


def code_note(name: str, values: Sequence[Label], codes: Sequence[Label]) -> str:
    """What to write, in Python and in YAML; ``codes`` are values that may mean "missing" and go along.

    >>> print(code_note("gender", [1, 2], []))
    only the whole numbers 1, 2, encoded as a measure; if they are codes, write kinds={'gender': Binary({1: 0, 2: 1})} \
(YAML: kinds: {gender: {kind: binary, codes: {1: 0, 2: 1}}}); if they count, rank or measure, \
kinds={'gender': 'numeric'} (YAML: kinds: {gender: numeric})
    """
    kind, options = coded_kind(values, codes)
    python, yaml = python_kind(kind, options), _yaml(kind, options)
    kept = {"missing_codes": list(codes)} if codes else {}
    return (
        f"only the whole numbers {listed(values, 8)}, encoded as a measure; if they are codes, write "
        f"kinds={{{name!r}: {python}}} (YAML: kinds: {{{name}: {yaml}}}); if they count, rank or measure, "
        f"kinds={{{name!r}: {python_kind('numeric', kept)}}} (YAML: kinds: {{{name}: {_yaml('numeric', kept)}}})"
    )


def coded_kind(values: Sequence[Label], codes: Sequence[Label]) -> tuple[str, dict[str, Any]]:
    """The kind of a column of codes, and its options."""
    options: dict[str, Any] = {"codes": {values[0]: 0, values[1]: 1}} if len(values) == 2 else {}
    if codes:
        options["missing_codes"] = list(codes)
    return ("binary" if len(values) == 2 else "categorical"), options


def python_kind(kind: str, options: Mapping[str, Any]) -> str:
    """A kind as a person writes it in Python.

    >>> python_kind("binary", {"codes": {1: 0, 2: 1}, "missing_codes": [9]}), python_kind("numeric", {})
    ('Binary({1: 0, 2: 1}, missing_codes=[9])', "'numeric'")
    """
    inside = ", ".join(repr(v) if k == "codes" else f"{k}={v!r}" for k, v in options.items())
    return f"{kind.capitalize()}({inside})" if inside else repr(kind)


def _yaml(kind: str, options: dict[str, Any]) -> str:
    return f"{{kind: {kind}, {', '.join(f'{k}: {v!r}' for k, v in options.items())}}}" if options else kind
