"""The methods beside what was published: the papers' formulas on the same weights, and timm's CondConv2d.

Each formula is written here with torch's own modules (nn.Linear, adaptive pooling, broadcasting) on whole batches, as
the papers have it; nothing is shared with fusionconv or with the per-sample formulas of tests/helpers/methods.py.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusionconv.layers import Attention, Concat, CondConv, Daft, Film, Hyper, Scale

N, K, C = 4, 3, 6


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def same(got, expected) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def drawn(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        for _, p in layer.covariate_parameters():
            p.normal_(std=0.7)
    return layer


def linear_of(weight, bias=None) -> nn.Linear:
    """An nn.Linear with these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data.copy_(weight)
    if bias is not None:
        layer.bias.data.copy_(bias)
    return layer


@pytest.mark.parametrize("hidden", [None, 5])
def test_film(hidden) -> None:
    """Perez et al. 2018: FiLM(F) = gamma F + beta, where a generator gives beta and delta gamma = gamma - 1."""
    conv, x, s = nn.Conv2d(4, C, 3), torch.randn(N, 4, 7, 7), torch.randn(N, K)
    layer = drawn(Film.from_plain(conv, K, hidden=hidden))
    generator = linear_of(layer.covariate_out_weight)
    if hidden:
        generator = nn.Sequential(
            linear_of(layer.covariate_hidden_weight, layer.covariate_hidden_bias), nn.ReLU(), generator
        )
    delta_gamma, beta = torch.split(generator(s), C, dim=1)
    same(layer(x, s), (1 + delta_gamma)[:, :, None, None] * conv(x) + beta[:, :, None, None])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("activation", ["linear", "tanh", "sigmoid"])
