"""Rows that carry their labels (pandas) and stand in another order are not paired by position."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pandas as pd

from fusionconv.errors import EvaluationError

__all__ = ["in_one_order"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def in_one_order(function: _Function) -> _Function:
    """A function of several columns that raises where two of them have the same labels in another order.

    Columns with other labels altogether (a filtered table beside fresh answers, numbered from 0) are taken by position,
    as those without labels are.

    >>> @in_one_order
    ... def hits(target, prediction):
    ...     return int((target.to_numpy() == prediction.to_numpy()).sum())
    >>> target = pd.Series([0, 1], index=["s1", "s2"])
    >>> hits(target, target)
    2
    >>> hits(target, target[::-1])
    Traceback (most recent call last):
        ...
    fusionconv.errors.EvaluationError: prediction: expected its rows in the order of target, got the same labels in \
another order ('s2' in the place of 's1'); join them by id, or give .to_numpy() where the order is right
    """

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        if sum(isinstance(value, (pd.Series, pd.DataFrame)) for value in (*given, *named.values())) > 1:
            _require_one_order(inspect.signature(function).bind(*given, **named).arguments)
        return function(*given, **named)

    return cast(_Function, checked)


def _require_one_order(arguments: dict[str, Any]) -> None:
    rows = {name: value.index for name, value in arguments.items() if isinstance(value, (pd.Series, pd.DataFrame))}
    (first, labels), *others = rows.items()
    for name, own in others:
        if own.equals(labels) or len(own) != len(labels) or not own.value_counts().eq(labels.value_counts()).all():
            continue
        at = next(at for at, (a, b) in enumerate(zip(labels, own, strict=True)) if a != b)
        raise EvaluationError(
            f"{name}: expected its rows in the order of {first}, got the same labels in another order ({own[at]!r} in "
            f"the place of {labels[at]!r}); join them by id, or give .to_numpy() where the order is right"
        )
