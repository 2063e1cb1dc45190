"""A small fused network for window tests, and the same network for one covariate vector without any fusionconv.

The reference bakes W + sum_j s_j V_j into plain convolutions by hand, so that a wrong row in the fused network shows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

import fusionconv

CONV = {2: nn.Conv2d, 3: nn.Conv3d}


def plain_net(dims: int) -> nn.Sequential:
    """(N, 1, *spatial) -> (N, 2, *spatial), float64."""
    conv = CONV[dims]
    return nn.Sequential(conv(1, 3, 3, padding=1), nn.Tanh(), conv(3, 2, 3, padding=1)).double().eval()


def fused_net(dims: int, num_covariates: int = 2) -> nn.Sequential:
    """`plain_net`, fused at both convolutions, with every V and c drawn at random."""
    torch.manual_seed(dims)
    model = fusionconv.fuse_into(plain_net(dims), [0, 1], num_covariates, covariate_bias=True)
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.covariate_weight.normal_(std=0.5)
            layer.covariate_bias.normal_(std=0.5)
    return model


def baked(model: nn.Sequential, row: torch.Tensor) -> nn.Sequential:
    """The plain network that `fused_net` must be for a volume with the covariates ``row`` (K)."""
    plain = plain_net(model[0].weight.ndim - 2)
    with torch.no_grad():
        for i in (0, 2):
            fused = model[i]
            plain[i].weight.copy_(fused.weight + sum(s * V for s, V in zip(row, fused.covariate_weight, strict=True)))
            plain[i].bias.copy_(fused.bias + sum(s * c for s, c in zip(row, fused.covariate_bias, strict=True)))
    return plain


def volumes_and_covariates(n: int, size: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, *size, generator=g, dtype=torch.float64)
    return x, torch.randn(n, 2, generator=g, dtype=torch.float64)


def one_by_one(infer: Callable, model: nn.Sequential, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """``infer(volume, network)`` for every volume alone, each with the plain network of its own row."""
    return torch.cat([infer(x[i : i + 1], baked(model, s[i])) for i in range(len(x))])
