"""Parameter groups for an optimizer: the backbone's parameters, and those that the covariates multiply.

Weight decay pulls a parameter towards 0, which for V is the network without covariates. V starts there, its gradient
is often small beside W's, and the decay that suits a pretrained backbone then keeps it there. So V, c and the map, and
whatever the other methods add, get a group of their own, without decay unless asked for.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import nn

from fusionconv.errors import SurgeryError
from fusionconv.layers import CovariateLayer

__all__ = ["param_groups"]


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    covariate_lr: float | None = None,
    covariate_weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """The trainable parameters of ``model`` in the groups "backbone" and "covariates", as torch optimizers take them.

    "covariates" holds covariate_weight (V), covariate_bias (c) and covariate_map of every hybrid layer, fused or built
    by hand, and what any other method adds to a layer, also inside DDP, ``fully_shard`` and ``torch.compile``;
    "backbone" holds everything else. Parameters with ``requires_grad=False`` are left out, one that is registered
    several times stands once, and an empty group is left out: a model without such layers gives "backbone" alone, so
    that both arms of a study can use the same line.
    Call it after the surgery, and after ``fully_shard``, which replaces the parameters.

    Args:
        model: any module, wrapped or not.
        lr: learning rate of the backbone, at least 0.
        weight_decay: of the backbone, at least 0.
        covariate_lr: learning rate of the covariate parameters; None: ``lr``.
        covariate_weight_decay: of the covariate parameters.

    Returns:
        Up to two dicts with "params", "lr", "weight_decay" and "name" (which learning-rate monitors show).

    Raises:
        TypeError: ``model`` is not a module, or a rate or decay is not a number.
        ValueError: a rate or decay is negative, NaN or infinite, or no parameter is trainable.
        SurgeryError: the parameters are flattened into one (FSDP with ``use_orig_params=False``).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2)
        >>> groups = fusionconv.param_groups(model, lr=1e-3, weight_decay=0.05)
        >>> [(g["name"], len(g["params"]), g["weight_decay"]) for g in groups]
        [('backbone', 4, 0.05), ('covariates', 1, 0.0)]
        >>> optimizer = torch.optim.AdamW(groups)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    covariate_lr = lr if covariate_lr is None else covariate_lr
    settings = {
        "backbone": {"lr": _number("lr", lr), "weight_decay": _number("weight_decay", weight_decay)},
        "covariates": {
            "lr": _number("covariate_lr", covariate_lr),
            "weight_decay": _number("covariate_weight_decay", covariate_weight_decay),
        },
    }
    of_covariates = _covariate_parameters(model)
    params: dict[str, list[nn.Parameter]] = {"backbone": [], "covariates": []}
    for p in model.parameters():  # each once
        if p.requires_grad:
            params["covariates" if id(p) in of_covariates else "backbone"].append(p)
    groups = [{"params": params[name], **settings[name], "name": name} for name in params if params[name]]
    if not groups:
        raise ValueError(
            f"expected at least one parameter that requires a gradient, {type(model).__name__} has none; unfreeze what "
            "is to be trained (requires_grad_(True)) before making the groups"
        )
    return groups


def _covariate_parameters(model: nn.Module) -> set[int]:
    """The ids of what each fusion layer adds, also where a parametrization or pruning has renamed it."""
    found: set[int] = set()
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
        found.update(id(p) for p in own.values())
    return found


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
