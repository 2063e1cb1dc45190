"""lowrank: kernels of low rank beside hybrid's, by both ways to compute them, forward + backward."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.speed.cases import Case, deep, grid
from benchmarks.speed.timing import compare, training_step
from fusionconv import list_convs
from fusionconv.layers import METHODS

__all__ = ["measure", "summary"]

RANK = 8
WAYS = ("features", "kernels", "auto")
EXACT = ("grouped", "chunked", "tiled")  # strategies of hybrid that are tried on deep layers


def measure(device: torch.device, quick: bool = False, budget: float = 6.0) -> Iterator[dict[str, Any]]:
    """A record for each base case of the grid and each deep layer: ratios to plain, and the parameters added."""
    cases = [case for case in grid(device.type) if case.varied == "base"] + deep()
    for case in tqdm(cases[:1] if quick else cases, desc="lowrank", unit="case"):
        timings = compare(dict(ways(case, device)), "plain", device, budget)
        (conv,) = list_convs(torch.nn.Sequential(case.plain()), case.k, RANK)
        yield {
            "case": case.name, "grid": case.varied != "deep",
            "step": {name: t.to_dict() for name, t in timings.items()},
            "parameters": {"hybrid": conv.hybrid_parameters, "lowrank": conv.lowrank_parameters},
        }  # fmt: skip


def ways(case: Case, device: torch.device) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and call of plain, hybrid (of deep layers by several strategies), and lowrank in each way."""
    plain, x, s = case.drawn(device)
    yield "plain", training_step(plain, x)
    for strategy in ("auto", *(EXACT if case.varied == "deep" else ())):
        torch.manual_seed(1)  # the same V for every strategy
        hybrid: Any = METHODS["hybrid"].from_plain(plain, case.k, init="kaiming", strategy=strategy)
        yield "hybrid" if strategy == "auto" else f"hybrid, {strategy}", training_step(hybrid, x, s)
    for way in WAYS:
        layer: Any = METHODS["lowrank"].from_plain(plain, case.k, rank=RANK, strategy=way)
        torch.manual_seed(1)  # the same numbers for every way
        with torch.no_grad():
            for _, parameter in layer.covariate_parameters():
                parameter.normal_(std=0.1)
        yield f"lowrank, {way}", training_step(layer, x, s)


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and worst case of each over plain, on the grid's layers, on the deep ones, and on all."""
    found: dict[str, Any] = {}
    for part, chosen in (
        ("grid", [r for r in records if r["grid"]]),
        ("deep", [r for r in records if not r["grid"]]),
        ("all", records),
    ):
        for name in ("hybrid", *(f"lowrank, {way}" for way in WAYS)):
            ratios = [r["step"][name]["ratio"] for r in chosen]
            if ratios:
                mean = statistics.geometric_mean(ratios)
                found.setdefault(part, {})[name] = {"geometric_mean": round(mean, 3), "worst": round(max(ratios), 3)}
    return found
