"""fuse_into and unfuse: put fusion layers into a network that exists, and take them out again."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

from fusionconv.errors import SurgeryError
from fusionconv.layers import method_class
from fusionconv.layers.base import whole_number
from fusionconv.surgery.frames import OF_ITS_OWN, Owner
from fusionconv.surgery.fused_layers import FUSED_CLASSES, FusedLayer
from fusionconv.surgery.root import base_class, fused_class, is_fused_root, owner_of, takes_covariates_by_name
from fusionconv.surgery.select import LayerIndex, resolve
from fusionconv.surgery.wrappers import class_of_its_own, drop_own_methods, own_methods, refuse_wrapped_root

__all__ = ["fuse_into", "fused_layers", "unfuse"]

Model = TypeVar("Model", bound=nn.Module)


def fuse_into(
    model: Model,
    layer_idx: LayerIndex,
    num_covariates: int,
    method: str = "hybrid",
    *,
    check_finite: bool = True,
    **layer_options: Any,
) -> Model:
    """Make layers of ``model`` take covariates, in place, so that it is called as ``model(images, covariates)``.

    Each chosen layer gets kernel_i = W + sum_j s_ij V_j, or what another ``method`` does (docs/methods.md compares
    them). W and b stay the very Parameter objects that they were, and V = 0: until V is trained the model gives the
    outputs that it gave before, for any covariates; so it is with every method, unless an option says otherwise. Its
    class becomes a subclass ``Fused<Name>`` whose forward takes ``covariates`` behind the required arguments.
    Everything is checked first; a call that raises has changed nothing. An optimizer made before knows W but not V:
    make it after the surgery, or give it the new parameters with ``add_param_group``.

    Args:
        model: any nn.Module with convolutions. To fuse more layers, call again with the same ``num_covariates``.
        layer_idx: "first", "last" or "all": convolutions on the main path, without projection shortcuts,
            squeeze-and-excitation, auxiliary heads and 1x1 heads on pooled features ("all": of these, what can be
            fused); "encoder", "bottleneck" or "decoder": those of a part of a U-shaped network; a dotted name such as
            "features.0"; the name of a module that holds several, such as "layer4"
            (its last one) or "layer4.all"; an int among all convolutions in registration order (negative from the
            end); a predicate ``(name, module) -> bool``; or a list of ints and names. See `list_convs`. Words, ints
            and the predicate see convolutions only; an nn.Linear is chosen by its name. With "concat", which takes
            linear layers only, they see those: "last" is the last nn.Linear.
        num_covariates: K, the length of the covariate vector.
        method: what the covariates do there, one of `fusionconv.layers.METHODS`: "hybrid", "lowrank", "hyper", "film",
            "daft", "scale", "attention", "concat", "condconv". More calls may put other methods into other layers.
        check_finite: look for NaN and infinity in the covariates, once a call of the model. On a GPU that waits for the
            device; False saves it, and NaN then goes on to the outputs. It belongs to the model: further calls for
            the same model give the same. `save` does not keep it; `load` has the argument too.
        **layer_options: for "hybrid" ``covariate_bias``, ``rank``, ``init``, ``strategy``, as in `HybridConv2d`; for
            the others see their classes in `fusionconv.layers`.

    Returns:
        The same model object.

    Raises:
        SurgeryError: no such layer, or a name that could mean several; a layer or a root that cannot be fused; another
            ``num_covariates`` or ``check_finite`` than before.
        ValueError, TypeError: an unknown method, or options that no layer of it can have.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3))
        >>> images, s = torch.randn(4, 3, 8, 8), torch.randn(4, 3)
        >>> before = model(images)
        >>> model = fusionconv.fuse_into(model, "last", num_covariates=3)
        >>> torch.allclose(model(images, s), before, atol=1e-6)
        True
    """
    refuse_wrapped_root(model)
    num_covariates = whole_number(num_covariates)
    layer_options = method_class(method).check_options(num_covariates, layer_options)
    names = resolve(model, layer_idx, method)
    owner = owner_of(model) if is_fused_root(model) else Owner(num_covariates, type(model).__name__, check_finite)
    if is_fused_root(model):
        base_class(model)  # raises where the root is parametrized
    if owner.num_covariates != num_covariates:
        raise SurgeryError(
            f"{type(model).__name__} is fused with num_covariates={owner.num_covariates} already; every layer of a "
            f"model takes the same covariate vector, got num_covariates={num_covariates}"
        )
    if owner.check_finite is not check_finite:
        raise SurgeryError(
            f"{type(model).__name__} is fused with check_finite={owner.check_finite} already, which holds for all its "
            f"layers, got check_finite={check_finite}; give the same, or unfuse(model) first"
        )
    fused: list[FusedLayer] = []
    try:
        for name in names:
            layer: Any = model.get_submodule(name)
            drop_own_methods(layer)
            layer.__class__ = FUSED_CLASSES[method][type(layer)]
            fused.append(layer)
            layer.attach_covariates(num_covariates, **layer_options)
            layer.fusion_owner, layer.fusion_name = owner, name
        if not is_fused_root(model):
            root = fused_class(type(model))
            owner.by_name = takes_covariates_by_name(root)
            drop_own_methods(model)
            model.__class__ = root  # type: ignore[assignment]
    except BaseException:  # out of memory, an interrupt, a class that refuses: as if nothing had happened
        for layer in fused:
            _unfuse_layer(layer)
        raise
    owner.layers += tuple(names)
    model.__dict__["fusion_owner"] = owner
    return model


def unfuse(model: Model) -> Model:
    """Take all fusion layers of ``model`` out again: same object, same classes, same keys, same hooks as before.

    W and b keep what they have learned; V and whatever else was added is dropped.

    Raises:
        SurgeryError: ``model`` is not the root of a fused network, or a layer of it is parametrized since; nothing was
            changed.

    Example:
        >>> import torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv1d(1, 1, 3)), 0, num_covariates=2)
        >>> fusionconv.unfuse(model)
        Sequential(
          (0): Conv1d(1, 1, kernel_size=(3,), stride=(1,))
        )
    """
    layers, base = ready_to_unfuse(model), base_class(model)
    drop_own_methods(model)
    model.__class__ = base  # type: ignore[assignment]
    for layer in layers.values():
        _unfuse_layer(layer)
    model.__dict__.pop("fusion_owner", None)
    return model


def fused_layers(model: nn.Module) -> dict[str, FusedLayer]:
    """The layers by name that `fuse_into` has fused in ``model``; not those of a fused model inside it.

    Raises:
        SurgeryError: ``model`` is not the root of a fused network, or a layer's class was changed since.
    """
    owner = owner_of(model)
    known = {m.__dict__["fusion_owner"] for m in model.modules() if is_fused_root(m)}  # fused models inside it, too
    layers = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, FusedLayer):
            continue
        if layer.fusion_owner not in known:
            raise SurgeryError(
                f"layer {name!r} belongs to no call of this model: it is in a copy of a part of a fused "
                f"{layer.fusion_owner.model_name} (copy.deepcopy, pickle), or was taken out of one. {OF_ITS_OWN}; "
                "nothing was changed"
            )
        if layer.fusion_owner is not owner:
            continue
        for key, parameter in layer._parameters.items():
            if parameter is not None and (special := class_of_its_own(parameter)):
                raise SurgeryError(
                    f"layer {name!r}: its parameter {key} is {special}; load the full state dict into a model that is "
                    "not sharded, or take the model from before it was quantised, and go on with that"
                )
        if type(layer) not in FUSED_CLASSES[layer.METHOD].values() and layer is not model:
            raise SurgeryError(
                f"layer {name!r} was changed to {type(layer).__name__} since it was fused (a parametrization does "
                "that); undo that first: torch.nn.utils.parametrize.remove_parametrizations"
            )
        if any(name not in layer._parameters for name in layer.ADDED):
            raise SurgeryError(
                f"layer {name!r}: its covariate parameters are computed by a hook since it was fused (pruning, "
                "weight_norm); remove that first, such as by torch.nn.utils.prune.remove"
            )
        layers[name] = layer
    return layers


def ready_to_unfuse(model: nn.Module) -> dict[str, FusedLayer]:
    """`fused_layers`, if nothing is set on them or on the root that would outlive their classes.

    Raises:
        SurgeryError: as `fused_layers` and `base_class`; a forward of its own, set on a layer or the root.
    """
    layers = fused_layers(model)
    base_class(model)
    for name, module in {"": model, **layers}.items():
        if own := own_methods(module, ("forward",)):
            raise SurgeryError(f"{f'layer {name!r}' if name else type(model).__name__} {own}; nothing was changed")
    return layers


def _unfuse_layer(layer: FusedLayer) -> None:
    drop_own_methods(layer)
    layer.detach_covariates()
    for name in ("fusion_owner", "fusion_name"):
        layer.__dict__.pop(name, None)
    layer.__class__ = type(layer).plain_class()  # type: ignore[assignment]
