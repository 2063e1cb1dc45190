"""Exact recomputation: the autograd nodes that may run layers again know the call that they were made in.

Activation checkpointing (also inside torchvision's DenseNet, MONAI's SwinUNETR, timm) runs layers again during
backward, long after their call has ended. torch >= 2.15 reports new autograd nodes, and which one runs. Two kinds run
Python code in backward: those of autograd functions written in Python (reentrant checkpointing), and those that unpack
tensors which were saved under hooks (non-reentrant checkpointing). They keep the frame in their ``metadata``; a layer
that runs in backward asks the running node, or the one around it. Nothing has to be taken off again: a backward pass
that fails leaves nothing behind. Older torch cannot tell; there the layer finds no frame and raises.

torch.compile cannot ask for the running node, but sees the stack of frames. So these nodes also put the frame on it
before they run, and take it off afterwards; only compiled parts look there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch.autograd.function import BackwardCFunction

__all__ = ["CAN_RECOMPUTE", "in_backward", "noted", "noting"]

CAN_RECOMPUTE = hasattr(torch.autograd.graph, "node_creation_hook")
KEY = "fusionconv"

Token = TypeVar("Token")


def in_backward() -> bool:
    """Whether this thread is inside a backward pass."""
    return bool(torch._C._current_graph_task_id() != -1)


def noting(
    frame: Any, reinstate: Callable[[], Token], retire: Callable[[Token], None]
) -> AbstractContextManager[object]:
    """A context in which new autograd nodes that may run layers again note ``frame``.

    For compiled parts each runs between ``reinstate()`` and ``retire(its result)``.
    """
    if not CAN_RECOMPUTE:  # also without gradients: the model's own forward may turn them on
        return nullcontext()

    opened_in_backward = in_backward()

    def on_creation(node: Any) -> None:
        if not _runs_python(node):
            return
        if in_backward() != opened_in_backward:  # a backward inside an open frame: its nodes belong to other calls
            return
        node.metadata.setdefault(KEY, []).append(frame)
        running: list[Token] = []  # a stack: reentrant backward may enter a node's neighbours in between
        node.register_prehook(lambda grads: running.append(reinstate()))
        node.register_hook(lambda inputs, outputs: retire(running.pop()))

    context: AbstractContextManager[object] = torch.autograd.graph.node_creation_hook(on_creation)
    return context


def noted() -> Iterator[Any]:
    """The frames noted by the autograd node that runs in this thread, then by those around it, innermost first.

    A nested backward pass runs nodes of a graph that was made in backward, which know of no call. The function around
    it, whose ``backward`` is on the Python stack, does.
    """
    if not CAN_RECOMPUTE:
        return
    node: Any = torch._C._current_autograd_node()
    if node is not None:
        yield from reversed(node.metadata.get(KEY, ()))
    python = sys._getframe(1)
    while python is not None:
        if python.f_code is BackwardCFunction.apply.__code__:
            yield from reversed(python.f_locals["self"].metadata.get(KEY, ()))
        python = python.f_back  # type: ignore[assignment]


def _runs_python(node: Any) -> bool:
    """Whether backward may run Python code inside this new node, other than hooks on its gradients."""
    if isinstance(node, torch._C._FunctionBase):
        return type(node).__name__ != "BackwardHookFunctionBackward"  # a module's full backward hook
    if node.name() == "torch::autograd::AccumulateGrad":  # one a parameter, shared by all calls
        return False
    hooks: object = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks is not None
