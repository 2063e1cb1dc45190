"""autotune: every layer that can be computed in several ways, measured once on an example; the fastest is pinned."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fusionconv.errors import FusionError
from fusionconv.layers.base import CovariateLayer
from fusionconv.strategies import STRATEGIES
from fusionconv.strategies.lowrank import WAYS

__all__ = ["TunedLayer", "autotune"]


@dataclass(frozen=True)
class TunedLayer:
    """What was measured of one layer.

    Attributes:
        name: the layer's name in the model.
        strategy: the fastest, now the layer's own.
        seconds: strategy -> median seconds of one call, forward (and backward where the model trains).
        before: the strategy that the layer had.

    Example:
        >>> import torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), 0, num_covariates=2)
        >>> tuned = fusionconv.autotune(model, (torch.randn(4, 3, 16, 16), torch.randn(4, 2)))[0]
        >>> tuned.name, tuned.before, tuned.strategy == min(tuned.seconds, key=tuned.seconds.get)
        ('0', 'auto', True)
    """

    name: str
    strategy: str
    seconds: dict[str, float]
    before: str


def autotune(
    model: nn.Module,
    example: Sequence[Any],
    *,
    backward: bool | None = None,
    repeats: int = 5,
    strategies: Sequence[str] | None = None,
) -> list[TunedLayer]:
    """Measure every strategy on each layer of ``model`` that has several, and set ``layer.strategy`` to the fastest.

    These are the layers of the methods hybrid, hyper and condconv, and of lowrank, which has two ways of its own.

    The inputs of the layers are those of one call ``model(*example)``; the strategies then take turns on each layer,
    and the smallest median time wins. Every strategy computes the same numbers up to rounding. The choice is an
    option of the layer like any other: of layers that `fuse_into` put in `fusionconv.save` keeps it and
    `fusionconv.load` brings it back; a layer that you built takes it as ``strategy=``. Measure with the batch size,
    precision (inside ``torch.autocast``), memory format and device of the work to come, on a machine that does
    nothing else, and with `train()` or `eval()` as then. Parameters, buffers (running means too) and gradients are as
    they were afterwards; hooks on parameters run.

    Args:
        model: a network with such layers, by `fuse_into` or as you built it.
        example: the arguments of one call, such as ``(images, covariates)``; covariates as repeated as they will be.
        backward: also time the backward pass; default: when ``model.training``.
        repeats: calls of each strategy that are timed, after one that is not.
        strategies: which to try; default: all that a layer has. A layer that has none of them stays as it is.
            ``stacked`` and ``scaled`` round covariates under autocast (docs/limits.md); what is exported with a free
            batch size later should have ``scaled`` or ``"auto"`` then, since the others may fix the batch. One that is
            out of memory is passed over.

    Returns:
        One `TunedLayer` per such layer that the call reached, in the order of the model.

    Raises:
        FusionError: the model has no such layer, the call reached none, or every strategy of a layer is out of
            memory. Nothing was changed.
        ValueError: an unknown strategy, or no repeat.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
        >>> model = fusionconv.fuse_into(model, [0, 1], num_covariates=2)
        >>> tuned = fusionconv.autotune(model, (torch.randn(2, 3, 8, 8), torch.randn(2, 2)), repeats=1)
        >>> [layer.name for layer in tuned], tuned[0].strategy == model[0].strategy
        (['0', '2'], True)
    """
    every = (*STRATEGIES, *WAYS)
    asked = every if strategies is None else tuple(strategies)
    if unknown := [name for name in asked if name not in every]:
        raise ValueError(f"strategies must be among {list(every)}, got {unknown}")
    if not asked or repeats < 1:
        raise ValueError(f"autotune needs a strategy and a repeat at least, got {list(asked)} and {repeats}")
    layers: dict[str, Any] = {n: layer for n, layer in model.named_modules() if isinstance(layer, CovariateLayer)}
    ways = {name: [way for way in asked if way in layer.strategies()] for name, layer in layers.items()}
    layers = {name: layer for name, layer in layers.items() if ways[name]}
    if not layers:
        raise FusionError(
            f"expected a layer that can be computed by {', '.join(asked)}, got a {type(model).__name__} without one; "
            "fuse_into puts such layers in"
        )
    backward = model.training if backward is None else backward

    measured: dict[str, dict[str, float]] = {}

    def measure(name: str, layer: Any, arguments: Any, options: Any) -> None:
        """As a hook before the layer: its inputs are there, and so are the covariates of the call."""
        if name not in measured:  # a layer that is called twice is measured the first time
            measured[name] = {}
            measured[name] = _seconds(layer, arguments, options, ways[name], repeats, backward)

    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    hooks = [layer.register_forward_pre_hook(_hook(measure, name), with_kwargs=True) for name, layer in layers.items()]
    try:
        # with gradients where a training step has them, so that it shows whether a layer's input needs one
        with torch.set_grad_enabled(backward), torch.random.fork_rng(enabled=True):
            model(*example)
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                module._buffers[name] = buffer  # a cached grid may have been replaced by another
                if buffer is not None and value is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)
    if not measured:
        raise FusionError(
            "expected a call that reaches the layers to tune, got one that reached none; give the arguments of an "
            "ordinary call"
        )
    for name, seconds in measured.items():
        if math.isinf(min(seconds.values())):
            raise FusionError(f"every strategy is out of memory in layer {name!r}; give an example of fewer samples")
    tuned = [
        TunedLayer(name, min(measured[name], key=measured[name].__getitem__), measured[name], layer.strategy)
        for name, layer in layers.items()
        if name in measured
    ]
    for found in tuned:
        layers[found.name].strategy = found.strategy
    return tuned


def _hook(measure: Callable[..., None], name: str) -> Callable[..., None]:
    return lambda layer, arguments, options: measure(name, layer, arguments, options)


def _seconds(
    layer: Any, arguments: Any, options: Any, strategies: Sequence[str], repeats: int, backward: bool
) -> dict[str, float]:
    """Median seconds of each strategy; they take turns, so that a busy moment of the machine slows all alike."""
    before = layer.strategy
    times: dict[str, list[float]] = {name: [] for name in strategies}
    try:
        for turn in range(repeats + 1):
            for name in strategies:
                layer.strategy = name
                if math.inf in times[name]:
                    continue
                try:
                    seconds = _one_call(layer, arguments, options, backward)
                except torch.OutOfMemoryError:
                    times[name] = [math.inf]
                else:
                    times[name] += [seconds] if turn > 0 else []
    finally:
        layer.strategy = before
    return {name: sorted(values)[len(values) // 2] for name, values in times.items()}


def _one_call(layer: Any, arguments: Any, options: Any, backward: bool) -> float:
    device = layer.weight.device
    given = inspect.signature(type(layer).forward).bind(layer, *arguments, **options)
    _, name, *_ = given.arguments  # the layer's input, by position or by name
    x = given.arguments[name].detach().requires_grad_(backward and given.arguments[name].requires_grad)  # not an image
    given.arguments[name] = x
    wanted = [p for p in (x, *layer.parameters()) if p.requires_grad]
    _wait(device)
    begun = time.perf_counter()
    # what is saved here is no business of a checkpoint around the layer, which would run again to bring it back
    with torch.set_grad_enabled(backward), torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
        y = layer.forward(*given.args[1:], **given.kwargs)  # not layer(...): its hooks are not to be run here
        if backward and y.requires_grad:
            torch.autograd.grad(y, wanted, torch.ones_like(y), allow_unused=True)
    _wait(device)
    return time.perf_counter() - begun


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
