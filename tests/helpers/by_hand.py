"""A small fused network beside the same computed by hand: one plain convolution per sample, no surgery.

``by_hand(model, x, s)`` writes ``W + sum_j s_ij V_j`` into a plain convolution for each sample. It is a function of the
model's own parameters, so that gradients are compared as well as values.
"""

from __future__ import annotations

import torch
from torch import nn

import fusionconv
from tests.helpers.networks import data, small_net, with_covariates_that_matter


class Around(nn.Module):
    """`small_net`, run by ``how(net, x)``."""

    def __init__(self, how=lambda net, x: net(x)) -> None:
        super().__init__()
        self.how = how
        self.net = small_net()

    def forward(self, x):
        return self.how(self.net, x)


def fused(how=None, seed: int = 0) -> Around:
    """Fused in its first and its last convolution, in float64 and eval mode, V at random."""
    torch.manual_seed(seed)
    model = Around(how) if how else Around()
    return with_covariates_that_matter(fusionconv.fuse_into(model.double().eval(), [0, -1], 2))


def by_hand(model: Around, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """What ``model(x, s)`` is to give, as a function of the model's own parameters."""
    net, rows = model.net, []
    for i in range(len(x)):
        first, last = (net[k].weight + torch.tensordot(s[i], net[k].covariate_weight, 1) for k in (0, 5))
        y = nn.functional.conv2d(x[i : i + 1], first, net[0].bias, padding=1)
        rows.append(net[6:](nn.functional.conv2d(net[1:5](y), last, net[5].bias)))
    return torch.cat(rows)


def batch(seed: int = 1, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    x, s = data(seed, n)
    return x.detach(), s


def same(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def expected_gradients(model: Around, x, s) -> list[torch.Tensor]:
    return list(torch.autograd.grad(by_hand(model, x, s).square().sum(), list(model.parameters())))


def assert_gradients(model: Around, x, s, expected: list[torch.Tensor] | None = None, factor: float = 1.0) -> None:
    for p, g in zip(model.parameters(), expected or expected_gradients(model, x, s), strict=True):
        same(p.grad, factor * g)
