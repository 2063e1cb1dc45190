"""probe: all known ways to compute ten typical layers, also ways that `auto` does not have; kernel names on a card."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks.speed.timing import timed
from fusionconv.functional import hybrid_conv
from fusionconv.strategies import STRATEGIES, Geometry, choose
from fusionconv.strategies.kernels import per_sample

__all__ = ["Layer", "measure", "ways"]


@dataclass(frozen=True)
class Layer:
    """A layer, and the batch and the side of its input."""

    name: str
    dims: int
    batch: int
    channels: tuple[int, int]
    size: int
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        """Half the kernel."""
        return self.kernel // 2


LAYERS = (
    Layer("VGG first", 2, 32, (3, 64), 224),
    Layer("X-ray stem", 2, 32, (1, 64), 224, 7, 2),
    Layer("3-D stem", 3, 4, (1, 64), 96, 7, 2),
    Layer("VGG last", 2, 32, (512, 512), 14),
    Layer("VGG middle", 2, 32, (256, 256), 56),
    Layer("3-D dense, early", 3, 4, (128, 32), 24),
    Layer("3-D dense, late", 3, 4, (128, 32), 6),
    Layer("ResNet stem", 2, 32, (3, 64), 224, 7, 2),
    Layer("ResNet 1x1", 2, 32, (256, 64), 56, 1),
    Layer("VGG second", 2, 32, (64, 64), 224),
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
                yield _record(layer if cuda else _tiny(layer), k, search, device)
    finally:
        torch.backends.cudnn.benchmark = before


def _tiny(layer: Layer) -> Layer:
    return Layer(layer.name, layer.dims, 2, (min(8, layer.channels[0]), 8), 8, layer.kernel, layer.stride)


def _record(layer: Layer, k: int, search: bool, device: torch.device) -> dict[str, Any]:
    x, s, w, v = _tensors(layer, k, device)
    geometry = Geometry(layer.dims, layer.stride, layer.padding)
    record: dict[str, Any] = {"layer": layer.name, "k": k, "cudnn_benchmark": search, "batch": layer.batch}
    record["auto"] = choose(x, s, v, geometry) if device.type == "cuda" else None
    found: dict[str, dict[str, Any]] = {}
    wanted = [t for t in (x, w, v) if t.requires_grad]
    truth: Tensor | None = None
    for name, way in ways(layer, x, s, w, v).items():
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                y = way()
                dy = torch.randn_like(y)

                def step(way: Callable[[], Tensor] = way, dy: Tensor = dy) -> None:
                    torch.autograd.grad(way(), wanted, dy, allow_unused=True)

                with torch.no_grad():
                    forward = _milliseconds(way, device)
                found[name] = {"forward_ms": forward, "step_ms": _milliseconds(step, device)}
                if name in PROFILED and k == 3 and not search and device.type == "cuda":
                    found[name]["kernels"] = _kernels(step)
            if name == "grouped":
                truth = y.detach().float()
            elif truth is not None:
                found[name]["error"] = float(f"{float((y.detach().float() - truth).norm() / truth.norm()):.1e}")
        except RuntimeError as error:  # out of memory, no such convolution: the others go on
            found[name] = {"failed": f"{type(error).__name__}: {str(error)[:80]}"}
    return record | {"ways": found}


def _tensors(layer: Layer, k: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    last = torch.channels_last if layer.dims == 2 else torch.channels_last_3d
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    c_in, c_out = layer.channels
    x = torch.randn(layer.batch, c_in, *[layer.size] * layer.dims, device=device, dtype=dtype)
    w = 0.05 * torch.randn(c_out, c_in, *[layer.kernel] * layer.dims, device=device)
    v = 0.05 * torch.randn(k, *w.shape, device=device)
    x = x.contiguous(memory_format=last).requires_grad_(c_in > 3)  # an image needs no gradient
    s = torch.randn(layer.batch, k, device=device)
    return x, s, w.contiguous(memory_format=last).requires_grad_(), v.requires_grad_()


def ways(layer: Layer, x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Name and call: plain, every strategy, and ways that no strategy takes yet."""
    shape = {"stride": layer.stride, "padding": layer.padding}
    conv: Any = F.conv2d if layer.dims == 2 else F.conv3d
    found: dict[str, Callable[[], Tensor]] = {"plain": lambda: conv(x, w, None, **shape)}
    for name in ("grouped", *(n for n in STRATEGIES if n != "grouped")):
        found[name] = lambda name=name: hybrid_conv(x, s, w, v, strategy=name, check_finite=False, **shape)
    if layer.kernel == 1 and layer.stride == 1:
        found["bmm"] = lambda: _bmm(x, s, w, v)
    elif layer.dims == 2 and w[0].numel() <= 4608 and layer.channels[0] * layer.size**2 <= 2**18:
        found["unfold, bmm"] = lambda: _unfold(layer, x, s, w, v)
    found["weight gradient by copies"] = lambda: _CopiesForWeights.apply(x, s, w, v, layer)
    return found


