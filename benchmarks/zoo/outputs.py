"""Outputs of any form as plain lists of tensors: flatten them, split them by sample, and say how far apart two are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["apart", "distance", "flatten", "loss", "split"]


def flatten(output: Any) -> list[Tensor]:
    """Every tensor and number in ``output``: tuples, lists, dicts, dataclasses, nested as they come.

    Raises:
        TypeError: something else is in it; nothing is left out silently.
    """
    if isinstance(output, Tensor):
        return [output]
    if output is None or isinstance(output, str):
        return []
    if isinstance(output, (bool, int, float)):
        return [torch.tensor(output)]
    if isinstance(output, Mapping):
        return [t for key in output for t in flatten(output[key])]
    if isinstance(output, (tuple, list)):
        return [t for item in output for t in flatten(item)]
    if dataclasses.is_dataclass(output):
        return [t for field in dataclasses.fields(output) for t in flatten(getattr(output, field.name))]
    raise TypeError(f"an output of {type(output).__name__} cannot be compared; teach benchmarks.zoo.outputs.flatten")


def split(output: Any, n: int, per_image: bool = False) -> list[list[Tensor]]:
    """The output by sample: sample i's part of every tensor that has rows for ``n`` samples.

    Tensors without such rows (a loss over the batch) are left out. With ``per_image`` the output is a list of
    detections, of which each column is sorted: equal scores stand in an order that rounding decides.

    Raises:
        ValueError: no tensor has rows for the samples.
    """
    if per_image:
        if len(output) != n:
            raise ValueError(f"expected a list of {n} outputs, one per image, got {len(output)}")
        return [[t.sort(0).values if t.ndim else t for t in flatten(item)] for item in output]
    rows = [t for t in flatten(output) if t.ndim and len(t) and len(t) % n == 0]
    if not rows:
        raise ValueError(f"no output has rows for {n} samples")
    parts = [t.chunk(n) for t in rows]
    return [[part[i] for part in parts] for i in range(n)]


def distance(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of its tensor; inf where the forms differ or NaN comes."""
    if len(a) != len(b) or not a:
        return float("inf")
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.shape != y.shape or x.dtype != y.dtype:
            return float("inf")
        if not x.numel():
            continue
        x, y = x.detach().to(torch.float64), y.detach().to(torch.float64)
        if not (x.isfinite().all() and y.isfinite().all()):
            return float("inf")
        scale = max(x.abs().max().item(), y.abs().max().item())
        worst = max(worst, (x - y).abs().max().item() / scale if scale else 0.0)
    return worst


def apart(a: Tensor, b: Tensor) -> float:
    """The length of a - b relative to the longer of both; for gradients, where single elements may jump."""
    if not (a.isfinite().all() and b.isfinite().all()):
        return float("inf")
    a, b = a.detach().to(torch.float64), b.detach().to(torch.float64)
    scale = max(a.norm().item(), b.norm().item())
    return (a - b).norm().item() / scale if scale else 0.0


def loss(parts: list[Tensor], sample: int) -> Tensor:
    """A loss of one sample: its outputs times fixed random numbers, so that no normalisation makes it constant.

    Raises:
        ValueError: no output takes a gradient.
    """
    generator = torch.Generator().manual_seed(100 + sample)
    total: list[Tensor] = []
    for part in parts:
        weights = torch.randn(part.shape, generator=generator, dtype=torch.float32).to(part.dtype)
        if part.requires_grad:
            total.append((part * weights).sum() / max(1, part.numel()) ** 0.5)
    if not total:
        raise ValueError("no output takes a gradient")
    return torch.stack(total).sum()
