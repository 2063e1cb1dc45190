"""Which layer is meant: the convolutions of a model in order, and layer_idx resolved against them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.errors import SurgeryError
from fusionconv.layers import CovariateLayer
from fusionconv.surgery.fused_layers import FUSED_CLASSES, FusedLayer
from fusionconv.surgery.wrappers import inside_a_wrapper, is_sharded

__all__ = ["ConvInfo", "LayerIndex", "list_convs", "resolve"]

LayerIndex: TypeAlias = "int | str | Callable[[str, nn.Module], bool] | Sequence[int | str]"


@dataclass(frozen=True)
class ConvInfo:
    """One convolution of a model, as `list_convs` tells it."""

    index: int
    name: str
    kind: str
    weight_shape: tuple[int, ...]
    fused: bool
    refused: str | None = None

    def __str__(self) -> str:
        state = "  fused" if self.fused else f"  cannot be fused: {self.refused}" if self.refused else ""
        return f"{self.index:>4}  {self.name:<40} {self.kind:<18} {'x'.join(map(str, self.weight_shape))}{state}"


def list_convs(model: nn.Module) -> list[ConvInfo]:
    """The convolutions of ``model`` in registration order, which is the order that ``layer_idx`` counts.

    Every convolution counts, also one that cannot be fused (then ``refused`` says why), so that an index never
    slides to another layer. A convolution registered under two names counts once, under the first.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3))
        >>> for conv in fusionconv.list_convs(model):
        ...     print(conv.index, conv.name, conv.kind, conv.weight_shape)
        0 0 Conv2d (8, 3, 3, 3)
        1 2 Conv2d (16, 8, 3, 3)
    """
    convs = [(name, m) for name, m in model.named_modules() if isinstance(m, _ConvNd)]
    return [
        ConvInfo(i, name, _kind(m), _shape(m), isinstance(m, FusedLayer), why_not(m))
        for i, (name, m) in enumerate(convs)
    ]


def why_not(module: nn.Module, method: str = "hybrid") -> str | None:
    """Why ``module`` cannot be fused by ``method``, or None if it can."""
    if isinstance(module, CovariateLayer):
        return f"it is a {module.METHOD} layer already"
    if not isinstance(module, (_ConvNd, nn.Linear)):
        return f"it is a {type(module).__name__}, neither a convolution nor a linear layer"
    if nn.utils.parametrize.is_parametrized(module) or "weight" not in module._parameters:
        return "its weight is computed by a parametrization or a hook (weight_norm, spectral_norm); remove that first"
    if type(module) not in FUSED_CLASSES["hybrid"]:
        return f"it is a {type(module).__name__}, a class of its own, not exactly a torch.nn convolution or Linear"
    if type(module) not in FUSED_CLASSES[method]:
        kinds = ", ".join(kind.__name__ for kind in FUSED_CLASSES[method])
        return f"it is a {type(module).__name__}, and method {method!r} takes only: {kinds}"
    if is_sharded(module.weight):
        return f"its weight is a {type(module.weight).__name__} (sharded or quantised); fuse first, then fully_shard"
    return None


def resolve(model: nn.Module, layer_idx: LayerIndex, method: str = "hybrid") -> list[str]:
    """The names of the layers that ``layer_idx`` means, checked, in registration order, without duplicates.

    Ints and predicates see the convolutions, or for a method that takes linear layers only, the linear layers.

    Raises:
        SurgeryError: no such layer, none at all, or one that cannot be fused.
        TypeError: ``layer_idx`` is of no known kind.
    """
    linear = list(FUSED_CLASSES[method]) == [nn.Linear]
    kind = "nn.Linear" if linear else "convolution(s)"
    counted = [name for name, m in model.named_modules() if isinstance(m, nn.Linear if linear else _ConvNd)]
    if callable(layer_idx) and not isinstance(layer_idx, nn.Module):
        modules = dict(model.named_modules())
        names = [name for name in counted if layer_idx(name, modules[name])]
        if not names:
            other = "" if linear else " (linear layers are chosen by name only)"
            raise SurgeryError(
                f"layer_idx: the predicate chose none of the {len(counted)} {kind}{other}; {_hint(model)}"
            )
    else:
        one = isinstance(layer_idx, (int, str))
        wanted: Sequence[int | str] = [layer_idx] if one else layer_idx  # type: ignore[list-item,assignment]
        if isinstance(layer_idx, bool) or not isinstance(wanted, (list, tuple)):
            raise TypeError(
                "layer_idx must be an int, a dotted name, a predicate (name, module) -> bool, or a list of ints and "
                f"names, got {type(layer_idx).__name__}"
            )
        if not wanted:
            raise SurgeryError(f"layer_idx is an empty list; {_hint(model)}")
        names = [_name(model, counted, want, linear) for want in wanted]
    for name in names:
        reason = (
            inside_a_wrapper(model, name) or why_not(model.get_submodule(name), method) or _read_by_parent(model, name)
        )
        if reason:
            raise SurgeryError(f"layer {name!r} of {type(model).__name__} cannot be fused: {reason}")
    return [name for name, _ in model.named_modules() if name in names]


def _name(model: nn.Module, counted: list[str], want: int | str, linear: bool) -> str:
    if isinstance(want, bool) or not isinstance(want, (int, str)):
        raise TypeError(f"layer_idx must hold ints and dotted names, got {want!r} ({type(want).__name__})")
    if isinstance(want, int):
        if not counted:
            raise SurgeryError(
                f"{type(model).__name__} holds no nn.Linear, which layer_idx counts for this method"
                if linear
                else f"{type(model).__name__} holds no convolution (torch.nn.Conv or ConvTranspose, 1-D to 3-D), which "
                "layer_idx counts; a linear layer is chosen by its name"
            )
        if not -len(counted) <= want < len(counted):
            raise SurgeryError(
                f"layer_idx must be from {-len(counted)} to {len(counted) - 1}, since {type(model).__name__} has "
                f"{len(counted)} {'nn.Linear' if linear else 'convolution(s)'}, got {want}; {_hint(model)}"
            )
        return counted[want]
    modules = dict(model.named_modules(remove_duplicate=False))
    if want not in modules:
        known = [name for name, m in modules.items() if isinstance(m, (nn.Linear, _ConvNd))]
        near = difflib.get_close_matches(want, known, n=3)
        raise SurgeryError(
            f"layer_idx names {want!r}, which {type(model).__name__} does not have"
            + (f"; nearest: {', '.join(map(repr, near))}" if near else "")
            + f"; {_hint(model)}"
        )
    first: str = next(name for name, m in model.named_modules() if m is modules[want])
    return first


def _read_by_parent(model: nn.Module, name: str) -> str | None:
    """Why a layer cannot be fused whose parent computes with its weight instead of calling it, or None."""
    if not name:
        return None
    parent = model.get_submodule(name.rpartition(".")[0])
    if isinstance(parent, (nn.TransformerEncoderLayer, nn.MultiheadAttention)):
        return (
            f"{type(parent).__name__} may read its weight instead of calling it (torch's fast path in eval mode), "
            "where the covariates would silently do nothing"
        )
    return None


def _hint(model: nn.Module) -> str:
    return f"fusionconv.list_convs(model) lists what {type(model).__name__} has"


def _kind(module: nn.Module) -> str:
    return module.plain_class().__name__ if isinstance(module, CovariateLayer) else type(module).__name__


def _shape(module: _ConvNd) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return () if weight is None or nn.parameter.is_lazy(weight) else tuple(weight.shape)
