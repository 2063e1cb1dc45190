"""compiled: plain and hybrid layers with inductor, beside eager ones, and the graphs for several batch sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.speed.cases import Case, grid
from benchmarks.speed.timing import compare
from fusionconv.layers import METHODS

__all__ = ["measure"]

LAYERS = ("VGG first", "VGG middle", "VGG last", "3-D middle")
WAYS = ("hybrid", "lowrank", "film")


def measure(device: torch.device, quick: bool = False, budget: float = 6.0) -> Iterator[dict[str, Any]]:
    """A record for each layer: forward + backward of each method, compiled and not, as ratios to plain compiled."""
    cases = [case for case in grid(device.type) if case.varied == "base" and case.layer in LAYERS]
    cases = [replace(cases[0], batch=2, size=16)] if quick else cases
    for case in tqdm(cases, desc="compiled", unit="case"):
        yield record(case, device, budget)


def record(case: Case, device: torch.device, budget: float) -> dict[str, Any]:
    """Ratios, and how many graphs the hybrid layer needs for four batch sizes."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    torch.manual_seed(0)
    plain: Any = case.plain().to(device)
    x, s = case.images(device), case.covariates(device)
    x.requires_grad_(case.channels[0] > 3)  # an image needs no gradient, a feature map does
    counter = CompileCounterWithBackend("inductor")
    steps: dict[str, Callable[[], Any]] = {
        "plain, compiled": _step(torch.compile(copy.deepcopy(plain)), x),
        "plain, eager": _step(plain, x),
    }
    for way in WAYS:
        layer = METHODS[way].from_plain(copy.deepcopy(plain), case.k)
        compiled = torch.compile(layer, fullgraph=True, **({"backend": counter} if way == "hybrid" else {}))
        steps |= {f"{way}, compiled": _step(compiled, x, s), f"{way}, eager": _step(layer, x, s)}
        if way == "hybrid":
            hybrid = compiled
    timings = compare(steps, "plain, compiled", device, budget)
    for n in sorted({2, 3, max(2, case.batch - 1), case.batch}):
        _step(hybrid, x[:n].detach().requires_grad_(x.requires_grad), s[:n])()
    return {"case": case.name, "graphs": counter.frame_count, "step": {n: t.to_dict() for n, t in timings.items()}}


def _step(layer: Any, x: Tensor, s: Tensor | None = None) -> Callable[[], Any]:
    wanted = [*layer.parameters(), *([x] if x.requires_grad else [])]

    def step() -> Any:
        y = layer(x) if s is None else layer(x, s)
        return torch.autograd.grad(y, wanted, torch.ones_like(y))

    return step
