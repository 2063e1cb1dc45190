"""HybridLinear: torch's linear layer with W + sum_j s_ij V_j for sample i, whatever stands between batch and features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.functional import hybrid_linear

STRATEGIES = ["auto", "loop", "grouped", "stacked", "scaled", "distinct"]


def layer_and_batch(*middle: int, n: int = 3, **options):
    layer = fusionconv.HybridLinear(4, 5, num_covariates=2, dtype=torch.float64, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    return layer, torch.randn(n, *middle, 4, dtype=torch.float64), torch.randn(n, 2, dtype=torch.float64)


def by_hand(layer, x, s):
    """Sample by sample through torch's own linear."""
    rows = []
    for i in range(len(x)):
        weight = layer.weight + sum(s[i, j] * layer.covariate_weight[j] for j in range(2))
        y = nn.functional.linear(x[i], weight, layer.bias)
        if layer.covariate_bias is not None:
            y = y + sum(s[i, j] * layer.covariate_bias[j] for j in range(2))
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("middle", [(), (7,), (3, 2), (1, 1)])
def test_values_and_gradients(strategy, middle) -> None:
    for options in ({"covariate_bias": True}, {"bias": False}, {"bias": False, "covariate_bias": True}):
        layer, x, s = layer_and_batch(*middle, strategy=strategy, **options)
        leaves = [x.requires_grad_(), s.requires_grad_(), *layer.parameters()]
        y, expected = layer(x, s), by_hand(layer, x, s)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
        weights = torch.randn_like(y)
        got = torch.autograd.grad((y * weights).sum(), leaves)
        wanted = torch.autograd.grad((expected * weights).sum(), leaves)
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_gradgradcheck() -> None:
    layer, x, s = layer_and_batch(2, covariate_bias=True)
    v, c = layer.covariate_weight, layer.covariate_bias
    inputs = (x.requires_grad_(), s.requires_grad_(), layer.weight, v, layer.bias, c)
    assert torch.autograd.gradcheck(hybrid_linear, inputs)
    assert torch.autograd.gradgradcheck(hybrid_linear, inputs)


def test_from_linear_shares_parameters() -> None:
    linear = nn.Linear(4, 5).double()
    layer = fusionconv.HybridLinear.from_linear(linear, 2, covariate_bias=True)
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    assert layer.covariate_bias.shape == (2, 5)
    x, s = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(x, s), linear(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(TypeError, match=r"exactly a torch\.nn\.Linear, got Conv1d"):
        fusionconv.HybridLinear.from_linear(nn.Conv1d(4, 5, 1), 2)


def test_an_empty_batch_keeps_every_parameter_in_the_graph() -> None:
    for middle in ((), (7,)):
        layer, x, s = layer_and_batch(*middle, n=0, covariate_bias=True)
        y = layer(x, s)
        assert y.shape == (0, *middle, 5)
        y.sum().backward()
        assert all(p.grad is not None for p in layer.parameters())


def test_compiles_in_one_graph() -> None:
    layer, x, s = layer_and_batch(7)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x, s), by_hand(layer, x, s))


def test_autocast_keeps_the_covariates_precision() -> None:
    """W + 73.4 V = 0 in exact arithmetic up to the last bits; rounding the terms to bfloat16 first leaves about 0.3 %."""
    v = torch.randn(1, 5, 4)
    s = torch.full((3, 1), 73.4)
    x = torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = hybrid_linear(x, s, -73.4 * v[0], v)
    assert y.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("x", "s", "error", "words"),
    [
        (torch.randn(3, 5), torch.randn(3, 2), ValueError, r"\(N, \*, 4\).*\(3, 5\)"),
        (torch.randn(4), torch.randn(1, 2), ValueError, r"x\[None\]"),
        (torch.randn(6, 3, 4), torch.randn(3, 2), CovariateError, "batch has 6, the covariates have 3"),
        (torch.randn(3, 4), torch.randn(3, 3), CovariateError, r"\(N, 2\)"),
        (torch.randn(3, 4), torch.randn(1, 2), CovariateError, "covariates have 1"),
    ],
)
def test_bad_input(x, s, error, words) -> None:
    with pytest.raises(error, match=words):
        fusionconv.HybridLinear(4, 5, num_covariates=2)(x, s)


def test_bad_weights() -> None:
    x, s = torch.randn(3, 4), torch.randn(3, 2)
    with pytest.raises(ValueError, match=r"\(out_features, in_features\)"):
        hybrid_linear(x, s, torch.randn(5, 4, 1), torch.randn(2, 5, 4, 1))
    with pytest.raises(ValueError, match=r"\(K, 5, 4\).*\(2, 4, 5\)"):
        hybrid_linear(x, s, torch.randn(5, 4), torch.randn(2, 4, 5))
