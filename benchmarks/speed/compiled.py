"""compiled: plain and hybrid layers with inductor, beside eager ones, and the graphs for several batch sizes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.speed.cases import Case, grid
from benchmarks.speed.timing import compare, training_step
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
    plain, x, s = case.drawn(device)
    counter = CompileCounterWithBackend("inductor")
    steps = {
        "plain, compiled": training_step(torch.compile(copy.deepcopy(plain)), x),
        "plain, eager": training_step(plain, x),
    }
    for way in WAYS:
        layer = METHODS[way].from_plain(copy.deepcopy(plain), case.k)
        compiled = torch.compile(layer, fullgraph=True, **({"backend": counter} if way == "hybrid" else {}))
        steps |= {f"{way}, compiled": training_step(compiled, x, s), f"{way}, eager": training_step(layer, x, s)}
        if way == "hybrid":
            hybrid = compiled
    timings = compare(steps, "plain, compiled", device, budget)
    for n in sorted({2, 3, max(2, case.batch - 1), case.batch}):
        training_step(hybrid, x[:n].detach().requires_grad_(x.requires_grad), s[:n])()
    return {"case": case.name, "graphs": counter.frame_count, "step": {n: t.to_dict() for n, t in timings.items()}}
