"""probe: all known ways to compute ten typical layers, also ways that `auto` does not have; kernel names on a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks.speed.cases import Case
from benchmarks.speed.timing import median_seconds
from fusionconv.functional import hybrid_conv
from fusionconv.strategies import STRATEGIES, choose
from fusionconv.strategies.kernels import per_sample

__all__ = ["measure", "ways"]


LAYERS = (
    Case("VGG first", 2, 32, (3, 64), 224),
    Case("X-ray stem", 2, 32, (1, 64), 224, 7, 2),
    Case("3-D stem", 3, 4, (1, 64), 96, 7, 2),
    Case("VGG last", 2, 32, (512, 512), 14),
    Case("VGG middle", 2, 32, (256, 256), 56),
    Case("3-D dense, early", 3, 4, (128, 32), 24),
    Case("3-D dense, late", 3, 4, (128, 32), 6),
    Case("ResNet stem", 2, 32, (3, 64), 224, 7, 2),
    Case("ResNet 1x1", 2, 32, (256, 64), 56, 1),
    Case("VGG second", 2, 32, (64, 64), 224),
)
PROFILED = ("plain", "grouped", "scaled", "stacked")


def measure(device: torch.device, quick: bool = False, budget: float = 4.0) -> Iterator[dict[str, Any]]:
    """A record for each layer and K: milliseconds of each way, forward and forward + backward; `budget` is not used.

    In bfloat16 autocast and channels_last on CUDA, K = 3 first, then K = 1 and 16, then cuDNN's own search for the
    fastest algorithm. On a CPU tiny maps in float32, to see that it runs.
    """
    cuda = device.type == "cuda"
    plan = [(k, False) for k in ((3, 1, 16) if cuda and not quick else (3,))] + ([(3, True)] if cuda else [])
    before = torch.backends.cudnn.benchmark
    try:
        for k, search in plan:
            torch.backends.cudnn.benchmark = search
            for layer in tqdm(LAYERS, desc=f"probe, K = {k}", unit="layer"):
                yield _record(replace(layer if cuda else _tiny(layer), k=k), search, device)
    finally:
        torch.backends.cudnn.benchmark = before


def _tiny(case: Case) -> Case:
    return replace(case, batch=2, channels=(min(8, case.channels[0]), 8), size=8)


def _record(case: Case, search: bool, device: torch.device) -> dict[str, Any]:
    x, s, w, v = _tensors(case, device)
    record: dict[str, Any] = {"layer": case.layer, "k": case.k, "cudnn_benchmark": search, "batch": case.batch}
    record["auto"] = choose(x, s, v, case.geometry) if device.type == "cuda" else None
    found: dict[str, dict[str, Any]] = {}
    wanted = [t for t in (x, w, v) if t.requires_grad]
    truth: Tensor | None = None
    for name, way in ways(case, x, s, w, v).items():
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                y = way()
                dy = torch.randn_like(y)

                def step(way: Callable[[], Tensor] = way, dy: Tensor = dy) -> None:
                    torch.autograd.grad(way(), wanted, dy, allow_unused=True)

                with torch.no_grad():
                    forward = _milliseconds(way, device)
                found[name] = {"forward_ms": forward, "step_ms": _milliseconds(step, device)}
                if name in PROFILED and case.k == 3 and not search and device.type == "cuda":
                    found[name]["kernels"] = _kernels(step)
            if name == "grouped":
                truth = y.detach().float()
            elif truth is not None:
                found[name]["error"] = float(f"{float((y.detach().float() - truth).norm() / truth.norm()):.1e}")
        except RuntimeError as error:  # out of memory, no such convolution: the others go on
            found[name] = {"failed": f"{type(error).__name__}: {str(error)[:80]}"}
    return record | {"ways": found}


def _tensors(case: Case, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, s, W and V in channels_last; x in bfloat16 on CUDA."""
    plain, x, s = case.drawn(device)
    kernel: Any = plain.weight
    w = kernel.detach().contiguous(memory_format=case.channels_last).requires_grad_()
    v = (0.05 * torch.randn(case.k, *w.shape, device=device)).requires_grad_()
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    images = x.detach().to(dtype).contiguous(memory_format=case.channels_last)
    return images.requires_grad_(x.requires_grad), s, w, v


def ways(case: Case, x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Name and call: plain, every strategy, and ways that no strategy takes yet."""
    found: dict[str, Callable[[], Tensor]] = {"plain": lambda: case.geometry.conv(x, w)}
    for name in ("grouped", *(n for n in STRATEGIES if n != "grouped")):
        found[name] = lambda name=name: hybrid_conv(x, s, w, v, strategy=name, check_finite=False, **case.options)
    if case.kernel == 1 and case.stride == 1:
        found["bmm"] = lambda: _bmm(x, s, w, v)
    elif case.dims == 2 and w[0].numel() <= 4608 and case.channels[0] * case.size**2 <= 2**18:
        found["unfold, bmm"] = lambda: _unfold(case, x, s, w, v)
    found["weight gradient by copies"] = lambda: _CopiesForWeights.apply(x, s, w, v, case)
    return found


def _bmm(x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """A 1x1 convolution as one matrix product a sample."""
    kernels = per_sample(w, s, v).flatten(2).to(x.dtype)
    y = torch.bmm(x.flatten(2).transpose(1, 2), kernels.transpose(1, 2))
    return y.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def _unfold(case: Case, x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """A convolution as one matrix product a sample, over the unfolded image."""
    kernels = per_sample(w, s, v).flatten(2).to(x.dtype)
    y = torch.bmm(kernels, F.unfold(x, case.kernel, padding=case.kernel // 2, stride=case.stride))
    return y.reshape(len(x), len(w), *case.geometry.output_sizes(x.shape[2:], w.shape[2:]))


class _CopiesForWeights(torch.autograd.Function):
    """`grouped` forward; dW and dV as one weight gradient over dy and its products with each covariate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, w: Tensor, v: Tensor, case: Case) -> Tensor:
        ctx.save_for_backward(x, s, w, v)
        ctx.geometry = case.geometry
        return hybrid_conv(x, s, w, v, strategy="grouped", check_finite=False, **case.options)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, s, w, v = ctx.saved_tensors
        geometry, dy = ctx.geometry, gradients[0]
        products = [dy, *(dy * s_j.to(dy.dtype).reshape(-1, *(1,) * (dy.ndim - 1)) for s_j in s.unbind(1))]
        like = w.new_empty((len(v) + 1) * len(w), *w.shape[1:], dtype=dy.dtype)
        x = x.to(dy.dtype)
        _, sums = geometry.conv_backward(torch.cat(products, 1), x, like, 1, (False, True))
        dx = None
        if ctx.needs_input_grad[0]:
            kernels = per_sample(w, s, v).to(dy.dtype).flatten(0, 1)
            maps, images = (t.reshape(1, -1, *t.shape[2:]) for t in (dy, x))
            dx, _ = geometry.conv_backward(maps, images, kernels, len(x), (True, False))
            dx = dx.reshape(x.shape)
        sums = sums.to(w.dtype).reshape(len(v) + 1, *w.shape)
        return dx, None, sums[0], sums[1:], None


def _milliseconds(way: Callable[[], Any], device: torch.device) -> float:
    return float(f"{1e3 * median_seconds(way, device, 3 if device.type == 'cuda' else 1, 7):.4g}")


def _kernels(step: Callable[[], None]) -> list[dict[str, Any]]:
    """The five that take most of a step, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:5]
    return [{"name": e.key[:90], "ms": round(e.self_device_time_total / 1e3, 4)} for e in events]
