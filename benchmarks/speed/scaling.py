"""scaling: the cost of one layer against the number of covariates K, with and without a low rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.speed.timing import compare, training_step
from fusionconv import HybridConv2d, HybridConv3d

__all__ = ["measure"]

RANK = 4
# name, layer, arguments, input on (CPU, CUDA); kernels small against their maps, and one the other way round
LAYERS: tuple[tuple[str, Any, tuple[int, int, int], dict[str, tuple[int, ...]]], ...] = (
    ("VGG first: 3->64, 3x3", HybridConv2d, (3, 64, 3), {"cpu": (8, 3, 224, 224), "cuda": (32, 3, 224, 224)}),
    ("3-D middle: 32->64, 3x3x3", HybridConv3d, (32, 64, 3), {"cpu": (4, 32, 32, 32, 32), "cuda": (8, 32, 32, 32, 32)}),
    ("VGG block 3: 256->256, 3x3", HybridConv2d, (256, 256, 3), {"cpu": (8, 256, 28, 28), "cuda": (32, 256, 28, 28)}),
)


def measure(device: torch.device, quick: bool = False, budget: float = 10.0) -> Iterator[dict[str, Any]]:
    """A record for each layer: forward + backward at each K, as ratios to K = 1 in the same rounds, and to plain."""
    for name, kind, (c_in, c_out, kernel), shapes in tqdm(LAYERS[: 1 if quick else None], desc="scaling", unit="layer"):
        torch.manual_seed(0)
        shape = shapes[device.type]
        x = torch.randn(shape, device=device).requires_grad_(c_in > 3)
        ways: dict[str, Callable[[], Any]] = {}
        plain: type[nn.Module] = kind.plain_class()
        layer: Any = plain(c_in, c_out, kernel, padding=1).to(device)  # type: ignore[call-arg]
        ways["plain"] = training_step(layer, x)
        for k in (1, 4, 16, 64, 256):
            if k * layer.weight.numel() > 5e7:
                continue
            s = torch.randn(shape[0], k, device=device)
            ways[f"K={k}"] = training_step(kind(c_in, c_out, kernel, k, padding=1, device=device), x, s)
            if k > RANK:
                low = kind(c_in, c_out, kernel, k, padding=1, rank=RANK, device=device)
                ways[f"K={k}, rank={RANK}"] = training_step(low, x, s)
        timings = compare(ways, "K=1", device, budget, rounds=(3, 25), slow=20)
        yield {"layer": name, "input": list(shape), "step": {way: t.to_dict() for way, t in timings.items()}}
