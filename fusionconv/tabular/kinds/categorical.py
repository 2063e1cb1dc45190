"""Categorical: one of several values, as one-hot covariates, one for each category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fusionconv.errors import TableError
from fusionconv.tabular.column import Column
from fusionconv.tabular.columns import did_you_mean
from fusionconv.tabular.kinds.base import Block, Kind, Learnt
from fusionconv.tabular.labels import Label, listed, plain_labels, positions, refuse_blank
from fusionconv.tabular.text import same_word, tidy_cell

__all__ = ["Categorical", "LearntCategorical", "Unknown", "as_unknown", "refuse_unknown", "require_tidy"]

Unknown: TypeAlias = Literal["error", "ignore"]


def as_unknown(unknown: Any) -> Unknown:
    """``unknown`` if it is one of the two.

    Raises:
        TableError: it is something else.
    """
    if unknown not in ("error", "ignore"):
        raise TableError(f"expected unknown='error' or 'ignore' (another category becomes zeros), got {unknown!r}")
    return unknown  # type: ignore[no-any-return]


def require_tidy(labels: Sequence[Label], column: Column) -> None:
    """Raise where labels differ only in case, outer spaces or how an accent is stored, or spell one word (M, male).

    Raises:
        TableError: naming them.
    """
    spelled: dict[str, Label] = {}
    for label in labels:
        if not isinstance(label, str):
            continue
        key = tidy_cell(label).casefold()
        if label != label.strip() or key in spelled:
            column.fail(
                "different values",
                listed([spelled[key], label] if key in spelled else [label]),
                f"make them one (frame[{column.name!r}].str.strip(), and .str.normalize('NFC') for accents), or give "
                "the categories if they are meant",
            )
        if same := next((other for other in spelled.values() if same_word(label, str(other))), None):
            column.fail(
                "different values",
                f"{same!r} and {label!r}, which may be two spellings of one",
                f"make them one: frame[{column.name!r}].replace({{{label!r}: {same!r}}}), or "
                f"Binary({{..., {same!r}: 1, {label!r}: 1}}); or give the categories if both are meant",
            )
        spelled[key] = label


def refuse_unknown(column: Column, unknown: npt.NDArray[np.bool_], labels: Sequence[Label], do: str) -> None:
    """Raise for values that are none of ``labels``, with the nearest of them.

    Raises:
        TableError: see above.
    """
    if unknown.any():
        first = column.values.loc[unknown].iloc[0]
        texts = [v for v in labels if isinstance(v, str)]
        near = did_you_mean(first, texts) if isinstance(first, str) else ""
        column.refuse(unknown, f"one of {listed(labels)}", do=f"correct these rows{near}{do}")


@dataclass(frozen=True)
class Categorical(Kind):
    """Each category becomes one covariate, 1 in the rows that have it and 0 in the others; none is dropped.

    Args:
        categories: the categories in order; by default those of the training rows, sorted.
        unknown: what :meth:`transform` does about another value: ``"error"``, or ``"ignore"``: zeros everywhere. By
            default as the encoder's ``unknown`` says.
        missing, indicator, missing_codes: as in `CovariateEncoder`, for this column; None: the encoder's.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import Categorical, CovariateEncoder
        >>> frame = pd.DataFrame({"site": ["B", "A", "B"]})
        >>> encoder = CovariateEncoder(["site"], kinds={"site": Categorical(["A", "B", "C"])}).fit(frame)
        >>> encoder.transform(frame).tolist()
        [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """

    categories: tuple[Label, ...] | Sequence[Any] | None = None
    unknown: Unknown | None = None
    tag: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.categories is not None:
            self._set("categories", plain_labels(self.categories, "categories", least=2))
            refuse_blank(self.categories, "categories")
        if self.unknown is not None:
            self._set("unknown", as_unknown(self.unknown))

    def learn(self, column: Column) -> LearntCategorical:
        """The categories, unless given, and the share of each."""
        categories = tuple(self.categories) if self.categories is not None else self._sorted(column)
        unknown = self.unknown or "error"
        learnt = LearntCategorical(categories, (math.nan,) * len(categories), unknown)
        shares = learnt.encode(column)[column.present].mean(axis=0)
        return LearntCategorical(categories, tuple(float(s) for s in shares), unknown)

    @staticmethod
    def _sorted(column: Column) -> tuple[Label, ...]:
        found = column.labels()
        texts = [v for v in found if isinstance(v, str)]
        if texts and len(texts) < len(found):
            fewer = texts if 2 * len(texts) < len(found) else [v for v in found if not isinstance(v, str)]
            mixed = column.rows_of(positions(column.factors[1], fewer) >= 0, False)
            column.refuse(mixed, "text or numbers, not both in one column")
        require_tidy(found, column)
        if len(found) < 2:
            column.fail(
                "several categories",
                f"{found[0]!r} in every training row",
                "leave it out of the covariates, or give Categorical the categories",
            )
        return tuple(sorted(found))


@dataclass(frozen=True)
class LearntCategorical(Learnt):
    """A fitted categorical column: its categories, and the share of each among the training rows."""

    categories: tuple[Label, ...]
    shares: tuple[float, ...]
    unknown: Unknown

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", plain_labels(self.categories, "categories", least=2))
        object.__setattr__(self, "shares", tuple(self.shares))
        if len(self.shares) != len(self.categories) or self.unknown not in ("error", "ignore"):
            raise ValueError(f"{len(self.shares)} shares of {len(self.categories)} categories, {self.unknown!r}")

    @property
    def labels(self) -> tuple[Label, ...]:
        """The categories."""
        return self.categories

    @property
    def width(self) -> int:
        """The number of categories."""
        return len(self.categories)

    @property
    def mean(self) -> tuple[float, ...]:
        """The shares."""
        return self.shares

    def names(self, name: str) -> list[str]:
        """``site_A``, ``site_B``, ..."""
        return [f"{name}_{category}" for category in self.categories]

    def encode(self, column: Column) -> Block:
        """(N, categories): one-hot, or zeros for an unknown value that is ignored."""
        at = column.positions(self.categories)
        known = at >= 0
        if self.unknown == "error":
            refuse_unknown(
                column, column.present & ~known, self.categories, "; unknown='ignore' encodes other values as zeros"
            )
        block = np.zeros((len(at), self.width))
        block[np.flatnonzero(known), at[known]] = 1.0
        return block

    def decode(self, block: Block) -> npt.NDArray[np.object_]:
        """The category that is 1; None where no or several are."""
        values = np.array([*self.categories, None], dtype=object)
        one_hot = ((block == 1).sum(axis=1) == 1) & ((block == 0).sum(axis=1) == self.width - 1)
        return values[np.where(one_hot, block.argmax(axis=1), self.width)]

    def describe(self) -> str:
        """The categories."""
        shown = ", ".join(str(c) for c in self.categories[:8])
        more = f", ... ({self.width} in all)" if self.width > 8 else ""
        return shown + more + ("; others: zeros" if self.unknown == "ignore" else "")
