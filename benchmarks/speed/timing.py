"""The measuring contract in code: ways to compute the same thing, in turn, in one process; ratios within each round."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fusionconv.study.environment import hardware, versions

__all__ = ["Timing", "compare", "environment", "median_seconds", "peak_memory", "training_step"]


@dataclass(frozen=True)
class Timing:
    """One way on one case: seconds a call (median) and the median over rounds of (its time / the reference's)."""

    seconds: float
    ratio: float
    low: float  # quartiles of the ratio
    high: float
    rounds: int

    def to_dict(self) -> dict[str, float]:
        """For JSON, rounded to what was measured."""
        return {key: float(f"{value:.4g}") for key, value in asdict(self).items()}


def compare(
    ways: Mapping[str, Callable[[], Any]],
    reference: str,
    device: torch.device,
    budget: float = 6.0,
    rounds: tuple[int, int] = (3, 25),
    slow: float = 4.0,
) -> dict[str, Timing]:
    """Time every way in turn, round after round, and give ratios to ``reference``.

    Each way runs once to warm up (twice on CUDA). Then rounds of all ways follow, each beginning one way further on,
    until ``budget`` seconds are used or the larger number of ``rounds`` is reached; the smaller is always run. A way
    whose warm-up took ``slow`` times the reference's sits out after the first round, so that it does not eat the
    others' time. A ratio is taken within a round, where a busy machine slows both sides.
    """
    warm = {}
    for name, way in ways.items():
        for _ in range(2 if device.type == "cuda" else 1):
            warm[name] = _timed(way, device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    pairs: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    try:
        for turn in range(rounds[1]):
            if turn >= rounds[0] and time.perf_counter() - began > budget:
                break
            start = turn % len(order)
            taken = {}
            for name in order[start:] + order[:start]:
                if turn > 0 and name != reference and warm[name] > slow * warm[reference]:
                    continue
                taken[name] = _timed(ways[name], device)
            for name, seconds in taken.items():
                times[name].append(seconds)
                pairs[name].append(seconds / taken[reference])
    finally:
        gc.enable()
    results = {}
    for name in ways:
        low, middle, high = _quartiles(pairs[name])
        results[name] = Timing(statistics.median(times[name]), middle, low, high, len(pairs[name]))
    return results


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def training_step(layer: Any, x: Tensor, *covariates: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward: the gradients of all parameters, and of ``x`` where it takes one."""
    wanted = [*layer.parameters(), *([x] if x.requires_grad else [])]

    def step() -> tuple[Tensor, ...]:
        y = layer(x, *covariates)
        return torch.autograd.grad(y, wanted, torch.ones_like(y))

    return step


def median_seconds(way: Callable[[], Any], device: torch.device, warm: int, calls: int) -> float:
    """Seconds of one call, the median of ``calls`` after ``warm`` that do not count: of one way by itself."""
    for _ in range(warm):
        way()
    return statistics.median(_timed(way, device) for _ in range(calls))


def _timed(way: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call; on CUDA by events."""
    if device.type == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        begin.record()
        way()
        end.record()
        torch.cuda.synchronize(device)
        return begin.elapsed_time(end) / 1000
    begun = time.perf_counter()
    way()
    return time.perf_counter() - begun


def peak_memory(way: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes of tensors that the call makes, those alive at the highest moment; None where that cannot be told.

    On CUDA what torch's allocator handed out above what was held before, so the call must free nothing that an earlier
    one has left. On a CPU torch's MemTracker adds up the tensors; what a library takes for itself within one operation
    (scratch space) is not seen there.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        way()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    try:
        from torch.distributed._tools.mem_tracker import MemTracker
    except ImportError:  # not a public place of torch's
        return None
    tracker = MemTracker()
    with tracker:
        way()
    return int(tracker.get_tracker_snapshot("peak").get(device, {}).get("Total", 0))


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, hardware and threads, to stand beside every figure."""
    known = versions("torch", "fusionconv", "torchvision", "timm", "monai")
    found: dict[str, Any] = {package: number for package, number in known.items() if number != "not installed"}
    if device.type == "cuda":
        found["hardware"] = torch.cuda.get_device_name(device)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    else:
        found["hardware"] = hardware(device)
        found["threads"] = torch.get_num_threads()
    return found
