"""Other ways to bring covariates to a layer inside a network, each wrong somewhere: the suite must be able to tell.

Each function fuses a `Body` in its first and last convolution, like ``fuse_into(body, [0, -1], 2)``, and returns it to
be called as ``body(x, s)``. They are written as one would write them who has not met the cases that break them.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import fusionconv
from tests.helpers.networks import Body, with_covariates_that_matter

LAYERS = (0, 5)  # of Body.net


class Asking(fusionconv.HybridConv2d):
    """A hybrid layer that is called with the image alone and asks ``self.ask()`` for the covariates."""

    ask: Callable[[], Any]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, self.ask())


class Remembering(fusionconv.HybridConv2d):
    """A hybrid layer that finds the covariates in an attribute of its own."""

    covariates: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, self.covariates)


def real(model: Body) -> Body:
    """The library's own."""
    return with_covariates_that_matter(fusionconv.fuse_into(model, [0, -1], 2))


def hook_on_the_root(model: Body) -> Body:
    """A forward pre-hook takes the covariates off the arguments; a forward hook clears them."""
    layers = put(model, Remembering)

    def before(module: nn.Module, args: tuple) -> tuple:
        for layer in layers:
            layer.covariates = args[1]
        return args[:1]

    def after(module: nn.Module, args: tuple, result: torch.Tensor) -> None:
        for layer in layers:
            layer.covariates = None

    model.register_forward_pre_hook(before)
    model.register_forward_hook(after, always_call=True)
    return model


def context_variable(model: Body) -> Body:
    """One ContextVar for everybody, set by the root and reset in ``finally``."""
    for layer in put(model, Asking):
        layer.ask = lambda: _variable.get(None)

    def forward(base: Callable, self: nn.Module, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        if s is None:
            return base(self, x)
        token = _variable.set(s)
        try:
            return base(self, x)
        finally:
            _variable.reset(token)

    return with_forward(model, forward)


_variable: contextvars.ContextVar = contextvars.ContextVar("covariates")


def attribute_and_finally(model: Body) -> Body:
    """An attribute of each layer, cleared in ``finally``."""
    layers = put(model, Remembering)

    def forward(base: Callable, self: nn.Module, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        try:
            for layer in layers:
                layer.covariates = s
            return base(self, x)
        finally:
            for layer in layers:
                layer.covariates = None

    return with_forward(model, forward)


def attribute_that_keeps_the_last_value(model: Body) -> Body:
    """An attribute of each layer that stays, so that checkpointing finds something in backward."""
    layers = put(model, Remembering)

    def forward(base: Callable, self: nn.Module, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        if s is not None:
            for layer in layers:
                layer.covariates = s
        return base(self, x)

    return with_forward(model, forward)


def hook_on_the_outputs_node(model: Body) -> Body:
    """A thread's own stack in forward; in backward the node of the output says whose turn it is."""
    state = _PerThread()
    for layer in put(model, Asking):
        layer.ask = lambda: state.stack[-1] if state.stack else state.in_backward

    def forward(base: Callable, self: nn.Module, x: torch.Tensor, s: torch.Tensor | None) -> torch.Tensor:
        state.stack.append(s)
        try:
            y = base(self, x)
        finally:
            state.stack.pop()
        if y.grad_fn is not None:
            y.grad_fn.register_prehook(lambda grads: setattr(state, "in_backward", s))
        return y

    return with_forward(model, forward)


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.stack: list = []
        self.in_backward: torch.Tensor | None = None


MECHANISMS = {
    f.__name__: f
    for f in (
        real,
        hook_on_the_root,
        context_variable,
        attribute_and_finally,
        attribute_that_keeps_the_last_value,
        hook_on_the_outputs_node,
    )
}


def put(model: Body, kind: type[fusionconv.HybridConv2d]) -> list[Any]:
    """Layers of ``kind`` in the place of the convolutions, with the same W and b."""
    layers = []
    for i in LAYERS:
        model.net[i] = kind.from_conv(model.net[i], 2)
        layers.append(model.net[i])
    with_covariates_that_matter(model)
    return layers


def with_forward(model: Body, forward: Callable) -> Body:
    """``model`` with ``forward(its old forward, self, x, s)`` as its forward."""
    base = type(model).forward

    def new(self: nn.Module, x: torch.Tensor, s: torch.Tensor | None = None) -> torch.Tensor:
        return forward(base, self, x, s)

    model.__class__ = type(f"Wrong{type(model).__name__}", (type(model),), {"forward": new})
    return model
