"""autotune: it pins the strategy that is fastest, and changes nothing else."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import fusionconv
import fusionconv.layers.lowrank
from fusionconv.errors import FusionError
from fusionconv.strategies import STRATEGIES
from fusionconv.strategies.lowrank import WAYS


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.dropout(self.norm(self.first(x))).relu())


def fused() -> nn.Module:
    torch.manual_seed(0)
    return fusionconv.fuse_into(Net(), [0, 1], num_covariates=2, init="kaiming")


EXAMPLE = (torch.randn(4, 3, 9, 9), torch.randn(4, 2))


@pytest.mark.parametrize("fast", ["loop", "stacked"])
def test_the_fastest_is_pinned(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other strategy is slowed down by 100 ms: a choice by anything but time would miss it."""

    def slowed(compute):
        def strategy(*arguments):
            time.sleep(0.1)
            return compute(*arguments)

        return strategy

    for name, compute in list(STRATEGIES.items()):
        if name != fast:
            monkeypatch.setitem(STRATEGIES, name, slowed(compute))
    model = fused()
    tuned = fusionconv.autotune(model, EXAMPLE, repeats=3)
    assert [layer.name for layer in tuned] == ["first", "last"]
    assert [layer.strategy for layer in tuned] == [fast, fast] == [model.first.strategy, model.last.strategy]
    assert all(layer.before == "auto" for layer in tuned)
    assert all(seconds > 0.1 for name, seconds in tuned[0].seconds.items() if name != fast)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(training: bool) -> None:
    model = fused().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    state = torch.get_rng_state()
    fusionconv.autotune(model, EXAMPLE, repeats=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training is training
    assert hooks == [len(module._forward_pre_hooks) for module in model.modules()]
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_a_training_step_needs_is_what_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer's image takes no gradient, the second one's feature map does; in eval nothing does."""
    asked = []
    original = torch.autograd.grad

    def seen(outputs, inputs, *args, **kwargs):
        asked.append([tuple(tensor.shape) for tensor in inputs])
        return original(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", seen)
    model = fused()
    fusionconv.autotune(model, EXAMPLE, repeats=1, strategies=["grouped"])
    own = [[tuple(p.shape) for p in layer.parameters()] for layer in (model.first, model.last)]
    assert asked == [own[0], own[0], [(4, 4, 7, 7), *own[1]], [(4, 4, 7, 7), *own[1]]]
    asked.clear()
    fusionconv.autotune(model.eval(), EXAMPLE, repeats=1, strategies=["grouped"])
    assert asked == []


class Cached(Net):
    """Buffers as networks have them: a grid that the forward pass replaces, one that is expanded."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.zeros(0), persistent=False)
        self.register_buffer("scale", torch.ones(1).expand(5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.grid = torch.arange(float(x.shape[-1]))
        return super().forward(x + self.grid) * self.scale[0]


def test_buffers_that_the_call_replaces_or_shares() -> None:
    model = fusionconv.fuse_into(Cached(), 0, num_covariates=2)
    grid, statistics = model.grid, model.norm.running_mean.clone()
    fusionconv.autotune(model, EXAMPLE, repeats=1)
    assert model.grid is grid
    assert torch.equal(model.norm.running_mean, statistics)
    assert model.scale.tolist() == [1.0] * 5


def test_a_graph_that_is_not_yet_differentiated_stays_whole() -> None:
    model = fused().eval()
    y = model(*EXAMPLE)
    fusionconv.autotune(model, EXAMPLE, repeats=1)
    y.sum().backward()


def test_a_strategy_that_is_out_of_memory_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments):
        raise torch.OutOfMemoryError("no memory left")

    model = fused()
    monkeypatch.setitem(STRATEGIES, "stacked", full)
    (found, _) = fusionconv.autotune(model, EXAMPLE, repeats=2, strategies=["stacked", "loop"])
    assert found.strategy == "loop"
    assert found.seconds["stacked"] == float("inf")
    with pytest.raises(FusionError, match="every strategy is out of memory in layer 'first'"):
        fusionconv.autotune(model, EXAMPLE, repeats=2, strategies=["stacked"])
    assert model.first.strategy == "loop"


def test_the_answer_stays_and_save_keeps_the_choice(tmp_path) -> None:
    model = fused().eval()
    expected = model(*EXAMPLE)
    fusionconv.autotune(model, EXAMPLE, repeats=1, strategies=["loop"])
    torch.testing.assert_close(model(*EXAMPLE), expected)
    fusionconv.save(model, tmp_path / "tuned")
    loaded, _ = fusionconv.load(tmp_path / "tuned", Net())
    assert (loaded.first.strategy, loaded.last.strategy) == ("loop", "loop")


def test_a_layer_of_ones_own() -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=2)
    assert [found.name for found in fusionconv.autotune(layer, EXAMPLE, repeats=1)] == [""]
    assert layer.strategy in STRATEGIES


@pytest.mark.parametrize("fast", WAYS)
def test_lowrank_layers_have_two_ways(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a hybrid layer, each by its own ways; the linear layer has one, and is left out."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(100, 2))
    fusionconv.fuse_into(model, "0", num_covariates=2)
    fusionconv.fuse_into(model, "1", num_covariates=2, method="lowrank")
    fusionconv.fuse_into(model, "3", num_covariates=2, method="lowrank")
    seen = []
    real = fusionconv.layers.lowrank.lowrank_conv

    def slowed(*arguments, **options):
        way = model[1].strategy
        seen.append(way)
        time.sleep(0.0 if way == fast else 0.05)
        return real(*arguments, **options)

    monkeypatch.setattr(fusionconv.layers.lowrank, "lowrank_conv", slowed)
    tuned = fusionconv.autotune(model, EXAMPLE, repeats=2)
    assert [(layer.name, sorted(layer.seconds)) for layer in tuned] == [("0", sorted(STRATEGIES)), ("1", sorted(WAYS))]
    assert model[1].strategy == tuned[1].strategy == fast
    assert {*WAYS} <= set(seen)


@pytest.mark.parametrize(("method", "options"), [("hyper", {}), ("condconv", {"ignore_covariates": True})])
def test_other_layers_that_form_kernels_are_tuned(method: str, options) -> None:
    model = fusionconv.fuse_into(Net(), "first", num_covariates=2, method=method, **options)
    assert [layer.name for layer in fusionconv.autotune(model, EXAMPLE, repeats=1, strategies=["loop", "grouped"])] == [
        "first"
    ]
    assert model.first.strategy in ("loop", "grouped")


def test_a_layer_without_the_ways_that_are_asked_for_stays_as_it_is() -> None:
    model = fused()
    with pytest.raises(FusionError, match="by features"):
        fusionconv.autotune(model, EXAMPLE, strategies=["features"])
    assert model.first.strategy == "auto"


def test_errors_change_nothing() -> None:
    model = fused()
    with pytest.raises(FusionError, match="expected a layer that can be computed by"):
        fusionconv.autotune(nn.Conv2d(3, 4, 3), EXAMPLE)
    with pytest.raises(ValueError, match="fastest"):
        fusionconv.autotune(model, EXAMPLE, strategies=["fastest"])
    with pytest.raises(ValueError, match="repeat"):
        fusionconv.autotune(model, EXAMPLE, repeats=0)
    with pytest.raises(fusionconv.CovariateError):
        fusionconv.autotune(model, (EXAMPLE[0], EXAMPLE[1][:1]))
    assert (model.first.strategy, model.last.strategy) == ("auto", "auto")
    assert not any(module._forward_pre_hooks for module in model.modules())