def _bmm(x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """A 1x1 convolution as one matrix product a sample."""
    kernels = per_sample(w, s, v).flatten(2).to(x.dtype)
    y = torch.bmm(x.flatten(2).transpose(1, 2), kernels.transpose(1, 2))
    return y.transpose(1, 2).reshape(len(x), -1, *x.shape[2:])


def _unfold(layer: Layer, x: Tensor, s: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """A convolution as one matrix product a sample, over the unfolded image."""
    kernels = per_sample(w, s, v).flatten(2).to(x.dtype)
    y = torch.bmm(kernels, F.unfold(x, layer.kernel, padding=layer.padding, stride=layer.stride))
    height = (x.shape[2] + 2 * layer.padding - layer.kernel) // layer.stride + 1
    return y.reshape(len(x), len(w), height, -1)


class _CopiesForWeights(torch.autograd.Function):
    """`grouped` forward; dW and dV as one weight gradient over dy and its products with each covariate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, w: Tensor, v: Tensor, layer: Layer) -> Tensor:
        ctx.save_for_backward(x, s, w, v)
        ctx.layer = layer
        return hybrid_conv(
            x, s, w, v, stride=layer.stride, padding=layer.padding, strategy="grouped", check_finite=False
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, s, w, v = ctx.saved_tensors
        dims, layer, dy = ctx.layer.dims, ctx.layer, gradients[0]
        ones = [1] * dims
        stride, padding = [layer.stride] * dims, [layer.padding] * dims
        products = [dy, *(dy * s_j.to(dy.dtype).reshape(-1, *(1,) * (dims + 1)) for s_j in s.unbind(1))]
        like = w.new_empty((len(v) + 1) * len(w), *w.shape[1:], dtype=dy.dtype)
        x = x.to(dy.dtype)
        _, sums, _ = torch.ops.aten.convolution_backward(
            torch.cat(products, 1), x, like, None, stride, padding, ones, False, [0] * dims, 1, [False, True, False]
        )
        dx = None
        if ctx.needs_input_grad[0]:
            kernels = per_sample(w, s, v).to(dy.dtype).flatten(0, 1)
            dx, _, _ = torch.ops.aten.convolution_backward(
                dy.reshape(1, -1, *dy.shape[2:]), x.reshape(1, -1, *x.shape[2:]), kernels, None, stride, padding, ones,
                False, [0] * dims, len(x), [True, False, False],
            )  # fmt: skip
            dx = dx.reshape(x.shape)
        sums = sums.to(w.dtype).reshape(len(v) + 1, *w.shape)
        return dx, None, sums[0], sums[1:], None


def _milliseconds(way: Callable[[], Any], device: torch.device) -> float:
    for _ in range(3 if device.type == "cuda" else 1):
        way()
    return float(f"{1e3 * statistics.median(timed(way, device) for _ in range(7)):.4g}")


def _kernels(step: Callable[[], None]) -> list[dict[str, Any]]:
    """The five that take most of a step, by name."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)[:5]
    return [{"name": e.key[:90], "ms": round(e.self_device_time_total / 1e3, 4)} for e in events]
