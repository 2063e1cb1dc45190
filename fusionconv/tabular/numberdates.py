"""Dates that are stored as numbers: 20050908 for 2005-09-08."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["date_format"]

_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}


def date_format(numbers: npt.NDArray[np.float64]) -> str:
    """The format in which all ``numbers`` (NaN: missing) are dates from 1900 to 2100, or "".

    >>> date_format(np.array([20050908, 19991231.0])), date_format(np.array([20050908103000.0]))
    ('%Y%m%d', '%Y%m%d%H%M%S')
    >>> date_format(np.array([20051399, 20050908.0])), date_format(np.array([1987, 2005.0]))
    ('', '')
    """
    known = np.unique(numbers[np.isfinite(numbers)])
    if not len(known) or known[0] < 19_000_101 or known[-1] >= 2**53 or bool((known % 1).any()):
        return ""
    form = _FORMATS.get(len(str(int(known[0]))), "")
    texts = known.astype(np.int64).astype(str).tolist()
    if not form or any(len(t) != len(texts[0]) or not "1900" <= t[:4] <= "2100" for t in texts):
        return ""
    return form if bool(pd.to_datetime(pd.Series(texts), format=form, errors="coerce").notna().all()) else ""
