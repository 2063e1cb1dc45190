"""Did an encoder see other rows than the training rows: fit it again on them and compare."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from fusionconv.errors import FusionError
from fusionconv.tabular.leakage.report import Finding

__all__ = ["find_encoder_leak"]

_ROUNDING = 1e-9  # relative; the order of the rows changes a mean by less


def find_encoder_leak(train: pd.DataFrame, test: pd.DataFrame, encoder: Any) -> Iterator[Finding]:
    """An error where the encoder learnt from test rows or from more rows than the training rows.

    The encoder's settings are fitted again on the training rows. What was learnt is the same, up to rounding: then
    nothing of any other row is in it. (That does not show that the settings were chosen without the test rows.) It
    differs: then the rows were others. Fitted again on training and test rows together, or on the test rows, it may
    turn out the same; then it is known which. Otherwise the number of rows it was fitted on decides: more than there
    are training rows is an error; as many or fewer may be a part of the training rows, or another state of the table.
    """
    name = type(encoder).__name__
    learnt = encoder.to_dict()
    again = _refit(encoder, train)
    if isinstance(again, str):
        yield Finding("warning", "encoder not checked", name, f"cannot be fitted on the training rows: {again}")
        return
    if _same(learnt, again):
        return
    rows = learnt.get("num_rows")
    of_test = tuple(test.index)
    if _same(learnt, _refit(encoder, pd.concat([train, test], ignore_index=True))):
        yield Finding("error", "encoder", name, "was fitted on the training and the test rows", (), of_test)
    elif _same(learnt, _refit(encoder, test)):
        yield Finding("error", "encoder", name, "was fitted on the test rows", (), of_test)
    elif isinstance(rows, int) and rows > len(train):
        detail = f"was fitted on {rows} rows, but there are {len(train)} training rows: others were among them"
        yield Finding("error", "encoder", name, detail)
    else:
        detail = (
            f"what it learnt from {rows} rows is not what the {len(train)} training rows give: it was fitted on other "
            "rows (a part of them is no leak), or the table has changed; fit it on these training rows"
        )
        yield Finding("warning", "encoder", name, detail)


def _refit(encoder: Any, frame: pd.DataFrame) -> Any:
    """What the encoder's settings learn from ``frame``, or why nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the encoder's own fit has given them
            fitted = copy.deepcopy(encoder).fit(frame)
    except FusionError as error:
        return str(error)
    return fitted.to_dict()


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=1e-12)
    return bool(a == b)
