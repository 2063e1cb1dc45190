"""What runs in a network, seen by running it: the order of the convolutions, and which are shortcuts, by autograd."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd


class Ran(NamedTuple):
    order: list[str]  # every convolution, as it ran first
    shortcuts: set[str]  # alone on their side of an addition, whose other side holds more or larger convolutions
    no_map: set[str]  # their input is no map of the image's: pooled to 1x1, or the channels in a row


def watch(model: nn.Module, *inputs: torch.Tensor) -> Ran:
    """Run ``model`` once and read the order from hooks and the branches from the graph of the backward pass."""
    names = {m: name for name, m in model.named_modules() if isinstance(m, _ConvNd)}
    order: list[str] = []
    name_of, no_map = {}, set()

    def seen(module, args, output):
        order.append(names[module])
        name_of.setdefault(output.grad_fn, names[module])
        if args[0].ndim != inputs[0].ndim or set(args[0].shape[2:]) == {1}:
            no_map.add(names[module])

    handles = [m.register_forward_hook(seen) for m in names]
    result = sum(t.sum() for t in _tensors(model(*inputs)))
    for handle in handles:
        handle.remove()
    behind = _everything_behind(result.grad_fn)
    kernel = {name: max(m.kernel_size) for m, name in names.items()}
    shortcuts = set()
    for node in behind:
        sides = _parents(node)
        if node.name().startswith("AddBackward") and len(sides) == 2:
            a, b = behind[sides[0]], behind[sides[1]]
            branches = [[name_of[n] for n in only if n in name_of] for only in (a - b, b - a)]
            for short, path in (branches, branches[::-1]):
                larger = path and max(kernel[n] for n in path) > 1
                if len(short) == 1 and larger and (kernel[short[0]] == 1 or len(path) > 1):
                    shortcuts.add(short[0])
    return Ran(list(dict.fromkeys(order)), shortcuts, no_map)


def _parents(node):
    return [p for p, _ in node.next_functions if p is not None and not p.name().endswith("AccumulateGrad")]


def _everything_behind(node):
    """Each node of the graph with the set of all nodes that it depends on, itself included."""
    behind, stack = {}, [(node, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            behind[node] = frozenset([node]).union(*(behind[p] for p in _parents(node)))
        elif node not in behind:
            behind[node] = frozenset()
            stack.append((node, True))
            stack += [(p, False) for p in _parents(node) if p not in behind]
    return behind


def _tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return [t for value in values for t in _tensors(value)]
