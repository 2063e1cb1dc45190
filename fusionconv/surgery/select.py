"""Which layer is meant: layer_idx resolved against the convolutions of a model in order.

An index counts everything in registration order. The words "first", "last" and "all" see the main path only (roles.py),
and so do "encoder", "bottleneck" and "decoder" (parts.py).
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.errors import LayerChoiceWarning, SurgeryError
from fusionconv.layers import CovariateLayer
from fusionconv.layers.base import native, num_outputs
from fusionconv.surgery.fused_layers import FUSED_CLASSES
from fusionconv.surgery.parts import PARTS, parts_of
from fusionconv.surgery.roles import MAIN, num_inputs, roles_of
from fusionconv.surgery.wrappers import class_of_its_own, inside_a_wrapper, own_methods

__all__ = ["LayerIndex", "resolve", "why_not"]

WORDS = ("first", "last", "all")

LayerIndex: TypeAlias = "int | str | Callable[[str, nn.Module], bool] | Sequence[int | str]"


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
    if special := class_of_its_own(module.weight):
        return f"its weight is {special}; fuse first, then shard or quantise"
    if not nn.parameter.is_lazy(module.weight) and not module.weight.is_floating_point():
        return f"its weight is {module.weight.dtype}, and covariates act on real floating-point weights only"
    if own := own_methods(module):
        return f"it {own}"
    return None


def resolve(model: nn.Module, layer_idx: LayerIndex, method: str = "hybrid") -> list[str]:
    """The names of the layers that ``layer_idx`` means, checked, in registration order, without duplicates.

    Ints, words and predicates see the convolutions, or for a method that takes linear layers only, the linear layers.

    Raises:
        SurgeryError: no such layer, none at all, one that cannot be fused, or a name that could mean several.
        TypeError: ``layer_idx`` is of no known kind.
    """
    choice = _Choice(model, method)
    if callable(layer_idx) and not isinstance(layer_idx, nn.Module):
        modules = dict(model.named_modules())
        names = [name for name in choice.counted if layer_idx(name, modules[name])]
        if not names:
            other = "" if choice.linear else " (linear layers are chosen by name only)"
            raise SurgeryError(
                f"layer_idx: the predicate chose none of the {len(choice.counted)} {choice.kinds}{other}; "
                f"{_hint(model)}"
            )
    else:
        layer_idx = native(layer_idx)
        one = isinstance(layer_idx, (int, str))
        wanted: Sequence[int | str] = [layer_idx] if one else layer_idx  # type: ignore[list-item,assignment]
        if isinstance(layer_idx, bool) or not isinstance(wanted, (list, tuple)):
            raise TypeError(
                "layer_idx must be an int, a dotted name, 'first', 'last', 'all', 'encoder', 'bottleneck', 'decoder', "
                "a predicate (name, module) -> bool, "
                f"or a list of ints and names, got {type(layer_idx).__name__}"
            )
        if not wanted:
            raise SurgeryError(f"layer_idx is an empty list; {_hint(model)}")
        names = [name for want in wanted for name in choice.names(native(want))]
    for name in names:
        reason = inside_a_wrapper(model, name) or _why_not_here(model, name, method)
        if reason:
            raise SurgeryError(f"layer {name!r} of {type(model).__name__} cannot be fused: {reason}")
    for note in choice.notes:
        warnings.warn(note, LayerChoiceWarning, stacklevel=3)  # the caller of fuse_into
    return [name for name, _ in model.named_modules() if name in names]


class _Choice:
    """What can be chosen in one model by one method: the layers that count, and their roles."""

    def __init__(self, model: nn.Module, method: str) -> None:
        self.model, self.method = model, method
        self.notes: list[str] = []  # what to warn of, once all is checked
        self.linear = list(FUSED_CLASSES[method]) == [nn.Linear]
        self.kinds = "nn.Linear" if self.linear else "convolution(s)"
        self.roles = roles_of(model)
        self.parts = parts_of(model, self.roles)
        self.counted = self._layers_of(model)

    def _layers_of(self, module: nn.Module) -> list[str]:
        """The layers in ``module`` that count for the method, by their (first) names in the model."""
        first = {m: name for name, m in self.model.named_modules()}
        return [first[m] for m in module.modules() if isinstance(m, nn.Linear if self.linear else _ConvNd)]

    def names(self, want: object) -> list[str]:
        """The layers that one int or text means."""
        if isinstance(want, bool) or not isinstance(want, (int, str)):
            raise TypeError(f"layer_idx must hold ints and dotted names, got {want!r} ({type(want).__name__})")
        if isinstance(want, int):
            return [self._at(want)]
        modules = dict(self.model.named_modules(remove_duplicate=False))
        if want in PARTS and (self.parts or want not in modules):
            return self._by_part(want)
        prefix, _, word = want.rpartition(".")
        meant = self._by_word(modules[prefix], prefix, word) if word in WORDS and prefix in modules else []
        if want not in modules:
            return meant or self._nothing(want, modules)
        module = modules[want]
        named = [name for name, m in self.model.named_modules() if m is module]
        if meant and meant != named:
            raise SurgeryError(
                f"layer_idx {want!r} could mean the module of that name or {_some(meant)}; name the layer itself, or "
                f"give its index; {_hint(self.model)}"
            )
        inside = [] if not want or isinstance(module, (_ConvNd, nn.Linear)) else self._layers_of(module)
        return [self._in_container(module, want, inside)] if inside else named

    def _at(self, index: int) -> str:
        name = type(self.model).__name__
        if not self.counted:
            raise SurgeryError(self._holds_none(name))
        if not -len(self.counted) <= index < len(self.counted):
            raise SurgeryError(
                f"layer_idx must be from {-len(self.counted)} to {len(self.counted) - 1}, since {name} has "
                f"{len(self.counted)} {self.kinds}, got {index}; {_hint(self.model)}"
            )
        found = self.counted[index]
        if self.linear and index >= 0:
            self.notes.append(
                f"layer_idx={index} with method {self.method!r} counts the linear layers, not the convolutions: it is "
                f"{found!r} here; write its name, 'first' or 'last' to say that you mean it"
            )
        elif self.roles[found] != MAIN:
            self.notes.append(
                f"layer_idx={index} is {found!r}, whose role in {name} is {self.roles[found]!r}, not 'main' (see "
                "list_convs); 'first' and 'last' see the main path only; write the name to say that you mean this layer"
            )
        return found

    def _by_word(self, module: nn.Module, prefix: str, word: str) -> list[str]:
        place = repr(prefix) if prefix else type(self.model).__name__
        counted = self._layers_of(module)
        if not counted:
            raise SurgeryError(self._holds_none(place))
        main = [name for name in counted if self.roles[name] == MAIN]
        if not main:
            raise SurgeryError(
                f"{word!r} means layers on the main path, and {place} holds none, only: "
                f"{', '.join(f'{name!r} ({self.roles[name]})' for name in counted[:10])}; choose one of these by name"
            )
        if word != "all":
            chosen = main[0] if word == "first" else main[-1]
            self._note_a_patch_embedding(word, chosen, main)
            return [chosen]
        possible = [name for name in main if _why_not_here(self.model, name, self.method) is None]
        if not possible:
            reason = _why_not_here(self.model, main[0], self.method)
            raise SurgeryError(f"'all': no {self.kinds} of {place} can be fused; {main[0]!r}: {reason}")
        return possible

    def _by_part(self, part: str) -> list[str]:
        """The layers on the main path of a part that can be fused."""
        name = type(self.model).__name__
        parts = self.parts or (dict.fromkeys(self.roles, "encoder") if part == "encoder" else {})
        if not parts:
            raise SurgeryError(
                f"{part!r} means a part of a U-shaped network, and {name} has none: nothing in it makes maps larger "
                f"again; write 'first', 'last', 'all' or a layer's name; {_hint(self.model)}"
            )
        main = [layer for layer in self.counted if parts[layer] == part and self.roles[layer] == MAIN]
        possible = [layer for layer in main if _why_not_here(self.model, layer, self.method) is None]
        if not possible:
            why = f"; {main[0]!r}: {_why_not_here(self.model, main[0], self.method)}" if main else ""
            there = ", ".join(f"{sum(parts[n] == p for n in self.counted)} of the {p}" for p in PARTS)
            raise SurgeryError(
                f"{part!r} means layers on the main path of the {part}, and no {self.kinds} of {name} there can be "
                f"fused (it has {there}){why}; {_hint(self.model)}"
            )
        return possible

    def _note_a_patch_embedding(self, word: str, name: str, main: list[str]) -> None:
        layer: Any = self.model.get_submodule(name)
        if word != "last" or len(main) > 1 or self.linear or max(layer.stride) == 1:
            return
        if tuple(layer.kernel_size) == tuple(layer.stride):
            self.notes.append(
                f"'last' is {name!r}, the patch embedding, as 'first' is: {type(self.model).__name__} has no other "
                "convolution on its main path; for a later layer name a linear one, if the method takes it"
            )

    def _in_container(self, module: nn.Module, want: str, inside: list[str]) -> str:
        """A module's name means its last layer on the main path, if order and shapes leave no doubt which that is."""
        main = [name for name in inside if self.roles[name] == MAIN] or inside
        last = main[-1]
        if len(main) == 1:
            return last
        parts = last.split(".")
        holders = (".".join(parts[:i]) for i in range(len(parts) - 1, -1, -1))
        holder = next(h for h in holders if sum(name.startswith(f"{h}." if h else "") for name in main) > 1)
        before, after = self.model.get_submodule(main[-2]), self.model.get_submodule(last)
        if isinstance(self.model.get_submodule(holder), nn.Sequential) or num_outputs(before) == num_inputs(after):
            return last
        raise SurgeryError(
            f"layer_idx {want!r} names a {type(module).__name__} that holds {len(main)} {self.kinds}, of which the "
            f"last may run beside the others: {_some(main)}; name one of them, or write '{want}.first', '{want}.last' "
            f"(in the order of registration) or '{want}.all'"
        )

    def _holds_none(self, place: str) -> str:
        if self.linear:
            return f"{place} holds no nn.Linear, which layer_idx counts for this method"
        return (
            f"{place} holds no convolution (torch.nn.Conv or ConvTranspose, 1-D to 3-D), which layer_idx counts; a "
            "linear layer is chosen by its name"
        )

    def _nothing(self, want: str, modules: dict[str, nn.Module]) -> NoReturn:
        known = [name for name, m in modules.items() if isinstance(m, (nn.Linear, _ConvNd))]
        near = difflib.get_close_matches(want, known, n=3)
        raise SurgeryError(
            f"layer_idx names {want!r}, which {type(self.model).__name__} does not have"
            + (f"; nearest: {', '.join(map(repr, near))}" if near else "")
            + f"; {_hint(self.model)}"
        )


def _why_not_here(model: nn.Module, name: str, method: str) -> str | None:
    return why_not(model.get_submodule(name), method) or _read_by_parent(model, name)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more


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
