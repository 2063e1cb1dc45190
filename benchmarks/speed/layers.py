"""layers: one layer, every way to compute it, and its peers, forward and forward + backward, beside the plain layer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.speed.cases import Case, grid
from benchmarks.speed.timing import compare
from fusionconv.functional import hybrid_conv
from fusionconv.layers.daft import Daft
from fusionconv.layers.film import Film
from fusionconv.strategies import STRATEGIES, choose

__all__ = ["best", "chosen", "fastest", "measure", "summary", "ways"]

PEERS = ("condconv2d of timm", "film", "daft")


def measure(device: torch.device, quick: bool = False, budget: float = 6.0) -> Iterator[dict[str, Any]]:
    """A record for each case: seconds and ratio of each way, forward (inference) and forward + backward."""
    for case in tqdm(grid(device.type, quick), desc="layers", unit="case"):
        record: dict[str, Any] = {"case": case.name, "varied": case.varied, "layer": case.layer, "k": case.k}
        for step in ("forward", "step"):
            timings = compare(dict(ways(case, device, step == "step")), "plain", device, budget)
            record[step] = {name: timing.to_dict() for name, timing in timings.items()}
        yield record


def ways(case: Case, device: torch.device, backward: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Name and call of plain, every strategy, auto, and the peers, on the same tensors."""
    plain, x, s = case.drawn(device)
    x.requires_grad_(x.requires_grad and backward)
    base: Any = plain
    v = (0.1 * torch.randn(case.k, *base.weight.shape, device=device)).requires_grad_()

    def step(compute: Callable[[], Tensor], parameters: list[Tensor]) -> Callable[[], Any]:
        """Compute, and with ``backward`` differentiate for the parameters (and the feature map)."""
        wanted = [*parameters, *([x] if x.requires_grad else [])]

        def run() -> Any:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=case.dtype == "bfloat16"):
                y = compute()
            if not backward:
                return y
            y.backward(torch.ones_like(y))
            gradients = [tensor.grad for tensor in wanted]
            for tensor in wanted:  # none is left over that a later call would free first: see peak_memory
                tensor.grad = None
            return gradients

        return run if backward else torch.no_grad()(run)

    def hybrid(strategy: str) -> Callable[[], Tensor]:
        return lambda: hybrid_conv(x, s, base.weight, v, base.bias, strategy=strategy, **case.options)

    yield "plain", step(lambda: plain(x), [base.weight, base.bias])
    for strategy in (*STRATEGIES, "auto"):
        if strategy in ("stacked", "scaled") and case.k > 16:
            continue  # K + 1 times the arithmetic and the memory: gigabytes, and minutes a call
        yield strategy, step(hybrid(strategy), [base.weight, base.bias, v])
    for method, layer in (("film", Film), ("daft", Daft)):
        peer: Any = layer.from_plain(plain, case.k)
        added = [p for _, p in peer.covariate_parameters()]
        yield method, step(lambda peer=peer: peer(x, s), [base.weight, base.bias, *added])
    if case.dims == 2:
        yield from _condconv(case, base, v, x, s, step)


def _condconv(case: Case, base: Any, v: Tensor, x: Tensor, s: Tensor, step: Any) -> Iterator[tuple[str, Any]]:
    """timm's CondConv2d with the same kernels as experts, W always on: the same numbers, another way."""
    try:
        from timm.layers import CondConv2d
    except ImportError:
        return
    peer = CondConv2d(*case.channels, case.kernel, **case.options, bias=True, num_experts=case.k + 1).to(x.device)
    with torch.no_grad():
        peer.weight.copy_(torch.cat([base.weight[None], v]).flatten(1))
        peer.bias.zero_()[0] = base.bias
    routing = torch.cat([torch.ones_like(s[:, :1]), s], 1)
    yield PEERS[0], step(lambda: peer(x, routing), [peer.weight, peer.bias])


def chosen(case: Case, device: str) -> str:
    """The strategy that ``auto`` takes in this case, whose own column is then the same code measured again."""
    at = "cpu" if device == "cpu" else "meta"  # any other device is chosen for alike
    x = torch.empty(case.batch, case.channels[0], *[case.size] * case.dims, device=at)
    kernel = [case.kernel] * case.dims
    v = torch.empty(case.k, case.channels[1], case.channels[0] // case.groups, *kernel, device=at)
    return choose(x, case.covariates(torch.device("cpu")), v, case.geometry)


def best(timings: dict[str, Any]) -> str:
    """The fastest of the strategies that were measured."""
    return min((name for name in STRATEGIES if name in timings), key=lambda name: float(timings[name]["ratio"]))


def fastest(timings: dict[str, Any]) -> float:
    """The ratio to plain of the fastest strategy that was measured."""
    return float(timings[best(timings)]["ratio"])


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What the goals ask: geometric means and worst cases of auto / plain, auto / best, and the peers / auto."""

    def ratios(step: str, over: str, under: str) -> list[float]:
        return [
            r[step][over]["ratio"] / r[step][under]["ratio"] for r in records if over in r[step] and under in r[step]
        ]

    def both(values: list[float]) -> dict[str, float]:
        if not values:
            return {}
        return {
            "geometric_mean": round(statistics.geometric_mean(values), 3),
            "worst": round(max(values), 3),
            "best": round(min(values), 3),
            "cases": len(values),
        }

    found = {}
    for step in ("forward", "step"):
        behind = [r[step]["auto"]["ratio"] / fastest(r[step]) for r in records]
        found[step] = {
            "auto / plain": both(ratios(step, "auto", "plain")),
            "auto / best strategy of the case": {**both(behind), "mean": round(sum(behind) / len(behind), 3)},
            "loop / auto": both(ratios(step, "loop", "auto")),
            "condconv2d of timm / auto": both(ratios(step, PEERS[0], "auto")),
            "film / plain": both(ratios(step, "film", "plain")),
            "daft / plain": both(ratios(step, "daft", "plain")),
        }
    return found
