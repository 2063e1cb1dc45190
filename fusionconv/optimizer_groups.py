"""Parameter groups for an optimizer: the backbone's parameters, and those that the covariates multiply.

Weight decay pulls a parameter towards 0, which for V is the network without covariates. V starts there, its gradient
is often small beside W's, and the decay that suits a pretrained backbone then keeps it there. So V, c and the map, and
whatever the other methods add, get groups of their own, without decay unless asked for, and with a smaller rate.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusionconv.errors import SurgeryError
from fusionconv.layers import CovariateLayer

__all__ = ["param_groups"]

_BLOCK = 10_000  # rows of `covariates` that are looked at together


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    covariate_lr: float | None = None,
    covariate_weight_decay: float = 0.0,
    *,
    covariates: Any = None,
) -> list[dict[str, Any]]:
    r"""The trainable parameters of ``model`` in groups, "backbone" and "covariates", as torch optimizers take them.

    The covariate groups hold covariate_weight (V), covariate_bias (c) and covariate_map of every hybrid layer, fused or
    built by hand, and what any other method adds to a layer, also inside DDP, ``fully_shard`` and ``torch.compile``;
    "backbone" holds everything else. Parameters with ``requires_grad=False`` are left out, one that is registered
    several times stands once, and an empty group is left out: a model without such layers gives "backbone" alone, so
    that both arms of a study can use the same line.
    Call it after the surgery, and after ``fully_shard``, which replaces the parameters.

    **The step of a kernel.** A sample's kernel is ``W + sum_j s_ij V_j``, so a step changes it by

        d kernel_i = dW + sum_j s_ij dV_j.

    Adam's first step changes every entry of W and of each V_j by the same amount, its rate: with one rate for both the
    kernel moves up to ``1 + sum_j |s_ij|`` times as far as a plain layer's, about 1 + K times with K standardised
    covariates. (SGD: ``dV_j`` is in proportion to s_ij, the kernel moves ``1 + sum_j s_ij^2`` times as far.) So the
    rate of V and c is ``lr / K`` unless you give another: W and the covariates then move a kernel alike. For the other
    methods the same holds with F, how many numbers multiply a parameter that makes kernels, scales or shifts:

    =======================  ==========================  ===============================
    method                   parameters with ``lr / F``  F
    =======================  ==========================  ===============================
    hybrid                   V, c                        K, with ``rank`` R
    hyper                    V, c                        hidden units H, with ``rank`` R
    lowrank                  d                           r
    condconv                 V, c                        experts E
    film without ``hidden``  C2                          K
    =======================  ==========================  ===============================

    What is in front of these (``covariate_map``, C1, c1, the routing) keeps ``lr``: its step reaches a kernel
    multiplied by V, which starts at 0. So does lowrank's A, whose step is multiplied by the filters B, with numbers of
    about 1 / sqrt(inputs of a kernel). So do the networks with hidden units of film, scale, attention and daft (a
    smaller rate of C2 made seeds of daft and scale fail: docs/choosing.md), and ``concat``, a linear layer with more
    inputs.

    Give ``covariates`` where columns are one-hot or mostly 0: then F is the mean over their rows of the sum of
    ``|s_ij|`` (of hyper's hidden units), but at least 1. Ten one-hot columns have F = 1, not 10.

    Args:
        model: any module, wrapped or not.
        lr: learning rate of the backbone, at least 0.
        weight_decay: of the backbone, at least 0.
        covariate_lr: learning rate of all the covariate parameters; None: ``lr / F`` or ``lr``, as above. With
            ``covariate_lr=lr`` all parameters have one rate.
        covariate_weight_decay: of the covariate parameters.
        covariates: training rows (N, K) as the network gets them, tensor, array or DataFrame; None: F counts the
            numbers. All layers get the same covariates.

    Returns:
        Dicts with "params", "lr", "weight_decay" and "name" (which learning-rate monitors show): "backbone", and
        "covariates", or where their rates differ one group for each, such as "covariates/8" for a rate of lr / 8.

    Raises:
        TypeError: ``model`` is not a module, or a rate or decay is not a number.
        ValueError: a rate or decay is negative, NaN or infinite, no parameter is trainable, or ``covariates`` are not
            finite rows of K numbers.
        SurgeryError: the parameters are flattened into one (FSDP with ``use_orig_params=False``).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2)
        >>> groups = fusionconv.param_groups(model, lr=1e-3, weight_decay=0.05)
        >>> [(g["name"], len(g["params"]), g["lr"], g["weight_decay"]) for g in groups]
        [('backbone', 4, 0.001, 0.05), ('covariates', 1, 0.0005, 0.0)]
        >>> one_hot = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> fusionconv.param_groups(model, lr=1e-3, weight_decay=0.05, covariates=one_hot)[1]["lr"]
        0.001
        >>> optimizer = torch.optim.AdamW(groups)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    lr, weight_decay = _number("lr", lr), _number("weight_decay", weight_decay)
    given = None if covariate_lr is None else _number("covariate_lr", covariate_lr)
    covariate_weight_decay = _number("covariate_weight_decay", covariate_weight_decay)
    divisors = _covariate_parameters(model, _rows(covariates), given is None)
    backbone: list[nn.Parameter] = []
    of_covariates: dict[float, list[nn.Parameter]] = {}
    for p in model.parameters():  # each once
        if not p.requires_grad:
            continue
        if id(p) not in divisors:
            backbone.append(p)
        else:
            of_covariates.setdefault(divisors[id(p)], []).append(p)
    groups: list[dict[str, Any]] = []
    if backbone:
        groups.append({"params": backbone, "lr": lr, "weight_decay": weight_decay, "name": "backbone"})
    for divisor, params in sorted(of_covariates.items()):
        groups.append({
            "params": params, "lr": lr / divisor if given is None else given, "weight_decay": covariate_weight_decay,
            "name": f"covariates/{divisor:.4g}" if len(of_covariates) > 1 else "covariates",
        })  # fmt: skip
    if not groups:
        raise ValueError(
            f"expected at least one parameter that requires a gradient, {type(model).__name__} has none; unfreeze what "
            "is to be trained (requires_grad_(True)) before making the groups"
        )
    return groups


