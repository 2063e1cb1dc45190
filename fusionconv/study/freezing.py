"""Parts of a network that are not trained: by name, or the first N children of the network or of one of its parts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fusionconv.errors import SurgeryError

__all__ = ["freeze", "frozen_modules", "frozen_parameters"]


def freeze(network: nn.Module, names: Sequence[str]) -> int:
    """Take parameters of the plain network out of training; call it before the surgery, so that V stays trainable.

    Args:
        network: in place.
        names: ``"layer1"`` (a module or a parameter, with all below it), ``"first:4"`` (the network's first four
            children), ``"features.first:4"`` (those of a part).

    Returns:
        How many tensors are frozen.

    Raises:
        SurgeryError: no such part; nothing would be left to train.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    >>> freeze(net, ["first:2"])
    4
    """
    prefixes = _prefixes(network, names)
    frozen = {name: p for name, p in network.named_parameters(remove_duplicate=False) if _below(name, prefixes)}
    ids = {id(p) for p in frozen.values()}
    if ids and not any(p.requires_grad and id(p) not in ids for p in network.parameters()):
        raise SurgeryError(
            f"freeze: expected a part of the network, got {', '.join(names)}, which is all of it; leave the last "
            "layer out"
        )
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    return len(ids)


def frozen_modules(network: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """The batch norms (and whatever else keeps running statistics) of the frozen parts.

    Call ``.eval()`` of each at the start of every training epoch: in training mode their running statistics would go
    on changing, though their weights do not.
    """
    prefixes = _prefixes(network, names)
    return tuple(m for n, m in network.named_modules() if isinstance(m, _NormBase) and n and _below(n, prefixes))


def frozen_parameters(network: nn.Module, names: Sequence[str]) -> tuple[nn.Parameter, ...]:
    """The parameters that `freeze` took out of training; what covariates brought into these parts is not among them."""
    prefixes = _prefixes(network, names)
    return tuple(p for name, p in network.named_parameters() if _below(name, prefixes) and not p.requires_grad)


def _prefixes(network: nn.Module, names: Sequence[str]) -> list[str]:
    found: list[str] = []
    modules = dict(network.named_modules(remove_duplicate=False))
    known = [*(name for name in modules if name), *(name for name, _ in network.named_parameters())]
    for said in names:
        match = re.fullmatch(r"(?:(?P<part>.+)\.)?first:(?P<count>\d+)", said)
        if match is None:
            if said not in known:
                near = difflib.get_close_matches(said, known, n=3)
                raise SurgeryError(
                    f"freeze: expected a part of {type(network).__name__}, got {said!r}; "
                    + (f"did you mean {' or '.join(near)}?" if near else f"its children are {_children(network)}")
                )
            found.append(said)
            continue
        part, count = match["part"] or "", int(match["count"])
        if part not in modules:
            raise SurgeryError(f"freeze: expected a part of {type(network).__name__} in {said!r}, got {part!r}; its "
                               f"children are {_children(network)}")  # fmt: skip
        children = [name for name, _ in modules[part].named_children()]
        if not 1 <= count <= len(children):
            raise SurgeryError(
                f"freeze: expected first:1 to first:{len(children)}, got {said!r}; the children of "
                f"{part or type(network).__name__} are {_children(modules[part])}"
            )
        found += [f"{part}.{name}" if part else name for name in children[:count]]
    return found


def _children(module: nn.Module) -> str:
    return ", ".join(name for name, _ in module.named_children()) or "none"


def _below(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
