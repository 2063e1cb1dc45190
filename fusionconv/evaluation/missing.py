"""Values that are missing or masked: found before they are compared, averaged or ranked as if they were there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import EvaluationError

__all__ = ["NO_TEXT", "as_array", "refuse_mask", "require_no_missing"]


def as_array(values: Any, what: str = "values") -> npt.NDArray[Any]:
    """A numpy array of anything array-like; a tensor on any device, with or without a graph.

    A list of texts and something else stays a list of objects: numpy would make the text ``"nan"`` of a missing one.

    Raises:
        EvaluationError: a masked array (or a list with masked values) that hides something: its mask would be lost.
    """
    if type(values).__name__ == "MaskedTensor":  # of torch.masked; its numpy() may forget the mask
        values = np.ma.masked_array(as_array(values.get_data()), ~as_array(values.get_mask()))
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        values = values.numpy()
    refuse_mask(values, what)
    array = np.asarray(values)
    if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
        objects = np.asarray(values, dtype=object)
        return array if all(isinstance(v, (str, bytes)) for v in objects.flat) else objects
    return array


def refuse_mask(values: Any, what: str) -> None:
    """Raise where a mask hides something.

    Raises:
        EvaluationError: a masked array, or a list of such, that hides a value.
    """
    parts = values if isinstance(values, (list, tuple)) else [values]
    hidden = sum(int(np.ma.getmaskarray(part).sum()) for part in parts if isinstance(part, np.ma.MaskedArray))
    if hidden:
        raise EvaluationError(
            f"{what}: expected values without a mask, got a masked array that hides {hidden}; take the same rows out "
            "of every argument, such as target[~mask] and prediction[~mask], and say how many are left"
        )


NO_TEXT = ("", "nan", "NaN", "<NA>", "NaT", "None")  # what numpy and pandas write for a missing value


def require_no_missing(array: npt.NDArray[Any], what: str, classes: Iterable[Any] = ()) -> npt.NDArray[Any]:
    """``array`` as it is, none of its values missing: None, NaN, NaT, pandas' NA, or the text of one of these.

    Args:
        array: of any shape and type.
        what: names it in messages.
        classes: texts that are classes although they look like a missing value, such as ``"None"``.

    Raises:
        EvaluationError: a value is missing; compared with a class it would be a wrong answer.
    """
    missing = np.asarray(pd.isna(array))
    if array.dtype.kind in "USO":
        missing = missing | np.isin(array.astype(str), sorted(set(NO_TEXT) - set(classes)))
    if missing.any():
        raise EvaluationError(
            f"{what}: expected a value in every row, got {int(missing.sum())} of {missing.size} that are missing (the "
            f"first at position {int(np.flatnonzero(missing.ravel())[0])}); find out why "
            "before leaving such rows out: the figure would then be one of other rows"
        )
    return array
