"""What comes in: arrays of equal length without NaN, groups as numbers, sizes and levels that make sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.missing import NO_TEXT, as_array, refuse_mask, require_no_missing
from fusionconv.tabular.ids import id_text, one_spelling

__all__ = [
    "Floats",
    "Ints",
    "group_numbers",
    "importable_stats",
    "require_classes",
    "require_confidence",
    "require_count",
    "require_finite",
    "require_known_classes",
    "require_labels",
    "require_probabilities",
    "require_rows",
    "require_vector",
]

_ROUNDING = 1e-6  # a mean of float32 probabilities may be 1.0000001

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]


def importable_stats() -> Any:
    """``scipy.stats``, imported when a test is made, so that reading results needs numpy only.

    Raises:
        ImportError: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise ImportError("expected scipy, got none; pip install 'fusionconv[evaluation]'") from error
    return stats


def require_vector(values: Any, what: str) -> Floats:
    """A float64 vector without NaN or infinity; ``what`` names it in messages.

    Raises:
        EvaluationError: another shape, empty, no numbers, NaN or infinity.

    >>> require_vector([1, float("nan"), 3], "age")
    Traceback (most recent call last):
        ...
    fusionconv.errors.EvaluationError: age: expected finite numbers, got 1 of 3 that are NaN or infinite (first at ...
    """
    array = as_array(values, what)
    if array.ndim != 1 or not array.size:
        swapped = "; the target comes first, then the prediction" if what == "target" and array.ndim > 1 else ""
        raise EvaluationError(f"{what}: expected a vector of at least one number, got shape {array.shape}{swapped}")
    return require_finite(array, what)


def require_finite(array: npt.NDArray[Any], what: str) -> Floats:
    """``array`` as float64, all finite.

    Raises:
        EvaluationError: no numbers, NaN or infinity.
    """
    if array.dtype.kind == "O":
        require_no_missing(array, what)
    try:
        if array.dtype.kind not in "biufO" or any(isinstance(v, str) for v in array.flat if array.dtype.kind == "O"):
            raise TypeError("text, dates and complex numbers are none")
        floats = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        advice = "; for classes give 0 and 1, for example target == 'AD'" if what == "target" else ""
        raise EvaluationError(
            f"{what}: expected numbers, got {array.dtype} such as {array.item(0)!r}{advice}"
        ) from error
    bad = ~np.isfinite(floats)
    if bad.any():
        raise EvaluationError(
            f"{what}: expected finite numbers, got {bad.sum()} of {bad.size} that are NaN or infinite (first at "
            f"position {int(np.flatnonzero(bad.ravel())[0])}); find out why before leaving such rows out: the figure "
            "would then be one of other rows"
        )
    return floats


def require_rows(rows: int, what: str, array: npt.NDArray[Any]) -> None:
    """Raise unless ``array`` has ``rows`` rows.

    Raises:
        EvaluationError: another number of rows.
    """
    if array.ndim == 0 or len(array) != rows:
        raise EvaluationError(
            f"{what}: expected one row for each of {rows}, got shape {array.shape}; join them by id, not by order"
        )


def require_labels(values: Any, what: str) -> npt.NDArray[np.bool_]:
    """A vector of 0 and 1 (or False and True) as booleans.

    Raises:
        EvaluationError: anything else in it.
    """
    floats = require_vector(values, what)
    if not np.isin(floats, (0, 1)).all():
        odd = np.unique(floats[~np.isin(floats, (0, 1))])[:3]
        swapped = "; the target comes first, then the score or probability" if what == "target" else ""
        raise EvaluationError(f"{what}: expected only 0 and 1, got also {odd.tolist()}{swapped}")
    return np.asarray(floats == 1)


