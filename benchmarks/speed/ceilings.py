"""ceilings: what the machine can do at best, so that a figure can be read as a share of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.speed.timing import median_seconds

__all__ = ["measure"]

_median = partial(median_seconds, warm=2, calls=5)


def measure(device: torch.device, quick: bool = False, budget: float = 0.0) -> Iterator[dict[str, Any]]:
    """A record each: products and convolutions (TFLOP/s), copies (GB/s), the start of an operation and a wait (us)."""
    small = quick or device.type != "cuda"
    n, rows, batch = (256, 2**20, 2) if small else (8192, 2**28, 32)
    names = ["float32"] if small else ["bfloat16", "float16", "TF32", "float32"]
    exact = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for name in names:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "TF32"
            dtype = torch.float32 if name == "TF32" else getattr(torch, name)
            a = torch.randn(n, n, device=device, dtype=dtype)
            seconds = _median(lambda a=a: a @ a, device)
            yield {"what": f"product of {n} x {n}, {name}", "tflops": round(2 * n**3 / seconds / 1e12, 3)}
            shapes = ((batch, 256, 56, 56), (256, 256, 3, 3))
            x, w = (torch.randn(shape, device=device, dtype=dtype) for shape in shapes)
            x, w = (t.contiguous(memory_format=torch.channels_last) for t in (x, w))
            seconds = _median(lambda x=x, w=w: F.conv2d(x, w, padding=1), device)
            flops = 2 * batch * 56 * 56 * 256 * 256 * 9
            yield {"what": f"256->256, 3x3 on 56x56, batch {batch}, channels_last, {name}",
                   "tflops": round(flops / seconds / 1e12, 3)}  # fmt: skip
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = exact
    source = torch.ones(rows, device=device)
    target = torch.empty_like(source)
    seconds = _median(lambda: target.copy_(source), device)
    yield {"what": "copy in memory, read and written", "gb_per_second": round(8 * rows / seconds / 1e9, 1)}
    if device.type == "cuda":
        pinned = torch.ones(rows // 8).pin_memory()
        seconds = _median(lambda: target[: rows // 8].copy_(pinned, non_blocking=True), device)
        yield {"what": "copy from the host, pinned", "gb_per_second": round(rows / 2 / seconds / 1e9, 1)}
    one = torch.ones(8, device=device)
    seconds = _median(lambda: [one.add_(0) for _ in range(1000)], device)
    yield {"what": "start of an operation", "microseconds": round(seconds * 1e3, 2)}
    seconds = _median(lambda: [float(one[0]) for _ in range(100)], device)
    yield {"what": "wait for a number", "microseconds": round(seconds * 1e4, 2)}
