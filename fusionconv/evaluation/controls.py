"""Control inputs: the covariates as they are, as zeros, as the training mean, and given to the wrong people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import Ints, group_numbers, require_count, require_finite
from fusionconv.evaluation.missing import as_array
from fusionconv.evaluation.row_order import in_one_order
from fusionconv.tabular.encoder import CovariateEncoder

__all__ = ["Control", "control_inputs", "control_rows", "wrong_rows"]

Kind = Literal["true", "zero", "mean", "permuted"]


@dataclass(frozen=True)
class Control:
    """One control input: its name, which of several permutations it is, and the rows (N, K).

    Example:
        >>> import numpy as np
        >>> from fusionconv.evaluation import control_inputs
        >>> [(c.name, c.permutation, c.rows.shape) for c in control_inputs(np.array([[0.5], [1.0], [2.0]]))]
        [('true', 0, (3, 1)), ('zero', 0, (3, 1)), ('permuted', 0, (3, 1))]
    """

    name: str
    permutation: int
    rows: npt.NDArray[Any]


def wrong_rows(rows: int, groups: Any = None, seed: Any = 0) -> Ints:
    """For each row the number of the row whose covariates it gets: never one of its own subject.

    Uniform among the permutations of subjects that leave none in place (drawn again until that is so). A subject gets
    all its rows from one other subject, visit by visit in the order of the rows, from the first again where that one
    has fewer visits: so a subject with equal rows keeps equal rows.

    Args:
        rows: how many.
        groups: each row's subject; None: every row is its own.
        seed: of numpy's generator; a whole number or several.

    Raises:
        EvaluationError: fewer than two subjects, or a missing id.

    >>> wrong_rows(5, groups=["a", "a", "b", "c", "c"], seed=0).tolist()
    [3, 4, 0, 2, 2]
    """
    require_count(rows, "rows", 1)
    numbers = group_numbers(groups, rows)
    count = int(numbers.max()) + 1
    if count < 2:
        raise EvaluationError(f"expected at least two subjects to exchange covariates, got {count} (with {rows} rows)")
    random = np.random.default_rng(seed)
    donor = random.permutation(count)
    while (donor == np.arange(count)).any():  # e draws on average
        donor = random.permutation(count)
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    members = np.split(order, np.cumsum(sizes)[:-1])
    taken = np.empty(rows, dtype=np.intp)
    for own, other in enumerate(donor):
        taken[members[own]] = np.resize(members[other], sizes[own])
    return taken


@in_one_order
def control_rows(
    covariates: Any,
    kind: Kind,
    *,
    reference: Any = None,
    groups: Any = None,
    places: slice | Any = None,
    seed: Any = 0,
) -> npt.NDArray[Any]:
    """One control input made of the covariates (N, K); the same dtype, a new array.

    ============ ====================================================================================================
    kind         a row becomes
    ============ ====================================================================================================
    "true"       itself
    "zero"       all 0: the plain convolution W; of a z-scored number the training mean, of one-hot covariates no class
    "mean"       ``reference``, the mean of the *training* rows
    "permuted"   the row of another subject (:func:`wrong_rows`); with ``places`` those covariates only
    ============ ====================================================================================================

    Args:
        covariates: (N, K), an array or a tensor.
        kind: see above.
        reference: (K,), for "mean".
        groups: (N,) each row's subject, for "permuted".
        places: which covariates are permuted, such as ``encoder.groups["site"]``: a slice or numbers. Give those of one
            column together: permuted one by one, one-hot covariates would become a person with two sites.
        seed: of the permutation.

    Raises:
        EvaluationError: another shape, NaN, an unknown kind, or "mean" without a reference of length K.

    >>> control_rows(np.array([[1.0, 0.0], [2.0, 1.0]]), "permuted", places=slice(0, 1)).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    s = _require_covariates(covariates)
    if kind == "true":
        return s.copy()
    if kind == "zero":
        return np.zeros_like(s)
    if kind == "mean":
        if reference is None:
            raise EvaluationError(
                "reference: expected the mean of the training rows for kind 'mean', got none; give "
                "encoder.transform(train).mean(axis=0), not the mean of the rows that are judged"
            )
        mean = require_finite(as_array(reference), "reference")
        if mean.shape != s.shape[1:]:
            raise EvaluationError(f"reference: expected shape {s.shape[1:]}, got {mean.shape}")
        return np.tile(mean.astype(s.dtype), (len(s), 1))
    if kind != "permuted":
        raise EvaluationError(f"kind: expected 'true', 'zero', 'mean' or 'permuted', got {kind!r}")
    permuted = s.copy()
    where = slice(None) if places is None else places
    permuted[:, where] = s[wrong_rows(len(s), groups, seed)][:, where]
    return permuted


def control_inputs(
    covariates: Any,
    *,
    encoder: CovariateEncoder | Mapping[str, slice] | None = None,
    reference: Any = None,
    groups: Any = None,
    n_permutations: int = 1,
    seed: int = 0,
) -> Iterator[Control]:
    """All control inputs, one after the other: "true", "zero", "mean", "permuted", "permuted: age", ...

    Args:
        covariates: (N, K) as the encoder made them.
        encoder: the fitted encoder (or its ``groups``), for one column of the table at a time: all its one-hot
            covariates, flags and indicator together. None: whole rows only.
        reference: (K,) the mean of the training rows. None: no "mean".
        groups: (N,) each row's subject. None: every row is its own.
        n_permutations: how many of each permutation, each with a seed of its own.
        seed: where the seeds come from; the same seed gives the same permutations.

    Raises:
        EvaluationError: as :func:`control_rows`; an encoder of another K.

    >>> covariates = np.array([[60.0, 1.0, 0.0], [70.0, 0.0, 1.0], [80.0, 1.0, 0.0]])
    >>> for control in control_inputs(covariates, encoder={"age": slice(0, 1), "sex": slice(1, 3)}):
    ...     print(control.name, control.rows[0].tolist())
    true [60.0, 1.0, 0.0]
    zero [0.0, 0.0, 0.0]
    permuted [80.0, 1.0, 0.0]
    permuted: age [80.0, 1.0, 0.0]
    permuted: sex [60.0, 0.0, 1.0]
    """
    s = _require_covariates(covariates)
    require_count(n_permutations, "n_permutations", 1)
    columns = dict(encoder.groups if isinstance(encoder, CovariateEncoder) else encoder or {})
    covered = sorted(place for where in columns.values() for place in range(s.shape[1])[where])
    if columns and covered != list(range(s.shape[1])):
        raise EvaluationError(
            f"encoder: expected the one that made these {s.shape[1]} covariates, got one of "
            f"{max(where.stop for where in columns.values())} ({', '.join(columns)})"
        )
    yield Control("true", 0, control_rows(s, "true"))
    yield Control("zero", 0, control_rows(s, "zero"))
    if reference is not None:
        yield Control("mean", 0, control_rows(s, "mean", reference=reference))
    places: list[tuple[str, slice | None]] = [("permuted", None)]
    places += [(f"permuted: {name}", where) for name, where in columns.items()]
    for number, (name, where) in enumerate(places):
        for again in range(n_permutations):
            rows = control_rows(s, "permuted", groups=groups, places=where, seed=[seed, number, again])
            yield Control(name, again, rows)


def _require_covariates(covariates: Any) -> npt.NDArray[Any]:
    array = as_array(covariates)
    if array.ndim != 2 or not array.size or array.dtype.kind != "f":
        raise EvaluationError(
            f"covariates: expected floating-point numbers of shape (N, K), got shape {array.shape} of {array.dtype}"
        )
    require_finite(array, "covariates")
    return array
