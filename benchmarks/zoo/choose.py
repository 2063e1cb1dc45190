"""Which three layers of a network are fused: the first, a middle and the last convolution that can be judged.

The judge of what can be judged is the *plain* network: with W + sum_j s_ij V_j written into the convolution for three
different rows s_i, its outputs must differ, for each sample, by more than the tolerance of the later comparison. A
convolution where they do not (an auxiliary head that a forward leaves out, a branch that is dead) would pass any
check; the nearest other one is taken and the table says so. So is it where fuse_into or the call refuses a layer with
a reason. Whether the fused layer works plays no part in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

import fusionconv
from benchmarks.zoo.case import Case, call
from benchmarks.zoo.outputs import distance, split
from fusionconv.errors import FusionError

__all__ = [
    "GRADIENT_FACTOR",
    "SAMPLES",
    "SMALLEST",
    "K",
    "Layer",
    "TooCoarseError",
    "choose",
    "kernels_written",
    "rows",
    "tolerance",
]

SAMPLES, K = 3, 2
# Relative to the largest value of an output. A difference is rounding up to TOLERANCE, and up to 1/SHARPER of the
# effect that the rows have on the plain network, whichever is less; an effect below SMALLEST cannot be judged.
# Gradients are allowed more, since a ReLU near zero turns rounding into a step.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-3}
SMALLEST = {torch.float64: 1e-8, torch.float32: 1e-3}
SHARPER = 50
SCALES = (
    0.1,
    1.0,
    10.0,
)  # of V, relative to W: small first, since a network far from its statistics amplifies rounding
GRADIENT_FACTOR = 20


def tolerance(effect: float, dtype: torch.dtype) -> float:
    """What may count as rounding where the effect that is looked for is this large."""
    return min(TOLERANCE[dtype], effect / SHARPER)


def rows(dtype: torch.dtype) -> Tensor:
    """The three covariate vectors of every check, no two alike and none zero."""
    return torch.tensor([[1.0, -0.5], [-0.8, 0.6], [0.3, 1.2]], dtype=dtype)


class TooCoarseError(Exception):
    """An effect is there, but too small for float32: the check has to run in float64."""


@dataclass
class Layer:
    """A chosen convolution, the V that it gets, and what the plain network says with each row written in."""

    which: str
    index: int
    name: str
    kind: str
    V: Tensor
    expected: list[list[Tensor]]
    effect: float
    passed_over: list[str] = field(default_factory=list)


@contextmanager
def kernels_written(model: nn.Module, V: dict[str, Tensor], s: Tensor) -> Iterator[None]:
    """``model``'s own convolutions with W + sum_j s_j V_j instead of W, for one row ``s``; W comes back bit by bit."""
    weights = {name: model.get_submodule(name).weight for name in V}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for name, weight in weights.items():
            for j in range(len(s)):
                weight += s[j] * V[name][j]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(before[name])


def choose(
    case: Case, plain: nn.Module, model: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype
) -> tuple[list[Layer], list[str]]:
    """Up to three layers of ``plain``, and why convolutions were passed over. ``model`` is a twin to try calls on."""
    convs = fusionconv.list_convs(plain)
    wanted = {"first": 0, "middle": len(convs) // 2, "last": len(convs) - 1}
    verdicts: dict[int, Layer | str] = {}
    chosen: list[Layer] = []
    unavailable: list[str] = []
    for which, index in wanted.items():
        order = sorted(range(len(convs)), key=lambda i: (abs(i - index), i))
        over = []
        for i in order:
            if i in [layer.index for layer in chosen]:
                if len(convs) <= len(wanted) or i == index:
                    break  # a network with fewer than three
                continue
            if i not in verdicts:
                verdicts[i] = _judge(case, plain, model, convs[i], inputs, dtype)
            verdict = verdicts[i]
            if isinstance(verdict, Layer):
                verdict.which, verdict.passed_over = which, over
                chosen.append(verdict)
                break
            over.append(f"{convs[i].name}: {verdict}")
        else:
            unavailable += over
    return chosen, unavailable


def _judge(
    case: Case,
    plain: nn.Module,
    model: nn.Module,
    conv: fusionconv.ConvInfo,
    inputs: tuple[Tensor, ...],
    dtype: torch.dtype,
) -> Layer | str:
    """The layer, or why it is passed over."""
    if conv.refused:
        return conv.refused
    s = rows(dtype)
    with torch.no_grad():
        try:
            fusionconv.fuse_into(model, conv.index, K)
            call(case, model, tuple(t[:1] for t in inputs), s[:1])
        except FusionError as error:
            return f"{type(error).__name__} at the call: {error}"
        finally:
            if not isinstance(model, torch.jit.ScriptModule) and hasattr(type(model), "_fusion_base"):
                fusionconv.unfuse(model)
        weight = plain.get_submodule(conv.name).weight
        generator = torch.Generator().manual_seed(5)
        noise = torch.randn(K, *weight.shape, generator=generator, dtype=torch.float32).to(dtype)
        spread = weight.detach().square().mean().sqrt().item() or 1.0
        best: Layer | None = None
        for scale in SCALES:
            V = noise * spread * scale
            expected, others = [], []
            for i in range(SAMPLES):  # row i on its own sample and on the next one
                two = tuple(t[[i, (i + 1) % SAMPLES]] for t in inputs)
                with kernels_written(plain, {conv.name: V}, s[i]):
                    own, other = split(call(case, plain, two), 2, case.per_image)
                expected.append(own)
                others.append(other)
            if any(not t.isfinite().all() for part in expected + others for t in part):
                continue
            effect = min(distance(expected[i], others[i - 1]) for i in range(SAMPLES))
            layer = Layer("", conv.index, conv.name, conv.kind, V, expected, effect)
            if effect >= SMALLEST[dtype]:
                return layer
            best = layer if best is None or effect > best.effect else best
    if best is None:
        return "the plain network's outputs become infinite when this kernel changes"
    size = best.effect if math.isfinite(best.effect) else 0.0
    if size and dtype is torch.float32:
        raise TooCoarseError(conv.name, best.effect)
    if size == 0:
        return "the plain network's outputs do not depend on it in this call"
    return f"its effect on the plain network's outputs is too small to judge ({size:.0e} of their size)"
