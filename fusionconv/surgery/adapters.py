"""Adapters around fused layers (PEFT): LoRA's sum fits a layer that is linear in W; all else is refused.

LoRA computes ``layer(x) + B A x``, and its merge adds ``B A`` to W. Where the layer gives ``(W + sum_j s_j V_j) x`` the
two are the same. Where the covariates scale the output (film, daft, scale, attention), the merged layer scales
``B A x`` too, and its numbers are others than in training. So it is with DoRA, IA3, OFT and all that change W by more
than a sum.
"""

from __future__ import annotations

from torch import nn

from fusionconv.errors import SurgeryError
from fusionconv.surgery.frames import Owner
from fusionconv.surgery.fused_layers import FusedLayer

__all__ = ["refuse_adapters"]

ADDITIVE = (
    "hybrid",
    "lowrank",
    "hyper",
    "concat",
    "condconv",
)  # methods whose output W enters as W x, whatever the covariates


def refuse_adapters(model: nn.Module, owner: Owner) -> None:
    """Raise where an adapter that cannot be merged stands around a fused layer of ``model``.

    Raises:
        SurgeryError: the layer, the adapter, and what to do.
    """
    for name in owner.layers:
        adapter = _at(model, name)
        layer = None if adapter is None else adapter._modules.get("base_layer")
        if not isinstance(layer, FusedLayer) or adapter is None:
            continue
        sums = {"lora_A", "lora_B"} <= set(adapter._modules)
        more = bool(getattr(adapter, "lora_variant", None)) or any(getattr(adapter, "use_dora", {}).values())
        if sums and not more and layer.METHOD in ADDITIVE:
            continue
        raise SurgeryError(
            f"layer {name!r} ({layer.METHOD}) is inside an adapter ({type(adapter).__module__}.{type(adapter).__name__}"
            f"{', a variant of LoRA' if sums and more else ''}), which merged into the weight would give other numbers "
            f"than unmerged; plain LoRA around {', '.join(ADDITIVE)} would not. Leave the layer out of the adapter's "
            "target_modules, or train its weight itself (modules_to_save is no way: it copies the layer)"
        )


def _at(model: nn.Module, name: str) -> nn.Module | None:
    module: nn.Module | None = model
    for part in name.split(".") if name else ():
        module = None if module is None else module._modules.get(part)
    return module