@pytest.mark.parametrize(("scale", "shift"), [(True, True), (True, False), (False, True)])
def test_daft_as_published(dims, activation, scale, shift) -> None:
    """Poelsterl et al. 2021: pool the maps, join the covariates, bottleneck without constants, alpha F + beta."""
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d(1)) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d(1))
    conv = conv(4, C, 3, bias=False)
    options = {"activation": activation, "scale": scale, "shift": shift, "identity": False}
    layer = drawn(Daft.from_plain(conv, K, **options))
    auxiliary = nn.Sequential(
        linear_of(layer.covariate_hidden_weight), nn.ReLU(), linear_of(layer.covariate_out_weight)
    )
    assert auxiliary[0].weight.shape == (7, C + K)  # the published bottleneck
    x, s = torch.randn(N, 4, *(6,) * dims), torch.randn(N, K)
    maps = conv(x)
    numbers = auxiliary(torch.cat([pool(maps).flatten(1), s], dim=1))[(...,) + (None,) * dims]
    act = {"linear": nn.Identity(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}[activation]
    alpha, beta = torch.split(numbers, C, dim=1) if scale and shift else (numbers, numbers)
    same(layer(x, s), (act(alpha) if scale else 1) * maps + (beta if shift else 0))


def test_daft_as_published_starts_as_torchs_linear_layers() -> None:
    layer = Daft.from_plain(nn.Conv1d(4, 64, 3), K, identity=False)
    for weight in (layer.covariate_hidden_weight, layer.covariate_out_weight):
        bound = weight.shape[1] ** -0.5
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_scale_as_published() -> None:
    """Duanmu et al. 2020: maps times a vector from a network of the covariates, channel by channel."""
    conv, x, s = nn.Conv3d(2, C, 3), torch.randn(N, 2, 5, 5, 5), torch.randn(N, K)
    layer = drawn(Scale.from_plain(conv, K, identity=False))
    hidden = linear_of(layer.covariate_hidden_weight, layer.covariate_hidden_bias)
    vector = nn.Sequential(hidden, nn.ReLU(), linear_of(layer.covariate_out_weight))(s)
    same(layer(x, s), torch.einsum("nc,nc...->nc...", vector, conv(x)))


def test_attention_is_squeeze_and_excitation_with_the_factor_two() -> None:
    """Hu et al. 2018, eq. 2 to 4, on pooled maps alone where the covariates are 0."""
    conv, x = nn.Conv2d(4, C, 3), torch.randn(N, 4, 7, 7)
    layer = drawn(Attention.from_plain(conv, K, pooled=True))
    maps = conv(x)
    squeeze = F.adaptive_avg_pool2d(maps, 1).flatten(1)
    excite = F.relu(F.linear(squeeze, layer.covariate_hidden_weight[:, :C], layer.covariate_hidden_bias))
    gate = torch.sigmoid(F.linear(excite, layer.covariate_out_weight))
    same(layer(x, torch.zeros(N, K)), 2 * gate[:, :, None, None] * maps)


def test_concat_is_a_linear_layer_of_the_joined_vector() -> None:
    linear, f, s = nn.Linear(5, C), torch.randn(N, 5), torch.randn(N, K)
    layer = drawn(Concat.from_plain(linear, K))
    joined = linear_of(torch.cat([linear.weight, layer.covariate_out_weight], dim=1), linear.bias)
    same(layer(f, s), joined(torch.cat([f, s], dim=1)))


def test_hyper_is_a_hypernetwork() -> None:
    """Duenias et al. 2025: an embedding, then linear generators of the kernel and of the bias, applied one by one."""
    conv, x, s = nn.Conv3d(2, C, 2, padding=1), torch.randn(N, 2, 4, 4, 4), torch.randn(N, K)
    layer = drawn(Hyper.from_plain(conv, K, hidden=5, covariate_bias=True))
    embedding = nn.Sequential(linear_of(layer.covariate_hidden_weight, layer.covariate_hidden_bias), nn.ReLU())
    weights = linear_of(layer.covariate_weight.flatten(1).T, conv.weight.flatten())(embedding(s))
    biases = linear_of(layer.covariate_bias.T, conv.bias)(embedding(s))
    expected = [
        F.conv3d(x[i : i + 1], w.reshape(conv.weight.shape), b, padding=1)
        for i, (w, b) in enumerate(zip(weights, biases, strict=True))
    ]
    same(layer(x, s), torch.cat(expected))


@pytest.mark.parametrize("strategy", ["auto", "scaled"])
def test_condconv_is_a_mixture_of_convolutions(strategy) -> None:
    """Yang et al. 2019: with W = 0, kernel sum_e r_e W_e equals the sum of E convolutions weighted by r_e."""
    conv, x, s = nn.Conv2d(4, C, 3, groups=2), torch.randn(N, 4, 7, 7), torch.randn(N, K)
    options = {"experts": 5, "covariate_bias": True, "strategy": strategy}
    layer = drawn(CondConv.from_plain(conv, K, ignore_covariates=True, **options))
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    routing = linear_of(layer.routing_weight, layer.routing_bias)(F.adaptive_avg_pool2d(x, 1).flatten(1)).sigmoid()
    experts = torch.stack(
        [F.conv2d(x, w, b, groups=2) for w, b in zip(layer.covariate_weight, layer.covariate_bias, strict=True)]
    )
    same(layer(x, s), torch.einsum("ne,enchw->nchw", routing, experts))


def test_condconv_is_timms_condconv() -> None:
    timm = pytest.importorskip("timm")
    theirs = timm.layers.CondConv2d(4, C, 3, stride=2, padding=1, groups=2, bias=True, num_experts=5)
    conv = nn.Conv2d(4, C, 3, stride=2, padding=1, groups=2)
    layer = drawn(CondConv.from_plain(conv, K, experts=5, covariate_bias=True, ignore_covariates=True))
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    with torch.no_grad():
        layer.covariate_weight.copy_(theirs.weight.reshape(5, *conv.weight.shape))
        layer.covariate_bias.copy_(theirs.bias)
    x, s = torch.randn(N, 4, 7, 7), torch.randn(N, K)
    routing = linear_of(layer.routing_weight, layer.routing_bias)  # as timm's CondConvResidual has it
    weights = torch.sigmoid(routing(F.adaptive_avg_pool2d(x, 1).flatten(1)))
    same(layer(x, s), theirs(x, weights))


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: Film.from_plain(nn.Conv2d(4, C, 3), K), 2 * C * K),
        (lambda: Film.from_plain(nn.Conv2d(4, C, 3), K, hidden=5), 5 * (K + 1) + 2 * C * 5),
        (lambda: Daft.from_plain(nn.Conv2d(4, C, 3), K), 7 * (C + K) + 2 * C * 7),
        (lambda: Scale.from_plain(nn.Conv2d(4, C, 3), K, hidden=5), 5 * (K + 1) + C * 5),
        (lambda: Attention.from_plain(nn.Conv2d(4, C, 3), K, hidden=5, pooled=True), 5 * (C + K + 1) + C * 5),
        (lambda: Concat.from_plain(nn.Linear(4, C), K), C * K),
        (lambda: Concat.from_plain(nn.Linear(4, C), K, hidden=5), 5 * (K + 1) + C * 5),
        (lambda: Hyper.from_plain(nn.Conv2d(4, C, 3), K, hidden=5), 5 * (K + 1) + 5 * (C * 4 * 9)),
        (
            lambda: Hyper.from_plain(nn.Conv2d(4, C, 3), K, hidden=5, rank=2, covariate_bias=True),
            5 * (K + 1) + 2 * (C * 4 * 9) + 2 * 5 + 2 * C,
        ),
        (lambda: CondConv.from_plain(nn.Conv2d(4, C, 3), K, ignore_covariates=True), 4 * (C * 4 * 9) + 4 * (4 + 1)),
    ],
)
def test_the_parameter_counts_that_the_docstrings_tell(make, count) -> None:
    assert sum(p.numel() for _, p in make().covariate_parameters()) == count
