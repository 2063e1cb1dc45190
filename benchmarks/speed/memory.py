"""memory: what one layer holds at the highest moment of forward + backward, by strategy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.speed.cases import grid
from benchmarks.speed.layers import ways
from benchmarks.speed.timing import peak_memory

__all__ = ["measure"]

LAYERS = ("VGG first", "VGG middle", "VGG last", "3-D middle")


def measure(device: torch.device, quick: bool = False, budget: float = 0.0) -> Iterator[dict[str, Any]]:
    """A record for each layer: peak megabytes of each way above what was held before, and the ratio to plain."""
    cases = [case for case in grid(device.type) if case.varied == "base" and case.layer in LAYERS]
    for case in tqdm(cases[:1] if quick else cases, desc="memory", unit="case"):
        case = replace(case, batch=max(case.batch, 16) if case.dims == 2 else case.batch)
        peaks: dict[str, int | None] = {}
        for name, way in ways(case, device, backward=True):
            if device.type == "cuda":
                way()  # what a library allocates once, and keeps, is not counted
            peaks[name] = peak_memory(way, device)
        plain = peaks["plain"]
        yield {
            "case": case.name,
            "peak_mb": {name: None if peak is None else round(peak / 1e6, 1) for name, peak in peaks.items()},
            "ratio": {name: round(peak / plain, 3) for name, peak in peaks.items() if peak is not None and plain},
        }
