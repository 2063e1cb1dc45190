"""torch.compile on a card: the numbers, and at most two graphs for any number of batch sizes."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import fusionconv
from tests.gpu.device import DEVICE, exact_float32, on_the_device  # noqa: F401  # a fixture
from tests.helpers.networks import with_covariates_that_matter

pytestmark = on_the_device


def test_a_network_with_narrow_and_wide_layers() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)
    )
    model = with_covariates_that_matter(fusionconv.fuse_into(model, ["0", "2", "5"], 2)).to(DEVICE)
    reference, counter = copy.deepcopy(model), CompileCounterWithBackend("inductor")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for n in range(2, 13):
        x, s = torch.randn(n, 1, 12, 12, device=DEVICE), torch.randn(n, 2, device=DEVICE)
        results = []
        for m, call in ((model, compiled), (reference, reference)):
            m.zero_grad()
            y = call(x, s)
            y.square().mean().backward()
            results.append([y.detach(), *(p.grad for p in m.parameters())])
        for got, expected in zip(*results, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert counter.frame_count <= 2
