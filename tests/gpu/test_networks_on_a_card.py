"""Fused networks on a card: devices, loss scaling, CUDA graphs, waits, checkpointing, a backward pass that fails."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.layers import METHODS
from fusionconv.strategies import STRATEGIES
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.gpu.device import DEVICE, ON_CARD, exact_float32, on_the_device, there  # noqa: F401  # a fixture
from tests.helpers.by_hand import assert_gradients, batch, by_hand, fused, same
from tests.helpers.networks import data, fused_body

pytestmark = on_the_device
only_a_card = pytest.mark.skipif(not ON_CARD, reason="of CUDA only")


def test_to_the_device_and_back() -> None:
    model, (x, s) = fused(), batch()
    expected = by_hand(model, x, s)
    model.to(DEVICE)
    model(*there(x, s)).square().sum().backward()
    assert_gradients(model, *there(x, s))
    same(model(*there(x, s)).cpu(), expected)
    if ON_CARD:
        with pytest.raises(CovariateError, match="on the device of the input"):
            model(x.to(DEVICE), s)
    same(model.cpu()(x, s), expected)


def test_loss_scaling() -> None:
    """A scale that float16 can hold: the gradients are those of the formula."""
    model, (x, s) = fused().float().to(DEVICE), there(*(t.float() for t in batch()))
    wanted = torch.autograd.grad(by_hand(model, x, s).square().mean(), list(model.parameters()))
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.0), torch.amp.GradScaler(DEVICE, init_scale=64.0)
    with torch.autocast(DEVICE, torch.float16):
        loss = model(x, s).float().square().mean()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    for p, g in zip(model.parameters(), wanted, strict=True):
        assert (p.grad - g).norm() < 0.03 * g.norm() + 1e-3
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 64.0  # no gradient was infinite


@only_a_card
@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_cuda_graph(strategy: str) -> None:
    model, (x, s) = fused().float(), there(*(t.float() for t in batch()))
    for layer in (model.net[0], model.net[5]):
        layer.strategy = strategy
    model.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(3):
            model(x, s)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = model(x, s)
    for seed in (2, 3):
        for t, new in zip((x, s), batch(seed), strict=True):
            t.copy_(new)
        graph.replay()
        same(y, by_hand(model, x, s).detach(), 1e-4)


@only_a_card
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("check_finite", [True, False])
def test_a_call_waits_once_or_not_at_all(method: str, check_finite: bool) -> None:
    options = {"ignore_covariates": True} if method == "condconv" else {}
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Flatten(), nn.Linear(16 * 16, 3))
    names = ["3"] if method == "concat" else ["0", "1"]
    model = fusionconv.fuse_into(model, names, 2, method, check_finite=check_finite, **options).cuda()
    x, s = torch.randn(4, 3, 8, 8, device="cuda"), torch.randn(4, 2, device="cuda")
    model(x, s).sum().backward()
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            model(x, s).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert len([w for w in waits if "synchroniz" in str(w.message)]) == int(check_finite)


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="older torch raises")
@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant", "reentrant-nested", "non-reentrant-nested"])
def test_checkpointing(mode: str) -> None:
    """Recomputed in the device's own backward thread."""
    results = []
    for m in ("plain", mode):
        model = fused_body(m).to(DEVICE)
        (x1, s1), (x2, s2) = (there(*data(seed)) for seed in (1, 2))
        (model(x1, s1).sum() + model(x2, s2).square().sum()).backward()
        results.append([leaf.grad for leaf in (*model.parameters(), x1, x2)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="older torch raises")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_backward_pass_that_fails_leaves_no_covariates(reentrant: bool) -> None:
    """Not in the thread that runs the device's backward passes either: a layer that is run there later would take them."""

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("bad backward")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fail = nn.Conv2d(3, 4, 3), True

        def part(self, x):
            return Failing.apply(self.conv(x)) if self.fail else self.conv(x)

        def forward(self, x):
            return checkpoint(self.part, x, use_reentrant=reentrant)

    model = fusionconv.fuse_into(Net(), 0, 2, init="kaiming").to(DEVICE)
    x, s = torch.randn(4, 3, 8, 8, device=DEVICE, requires_grad=True), torch.randn(4, 2, device=DEVICE)
    with pytest.raises(RuntimeError, match="bad backward"):
        model(x, s).sum().backward()
    outside = checkpoint(lambda t: t * 1.0, x, use_reentrant=False)
    outside.register_hook(lambda g: model.conv(x.detach()).sum() * 0 + g)
    with pytest.raises(CovariateError, match="from outside its call"):
        outside.sum().backward()
    model.fail, gradients = False, []
    for recompute in (True, False):
        model.zero_grad()
        with fusionconv.covariates(model, s):
            y = model(x) if recompute else model.part(x)
        y.square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_copy_on_the_device_saves_and_loads(tmp_path) -> None:
    model = fused().to(DEVICE)
    x, s = there(*batch())
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path / "model"), fusionconv.unfuse(copy.deepcopy(model)))
    same(again(x, s), model(x, s))
