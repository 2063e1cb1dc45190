"""The four methods of `attributions`; each takes images and covariates and gives the attributions of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fusionconv.errors import ExplainError
from fusionconv.explain.calling import find_layer
from fusionconv.explain.guided import GuidedReLU
from fusionconv.surgery import list_convs
from fusionconv.surgery.roles import MAIN

__all__ = ["METHODS", "Asked", "Found"]


@dataclass(frozen=True)
class Asked:
    """What a method is given; ``number`` maps images and covariates of as many rows to (N,)."""

    model: nn.Module
    number: Callable[..., Tensor]
    x: Tensor
    s: Tensor | None
    x0: Tensor
    s0: Tensor | None
    layer: str | None
    steps: int
    window: int | Sequence[int] | None
    stride: int | Sequence[int] | None
    relu: bool
    batch_size: int

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Images, and covariates where there are some."""
        return (self.x,) if self.s is None else (self.x, self.s)

    @property
    def baselines(self) -> tuple[Tensor, ...]:
        """What replaces them."""
        return (self.x0,) if self.s0 is None else (self.x0, self.s0)


class Found(NamedTuple):
    """Attributions of images and covariates, and the layer of Grad-CAM."""

    maps: Tensor
    covariates: Tensor | None = None
    layer: str | None = None


def integrated_gradients(asked: Asked) -> Found:
    """Captum repeats rows of images and of covariates alike, in one order, and never splits a step."""
    from captum.attr import IntegratedGradients

    def connected(*inputs: Tensor) -> Tensor:
        """Also where the answer does not depend on the covariates: their gradients are then 0."""
        return asked.number(*inputs) + sum((0 * z).flatten(1).sum(1) for z in inputs)

    found = IntegratedGradients(connected).attribute(
        asked.inputs, asked.baselines, n_steps=asked.steps, internal_batch_size=max(asked.batch_size, len(asked.x))
    )
    return Found(found[0], found[1] if len(found) > 1 else None)


def grad_cam(asked: Asked) -> Found:
    """Captum's map of the layer, enlarged to the images."""
    from captum.attr import LayerGradCam

    names = [asked.layer] if asked.layer else [c.name for c in list_convs(asked.model) if c.role == MAIN]
    shapes = _shapes(asked, names)
    name = asked.layer or _last_map(asked, names, shapes)
    layer, shape = find_layer(asked.model, name), shapes.get(name)
    if shape is None or len(shape) != asked.x.ndim:
        got = "no call of it" if shape is None else f"{shape} of a {type(layer).__name__}"
        raise ExplainError(f"layer: expected one whose output is a map (N, C, *size), got {got} ({name!r})")
    found = LayerGradCam(asked.number, layer).attribute(asked.inputs, relu_attributions=asked.relu)
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[asked.x.ndim]
    large = nn.functional.interpolate(found, size=tuple(asked.x.shape[2:]), mode=mode, align_corners=False)
    return Found(large, None, name)


def guided_backprop(asked: Asked) -> Found:
    """Gradients under a mode that replaces each ReLU."""
    for tensor in asked.inputs:
        tensor.requires_grad_()
    with GuidedReLU() as mode:
        total = asked.number(*asked.inputs).sum()
    if not mode.met:
        raise ExplainError(
            f"method: guided backpropagation changes what ReLU passes back, and {type(asked.model).__name__} has none; "
            "use integrated_gradients"
        )
    found = torch.autograd.grad(total, asked.inputs, allow_unused=True)
    for tensor in asked.inputs:
        tensor.requires_grad_(False)
    kept = [torch.zeros_like(z) if g is None else g for g, z in zip(found, asked.inputs, strict=True)]
    return Found(kept[0], kept[1] if len(kept) > 1 else None)


def occlusion(asked: Asked) -> Found:
    """Captum's, a patch of all channels at a time, then a covariate at a time."""
    from captum.attr import Occlusion

    size = asked.x.shape[2:]
    window = _sides(asked.window, size, "window") if asked.window is not None else [max(1, -(-n // 8)) for n in size]
    stride = _sides(asked.stride, size, "stride") if asked.stride is not None else window
    if any(step > side for step, side in zip(stride, window, strict=True)):
        raise ExplainError(
            f"stride: expected at most the window, {window}, got {stride}; some pixels would never be occluded"
        )
    windows: list[Any] = [(asked.x.shape[1], *window)]
    strides: list[Any] = [(asked.x.shape[1], *stride)]
    if asked.s is not None:
        windows.append((1,))
        strides.append((1,))
    with torch.no_grad():
        found = Occlusion(asked.number).attribute(
            asked.inputs, tuple(windows), tuple(strides), asked.baselines,
            perturbations_per_eval=max(1, asked.batch_size // len(asked.x)),
        )  # fmt: skip
    own = [one.to(asked.x.dtype) for one in found]  # Captum takes the mean in float32
    return Found(own[0], own[1] if len(own) > 1 else None)


METHODS: dict[str, Callable[[Asked], Found]] = {
    "integrated_gradients": integrated_gradients,
    "grad_cam": grad_cam,
    "guided_backprop": guided_backprop,
    "occlusion": occlusion,
}


def _sides(value: int | Sequence[int], size: Sequence[int], name: str) -> list[int]:
    sides = [value] * len(size) if isinstance(value, int) else list(value)
    if len(sides) != len(size) or any(
        not isinstance(n, int) or not 1 <= n <= full for n, full in zip(sides, size, strict=False)
    ):
        raise ExplainError(
            f"{name}: expected a whole number, or {len(size)} of them, of at most {tuple(size)}, got {value!r}"
        )
    return sides


def _last_map(asked: Asked, names: Sequence[str], shapes: dict[str, tuple[int, ...]]) -> str:
    """The last of these convolutions whose output has more than one position."""
    maps = [name for name in names if len(shapes.get(name, ())) == asked.x.ndim and max(shapes[name][2:]) > 1]
    if not maps:
        raise ExplainError(
            f"layer: expected a network with a convolution whose output is a map, got {type(asked.model).__name__} "
            "without one; name a layer"
        )
    return maps[-1]


def _shapes(asked: Asked, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The output shapes of layers that are called and give one tensor."""
    found: dict[str, tuple[int, ...]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[name] = tuple(output.shape)

        return hook

    handles = [find_layer(asked.model, name).register_forward_hook(keep(name)) for name in names if name]
    try:
        with torch.no_grad():
            asked.number(*(tensor[:1] for tensor in asked.inputs))
    finally:
        for handle in handles:
            handle.remove()
    return found
