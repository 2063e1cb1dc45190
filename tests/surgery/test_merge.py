"""merge: the plain network that one covariate vector makes of a fused one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import fusionconv
from fusionconv.errors import CovariateError, CovariateTypeError, SurgeryError
from tests.helpers.networks import Body, data, fused_body, small_net


def randomise(model: nn.Module) -> None:
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_(std=0.5)


@pytest.mark.parametrize("shape", [(2,), (1, 2)])
def test_gives_what_the_fused_model_gives_for_that_vector(shape) -> None:
    model = fused_body().eval()
    x, s = data(0)
    one = s[1]
    expected = model(x, one.expand(4, 2))
    weight = model.net[0].weight + one[0] * model.net[0].covariate_weight[0] + one[1] * model.net[0].covariate_weight[1]
    bias = model.net[0].bias + one[0] * model.net[0].covariate_bias[0] + one[1] * model.net[0].covariate_bias[1]
    hook_ran = []
    model.net[0].register_forward_hook(lambda *a: hook_ran.append(1))
    merged = fusionconv.merge(model, one.reshape(shape))
    assert merged is model
    assert type(merged) is Body
    assert type(merged.net[0]) is nn.Conv2d
    assert list(merged.state_dict()) == list(Body().state_dict())
    torch.testing.assert_close(merged.net[0].weight, weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.net[0].bias, bias, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged(x), expected, rtol=1e-10, atol=1e-10)
    assert hook_ran == [1]
    with pytest.raises(SurgeryError, match="expected a model that fuse_into has fused"):
        fusionconv.merge(model, one)


@pytest.mark.parametrize("options", [{"rank": 1, "covariate_bias": True}, {"covariate_bias": True, "strategy": "loop"}])
def test_every_kind_of_layer_and_option(options) -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 4, 2, stride=2, groups=1, bias=False)
            self.depthwise = nn.Conv2d(4, 4, 3, groups=4, bias=False)
            self.head = nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.head(self.depthwise(self.up(x)).tanh().mean((2, 3)))

    torch.manual_seed(0)
    model = fusionconv.fuse_into(Kinds().double(), ["up", "depthwise", "head"], 2, **options)
    randomise(model)
    x, s = torch.randn(3, 3, 5, 5, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    expected = model(x, s.expand(3, 2))
    fusionconv.merge(model, s)
    assert [type(m) for m in (model.up, model.depthwise, model.head)] == [nn.ConvTranspose2d, nn.Conv2d, nn.Linear]
    assert model.depthwise.bias.shape == (4,)  # the covariate bias of a layer that had none
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_a_weight_shared_with_another_layer_is_left_to_that_layer() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    model = fusionconv.fuse_into(Tied().double(), "a", 2)
    randomise(model)
    x, s = data(1)
    expected = model(x, s[:1].expand(4, 2))
    before = model.b.weight.clone()
    fusionconv.merge(model, s[0])
    assert torch.equal(model.b.weight, before)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_copies_for_several_groups() -> None:
    model = fused_body().eval()
    x, s = data(2)
    expected = model(x, s)
    model.feature = None
    for i in range(4):
        merged = fusionconv.merge(copy.deepcopy(model), s[i])
        torch.testing.assert_close(merged(x[i : i + 1]), expected[i : i + 1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model(x, s), expected, rtol=0, atol=0)


def test_rounded_once_to_the_weights_dtype() -> None:
    """W + 73.4 V in bfloat16: the float64 sum, rounded; summed in bfloat16 it is off by more than the last bit."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(8, 8, 3)).bfloat16(), 0, 1)
    randomise(model)
    layer = model[0]
    exact = layer.weight.double() + 73.4 * layer.covariate_weight[0].double()
    fusionconv.merge(model, torch.tensor([73.4], dtype=torch.float64))
    assert torch.equal(layer.weight, exact.bfloat16())
    assert layer.weight.dtype == torch.bfloat16


def test_frozen_stays_frozen_and_memory_format_stays() -> None:
    model = small_net().to(memory_format=torch.channels_last)
    model[0].weight.requires_grad_(False)
    fusionconv.merge(fusionconv.fuse_into(model, 0, 1), torch.ones(1))
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_layers_of_a_fused_model_inside_stay_fused() -> None:
    inner = fusionconv.fuse_into(small_net(), 0, 1)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 3, 3, padding=1), inner

        def forward(self, x, t):
            return self.inner(self.stem(x), t)

    outer = fusionconv.merge(fusionconv.fuse_into(Outer(), "stem", 2), torch.ones(2))
    assert type(outer) is Outer
    assert type(outer.inner[0]).__name__ == "FusedConv2d"
    outer(torch.randn(2, 3, 8, 8), torch.ones(2, 1))


@pytest.mark.parametrize(
    ("s", "error", "words"),
    [
        (torch.ones(4, 2), CovariateError, "one covariate vector.*got 4 rows.*deepcopy"),
        (torch.ones(0, 2), CovariateError, "got 0 rows"),
        (torch.ones(3), CovariateError, r"\(N, 2\)"),
        (torch.ones(1, 1, 2), CovariateError, r"\(1, 1, 2\)"),
        (torch.ones(2, dtype=torch.long), CovariateTypeError, "int64"),
        (torch.tensor([1.0, float("nan")]), CovariateError, "finite"),
        ([1.0, 2.0], CovariateTypeError, "list"),
    ],
)
def test_refused_and_nothing_changed(s, error, words) -> None:
    model = fused_body()
    kind, state = type(model), {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(error, match=words):
        fusionconv.merge(model, s)
    assert type(model) is kind
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    model(*data(0))


def test_what_half_precision_cannot_hold_is_refused() -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(1, 1, 1)).half(), 0, 1)
    nn.init.constant_(model[0].covariate_weight, 60000.0)
    with pytest.raises(CovariateError, match=r"'0'.*torch\.float16 cannot hold"):
        fusionconv.merge(model, torch.full((1,), 2.0))
    assert type(model[0]).__name__ == "FusedConv2d"


def test_pruned_or_parametrized_layers_are_refused() -> None:
    model = fusionconv.fuse_into(small_net(), 0, 1)
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    with pytest.raises(SurgeryError, match=r"'0'.*computed by a hook"):
        fusionconv.merge(model, torch.ones(1))
    prune.remove(model[0], "weight")
    assert type(fusionconv.merge(model, torch.ones(1))[0]) is nn.Conv2d
