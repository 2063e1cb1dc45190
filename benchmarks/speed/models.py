"""models: one training step of whole networks, hybrid beside plain, with the peak memory of each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.speed.timing import compare, peak_memory
from fusionconv import fuse_into

__all__ = ["measure"]

K = 3


def _vgg16_bn() -> nn.Module:
    from torchvision.models import vgg16_bn

    return vgg16_bn(weights=None, num_classes=2)


def _resnet50() -> nn.Module:
    from torchvision.models import resnet50

    return resnet50(weights=None, num_classes=2)


def _densenet121_3d() -> nn.Module:
    from monai.networks.nets import DenseNet121

    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)


METHODS = ("hybrid", "lowrank", "film")
# name, network, layers, image on (CPU, CUDA): batch and shape
NETWORKS: tuple[tuple[str, Callable[[], nn.Module], int | str, dict[str, tuple[int, ...]]], ...] = (
    ("VGG16-BN, 1st convolution", _vgg16_bn, 0, {"cpu": (4, 3, 128, 128), "cuda": (32, 3, 224, 224)}),
    ("VGG16-BN, last convolution", _vgg16_bn, -1, {"cpu": (4, 3, 128, 128), "cuda": (32, 3, 224, 224)}),
    ("ResNet-50, 1st convolution", _resnet50, 0, {"cpu": (4, 3, 160, 160), "cuda": (32, 3, 224, 224)}),
    ("ResNet-50, last convolution", _resnet50, -1, {"cpu": (4, 3, 160, 160), "cuda": (32, 3, 224, 224)}),
    ("MONAI DenseNet121, 1st convolution", _densenet121_3d, 0, {"cpu": (1, 1, 96, 96, 96), "cuda": (4, 1, 96, 96, 96)}),
    ("VGG16-BN, all 13 convolutions", _vgg16_bn, "all", {"cpu": (4, 3, 128, 128), "cuda": (32, 3, 224, 224)}),
    ("ResNet-50, 9 of the last stage", _resnet50, "layer4.all", {"cpu": (4, 3, 160, 160), "cuda": (32, 3, 224, 224)}),
    ("MONAI DenseNet121, all of them", _densenet121_3d, "all", {"cpu": (1, 1, 64, 64, 64), "cuda": (4, 1, 96, 96, 96)}),
)  # fmt: skip


def measure(device: torch.device, quick: bool = False, budget: float = 30.0) -> Iterator[dict[str, Any]]:
    """A record for each network: ratios of time and of memory to the plain network.

    On CUDA as one would train there: bfloat16 autocast and channels_last.
    """
    precision = "bfloat16" if device.type == "cuda" else "float32"
    chosen = NETWORKS[:1] if quick else NETWORKS
    for name, build, layer, shapes in tqdm(chosen, desc="models", unit="network"):
        try:
            torch.manual_seed(0)
            plain = build()
        except ImportError as error:
            yield {"model": name, "left_out": str(error)}
            continue
        batch = shapes[device.type]
        x = torch.randn(batch, device=device)
        layout = {4: torch.channels_last, 5: torch.channels_last_3d}[x.ndim]
        s = torch.randn(batch[0], K, device=device)
        target = torch.randint(0, 2, (batch[0],), device=device)
        networks = {"plain": plain} | {way: fuse_into(copy.deepcopy(plain), layer, K, method=way) for way in METHODS}
        steps = {}
        for way, network in networks.items():
            network.to(device).train()
            if device.type == "cuda":
                network.to(memory_format=layout)
                x = x.contiguous(memory_format=layout)
            inputs = (x,) if way == "plain" else (x, s)
            steps[way] = _step(network, inputs, target, precision)
        record: dict[str, Any] = {"model": name, "input": list(batch), "precision": precision}
        timings = compare(steps, "plain", device, budget, rounds=(3, 15))
        record["step"] = {way: timing.to_dict() for way, timing in timings.items()}
        memory = {way: peak_memory(step, device) for way, step in steps.items()}
        record["peak_memory_mb"] = {way: None if m is None else round(m / 1e6, 1) for way, m in memory.items()}
        yield record
        del networks, steps


def _step(network: nn.Module, inputs: tuple[Tensor, ...], target: Tensor, precision: str) -> Callable[[], None]:
    """Forward, cross-entropy, backward, one step of SGD with momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    device = inputs[0].device.type

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            loss = nn.functional.cross_entropy(network(*inputs), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)  # last: no gradient is left over that a later call would free first

    return step
