"""Small networks for the surgery tests, and the gradients of a fused model computed without any surgery."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv

Model = TypeVar("Model", bound=nn.Module)


def small_net() -> nn.Sequential:
    """Three convolutions, batch norm in between, a linear head; images (N, 3, 8, 8) -> (N, 4)."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.Tanh(),
        nn.Conv2d(6, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    )


class Body(nn.Module):
    """A network around `small_net` that runs its layers plainly or under activation checkpointing."""

    def __init__(self, mode: str = "plain") -> None:
        super().__init__()
        self.mode = mode
        self.net = small_net()
        self.feature: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reentrant = self.mode.startswith("reentrant")
        first, last = self.net[:5], self.net[5:]
        if self.mode == "plain":
            feature = first(x)
        elif self.mode.endswith("nested"):
            feature = checkpoint(
                lambda y: checkpoint(first, y, use_reentrant=reentrant) * 1.0, x, use_reentrant=reentrant
            )
        else:
            feature = checkpoint(first, x, use_reentrant=reentrant)
        self.feature = feature  # what a loss on an intermediate feature would capture; not read here (threads)
        return last(feature) if self.mode == "plain" else checkpoint(last, feature, use_reentrant=reentrant)


def fused_body(mode: str = "plain", layers=(0, -1), seed: int = 0) -> Body:
    """A fused `Body` in float64 with V drawn at random, so that covariates matter."""
    torch.manual_seed(seed)
    model = fusionconv.fuse_into(Body(mode).double(), list(layers), num_covariates=2, covariate_bias=True)
    return with_covariates_that_matter(model)


def with_covariates_that_matter(model: Model) -> Model:
    """``model`` with its V (and c and map) drawn at random: they start at 0, where any covariates give the same."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_(std=0.5)
    return model


def data(seed: int, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, 8, 8, generator=g, dtype=torch.float64)
    return x.requires_grad_(), torch.randn(n, 2, generator=g, dtype=torch.float64)
