"""Small fused networks for the tests of fusionconv.explain, V drawn at random, in float64."""

from __future__ import annotations

import torch
from torch import nn

import fusionconv


def make_random(model: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter that only the covariates use drawn at random, so that they matter."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, fusionconv.layers.CovariateLayer):
                for _, parameter in layer.covariate_parameters():
                    parameter.normal_(std=0.5)
    return model


def net(dims: int = 2, outputs: int = 1, channels: int = 2, smooth: bool = False) -> nn.Sequential:
    """Two convolutions with batch norm and dropout between, pooled, linear."""
    torch.manual_seed(0)
    conv, pool = getattr(nn, f"Conv{dims}d"), getattr(nn, f"AdaptiveAvgPool{dims}d")
    norm = getattr(nn, f"BatchNorm{dims}d")
    made = nn.Sequential(
        conv(channels, 4, 3, padding=1), norm(4), nn.Softplus() if smooth else nn.ReLU(inplace=True), nn.Dropout(0.5),
        conv(4, 3, 3), nn.Softplus() if smooth else nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(3, outputs),
    )  # fmt: skip
    return made.double()


def fused(method: str = "hybrid", where="first", K: int = 3, options=None, **given) -> nn.Module:
    return make_random(fusionconv.fuse_into(net(**given), where, K, method=method, **(options or {})))


def batch(n: int = 4, dims: int = 2, K: int = 3, channels: int = 2, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(n, channels, *[size] * dims).double(), torch.randn(n, K).double()
