"""The grid: layers as they stand in VGG, ResNet, MobileNet, 3-D networks and 1-D series, one thing varied at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fusionconv.strategies import Geometry

__all__ = ["Case", "deep", "grid"]


@dataclass(frozen=True)
class Case:
    """A layer and its input. ``kind``: continuous covariates (all rows differ), or binary (0/1, sex or scanner)."""

    layer: str
    dims: int
    batch: int
    channels: tuple[int, int]
    size: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    k: int = 3
    kind: str = "continuous"
    dtype: str = "float32"
    layout: str = "contiguous"
    varied: str = "base"

    @property
    def name(self) -> str:
        """For people and for JSON."""
        c_in, c_out = self.channels
        size = "x".join([str(self.size)] * self.dims)
        extra = "".join(
            f", {word}"
            for word, shown in (
                (f"stride {self.stride}", self.stride > 1),
                ("depthwise", self.groups == c_in > 1),
                (self.kind, self.kind != "continuous"),
                (self.dtype, self.dtype != "float32"),
                (self.layout, self.layout != "contiguous"),
            )
            if shown
        )
        kernel = "x".join([str(self.kernel)] * self.dims)
        return f"{self.layer}: {c_in}->{c_out}, {kernel} on {size}, batch {self.batch}, K {self.k}{extra}"

    @property
    def options(self) -> dict[str, int]:
        """How the kernel slides, by the names that torch has for it; half the kernel is padded."""
        return {"stride": self.stride, "padding": self.kernel // 2, "groups": self.groups}

    @property
    def geometry(self) -> Geometry:
        """The same for fusionconv's strategies."""
        return Geometry(self.dims, **self.options)

    @property
    def channels_last(self) -> torch.memory_format:
        """What torch calls channels_last for so many dimensions."""
        return {2: torch.channels_last, 3: torch.channels_last_3d}[self.dims]

    def drawn(self, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
        """The plain layer, a batch and its covariates, by one seed; a feature map takes a gradient, an image none."""
        torch.manual_seed(0)
        plain = self.plain().to(device)
        x, s = self.images(device), self.covariates(device)
        return plain, x.requires_grad_(self.channels[0] > 3), s

    def plain(self) -> nn.Module:
        """The ordinary layer, with torch's own start."""
        kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[self.dims]
        layer = kind(*self.channels, self.kernel, **self.options)
        return layer if self.layout == "contiguous" else layer.to(memory_format=self.channels_last)

    def images(self, device: torch.device) -> Tensor:
        """A batch."""
        x = torch.randn(self.batch, self.channels[0], *[self.size] * self.dims, device=device)
        return x if self.layout == "contiguous" else x.contiguous(memory_format=self.channels_last)

    def covariates(self, device: torch.device) -> Tensor:
        """(batch, K): normal, or 0/1 with one half each (of K > 1 binary columns rows repeat only by chance)."""
        if self.kind == "binary":
            return torch.randint(0, 2, (self.batch, self.k), device=device).float()
        return torch.randn(self.batch, self.k, device=device)


# layer, dims, (batch on a CPU, on CUDA), channels, size, kernel, stride, groups
_LAYERS = (
    ("VGG first", 2, (4, 32), (3, 64), 224, 3, 1, 1),
    ("VGG middle", 2, (4, 32), (128, 256), 56, 3, 1, 1),
    ("VGG last", 2, (8, 32), (512, 512), 14, 3, 1, 1),
    ("VGG last, 64 px", 2, (16, 32), (512, 512), 4, 3, 1, 1),
    ("ResNet stem", 2, (8, 32), (3, 64), 224, 7, 2, 1),
    ("ResNet 1x1", 2, (8, 32), (256, 64), 56, 1, 1, 1),
    ("ResNet strided", 2, (8, 32), (128, 128), 56, 3, 2, 1),
    ("depthwise", 2, (8, 32), (144, 144), 56, 3, 1, 144),
    ("3-D stem", 3, (1, 4), (1, 32), 96, 3, 1, 1),
    ("3-D stem, large", 3, (1, 4), (1, 16), 128, 7, 2, 1),
    ("3-D middle", 3, (4, 8), (32, 64), 32, 3, 1, 1),
    ("3-D deep", 3, (4, 8), (128, 128), 12, 3, 1, 1),
    ("1-D series", 1, (32, 128), (64, 64), 1024, 7, 1, 1),
)


def grid(device: str, quick: bool = False) -> list[Case]:
    """The cases: every layer at K = 3, then K, kind, batch, precision and layout varied, each on a few layers."""
    cuda = device == "cuda"
    base = {
        layer: Case(layer, dims, batches[cuda], channels, size, kernel, stride, groups)
        for layer, dims, batches, channels, size, kernel, stride, groups in _LAYERS
    }
    if quick:
        return [base["VGG first"], base["VGG last"], replace(base["VGG last"], kind="binary", k=1, varied="kind")]
    cases = list(base.values())
    cases += [replace(base[name], k=k, varied="K") for name in ("VGG first", "3-D middle") for k in (1, 16, 64, 256)]
    cases += [replace(base["VGG last"], k=k, varied="K") for k in (1, 16)]  # 64 would be 150 million parameters
    for name in ("VGG first", "VGG middle", "VGG last", "3-D middle", "1-D series"):
        cases.append(replace(base[name], kind="binary", k=1, varied="kind"))
    for batch in (1, 4, 128) if cuda else (1, 4, 32):
        cases += [replace(base[name], batch=batch, varied="batch") for name in ("VGG middle", "VGG last", "ResNet 1x1")]
    for name in ("VGG first", "VGG middle", "VGG last", "3-D middle") if cuda else ("VGG middle", "VGG last"):
        cases.append(replace(base[name], layout="channels_last", varied="layout"))
    if cuda:  # a processor without bfloat16 instructions computes these a hundred times slower, plain ones too
        for name in ("VGG first", "VGG middle", "VGG last", "3-D middle", "depthwise"):
            for layout in ("contiguous", "channels_last"):
                cases.append(replace(base[name], dtype="bfloat16", layout=layout, varied="precision"))
    if cuda:  # what one trains in comes first: the run may be stopped
        cases.sort(key=lambda case: (case.dtype != "bfloat16", case.varied not in ("base", "kind")))
    return list({case.name: case for case in reversed(cases)}.values())[::-1]  # a varied batch may be the layer's own


def deep() -> list[Case]:
    """Layers whose kernels are large beside their maps, and two with large maps, none of them in the grid."""
    sizes = ((256, 14, 16), (512, 7, 16), (512, 14, 8), (512, 4, 16))
    cases = [
        Case("deep", 2, batch, (channels, channels), size, k=k, varied="deep")
        for k in (3, 16)
        for channels, size, batch in sizes
    ]
    return [
        *cases,
        Case("1x1, deep", 2, 16, (1024, 256), 14, kernel=1, varied="deep"),
        Case("ResNet block", 2, 8, (64, 64), 56, varied="deep"),
        Case("ResNet block", 2, 8, (128, 128), 28, varied="deep"),
        Case("first, 112 px", 2, 16, (3, 64), 112, varied="deep"),
    ]
