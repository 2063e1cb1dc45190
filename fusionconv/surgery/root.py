"""The root of a fused network: its class becomes ``Fused<Name>``, whose forward takes the covariates too.

The subclass differs in two things only: ``forward(images, covariates, ...)`` opens a frame around the original
forward, and copying or pickling rebuilds from the original class (the subclass itself is made at run time).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import check_covariates, largest_magnitude
from fusionconv.errors import SurgeryError, UnusedCovariatesWarning
from fusionconv.surgery.adapters import refuse_adapters
from fusionconv.surgery.frames import Frame, Owner, current_frame, missing_covariates
from fusionconv.surgery.fused_layers import FusedLayer
from fusionconv.surgery.window_guard import check_windows

__all__ = ["base_class", "covariates", "fused_class", "is_fused_root", "owner_of", "takes_covariates_by_name"]

P = inspect.Parameter


def is_fused_root(model: nn.Module) -> bool:
    """Whether ``model`` is the root of a fused network."""
    return hasattr(type(model), "_fusion_base")


def owner_of(model: nn.Module) -> Owner:
    """The identity that ``model`` shares with its fused layers.

    Raises:
        SurgeryError: ``model`` was not fused.
    """
    if not is_fused_root(model):
        raise SurgeryError(
            f"expected a model that fuse_into has fused, got {type(model).__name__}; call fuse_into(model, layer_idx, "
            "num_covariates) first, and pass the model itself, not a wrapper around it (DDP: wrapper.module)"
        )
    owner: Owner = model.__dict__["fusion_owner"]
    return owner


def base_class(model: nn.Module) -> type[nn.Module]:
    """The class that a fused root had before.

    Raises:
        SurgeryError: the class was changed again since (a parametrization of the root does that).
    """
    if "_fusion_base" not in type(model).__dict__:
        raise SurgeryError(
            f"the class of the fused model was changed to {type(model).__name__} since; a parametrization does that "
            "(undo it: torch.nn.utils.parametrize.remove_parametrizations), and fully_shard (load the full state dict "
            "into a model that is not sharded, and go on with that)"
        )
    base: type[nn.Module] = type(model).__dict__["_fusion_base"]
    return base


def open_frame(model: nn.Module, s: Tensor | None) -> Frame:
    """The frame of one call: of ``s``, or of the enclosing ``with covariates(model, s)`` when ``s`` is None."""
    owner: Owner = model.__dict__["fusion_owner"]
    if s is None:
        enclosing = current_frame(owner)
        if enclosing is None:
            raise missing_covariates(owner)
        s = enclosing.covariates
        largest = None if torch.compiler.is_compiling() else enclosing.look_again()
    else:
        largest = look_at(owner, s)
    check_windows(owner.model_name, s)
    if not torch.compiler.is_compiling():
        refuse_adapters(model, owner)
    return Frame(owner, s, largest)


def look_at(owner: Owner, s: Tensor) -> float | None:
    """Check covariates of a call in all but their row count, which each layer compares with its own input.

    Returns:
        Their largest absolute value; None where it cannot be read, or nobody wants to know.

    Raises:
        CovariateError, CovariateTypeError: as `check_covariates`.
    """
    check_covariates(s, owner.num_covariates, check_finite=False)
    return largest_magnitude(s) if owner.check_finite else None


def warn_of_unreached(model: nn.Module, frame: Frame) -> None:
    """Warn if a fused layer did not run in the call that ``frame`` belongs to.

    A network that skips a layer may mean it; one that reads the layer's weight itself, or folded it into another
    layer, computes without the covariates and would not tell. Compiled parts do not report what ran: no warning.
    """
    if torch.compiler.is_compiling() or len(frame.reached) >= len(frame.owner.layers):
        return
    if any(_has_compiled_parts(m) for m in model.modules()):
        return
    names = [name for name in frame.owner.layers if name not in frame.reached]
    if names:
        warnings.warn(
            f"{frame.owner.model_name}: fused layer(s) {', '.join(map(repr, names))} did not run in this call, so "
            "the covariates did nothing there; either this call skips them (an auxiliary head in eval mode), or the "
            "network reads their weight by itself or has replaced them: then choose other layers",
            UnusedCovariatesWarning,
            stacklevel=3,
        )


def _has_compiled_parts(module: nn.Module) -> bool:
    """Whether the module, or a method of it, was given to torch.compile."""
    if getattr(module, "_compiled_call_impl", None) or hasattr(module, "_orig_mod"):
        return True
    return any(hasattr(value, "_torchdynamo_orig_callable") for value in vars(module).values())


def covariates(model: nn.Module, s: Tensor) -> Frame:
    """Give ``model``'s fused layers the covariates ``s`` (N, K) inside a ``with`` block.

    For calls that are not ``model(images, covariates)``, such as ``model.forward_features(images)``.

    Raises:
        SurgeryError: the model was not fused. CovariateError: ``s`` does not fit it.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=1)
        >>> with fusionconv.covariates(model, torch.ones(2, 1)):
        ...     first = model[0](torch.randn(2, 3, 8, 8))
        >>> first.shape
        torch.Size([2, 8, 6, 6])
    """
    owner = owner_of(model)
    refuse_adapters(model, owner)
    return Frame(owner, s, look_at(owner, s), by_hand=True)


_classes: dict[tuple[type[nn.Module], Any], type[nn.Module]] = {}  # a patched forward makes another class


def fused_class(base: type[nn.Module]) -> type[nn.Module]:
    """``Fused<base>``; the same class object each time, so that ``type(a) is type(b)`` holds for fused twins.

    ``forward`` is written out with ``base``'s own parameters (torch.export and torch.compile read its signature) and
    ``covariates`` behind the required positional ones: ``forward(x, mask=None)`` becomes
    ``forward(x, covariates=None, mask=None)``. A forward that has a parameter of that name keeps its signature, and
    both the fused layers and the forward itself get the value. One that names no required positional parameter, such
    as a decorated ``forward(*args, **kwargs)``, does not tell where its own arguments end: ``covariates=...`` only.

    Raises:
        SurgeryError: the class refuses to have subclasses.
    """
    forward_of_base = base.forward
    if (base, forward_of_base) in _classes:
        return _classes[base, forward_of_base]
    parameters = list(inspect.signature(forward_of_base).parameters.values())
    if parameters and parameters[0].kind is not P.VAR_POSITIONAL:  # self; a decorator may take it in *args
        parameters = parameters[1:]
    taken = "covariates" in [p.name for p in parameters]
    signature = parameters if taken else _with_covariates(parameters)
    defaults = {f"_default_{p.name}": p.default for p in signature if p.default is not P.empty}
    namespace: dict[str, Any] = {
        "_base_forward": forward_of_base,
        "_open_frame": open_frame,
        "_warn_of_unreached": warn_of_unreached,
        **defaults,
    }
    source = (
        f"def forward({', '.join(['self', *_declare(signature)])}):\n"
        f"    with _open_frame(self, covariates) as _frame:\n"
        f"        _result = _base_forward({', '.join(['self', *_pass_on(parameters)])})\n"
        f"    _warn_of_unreached(self, _frame)\n"
        f"    return _result\n"
    )
    exec(source, namespace)
    forward = namespace["forward"]
    forward.__doc__ = forward_of_base.__doc__
    forward.__module__ = __name__

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:  # noqa: N807
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _rebuild, (base,), state

    @functools.wraps(base.__init__)
    def __init__(self: nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        # Code that builds another of its own kind, such as a slice of an nn.Sequential, gets the original class: its
        # fused layers still belong to the model that they were taken from. A replica by torch is made without this.
        if "fusion_owner" not in vars(self):
            self.__class__ = base
        base.__init__(self, *args, **kwargs)

    body = {
        "__module__": base.__module__,
        "__doc__": base.__doc__,
        "_fusion_base": base,
        "forward": forward,
        "__init__": __init__,
        "__reduce_ex__": __reduce_ex__,
    }
    name = base.__name__ if issubclass(base, FusedLayer) else f"Fused{base.__name__}"  # a single layer as the root
    try:
        _classes[base, forward_of_base] = type(name, (base,), body)
    except Exception as error:
        raise SurgeryError(
            f"{base.__name__}: expected a class that can have a subclass, got {type(error).__name__}: {error}; put the "
            "model into a module of another class and fuse that: fuse_into(torch.nn.Sequential(model), ...), where the "
            "names of the layers begin with '0.'"
        ) from error
    return _classes[base, forward_of_base]


def takes_covariates_by_name(root: type[nn.Module]) -> bool:
    """Whether models of this `fused_class` take ``covariates=...`` only, and none by position."""
    return inspect.signature(root.forward).parameters["covariates"].kind is P.KEYWORD_ONLY


def _rebuild(base: type[nn.Module]) -> nn.Module:
    model: nn.Module = base.__new__(fused_class(base))
    return model


def _with_covariates(parameters: list[P]) -> list[P]:
    """``parameters`` with ``covariates=None`` behind the required positional ones, keyword-only if there are none."""
    positional = (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is P.empty]
    if required:
        at = parameters.index(required[-1]) + 1
        new = P("covariates", P.POSITIONAL_OR_KEYWORD, default=None)
    else:
        at = next((i for i, p in enumerate(parameters) if p.kind in (P.KEYWORD_ONLY, P.VAR_KEYWORD)), len(parameters))
        new = P("covariates", P.KEYWORD_ONLY, default=None)
    return [*parameters[:at], new, *parameters[at:]]


def _declare(parameters: list[P]) -> list[str]:
    """The parameters as a ``def`` has them, each default by the name ``_default_<parameter>``."""
    words, star = [], False
    for i, p in enumerate(parameters):
        if p.kind is P.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        prefix = "*" if p.kind is P.VAR_POSITIONAL else "**" if p.kind is P.VAR_KEYWORD else ""
        star = star or p.kind is P.VAR_POSITIONAL
        words.append(prefix + p.name + ("" if p.default is P.empty else f"=_default_{p.name}"))
        following = parameters[i + 1].kind if i + 1 < len(parameters) else None
        if p.kind is P.POSITIONAL_ONLY and following is not P.POSITIONAL_ONLY:
            words.append("/")
    return words


def _pass_on(parameters: list[P]) -> list[str]:
    """The parameters as the call has them of the original forward."""
    words = []
    for p in parameters:
        if p.kind is P.VAR_POSITIONAL:
            words.append(f"*{p.name}")
        elif p.kind is P.VAR_KEYWORD:
            words.append(f"**{p.name}")
        else:
            words.append(f"{p.name}={p.name}" if p.kind is P.KEYWORD_ONLY else p.name)
    return words
