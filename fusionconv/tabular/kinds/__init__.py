"""The kinds of columns: what each becomes, one file a kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fusionconv.errors import TableError
from fusionconv.tabular.columns import require_names
from fusionconv.tabular.kinds.base import Kind, Learnt
from fusionconv.tabular.kinds.binary import Binary, LearntBinary
from fusionconv.tabular.kinds.categorical import Categorical, LearntCategorical
from fusionconv.tabular.kinds.censored import Censored, LearntCensored
from fusionconv.tabular.kinds.dates import Age, LearntAge
from fusionconv.tabular.kinds.numeric import LearntNumeric, Numeric
from fusionconv.tabular.kinds.ordinal import LearntOrdinal, Ordinal
from fusionconv.tabular.kinds.scaling import Scale

__all__ = [
    "Age",
    "Binary",
    "Categorical",
    "Censored",
    "Kind",
    "Learnt",
    "LearntBinary",
    "LearntNumeric",
    "Numeric",
    "Ordinal",
    "Scale",
    "as_kind",
    "kind_from_dict",
    "learnt_from_dict",
]

_KINDS: dict[str, type[Kind]] = {k.tag: k for k in (Numeric, Binary, Categorical, Ordinal, Censored, Age)}
_LEARNT: dict[str, type[Learnt]] = {
    "numeric": LearntNumeric,
    "binary": LearntBinary,
    "categorical": LearntCategorical,
    "ordinal": LearntOrdinal,
    "censored": LearntCensored,
    "age": LearntAge,
}


def as_kind(kind: Any, name: str) -> Kind:
    """A declaration of the column ``name``: a kind, the word for one, or plain data with the word and its options.

    Raises:
        TableError: an unknown word or option, a bad option, or a kind that needs more than a word.

    >>> as_kind({"kind": "categorical", "unknown": "ignore"}, "site").unknown
    'ignore'
    >>> as_kind({"kind": "binary", "codes": {1: 0, 2: 1}}, "gender") == Binary({1: 0, 2: 1})
    True
    """
    if isinstance(kind, Kind):
        return kind
    if isinstance(kind, type) and issubclass(kind, Kind):
        kind = kind.tag
    options = dict(kind) if isinstance(kind, Mapping) else {"kind": kind}
    word = options.pop("kind", None)
    if not isinstance(word, str):
        raise TableError(
            f"column {name!r}: expected a kind such as 'numeric', Binary({{'F': 0, 'M': 1}}) or {{'kind': 'binary', "
            f"'codes': {{'F': 0, 'M': 1}}}}, got {kind!r}; name the kind: {', '.join(_KINDS)}"
        )
    require_names([word], list(_KINDS), f"kind for column {name!r}:")
    known = [f.name for f in dataclasses.fields(_KINDS[word])]
    require_names(map(str, options), known, f"option of kind {word!r} for column {name!r}:")
    if word == Age.tag and "at" not in options:
        raise TableError(
            f"column {name!r}: expected Age(at=...) with the column of the date of measurement, got 'age' alone; write "
            "Age(at='exam_date') or {'kind': 'age', 'at': 'exam_date'}"
        )
    try:
        return _KINDS[word](**options)
    except TableError as error:
        raise TableError(f"column {name!r}, kind {word!r}: {error}") from error


def kind_from_dict(saved: Mapping[str, Any]) -> Kind:
    """The declaration that ``Kind.to_dict`` wrote."""
    fields = dict(saved)
    return _KINDS[fields.pop("kind")](**fields)


def learnt_from_dict(kind: Kind, saved: Mapping[str, Any]) -> Learnt:
    """What ``kind`` had learnt."""
    return _LEARNT[kind.tag].from_dict(saved)
