"""Every fusion method by itself: values against its formula, gradients, the start, the rows, errors, copies, dtypes."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from fusionconv.errors import CovariateError, CovariateTypeError, FusionError
from fusionconv.layers import METHODS, Concat, CondConv, Film, method_class
from tests.helpers.methods import (
    CASES,
    IDS,
    ONE_EACH,
    PAIR_IDS,
    PAIRS,
    K,
    by_hand,
    layer_and_batch,
    plain_layer,
    starts_as_plain,
)

pairs = pytest.mark.parametrize(("method", "options", "kind"), PAIRS, ids=PAIR_IDS)
cases = pytest.mark.parametrize(("method", "options"), CASES, ids=IDS)


def kind_for(method: str) -> str:
    return "Linear" if method == "concat" else "Conv1d"


def same(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def test_the_harness_has_every_method_and_every_option() -> None:
    assert {m for m, _ in CASES} == set(METHODS)
    for name, method in METHODS.items():
        tried = {option for m, o in CASES if m == name for option in o}
        assert tried | {"init", "strategy"} >= set(method.OPTIONS), name


@pairs
def test_values_and_gradients(method, options, kind) -> None:
    layer, x, s = layer_and_batch(method, options, kind)
    leaves = [x.requires_grad_(), s.requires_grad_(), *layer.parameters()]
    y, expected = layer(x, s), by_hand(layer, method, options, plain_layer(kind), x, s)
    same(y, expected)
    weights = torch.randn_like(y)
    got = torch.autograd.grad((y * weights).sum(), leaves, allow_unused=True)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves, allow_unused=True)
    for mine, theirs in zip(got, wanted, strict=True):
        assert (mine is None) == (theirs is None)  # the covariates of condconv
        if mine is not None:
            same(mine, theirs)
            assert mine.abs().sum() > 0


@cases
def test_gradcheck(method, options) -> None:
    layer, x, s = layer_and_batch(method, options, kind_for(method), n=2)
    names, values = zip(*layer.named_parameters(), strict=True)
    values = [v.detach().clone().requires_grad_() for v in values]

    def run(x, s, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, s))

    s.requires_grad_(method != "condconv")
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), s, *values))


@pairs
def test_from_plain_shares_parameters_and_starts_as_the_plain_layer(method, options, kind) -> None:
    plain = plain_layer(kind).eval()
    layer = METHODS[method].from_plain(plain, K, **options)
    assert type(layer) is METHODS[method].VARIANTS[type(plain)]
    assert isinstance(layer, type(plain))
    assert layer.weight is plain.weight
    assert layer.bias is plain.bias
    assert not layer.training
    before = list(plain.state_dict())
    assert list(layer.state_dict())[: len(before)] == before
    assert [k for k in layer.state_dict() if k not in before] == [name for name, _ in layer.covariate_parameters()]
    _, x, s = layer_and_batch(method, options, kind)
    if starts_as_plain(method, options):
        same(layer(x, 3 * s), plain(x), 1e-12)
    else:
        assert not torch.allclose(layer(x, 3 * s), plain(x), rtol=1e-3)


@cases
def test_the_start_can_learn_what_the_layer_adds(method, options) -> None:
    """After two steps from the start every added parameter has had a gradient (C1 needs C2 to have left 0)."""
    layer = METHODS[method].from_plain(plain_layer(kind_for(method)), K, **options)
    _, x, s = layer_and_batch(method, options, kind_for(method), n=8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    moved = set()
    for _ in range(2):
        optimizer.zero_grad()
        (layer(x, s) - 1).square().sum().backward()
        moved |= {name for name, p in layer.covariate_parameters() if p.grad.abs().sum() > 0}
        optimizer.step()
    assert moved == {name for name, _ in layer.covariate_parameters()}


@cases
def test_each_sample_has_its_own_row(method, options) -> None:
    layer, x, s = layer_and_batch(method, options, kind_for(method), n=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    y = layer(x, s)
    same(layer(x[order], s[order]), y[order])
    same(layer(x[2:3], s[2:3]), y[2:3])
    ignores = method == "condconv"
    other = s.clone()
    other[2] += 1
    changed = (layer(x, other) - y).flatten(1).abs().amax(1) > 1e-9
    assert changed.tolist() == [False, False, not ignores, False, False]


@pytest.mark.parametrize(("method", "options", "kind"), [p for p in PAIRS if p[2] in ("Conv2d", "Linear")])
def test_wrong_covariates_and_inputs(method, options, kind) -> None:
    layer, x, s = layer_and_batch(method, options, kind, n=4)
    with pytest.raises(CovariateError, match="the batch has 4, the covariates have 1"):
        layer(x, s[:1])
    with pytest.raises(CovariateError, match=r"\(N, 2\).*\(4, 1\)"):
        layer(x, s[:, :1])
    with pytest.raises(CovariateError, match="finite"):
        layer(x, s * float("nan"))
    with pytest.raises(CovariateTypeError, match="int64"):
        layer(x, torch.ones(4, K, dtype=torch.long))
    with pytest.raises(CovariateTypeError, match="NoneType"):
        layer(x, None)
    with pytest.raises((ValueError, RuntimeError)):
        layer(x[0, 0] if kind == "Linear" else x[0], s)  # one image, four channels, four rows
    with pytest.raises(FusionError, match=r"torch\.fx"):
        torch.fx.symbolic_trace(layer)


@pairs
def test_an_empty_batch_keeps_every_parameter_in_the_graph(method, options, kind) -> None:
    layer, x, s = layer_and_batch(method, options, kind, n=0)
    y = layer(x, s)
    assert y.shape == plain_layer(kind)(x).shape
    y.sum().backward()
    assert all(p.grad is not None for name, p in layer.named_parameters() if "routing" not in name)


@pairs
def test_copies_pickles_and_state_dict(method, options, kind) -> None:
    layer, x, s = layer_and_batch(method, options, kind)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    fresh = METHODS[method].from_plain(plain_layer(kind, seed=5), K, **options)
    assert not torch.allclose(fresh(x, s), layer(x, s))
    fresh.load_state_dict(layer.state_dict())
    assert fresh.layer_options() == layer.layer_options() == METHODS[method].check_options(K, options)
    for other in (again, fresh, copy.deepcopy(layer)):
        assert type(other) is type(layer)
        assert torch.equal(other(x, s), layer(x, s))
    with torch.no_grad():
        next(other.covariate_parameters())[1].add_(1)
    assert not torch.equal(other(x, s), layer(x, s))
    layer.reset_parameters()
    assert torch.isfinite(layer(x, s)).all()


@cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes(method, options, dtype) -> None:
    layer, x, s = layer_and_batch(method, options, kind_for(method))
    expected = layer(x, s)
    half = copy.deepcopy(layer).to(dtype)
    assert half(x.to(dtype), s.float()).dtype == dtype
    again = METHODS[method].from_plain(plain_layer(kind_for(method)).to(dtype), K, **options)
    assert {p.dtype for p in again.parameters()} == {dtype}
    if dtype is torch.float32:
        torch.testing.assert_close(half(x.float(), s.float()).double(), expected, rtol=1e-4, atol=1e-4)
    assert METHODS[method].from_plain(plain_layer(kind_for(method)).to("meta"), K, **options).weight.is_meta


@pytest.mark.parametrize(("method", "options"), ONE_EACH, ids=[m for m, _ in ONE_EACH])
def test_autocast_gives_the_plain_layers_dtype(method, options) -> None:
    layer, x, s = layer_and_batch(method, options, kind_for(method))
    layer, x, s = layer.float(), x.float(), s.float()
    exact = layer(x, s)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, s)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


def test_autocast_does_not_round_the_covariates() -> None:
    """gamma = 73.43 - 73.4 - 0.53 = -0.5 in float32; with the ages rounded to bfloat16 (both 73.5) it would be -0.53."""
    layer = Film.from_plain(nn.Conv1d(1, 1, 1, bias=False), 3)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        layer.covariate_out_weight.copy_(torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.ones(1, 1, 1), torch.tensor([[73.43, 73.4, -0.53]]))
    assert y.item() == 0.5


@pytest.mark.xfail(reason="the scale is rounded to the maps' dtype: see docs/limits.md, Numbers", strict=True)
def test_a_scale_near_one_survives_autocast() -> None:
    layer = Film.from_plain(nn.Conv1d(1, 1, 1, bias=False), 1)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        layer.covariate_out_weight.copy_(torch.tensor([[0.001], [0.0]]))
    x = 1 + torch.arange(64) / 64  # every number that bfloat16 has between 1 and 1.5, and more
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(layer(x[None, None], torch.ones(1, 1)), layer(x[None, None], torch.zeros(1, 1)))


def test_nan_in_the_image_is_not_said_to_be_the_covariates() -> None:
    """A routing made of a broken image goes on as NaN, as in a plain convolution."""
    layer = CondConv.from_plain(nn.Conv1d(2, 3, 1), K, ignore_covariates=True)
    assert layer(torch.full((1, 2, 4), float("nan")), torch.zeros(1, K)).isnan().all()


def test_transposed_output_size() -> None:
    for method, options in ONE_EACH:
        if method == "concat":
            continue
        plain = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)
        layer = METHODS[method].from_plain(plain, K, **options)
        x, s = torch.randn(2, 4, 5, 5), torch.randn(2, K)
        torch.testing.assert_close(layer(x, s, output_size=[10, 10]), plain(x, output_size=[10, 10]))


@pytest.mark.parametrize(("method", "options"), [case for case in ONE_EACH if case[0] != "concat"])
def test_memory_format_and_the_inner_step(method, options) -> None:
    layer, x, s = layer_and_batch(method, options, "Conv2d")
    y = layer(x, s)
    layer.to(memory_format=torch.channels_last)
    same(layer(x.to(memory_format=torch.channels_last), s), y)
    with pytest.raises(FusionError, match="would ignore the covariates"):
        layer._conv_forward(x, layer.weight, layer.bias)


def test_repr_tells_what_is_not_the_default() -> None:
    layer = method_class("daft").from_plain(nn.Conv1d(4, 6, 3), 2, shift=False)
    assert repr(layer) == "DaftConv1d(4, 6, kernel_size=(3,), stride=(1,), num_covariates=2, shift=False)"


@pytest.mark.parametrize(
    ("method", "options", "error", "words"),
    [
        ("film", {"hidden": 0}, ValueError, "hidden must be an integer of at least 1 or None, got 0"),
        ("film", {"hidden": True}, ValueError, "hidden must be.*got True"),
        ("film", {"rank": 2}, TypeError, "'film': layer options are hidden, got rank"),
        ("scale", {"hidden": None}, ValueError, "hidden must be an integer of at least 1, got None"),
        ("scale", {"identity": 1}, ValueError, "identity must be True or False, got 1"),
        ("daft", {"activation": "relu"}, ValueError, r"activation must be one of \['linear', 'tanh', 'sigmoid'\]"),
        ("daft", {"scale": False, "shift": False}, ValueError, "at least one of scale and shift"),
        ("hyper", {"hidden": 2, "rank": 3}, ValueError, "from 1 to hidden = 2, got 3"),
        ("hyper", {"strategy": "quick"}, ValueError, "grouped.*got 'quick'"),
        ("lowrank", {"rank": 0}, ValueError, "rank must be an integer of at least 1, got 0"),
        ("lowrank", {"rank": None}, ValueError, "rank must be an integer of at least 1, got None"),
        ("lowrank", {"strategy": "grouped"}, ValueError, r"\['auto', 'features', 'kernels'\], got 'grouped'"),
        ("lowrank", {"init": "zeros"}, TypeError, "'lowrank': layer options are rank, hidden, .*got init"),
        ("condconv", {}, ValueError, "ignores the covariates.*ignore_covariates=True"),
        ("condconv", {"ignore_covariates": True, "experts": 0}, ValueError, "experts.*got 0"),
    ],
)
def test_impossible_options(method, options, error, words) -> None:
    with pytest.raises(error, match=words):
        METHODS[method].from_plain(nn.Conv1d(4, 6, 3), 2, **options)


def test_layers_that_a_method_cannot_extend() -> None:
    with pytest.raises(TypeError, match=r"exactly a torch\.nn\.Linear, got Conv1d"):
        Concat.from_plain(nn.Conv1d(1, 1, 1), 2)
    with pytest.raises(TypeError, match=r"exactly a torch\.nn\.Conv1d or .*, got Linear"):
        CondConv.from_plain(nn.Linear(1, 1), 2, ignore_covariates=True)
    with pytest.raises(ValueError, match=r"'hybrid', 'lowrank', 'hyper', 'film'.*got 'fiLM'"):
        method_class("fiLM")
