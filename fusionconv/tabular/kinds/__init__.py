"""The kinds of columns: what each becomes, one file a kind."""

from __future__ import annotations

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
    """A declaration of the column ``name``: a kind, or the short word for one with its defaults.

    Raises:
        TableError: an unknown word, or a kind that needs more than a word.
    """
    if isinstance(kind, Kind):
        return kind
    if isinstance(kind, type) and issubclass(kind, Kind):
        kind = kind.tag
    if not isinstance(kind, str):
        raise TableError(
            f"column {name!r}: expected a kind such as 'numeric' or Binary({{'F': 0, 'M': 1}}), came {kind!r}"
        )
    require_names([kind], list(_KINDS), f"kind for column {name!r}:")
    if kind == Age.tag:
        raise TableError(
            f"column {name!r}: expected Age(at=...) with the column of the date of measurement, came 'age'"
        )
    return _KINDS[kind]()


def kind_from_dict(saved: Mapping[str, Any]) -> Kind:
    """The declaration of which ``Kind.to_dict`` told."""
    fields = dict(saved)
    return _KINDS[fields.pop("kind")](**fields)


def learnt_from_dict(kind: Kind, saved: Mapping[str, Any]) -> Learnt:
    """What ``kind`` had learnt."""
    return _LEARNT[kind.tag].from_dict(saved)
