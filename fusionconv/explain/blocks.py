"""A network as a row of blocks, from image to output, for a drawing: what runs in which order, with which shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fusionconv.errors import ExplainError, SurgeryError
from fusionconv.layers import CovariateLayer
from fusionconv.surgery.eval_mode import in_eval_mode
from fusionconv.surgery.listing import kind_of
from fusionconv.surgery.one_call import call, zero_covariates

__all__ = ["Block", "blocks_of"]

MOST = 20  # blocks in a drawing
LISTS = (nn.ModuleList, nn.ModuleDict)  # hold modules and are never called


@dataclass(frozen=True)
class Block:
    r"""One block of a drawing.

    ``name`` in the network; ``detail``: what it is; ``kind``: "weights", "pool" or "other"; ``shape`` of its output
    (C, \*size), or None where nothing was run; ``fused``: name and method of each fused layer in it.
    """

    name: str
    detail: str
    kind: str
    shape: tuple[int, ...] | None
    fused: tuple[tuple[str, str], ...]


def blocks_of(model: nn.Module, image: Tensor | None) -> list[Block]:
    """Blocks in the order in which they run for ``image`` (1, C, *size), or else in which they are registered.

    Large blocks are opened as long as no more than twenty are to be drawn. Norms, activations and dropout belong to the
    block in front of them.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    shapes = dict[str, tuple[int, ...] | None](dict.fromkeys(modules)) if image is None else _run(model, modules, image)
    if not modules:
        modules, shapes = {"": model}, {"": None}
    names = _children("", modules, shapes) or [""]
    while (opened := _open_one(names, modules, shapes)) is not None:
        names = opened
    return _joined(names, modules, shapes)


def _run(model: nn.Module, modules: dict[str, nn.Module], image: Tensor) -> dict[str, tuple[int, ...] | None]:
    """The output's shape, without the batch, of each module that is called, in the order of their first calls."""
    found: dict[str, tuple[int, ...] | None] = {}

    def enter(name: str) -> Any:
        return lambda module, given: found.setdefault(name, None) and None

    def leave(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            found[name] = tuple(output.shape[1:]) if isinstance(output, Tensor) else found.get(name)

        return hook

    handles = [module.register_forward_pre_hook(enter(name)) for name, module in modules.items()]
    handles += [module.register_forward_hook(leave(name)) for name, module in modules.items()]
    try:
        with in_eval_mode(model), torch.no_grad():
            call(model, image, zero_covariates(model, image))
    except SurgeryError:  # says by itself what the network is called with
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise ExplainError(
            f"input_size: expected a size that {type(model).__name__} takes, got {tuple(image.shape[1:])} "
            f"({next(iter(str(error).splitlines()), type(error).__name__)})"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _children(name: str, modules: dict[str, nn.Module], shapes: dict[str, Any]) -> list[str]:
    """The modules below one, through lists, in the order of ``shapes``; those that do not run are left out."""
    start = f"{name}." if name else ""
    below: list[str] = []
    for other in modules:
        rest = other.removeprefix(start)
        if other.startswith(start) and rest and "." not in rest:
            below += _children(other, modules, shapes) if type(modules[other]) in LISTS else [other]
    order = {other: at for at, other in enumerate(shapes)}
    return sorted((other for other in below if other in order), key=order.__getitem__)


def _open_one(names: list[str], modules: dict[str, nn.Module], shapes: dict[str, Any]) -> list[str] | None:
    """The names with one block replaced by what is in it; None where nothing is left to be opened."""
    every = sum(_weighty(m) for m in modules.values())
    for at, name in enumerate(names):
        below = _children(name, modules, shapes) if name else []
        if not below or isinstance(modules[name], CovariateLayer):
            continue
        flat = isinstance(modules[name], nn.Sequential) and not any(_children(b, modules, shapes) for b in below)
        most = 2 * sum(_weighty(m) for m in modules[name].modules()) > every and any(
            map(_holds, [modules[b] for b in below])
        )
        opened = [*names[:at], *below, *names[at + 1 :]]
        if (flat or most) and len(_joined(opened, modules, shapes)) <= MOST:
            return opened
    return None


def _weighty(module: nn.Module) -> bool:
    return isinstance(module, (_ConvNd, nn.Linear))


def _holds(module: nn.Module) -> bool:
    return any(_weighty(m) for m in module.modules())


def _joined(names: Sequence[str], modules: dict[str, nn.Module], shapes: dict[str, Any]) -> list[Block]:
    """Blocks; what has no weights of its own but a norm, an activation or dropout joins the one in front of it."""
    found: list[Block] = []
    for name in names:
        module = modules[name]
        word = _small(module)
        shape = shapes.get(name)
        if word is not None and found:
            last = found[-1]
            detail = f"{last.detail}, {word}" if word and word not in last.detail else last.detail
            kept = shape if shape and last.shape and len(shape) == len(last.shape) else last.shape  # not a Flatten's
            found[-1] = Block(last.name, detail, last.kind, kept, last.fused)
            continue
        if word == "":
            continue
        layers = ((n, m) for n, m in module.named_modules() if isinstance(m, CovariateLayer))
        fused = tuple((n, m.METHOD) for n, m in layers)
        found.append(Block(name, _detail(module), _kind(module), shape, fused))
    return found


def _small(module: nn.Module) -> str | None:
    """What a module is called that joins the one in front of it; "" if it is not mentioned; None if it stands alone."""
    kind = type(module).__name__
    if isinstance(module, (nn.Identity, nn.Flatten)) or "Dropout" in kind or "DropPath" in kind:
        return ""
    if any(_holds(m) for m in module.modules()):
        return None
    if isinstance(module, _BatchNorm):
        return "BN"
    if "Norm" in kind:
        return "norm"
    if type(module).__module__.endswith("activation") or kind in (
        "ReLU",
        "GELU",
        "SiLU",
        "Swish",
        "MemoryEfficientSwish",
    ):
        return kind
    return None


def _kind(module: nn.Module) -> str:
    if _holds(module):
        return "weights"
    return "pool" if "pool" in type(module).__name__.lower() else "other"


def _detail(module: nn.Module) -> str:
    """What a block is, in few words."""
    if isinstance(module, _ConvNd):
        word = "transposed conv" if module.transposed else "conv"
        return f"{word} {'×'.join(map(str, module.kernel_size))}"
    if isinstance(module, nn.Linear):
        return "linear"
    kind = kind_of(module)
    if "pool" in kind.lower():
        return "average pool" if "avg" in kind.lower() else "max pool" if "max" in kind.lower() else "pool"
    kinds = {type(m).__name__ for m in module.children()}
    if isinstance(module, nn.Sequential) and len(kinds) == 1:
        count = len(list(module.children()))
        return f"{count} × {kinds.pop()}" if count > 1 else kinds.pop()
    return "block" if isinstance(module, nn.Sequential) else kind
