"""The modules of a model under the names that its state dict gives them."""

from __future__ import annotations

from torch import nn

from fusionconv.surgery.frames import Owner
from fusionconv.surgery.fused_layers import FusedLayer

__all__ = ["key_name", "module_kind", "modules_by_key", "state_key"]

_WRAPPER = "_checkpoint_wrapped_module"  # torch's activation checkpointing wrapper; it keeps its name out of the keys


def key_name(name: str) -> str:
    """The prefix of a module's state-dict keys: its name, but for torch's ``checkpoint_wrapper`` in between.

    >>> key_name("features._checkpoint_wrapped_module.0")
    'features.0'
    """
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def modules_by_key(model: nn.Module) -> dict[str, tuple[str, nn.Module]]:
    """``{key name: (name in the model, module)}`` of every module; one that stands under two names comes once."""
    return {key_name(name): (name, module) for name, module in model.named_modules()}


def state_key(name: str, entry: str) -> str:
    """The state-dict key of a module's parameter or buffer; the root's own name is empty."""
    return f"{name}.{entry}" if name else entry


def module_kind(module: nn.Module, owner: Owner | None = None) -> str:
    """The name of the module's class; of a layer that ``owner`` has fused, the one that it had before."""
    if isinstance(module, FusedLayer) and module.fusion_owner is owner:
        return module.plain_class().__name__
    return type(module).__name__
