"""One call of a model, fused or of one's own, to look at it: with the covariates given, or with zeros."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.errors import FusionError, SurgeryError
from fusionconv.layers import CovariateLayer
from fusionconv.surgery.root import is_fused_root, owner_of

__all__ = ["call", "count_covariates", "takes_covariates", "zero_covariates", "zero_image"]


def call(model: nn.Module, x: Tensor, s: Tensor | None) -> Any:
    """What ``model`` gives for images and covariates; ``s`` None: for images alone."""
    _require_one_image(model, s)
    if s is None:
        return model(x)
    return model(x, covariates=s) if is_fused_root(model) else model(x, s)


def _require_one_image(model: nn.Module, s: Tensor | None) -> None:
    """Raise where ``model`` is not called with one tensor of images (and its covariates)."""
    kind: type[nn.Module] = getattr(type(model), "_fusion_base", type(model))
    if "forward" in vars(model):  # of this one model; it says itself what it takes
        return
    given: list[Any] = [model, None, *([] if s is None or is_fused_root(model) else [None])]
    try:
        inspect.signature(kind.forward).bind(*given)
    except TypeError as error:
        raise SurgeryError(
            f"expected a network that is called with one batch of images, got {kind.__name__}, whose forward says: "
            f"{error}; wrap it in a module whose forward(x) calls it"
        ) from None


def takes_covariates(model: nn.Module) -> bool:
    """Whether ``model`` is called as ``model(x, covariates)``: a fused root, a layer, or one of one's own."""
    if is_fused_root(model):
        return True
    parameters = list(inspect.signature(model.forward).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    second = [p for p in parameters if p.kind in kinds][1:2]
    return any(p.default is inspect.Parameter.empty or p.name == "covariates" for p in second)


def count_covariates(model: nn.Module) -> int | None:
    """K of a fused root, or else of the layers in ``model``; None where nothing takes covariates."""
    if is_fused_root(model):
        return owner_of(model).num_covariates or None
    return max((m.num_covariates for m in model.modules() if isinstance(m, CovariateLayer)), default=0) or None


def zero_covariates(model: nn.Module, x: Tensor) -> Tensor | None:
    """Zeros (N, K) for ``x``; None where ``model`` is called with images alone."""
    K = count_covariates(model)
    return None if K is None or not takes_covariates(model) else x.new_zeros(len(x), K)


def zero_image(model: nn.Module, input_size: Sequence[int], error: type[FusionError] = SurgeryError) -> Tensor:
    """Zeros (1, C, *size) in the model's dtype and on its device.

    Raises:
        SurgeryError, or ``error``: no size.
    """
    try:
        size = [operator.index(n) for n in input_size]
    except TypeError:
        size = []
    if not size or min(size) < 1:
        raise error(f"input_size: expected (C, *size) of one image, such as (3, 224, 224), got {input_size!r}")
    like = next(model.parameters(), torch.empty(0))
    return torch.zeros(1, *size, dtype=like.dtype, device=like.device)