def require_classes(target: Any, predictions: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """Vectors of classes, the target's and each arm's: numbers or texts, the same kind in all.

    Raises:
        EvaluationError: another shape or length, a missing class, a probability, texts beside numbers.
    """
    arrays = {"target": as_array(target, "target")}
    arrays |= {name: as_array(values, name) for name, values in predictions.items()}
    rows = len(arrays["target"]) if arrays["target"].ndim else 0
    texts = {}
    for name, array in arrays.items():
        if array.ndim != 1 or not array.size:
            raise EvaluationError(f"{name}: expected a vector of at least one class, got shape {array.shape}")
        require_rows(rows, name, array)
        require_no_missing(array, name, ("None",) if name == "target" else arrays["target"].tolist())
        if array.dtype.kind == "f" and (array != np.round(array)).any():
            odd = array[array != np.round(array)][0]
            raise EvaluationError(
                f"{name}: expected classes, got {odd:g}, which looks like a probability; compare it with a threshold "
                "first, and give the target before the predictions"
            )
        texts[name] = {isinstance(v, str) for v in array.tolist()}
        if name != "target" and len(set(array.tolist()) - set(arrays["target"].tolist())) > max(rows / 2, 5):
            raise EvaluationError(
                f"{name}: expected predicted classes, got {len(set(array.tolist()))} different values in {rows} rows, "
                f"most of which the target does not have, such as {array.item(-1)!r}; are they ids or scores?"
            )
    if len(set.union(*texts.values())) > 1:
        kinds = ", ".join(f"{name} {array.dtype} such as {array.item(0)!r}" for name, array in arrays.items())
        raise EvaluationError(f"expected classes of one kind, all numbers or all texts, got {kinds}")
    return list(arrays.values())


def require_known_classes(target: Any, prediction: Any, classes: Sequence[Any]) -> list[npt.NDArray[Any]]:
    """Target and prediction, vectors of classes that are all among ``classes``.

    Raises:
        EvaluationError: another shape or length, or a value that is none of the classes, such as a missing one.
    """
    y, p = as_array(target, "target"), as_array(prediction, "prediction")
    if y.ndim != 1 or not y.size:
        raise EvaluationError(f"target: expected a vector of at least one class, got shape {y.shape}")
    require_rows(len(y), "prediction", p)
    known = list(classes)
    for name, array in (("target", y), ("prediction", p)):
        if array.ndim != 1 or not set(array.tolist()) <= set(known):
            odd = sorted(set(array.ravel().tolist()) - set(known), key=str)[:3]
            raise EvaluationError(
                f"{name}: expected a vector of classes among {known}, got shape {array.shape} with {odd}; name all "
                "classes, and give classes, not probabilities"
            )
    return [y, p]


def require_probabilities(values: Any) -> Floats:
    """Probabilities of class 1, (n,), or of all classes, (n, C) with rows that add up to 1; rounding is taken away.

    Raises:
        EvaluationError: another shape, NaN, values outside 0 to 1, or rows that do not add up to 1.
    """
    array = as_array(values, "probability")
    if array.ndim not in (1, 2) or not array.size:
        raise EvaluationError(f"probability: expected shape (n,) or (n, classes), got {array.shape}")
    p = require_finite(array, "probability")
    if p.min() < -_ROUNDING or p.max() > 1 + _ROUNDING:
        raise EvaluationError(
            f"probability: expected values from 0 to 1, got {p.min():g} to {p.max():g}; put logits through softmax or "
            "sigmoid first"
        )
    if p.ndim == 2 and (p.shape[1] < 2 or not np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise EvaluationError(
            f"probability: expected rows of at least two classes that add up to 1, got shape {p.shape} with sums from "
            f"{p.sum(axis=1).min():g} to {p.sum(axis=1).max():g}; one column of class 1 goes in as a vector"
        )
    return p.clip(0, 1)


def require_confidence(confidence: float) -> float:
    """A level between 0 and 1.

    Raises:
        EvaluationError: it is not.
    """
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence: expected a number between 0 and 1 such as 0.95, got {confidence!r}")
    return float(confidence)


def require_count(value: int, what: str, least: int = 1) -> int:
    """A whole number from ``least`` on.

    Raises:
        EvaluationError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise EvaluationError(f"{what}: expected a whole number from {least} on, got {value!r}")
    return int(value)


def _one_id(value: Any) -> Any:
    text = id_text(value)
    return value if text is None else one_spelling(text)


def group_numbers(groups: Any, rows: int, what: str = "groups") -> Ints:
    """The number of each row's group (subject), 0, 1, ... in order of first appearance; without groups, of each row.

    Raises:
        EvaluationError: another number of rows, other than one id a row, or a missing id.

    >>> group_numbers(["b", "a", "b"], 3)
    array([0, 1, 0])
    """
    if groups is None:
        return np.arange(rows, dtype=np.intp)
    refuse_mask(groups, what)
    if hasattr(groups, "detach"):
        groups = as_array(groups, what)
    elif isinstance(groups, (list, tuple)):  # one-number tensors of a loader: two that are equal are two objects
        groups = [id.item() if hasattr(id, "item") and np.ndim(id) == 0 else id for id in groups]
    array = np.asarray(groups, dtype=object)
    if what == "groups" and array.ndim == 1:  # as splits take them: 1, 1.0, "1" and "1 " are one person
        array = np.array([_one_id(value) for value in array], dtype=object)
    if array.ndim != 1:
        raise EvaluationError(f"{what}: expected one id (a text or a number) for each row, got shape {array.shape}")
    require_rows(rows, what, array)
    texts = np.array([v.strip() if isinstance(v, str) else "-" for v in array])
    missing = np.asarray(pd.isna(array)) | np.isin(texts, [v for v in NO_TEXT if v != "None" or what == "groups"])
    if missing.any():
        raise EvaluationError(
            f"{what}: expected an id in every row, got none in {missing.sum()} of {rows} (the first at position "
            f"{int(np.flatnonzero(missing)[0])}); rows without one cannot be told apart"
        )
    return pd.factorize(array)[0].astype(np.intp)
