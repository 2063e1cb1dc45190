"""What does a fused model lose when its covariates are zeros, the mean, or another person's? One table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from fusionconv.errors import EvaluationError
from fusionconv.evaluation.arrays import require_rows
from fusionconv.evaluation.controls import control_inputs
from fusionconv.evaluation.missing import as_array, require_no_missing
from fusionconv.surgery.eval_mode import in_eval_mode
from fusionconv.tabular.encoder import CovariateEncoder

__all__ = ["ControlPredictions", "control_predictions", "covariate_controls"]

Metric = Callable[[Any, Any], float]


@dataclass(frozen=True)
class ControlPredictions:
    """What a model said to each control input.

    Attributes:
        target: (N, ...) as the loader gave it.
        ids: N texts, or None where the batches had none.
        predictions: by control, an array (N, ...) for each permutation (one for "true", "zero" and "mean").

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.evaluation import control_predictions
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.Flatten())
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2)
        >>> batch = (torch.randn(4, 1, 3, 3), torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))
        >>> found = control_predictions(model, [batch])
        >>> found.target.tolist(), sorted(found.predictions)
        ([0, 1, 1, 0], ['permuted', 'true', 'zero'])
    """

    target: npt.NDArray[Any]
    ids: list[str] | None
    predictions: dict[str, list[npt.NDArray[Any]]]


def covariate_controls(
    model: nn.Module,
    loader: Iterable[Any],
    metric: Metric | Mapping[str, Metric],
    *,
    encoder: CovariateEncoder | Mapping[str, slice] | None = None,
    reference: Any = None,
    groups: Any = None,
    predict: Callable[[Any], Any] | None = None,
    n_permutations: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """The metric of a model with its true covariates and with each control input of :func:`control_inputs`.

    A model that loses nothing under "permuted" does not use its covariates for what the metric measures. One that loses
    much may use them instead of the image, not beside it: compare with an arm of covariates only. Permuted columns make
    combinations that no person has, on which the model was not trained.

    Args:
        model: called as ``model(images, covariates)``, in evaluation mode and without gradients; every module's mode is
            put back afterwards, also after an error.
        loader: batches ``{"image", "covariates", "target", ...}`` or ``(images, covariates, targets)``, in the same
            order whenever it is iterated (``shuffle=False``): it is iterated twice, first for the covariates alone.
        metric: ``metric(target, prediction)`` on arrays of all rows, or several by name.
        predict: what makes predictions of the model's output, such as ``lambda logits: logits.softmax(1)[:, 1]``; None:
            the output itself.
        groups: each row's subject, in the loader's order, or by id for batches with ``"id"``.
        encoder, reference, n_permutations, seed: as for :func:`control_inputs`.
        device: where to; None: where the model's first parameter is.

    Returns:
        A DataFrame: control, metric, value (the mean over permutations), difference (from "true"), sd (over
        permutations; NaN for one), permutations.

    Raises:
        EvaluationError: a loader that shuffles, batches of another form, no batches, ids without a subject.

    >>> import fusionconv
    >>> model = fusionconv.fuse_into(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten()), 0, num_covariates=1)
    >>> s = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    >>> batches = [(torch.ones(4, 1, 1), s, s[:, 0])]
    >>> error = lambda target, predicted: float(abs(target - predicted[:, 0]).mean())
    >>> covariate_controls(model, batches, error)["difference"].tolist()  # V = 0: covariates do nothing yet
    [0.0, 0.0, 0.0]
    """
    metrics = dict(metric) if isinstance(metric, Mapping) else {getattr(metric, "__name__", "metric"): metric}
    found = control_predictions(
        model,
        loader,
        encoder=encoder,
        reference=reference,
        groups=groups,
        predict=predict,
        n_permutations=n_permutations,
        seed=seed,
        device=device,
    )
    rows = []
    for name, measure in metrics.items():
        true = float(measure(found.target, found.predictions["true"][0]))
        for control, predictions in found.predictions.items():
            values = np.array([float(measure(found.target, p)) for p in predictions])
            sd = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
            mean = float(values.mean())
            rows.append((control, name, mean, mean - true, sd, len(values)))
    return pd.DataFrame(rows, columns=["control", "metric", "value", "difference", "sd", "permutations"])


def control_predictions(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    encoder: CovariateEncoder | Mapping[str, slice] | None = None,
    reference: Any = None,
    groups: Any = None,
    predict: Callable[[Any], Any] | None = None,
    n_permutations: int = 1,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> ControlPredictions:
    """The predictions behind :func:`covariate_controls`, to keep, to join over folds, or for a paired test.

    Arguments and errors are those of :func:`covariate_controls`. ``paired_bootstrap(metric,
    found.target, found.predictions["true"][0], found.predictions["permuted"][0], groups)`` tells whether the covariates
    matter beyond chance.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.evaluation import control_predictions
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.Flatten())
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2)
        >>> batch = (torch.randn(4, 1, 3, 3), torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))
        >>> found = control_predictions(model, [batch], n_permutations=3)
        >>> len(found.predictions["permuted"]), found.predictions["true"][0].shape
        (3, (4, 1))
    """
    if isinstance(getattr(loader, "sampler", None), RandomSampler):
        raise EvaluationError(
            "loader: expected the same order whenever it is iterated, got shuffle=True; give shuffle=False"
        )
    batches = [_parts(batch)[1:] for batch in loader]  # the images are let go
    if not batches:
        raise EvaluationError(
            "loader: expected at least one batch, got none; an iterator that is used up must be made anew"
        )
    covariates = np.concatenate([as_array(s) for s, _, _ in batches])
    ids = None if batches[0][2] is None else [str(i) for _, _, names in batches for i in names]
    controls = list(
        control_inputs(
            covariates,
            encoder=encoder,
            reference=reference,
            groups=_subjects(groups, ids),
            n_permutations=n_permutations,
            seed=seed,
        )
    )
    where = device if device is not None else next((p.device for p in model.parameters()), torch.device("cpu"))
    said: list[list[npt.NDArray[Any]]] = [[] for _ in controls]
    targets, start = [], 0
    with torch.no_grad(), in_eval_mode(model):
        for batch in loader:
            images, s, target, names = _parts(batch)
            stop = start + len(s)
            same = np.array_equal(as_array(s), covariates[start:stop])
            if not same or (ids is not None and [str(i) for i in names] != ids[start:stop]):
                raise EvaluationError(
                    f"loader: expected the same rows both times, got others at rows {start} to {stop - 1}; use "
                    "shuffle=False and covariates that no transform changes"
                )
            images = images.to(where)
            for control, outputs in zip(controls, said, strict=True):
                rows = torch.from_numpy(control.rows[start:stop]).to(where, s.dtype)
                output = model(images, rows)
                array = as_array(output if predict is None else predict(output))
                require_rows(stop - start, "predictions of a batch", array)
                outputs.append(require_no_missing(array, f"predictions ({control.name}) of rows {start} on"))
            targets.append(require_no_missing(as_array(target, "target"), f"target of rows {start} on", ("None",)))
            start = stop
    if start != len(covariates):
        raise EvaluationError(f"loader: expected {len(covariates)} rows both times, got {start} the second time")
    predictions: dict[str, list[npt.NDArray[Any]]] = {}
    for control, outputs in zip(controls, said, strict=True):
        predictions.setdefault(control.name, []).append(np.concatenate(outputs))
    return ControlPredictions(np.concatenate(targets), ids, predictions)


def _parts(batch: Any) -> tuple[Tensor, Tensor, Any, Any]:
    """Images, covariates, targets and ids (or None) of a batch."""
    if isinstance(batch, Mapping) and {"image", "covariates", "target"} <= set(batch):
        parts = (batch["image"], batch["covariates"], batch["target"], batch.get("id"))
    elif isinstance(batch, (tuple, list)) and len(batch) == 3:
        parts = (*batch, None)
    else:
        got = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise EvaluationError(
            f"loader: expected batches {{'image', 'covariates', 'target'}} or (images, covariates, targets), got {got}"
        )
    for name, part in zip(("images", "covariates", "targets", "ids"), parts, strict=True):
        if part is not None and len(part) != len(parts[1]):
            raise EvaluationError(f"loader: expected {len(parts[1])} {name} in a batch, got {len(part)}")
    return parts


def _subjects(groups: Any, ids: list[str] | None) -> Any:
    """Each row's subject, in the loader's order."""
    if not isinstance(groups, Mapping):
        return groups
    if ids is None:
        raise EvaluationError(
            "groups: expected subjects in the loader's order, got subjects by id for batches without ids"
        )
    absent = [i for i in ids if i not in groups]
    if absent:
        raise EvaluationError(
            f"groups: expected a subject for every id, got none for {len(absent)}, such as {absent[0]!r}"
        )
    return [groups[i] for i in ids]