def _rows(covariates: Any) -> Tensor | None:
    """The covariates in float64."""
    if covariates is None:
        return None
    if isinstance(covariates, Tensor):
        rows = covariates.detach().to_dense().to("cpu", torch.float64)
    else:
        try:
            rows = torch.from_numpy(np.array(covariates, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"covariates: expected training rows (N, K) of numbers, got {type(covariates).__name__} with others "
                f"({error}); give them as the encoder makes them"
            ) from error
    if rows.ndim != 2 or len(rows) == 0 or not rows.isfinite().all():
        got = "NaN or infinity among them" if rows.ndim == 2 and len(rows) else f"shape {tuple(rows.shape)}"
        raise ValueError(f"covariates: expected finite training rows (N, K), got {got}; give them as the encoder makes "
                         "them")  # fmt: skip
    return rows


def _covariate_parameters(model: nn.Module, rows: Tensor | None, scaled: bool) -> dict[int, float]:
    """By id of what each fusion layer adds, also where a parametrization or pruning has renamed it: what divides lr."""
    found: dict[int, float] = {}
    for layer_name, layer in model.named_modules():
        if not isinstance(layer, CovariateLayer):
            continue
        own: dict[str, nn.Parameter] = {
            name: p for name, p in layer.named_parameters() if _is_of_covariates(name, layer.ADDED)
        }
        if not own:
            raise SurgeryError(
                f"the {layer.METHOD} layer {layer_name!r} has no covariate_weight among its parameters, got "
                f"{[name for name, _ in layer.named_parameters()]}; FullyShardedDataParallel flattens them into one "
                "unless it is made with use_orig_params=True (fully_shard leaves them apart)"
            )
        if rows is not None and rows.shape[1] != layer.num_covariates:
            raise ValueError(
                f"covariates: expected {layer.num_covariates} columns for the layer {layer_name!r}, got "
                f"{rows.shape[1]}; give the rows that the network gets"
            )
        divisors = _divisors(layer, own, rows) if scaled else {}
        for name, p in own.items():
            found.setdefault(id(p), divisors.get(name, 1.0))
    return found


def _divisors(layer: CovariateLayer, own: dict[str, nn.Parameter], rows: Tensor | None) -> dict[str, float]:
    """F of those of a layer's own parameters that have one: with rows, the mean over all of them."""
    sums: dict[str, float] = {}
    for block in [None] if rows is None else rows.split(_BLOCK):
        count = 1 if block is None else len(block)
        for known, numbers in layer.multipliers(block).items():
            size = numbers * count if isinstance(numbers, int) else float(numbers.abs().sum())
            sums[known] = sums.get(known, 0) + size
    return {
        name: max(1.0, total / (1 if rows is None else len(rows)))
        for known, total in sums.items()
        for name in own
        if _is_of_covariates(name, (known,))
    }


def _is_of_covariates(name: str, added: tuple[str, ...]) -> bool:
    """ "covariate_weight", "covariate_weight_orig" (pruning), "parametrizations.covariate_weight.original"."""
    parts = name.removeprefix("parametrizations.").split(".")
    return any(parts[0] in (known, f"{known}_orig") for known in added)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        hint = "; YAML reads 1e-5 as text, write 1.0e-5" if isinstance(value, str) else ""
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__}){hint}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    return float(value)
