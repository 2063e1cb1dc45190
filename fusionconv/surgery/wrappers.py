"""What surgery cannot reach through: data parallel, sharded, compiled, scripted and traced models.

A wrapper has taken stock of the parameters already. What surgery then adds it does not know: DDP would never average
V's gradient, so that each process learns a V of its own without a word; FSDP would not gather it. So: fuse, then wrap.
"""

from __future__ import annotations

import gc

import torch
from torch import nn
from torch.fx import GraphModule

from fusionconv.errors import SurgeryError

__all__ = ["class_of_its_own", "drop_own_methods", "inside_a_wrapper", "own_methods", "refuse_wrapped_root"]

# by name: torch.distributed may be missing from a build, and torch.compile's class is slow to import
KEEPS_STOCK = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}
METHODS = ("forward", "_conv_forward", "_output_padding", "_call_impl")  # what a layer computes by
FIRST_FUSE = "fuse first, then wrap: DistributedDataParallel(model), fully_shard(model) or torch.compile(model)"


def refuse_wrapped_root(model: object) -> None:
    """Raise unless ``model`` is a module whose class and parameters are its own.

    Raises:
        TypeError: not a module. SurgeryError: wrapped, sharded, compiled, scripted or traced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise SurgeryError("the model is scripted (torch.jit); fuse the Python module before scripting or tracing it")
    if _keeps_stock(model) or "OptimizedModule" in _class_names(model):
        raise SurgeryError(
            f"the model is wrapped already ({type(model).__name__}: data parallel, sharded or compiled); {FIRST_FUSE}"
        )
    if isinstance(model, GraphModule):
        raise SurgeryError(
            f"the model is a torch.fx graph ({type(model).__name__}, as create_feature_extractor, symbolic_trace and "
            "torch.export make them), which writes its own forward anew; put it into a module and fuse that: "
            "fuse_into(torch.nn.Sequential(graph), ...), where the names of the layers begin with '0.'"
        )
    if own := own_methods(model, ("forward",)):
        raise SurgeryError(f"{type(model).__name__} {own}")
    if _inside_a_living_ddp(model):
        raise SurgeryError(
            f"{type(model).__name__} is inside a DistributedDataParallel, which would never average the gradients "
            f"of the new parameters: each process would learn its own; {FIRST_FUSE}, or copy.deepcopy what is inside"
        )


def inside_a_wrapper(model: nn.Module, name: str) -> str | None:
    """Why the layer ``name`` of ``model`` cannot be fused if a module on the way to it is a wrapper, or None."""
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        module = model.get_submodule(".".join(parts[:i]))
        if _keeps_stock(module):
            return (
                f"{'.'.join(parts[:i])!r} is wrapped already ({type(module).__name__}), and the wrapper would not know "
                f"the new parameters; {FIRST_FUSE}"
            )
    return None


def class_of_its_own(parameter: torch.Tensor) -> str | None:
    """What a parameter is that is no ordinary one, in words: sharded, quantised; None if it is ordinary."""
    kind = type(parameter)
    if issubclass(kind, (nn.Parameter, nn.UninitializedParameter)):
        return None
    if "DTensor" in {c.__name__ for c in kind.__mro__}:
        return f"sharded (a {kind.__name__}, as fully_shard and tensor parallelism make it)"
    return f"a {kind.__name__} (quantised, or otherwise not an ordinary parameter)"


def own_methods(module: nn.Module, names: tuple[str, ...] = METHODS) -> str | None:
    """Why a module cannot be fused on which a method was set that its class has too, or None.

    ``module.forward = ...`` goes before the class, so that a fused class's forward would never run: the covariates
    would do nothing. A method that is the class's own, set on the instance, does no harm (accelerate's unwrap_model).
    """
    shadowing = [name for name in names if name in vars(module) and not is_own_method(module, name)]
    if not shadowing:
        return None
    return (
        f"has a {shadowing[0]} of its own, set on the object (an accelerate or offloading hook, a monkeypatch, "
        "torch.compile of the method), which runs instead of that of the class; fuse first and set it afterwards, or "
        "remove it: accelerator.unwrap_model(model, keep_fp32_wrapper=False), "
        f"accelerate.hooks.remove_hook_from_module(module), or del module.{shadowing[0]}"
    )


def drop_own_methods(module: nn.Module) -> None:
    """Take off what `own_methods` lets pass: it was bound to the class that the module had."""
    for name in [name for name in METHODS if is_own_method(module, name)]:
        del module.__dict__[name]


def is_own_method(module: nn.Module, name: str) -> bool:
    """Whether ``vars(module)[name]`` is nothing but the method of its class, bound to the module."""
    value = vars(module).get(name)
    return (
        value is not None
        and getattr(value, "__self__", None) is module
        and getattr(value, "__func__", None) is getattr(type(module), name, None)
    )


def _inside_a_living_ddp(model: nn.Module) -> bool:
    """Whether a DDP of this process holds ``model``, which cannot be seen from ``model`` itself (``ddp.module``)."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return False

    def held() -> bool:
        classes: list[type] = [nn.parallel.DistributedDataParallel]
        for c in classes:
            classes += c.__subclasses__()
        living = [o for o in gc.get_referrers(*classes) if type(o) in classes]  # an instance refers to its class
        return any(m is model for ddp in living for m in ddp.modules())

    if not held():
        return False
    gc.collect()  # one that nobody refers to any more does not count
    return held()


def _keeps_stock(module: nn.Module) -> bool:
    return bool(_class_names(module) & KEEPS_STOCK)


def _class_names(module: nn.Module) -> set[str]:
    return {c.__name__ for c in type(module).__mro__}
