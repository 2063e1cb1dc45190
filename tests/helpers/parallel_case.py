"""The network, the batch and the comparisons that `ddp_checks` and `fsdp_checks` share.

Expected values come from the same network without wrapper in one process, over the whole batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import data, with_covariates_that_matter

WORLD = 2
CHECKS: dict[str, Callable[[int], None]] = {}
MODES = ["plain", "reentrant", "non-reentrant"] if CAN_RECOMPUTE else ["plain"]
Wrap = Callable[[nn.Module], nn.Module]


def check(function: Callable[[int], None]) -> Callable[[int], None]:
    CHECKS[function.__name__] = function
    return function


def whole(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    x, s = data(0, n=8)
    return x.detach().to(dtype), s.to(dtype)


def mine(rank: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return [t[rank * 4 : (rank + 1) * 4] for t in tensors]


class Blocks(nn.Module):
    """Three blocks without batch norm, each under activation checkpointing unless ``mode`` is "plain"."""

    def __init__(self, mode: str = "plain") -> None:
        super().__init__()
        self.mode = mode
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Tanh()),
                nn.Sequential(nn.Conv2d(6, 6, 3, groups=2), nn.Tanh(), nn.Conv2d(6, 6, 1)),
                nn.Sequential(nn.Conv2d(6, 5, 3), nn.Tanh()),
            ]
        )
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x) if self.mode == "plain" else checkpoint(block, x, use_reentrant=self.mode == "reentrant")
        return self.head(x.mean((2, 3)))


def model_for(mode: str = "plain", seed: int = 0) -> Blocks:
    """Fused in its first and its last convolution; the two between stay plain."""
    torch.manual_seed(seed)
    model = fusionconv.fuse_into(Blocks(mode).double(), [0, -1], num_covariates=2, covariate_bias=True)
    return with_covariates_that_matter(model)


def loss(y: torch.Tensor) -> torch.Tensor:
    return y.square().mean()


def full(t: torch.Tensor | None) -> torch.Tensor | None:
    return t.full_tensor() if t is not None and hasattr(t, "full_tensor") else t  # type: ignore[operator]


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    named = {name.removeprefix("module."): full(p.grad) for name, p in model.named_parameters()}
    assert all(g is not None for g in named.values()), [n for n, g in named.items() if g is None]
    return named  # type: ignore[return-value]


def expected_gradients(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean over ``batches`` of the gradients of one process."""
    model = model_for()
    for x, s in batches:
        (loss(model(x, s)) / len(batches)).backward()
    return gradients(model)


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-10) -> None:
    assert got.keys() == expected.keys()
    assert any("covariate" in name and g.abs().max() > 0 for name, g in expected.items())
    for name, g in expected.items():
        torch.testing.assert_close(got[name], g, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def raises(error: type[Exception], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(error, match=re.escape(words)):
        call()
