"""torch.compile of a fused model, or of parts of one: right numbers or an error, and few recompilations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.surgery import frames
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import data, fused_body, small_net, with_covariates_that_matter


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def resnet() -> nn.Module:
    """The first half of torchvision's, one block a stage, fused in the stem, deep inside and in the last block."""
    from torchvision.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    model = ResNet(BasicBlock, [1, 1, 1, 1]).eval()
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 5)
    return with_covariates_that_matter(fusionconv.fuse_into(model, ["conv1", "layer1.0.conv2", "layer2.0.conv1"], 2))


def images(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 32, 32, generator=g), torch.randn(n, 2, generator=g)


def assert_trains_alike(model: nn.Module, call, reference: nn.Module, x, s, tolerance: float = 1e-4) -> None:
    """Outputs and every gradient of ``call(x, s)``, which runs ``model``, are ``reference``'s."""
    results = []
    for m, run in ((model, call), (reference, reference)):
        m.zero_grad()
        y = run(x, s)
        y.square().mean().backward()
        results.append([y.detach(), *(p.grad for p in m.parameters())])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def test_a_whole_network_in_one_graph_for_all_batch_sizes() -> None:
    model, reference = resnet(), resnet()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for n in (4, 3, 7):
        assert_trains_alike(model, compiled, reference, *images(n, seed=n))
    assert counter.frame_count <= 2  # one for the first size, one for all others


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="before torch 2.15 a part has no graph of its own")
@pytest.mark.parametrize("how", ["module.compile", "torch.compile", "the layer"])
def test_a_part_of_a_network_that_runs_eagerly(how) -> None:
    model, reference = resnet(), resnet()
    fused_layer = model.layer2[0].conv1
    counter = CompileCounterWithBackend("aot_eager")
    options = {"backend": counter, "fullgraph": True}
    if how == "module.compile":
        model.layer2.compile(**options)
    elif how == "torch.compile":
        model.layer2 = torch.compile(model.layer2, **options)
    else:
        fused_layer.compile(**options)
    for n in (4, 3, 7):
        assert_trains_alike(model, model, reference, *images(n, seed=n))
    assert counter.frame_count <= 2
    x, s = images(4, seed=4)
    with torch.no_grad():  # a graph made for one call's covariates serves another's
        assert not torch.allclose(model(x, s), model(x, -s))
        torch.testing.assert_close(model(x, -s), reference(x, -s), rtol=1e-4, atol=1e-4)
        for lost in (lambda: model(x), lambda: fused_layer(torch.randn(4, 64, 8, 8))):
            with pytest.raises((CovariateError, torch._dynamo.exc.Unsupported)):
                lost()


class Parts(nn.Module):
    """Two methods, each under activation checkpointing, that can be compiled one by one."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.net, self.reentrant = small_net(), reentrant

    def forward(self, x):
        return self.last(checkpoint(self.first, x, use_reentrant=self.reentrant))

    def first(self, x):
        return self.net[2](self.net[1](self.net[0](x)))

    def last(self, x):
        for layer in self.net[3:]:
            x = layer(x)
        return x


def parts(reentrant: bool) -> Parts:
    torch.manual_seed(0)
    model = fusionconv.fuse_into(Parts(reentrant).double().eval(), [0, -1], 2)
    return with_covariates_that_matter(model)


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="needs torch >= 2.15")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_compiled_part_that_is_run_again_in_backward(reentrant) -> None:
    """By its own call's covariates, also where another call's frame is open around the backward."""
    model, reference = parts(reentrant), parts(reentrant)
    counter = CompileCounterWithBackend("aot_eager")
    model.first = torch.compile(model.first, backend=counter, fullgraph=True)
    (x, s), (_, other) = data(1), data(2)
    for around in (None, other, None):
        for m in (model, reference):
            m.zero_grad()
            loss = m(x, s).square().sum()
            if around is None:
                loss.backward()
            else:
                with fusionconv.covariates(m, around):
                    loss.backward()
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-9)
    assert frames._stack.frames == []
    assert counter.frame_count <= 3


def test_a_compiled_part_on_a_torch_that_cannot_tell(monkeypatch) -> None:
    """What torch < 2.15 does, simulated: the part asks outside its graph, or with fullgraph raises; never wrong."""
    monkeypatch.setattr("fusionconv.surgery.recompute.CAN_RECOMPUTE", False)
    (x, s), (_, other) = data(1), data(2)
    model = parts(reentrant=False)
    with torch.no_grad():
        expected = model(x, s)
        model.first = torch.compile(model.first, backend="eager")
        torch.testing.assert_close(model(x, s), expected)
    loss = model(x, s).square().sum()
    with fusionconv.covariates(model, other), pytest.raises(CovariateError):
        loss.backward()
    torch._dynamo.reset()
    model = parts(reentrant=False)
    model.first = torch.compile(model.first, backend="eager", fullgraph=True)
    with torch.no_grad(), pytest.raises((CovariateError, torch._dynamo.exc.Unsupported)):
        model(x, s)
    model = fused_body().eval()
    with torch.no_grad():  # the whole model opens its frame inside the graph
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x, s), model(x, s))


@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"] if CAN_RECOMPUTE else [])
def test_checkpointing_inside_a_compiled_model(mode) -> None:
    model, reference = fused_body(mode).eval(), fused_body().eval()
    compiled = torch.compile(model, backend="aot_eager")
    assert_trains_alike(model, compiled, reference, *data(1), tolerance=1e-9)
    assert_trains_alike(model, compiled, reference, *data(2), tolerance=1e-9)
    assert frames._stack.frames == []


def test_a_graph_break_inside_a_call() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small_net()

        def forward(self, x):
            y = self.net[0](x)
            torch._dynamo.graph_break()
            return self.net[1:](y)

    torch.manual_seed(0)
    model = with_covariates_that_matter(fusionconv.fuse_into(Broken().double().eval(), [0, -1], 2))
    compiled, reference = torch.compile(model, backend="aot_eager"), copy.deepcopy(model)
    for seed in (1, 2):
        assert_trains_alike(model, compiled, reference, *data(seed), tolerance=1e-9)
    assert frames._stack.frames == []


def test_bad_calls_of_a_compiled_model() -> None:
    model = fused_body().eval()
    compiled = torch.compile(model, backend="eager")
    x, s = data(1)
    expected = compiled(x, s)
    for bad in (s[:1], s[:, :1], s.long(), None):
        with pytest.raises((CovariateError, torch._dynamo.exc.Unsupported)):
            compiled(x, bad)
        with pytest.raises((CovariateError, torch._dynamo.exc.Unsupported)):
            compiled(x)
        assert frames._stack.frames == []
    with pytest.raises((ValueError, torch._dynamo.exc.Unsupported)):
        compiled(x[:, :2], s)
    torch.testing.assert_close(compiled(x, s), expected)
    torch.testing.assert_close(compiled(x, s), model(x, s))


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [None, True])
def test_two_graphs_of_inductor_for_any_number_of_batch_sizes(dynamic) -> None:
    """The real backend writes the number of groups into its code: with N of them, it made a graph for each N."""
    counter = CompileCounterWithBackend("inductor")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(2))
    model = with_covariates_that_matter(fusionconv.fuse_into(model, 0, 2))
    reference = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend=counter, dynamic=dynamic)
    for n in range(2, 13):  # fullgraph raises where a ninth graph is wanted
        x, s = images(n, seed=n)
        assert_trains_alike(model, compiled, reference, x[..., :8, :8], s)
    assert counter.frame_count <= 2
