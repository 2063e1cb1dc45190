"""Exact recomputation: every autograd node made in a call brings that call's covariates back when it runs backward.

Activation checkpointing (also inside torchvision's DenseNet, MONAI's SwinUNETR, timm) runs layers again during
backward, long after their call has ended. torch >= 2.15 can hook the creation of autograd nodes; a node's prehook
then reinstates the frame and its posthook retires it. Older torch has no such hook: the layer finds no frame and
raises.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

__all__ = ["CAN_RECOMPUTE", "in_backward", "reinstating"]

CAN_RECOMPUTE = hasattr(torch.autograd.graph, "node_creation_hook")

Token = TypeVar("Token")


def in_backward() -> bool:
    """Whether this thread is inside a backward pass."""
    return bool(torch._C._current_graph_task_id() != -1)


def reinstating(reinstate: Callable[[], Token], retire: Callable[[Token], None]) -> AbstractContextManager[object]:
    """A context in which each new autograd node will run between ``reinstate()`` and ``retire(its result)``."""
    if not CAN_RECOMPUTE:  # also without gradients: the model's own forward may turn them on
        return nullcontext()

    opened_in_backward = in_backward()

    def on_creation(node: Any) -> None:
        if node.name() == "torch::autograd::AccumulateGrad":  # one a parameter, shared by all calls
            return
        if in_backward() != opened_in_backward:  # a backward inside an open frame: its nodes belong to other calls
            return
        running: list[Token] = []  # a stack: reentrant backward may enter a node's neighbours in between
        node.register_prehook(lambda grads: running.append(reinstate()))
        node.register_hook(lambda inputs, outputs: retire(running.pop()))

    context: AbstractContextManager[object] = torch.autograd.graph.node_creation_hook(on_creation)
    return context
