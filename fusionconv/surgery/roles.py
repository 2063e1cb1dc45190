"""What each convolution of a network is for: main path, projection shortcut, channel gate, auxiliary head or head.

`fuse_into` has no image to send through the network, so this is read from what is registered: the order, the names,
the shapes, and which module holds what. tests/surgery/test_roles.py compares with what runs. The rules:

- auxiliary: a part of its path begins with "aux" or "deep_supervision" (GoogLeNet, Inception, FCN).
- gate: it makes one factor per channel or pixel: part of a module that is called (or whose class is called) a
  squeeze-and-excitation, ECA, CBAM or the like; or of one that holds a pool, one or two 1x1 layers and a sigmoid.
- shortcut: it is the only convolution of its branch, beside a path of others in the same module that begins with its
  input channels and ends with its output channels; and either its branch has such a name (downsample, shortcut, skip,
  residual, identity), or it is 1x1, changes the channels or the stride, and the path holds a larger kernel.
- head: it is 1x1, and stands behind a global pool, where only such layers follow: a classifier on pooled features.
- main: all others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.layers.base import num_outputs

__all__ = ["MAIN", "num_inputs", "roles_of"]

MAIN, SHORTCUT, GATE, AUXILIARY, HEAD = "main", "shortcut", "gate", "auxiliary", "head"

AUXILIARY_NAME = re.compile(r"aux|deep_?supervision", re.IGNORECASE)
SHORTCUT_NAME = re.compile(
    r"down_?sampl|short_?cut|skip|residual|identity|conv_?res$|^project$|^res_?conv|^(conv_?)?sc$", re.IGNORECASE
)
GATE_NAME = re.compile(
    r"(se|eca|cbam|gate)(_?(layer|module|block))?|squeeze_?(and_?)?excit\w*|(channel|spatial)_?(att\w*|gate)",
    re.IGNORECASE,
)
GATE_CLASS = re.compile(
    r"(?i:squeeze_?(and_?)?excit\w*|(channel|spatial)_?(att\w*|gate)\w*|cbam\w*|globalcontext|gatherexcite)"
    r"|(Effective)?SE(Module|Block)?|\w*SELayer|(Cec|Ce)?(Eca|ECA)(Layer|Module|Block)?|SelectiveKernelAttn"
)

GATE_LAYER = re.compile(r"_?se_(reduce|expand)")
GLOBAL_POOL = re.compile(r"(adaptive|global)\w*pool", re.IGNORECASE)

Layers: TypeAlias = "dict[str, nn.Module]"


def roles_of(model: nn.Module) -> dict[str, str]:
    """The role of each convolution and each nn.Linear of ``model``, by name."""
    modules = dict(model.named_modules())
    layers: Layers = {name: m for name, m in modules.items() if isinstance(m, (_ConvNd, nn.Linear))}
    roles = dict.fromkeys(layers, MAIN)
    for name in layers:
        if any(AUXILIARY_NAME.match(part) for part in name.split(".")):
            roles[name] = AUXILIARY
    for name in _gates(modules, layers):
        roles[name] = GATE
    main: Layers = {name: m for name, m in layers.items() if roles[name] == MAIN and isinstance(m, _ConvNd)}
    for name in _shortcuts(modules, main):
        roles[name] = SHORTCUT
    for name in _head(modules, roles, main):
        roles[name] = HEAD
    return roles


def _inside(name: str, layers: Layers) -> Layers:
    """Those of ``layers`` that the module ``name`` holds or is."""
    return {n: m for n, m in layers.items() if not name or n == name or n.startswith(f"{name}.")}


def _gates(modules: Layers, layers: Layers) -> Iterator[str]:
    yield from (name for name in layers if GATE_LAYER.match(name.rpartition(".")[2]) and _pointwise(layers[name]))
    for name, module in modules.items():
        held = _inside(name, layers) if name and name not in layers else {}
        if not held or len(held) > 5 or len(held) == len(layers):
            continue
        ends = list(held.values())
        kinds = {type(m).__name__.lower() for m in module.modules()}
        pooled_factor = any("sigmoid" in kind for kind in kinds) and any("pool" in kind for kind in kinds)
        if _is_gate_by_name(name, module):
            found = all(_pointwise(m) or num_inputs(m) <= 2 for m in ends)  # ECA: along the channels; CBAM: 2 -> 1
        else:
            found = pooled_factor and len(held) <= 2 and all(map(_pointwise, ends))
        if found:
            yield from held


def _is_gate_by_name(name: str, module: nn.Module) -> bool:
    return bool(GATE_NAME.fullmatch(name.rpartition(".")[2]) or GATE_CLASS.fullmatch(type(module).__name__))


def _head(modules: Layers, roles: dict[str, str], main: Layers) -> Iterator[str]:
    """The 1x1 convolutions behind the last global pool, if no others follow it."""
    aside = [name.rpartition(".")[0] for name, role in roles.items() if role in (GATE, AUXILIARY)]
    order = {name: i for i, name in enumerate(modules)}
    pools = [n for n in order if _is_global_pool(modules[n]) and n.rpartition(".")[0] not in aside]
    if not pools:
        return
    behind = [name for name in main if order[name] > order[pools[-1]]]
    if len(behind) < len(main) and all(_pointwise(main[name]) and roles[name] == MAIN for name in behind):
        yield from behind


def _is_global_pool(module: nn.Module) -> bool:
    size = getattr(module, "output_size", 1)
    one = size == 1 or (isinstance(size, (tuple, list)) and set(size) == {1})
    return one and GLOBAL_POOL.search(type(module).__name__) is not None


def _shortcuts(modules: Layers, main: Layers) -> Iterator[str]:
    named: list[str] = []
    unnamed: dict[str, tuple[str, str]] = {}
    for name in main:
        parent, branch = _branch(name, main)
        if parent is None or isinstance(modules[parent], (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            continue
        words = name[len(parent) :].strip(".").split(".")
        beside = {n: m for n, m in _inside(parent, main).items() if n != name}
        if any(SHORTCUT_NAME.search(word) for word in words) and _same_ends(main[name], beside, modules, parent):
            named.append(name)
        else:
            unnamed[name] = parent, branch
    yield from named
    found: dict[str, str] = {}
    for name, (parent, branch) in unnamed.items():
        beside = {n: m for n, m in _inside(parent, main).items() if n != name}
        if not any(n in named for n in beside) and _is_projection(main[name], beside, modules, parent, branch):
            found[parent] = name  # the last one: a block registers its shortcut behind its path
    yield from found.values()


def _branch(name: str, main: Layers) -> tuple[str | None, str]:
    """The nearest module that holds ``name`` and others, and the part of it in which ``name`` is alone."""
    parts = name.split(".")
    for i in range(len(parts) - 1, -1, -1):
        if len(_inside(".".join(parts[:i]), main)) > 1:
            return ".".join(parts[:i]), ".".join(parts[: i + 1])
    return None, name


def _same_ends(conv: nn.Module, beside: Layers, modules: Layers, parent: str) -> bool:
    """Whether ``conv`` leads from where the path ``beside`` begins to where it ends."""
    path = list(beside.values())
    if num_inputs(conv) != num_inputs(path[0]) or num_outputs(conv) != num_outputs(path[-1]):
        return False
    return _pools(modules, parent) or _stride([conv]) <= _stride(path)  # less: two of the path's run beside each other


def _is_projection(conv: nn.Module, beside: Layers, modules: Layers, parent: str, branch: str) -> bool:
    path = list(beside.values())
    chain = all(num_outputs(a) == num_inputs(b) for a, b in pairwise(path))
    changes = num_inputs(conv) != num_outputs(conv) or _stride([conv]) != 1 or _pools(modules, branch)
    larger = not all(map(_pointwise, path))
    return _pointwise(conv) and changes and larger and chain and _same_ends(conv, beside, modules, parent)


def _pointwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or all(k == 1 for k in layer.kernel_size)  # type: ignore[union-attr]


def _pools(modules: Layers, name: str) -> bool:
    return any("pool" in type(m).__name__.lower() for m in _inside(name, modules).values())


def _stride(path: list[nn.Module]) -> float:
    """How much smaller a side of the map is behind these layers; a transposed convolution makes it larger."""
    convs = [m for m in path if isinstance(m, _ConvNd)]
    sides = [[1 / s if m.transposed else float(s) for s in m.stride] for m in convs]
    return max((math.prod(side) for side in zip(*sides, strict=False)), default=1.0)


def num_inputs(layer: nn.Module) -> int:
    """C_in of a convolution, the input features of a linear layer."""
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)  # type: ignore[arg-type]
