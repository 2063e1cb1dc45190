"""Guided backpropagation's ReLU, wherever a network calls one: as a module, a function or a method of a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["GuidedReLU"]

_RELU: set[Any] = {torch.relu, torch.nn.functional.relu, Tensor.relu}
_IN_PLACE: set[Any] = {torch.relu_, torch.nn.functional.relu_, Tensor.relu_}


class GuidedReLU(TorchFunctionMode):
    """``with GuidedReLU() as mode:`` each ReLU passes back positive gradients of positive inputs only.

    Captum's GuidedBackprop changes ``nn.ReLU`` modules; a network that calls ``F.relu`` (torchvision's DenseNet, many
    of one's own) would get ordinary gradients there without a word. ``met`` counts the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Replace ReLU, leave the rest."""
        kwargs = kwargs or {}
        if func in _RELU or func in _IN_PLACE:
            self.met += 1
            x = args[0] if args else kwargs["input"]
            inplace = func in _IN_PLACE or bool(args[1] if len(args) > 1 else kwargs.get("inplace", False))
            return (_InPlace if inplace else _Guided).apply(x)
        return func(*args, **kwargs)


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y: Tensor = ctx.saved_tensors[0]
        return gradients[0].clamp(min=0) * (y > 0)


class _InPlace(_Guided):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.clamp_(min=0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x
