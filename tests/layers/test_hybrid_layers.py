"""The six hybrid layers: torch's own options, parameters, keys and modes, plus the covariates."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, CovariateTypeError

LAYERS = [
    (fusionconv.HybridConv1d, nn.Conv1d, 1),
    (fusionconv.HybridConv2d, nn.Conv2d, 2),
    (fusionconv.HybridConv3d, nn.Conv3d, 3),
    (fusionconv.HybridConvTranspose1d, nn.ConvTranspose1d, 1),
    (fusionconv.HybridConvTranspose2d, nn.ConvTranspose2d, 2),
    (fusionconv.HybridConvTranspose3d, nn.ConvTranspose3d, 3),
]
every_layer = pytest.mark.parametrize(("hybrid", "plain", "dims"), LAYERS, ids=[h.__name__ for h, _, _ in LAYERS])

CONV_OPTIONS = [
    {},
    {"bias": False},
    {"stride": 2, "padding": 1},
    {"dilation": 2, "padding": 2, "groups": 2},
    {"padding": "same"},
    {"padding": "valid"},
    *({"padding": p, "padding_mode": m} for m in ("reflect", "replicate", "circular") for p in (1, "same")),
]
TRANSPOSE_OPTIONS = [
    {},
    {"bias": False},
    {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    {"dilation": 2},
]


def batch(dims: int, n: int = 3, channels: int = 4, size: int = 6) -> torch.Tensor:
    return torch.randn(n, channels, *(size,) * dims, dtype=torch.float64)


def randomise(layer: nn.Module) -> None:
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()


@every_layer
def test_equals_plain_layers_with_the_kernels_written_in(hybrid, plain, dims) -> None:
    """For each option: sample i equals torch's own module holding W + sum_j s_ij V_j and b + sum_j s_ij c_j."""
    for options in TRANSPOSE_OPTIONS if "Transpose" in hybrid.__name__ else CONV_OPTIONS:
        layer = hybrid(4, 6, 3, num_covariates=2, covariate_bias=True, dtype=torch.float64, **options)
        randomise(layer)
        x, s = batch(dims), torch.randn(3, 2, dtype=torch.float64)
        y = layer(x, s)
        for i in range(3):
            twin = plain(4, 6, 3, dtype=torch.float64, **{**options, "bias": True})
            with torch.no_grad():
                twin.weight.copy_(
                    layer.weight + s[i, 0] * layer.covariate_weight[0] + s[i, 1] * layer.covariate_weight[1]
                )
                twin.bias.copy_(s[i, 0] * layer.covariate_bias[0] + s[i, 1] * layer.covariate_bias[1])
                if layer.bias is not None:
                    twin.bias += layer.bias
            torch.testing.assert_close(y[i : i + 1], twin(x[i : i + 1]), rtol=1e-10, atol=1e-10, msg=str(options))


@every_layer
def test_from_conv_shares_parameters_and_gives_its_outputs(hybrid, plain, dims) -> None:
    conv = plain(4, 6, 3, stride=2, padding=1, dtype=torch.float64).eval()
    calls = []
    conv.register_forward_hook(lambda *a: calls.append(1))
    layer = hybrid.from_conv(conv, 3)
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert not layer.training
    x, s = batch(dims), torch.randn(3, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x, s), conv(x), rtol=1e-12, atol=1e-12)
    assert calls == [1, 1]  # the hook came along
    assert type(conv) is plain
    assert list(conv.state_dict()) == ["weight", "bias"]
    assert list(layer.state_dict()) == ["weight", "bias", "covariate_weight"]
    layer.register_buffer("mark", torch.zeros(1))
    assert "mark" not in dict(conv.named_buffers())


@every_layer
def test_zero_covariates_are_the_ordinary_convolution(hybrid, plain, dims) -> None:
    layer = hybrid(4, 6, 3, num_covariates=2, init="kaiming", dtype=torch.float64)
    twin = plain(4, 6, 3, dtype=torch.float64)
    twin.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    x = batch(dims)
    torch.testing.assert_close(layer(x, torch.zeros(3, 2, dtype=torch.float64)), twin(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(layer(x, torch.ones(3, 2, dtype=torch.float64)), twin(x))


@every_layer
def test_copies_pickles_and_state_dict(hybrid, plain, dims) -> None:
    layer = hybrid(4, 6, 3, num_covariates=2, covariate_bias=True, rank=1, dtype=torch.float64)
    randomise(layer)
    x, s = batch(dims), torch.randn(3, 2, dtype=torch.float64)
    stream = io.BytesIO()
    torch.save(layer, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    fresh = hybrid(4, 6, 3, num_covariates=2, covariate_bias=True, rank=1, dtype=torch.float64)
    fresh.load_state_dict(layer.state_dict())
    for other in (again, fresh, copy.deepcopy(layer)):
        assert torch.equal(other(x, s), layer(x, s))
    other.covariate_weight.data += 1
    assert not torch.equal(other(x, s), layer(x, s))


def test_transposed_output_size() -> None:
    layer = fusionconv.HybridConvTranspose2d(4, 2, 3, num_covariates=1, stride=2, padding=1)
    x, s = torch.randn(2, 4, 5, 5), torch.randn(2, 1)
    assert layer(x, s).shape[2:] == (9, 9)
    assert layer(x, s, output_size=[10, 10]).shape[2:] == (10, 10)


def test_rank_is_a_linear_map_in_front_of_fewer_kernels() -> None:
    layer = fusionconv.HybridConv2d(2, 3, 3, num_covariates=5, rank=2, covariate_bias=True, dtype=torch.float64)
    assert layer.covariate_weight.shape == (2, 3, 2, 3, 3)
    assert layer.covariate_bias.shape == (2, 3)
    torch.testing.assert_close(
        layer.covariate_map @ layer.covariate_map.T, torch.eye(2, dtype=torch.float64), atol=1e-6, rtol=0
    )
    randomise(layer)
    full = fusionconv.HybridConv2d(2, 3, 3, num_covariates=5, covariate_bias=True, dtype=torch.float64)
    with torch.no_grad():  # V_k = sum_r A_rk V_r
        full.weight.copy_(layer.weight)
        full.bias.copy_(layer.bias)
        full.covariate_weight.copy_(torch.einsum("rk,r...->k...", layer.covariate_map, layer.covariate_weight))
        full.covariate_bias.copy_(torch.einsum("rk,rc->kc", layer.covariate_map, layer.covariate_bias))
    x, s = batch(2, channels=2), torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x, s), full(x, s), rtol=1e-10, atol=1e-10)


def test_rank_starts_learning_from_zero() -> None:
    layer = fusionconv.HybridConv2d(2, 3, 3, num_covariates=5, rank=2)
    layer(torch.randn(4, 2, 8, 8), torch.randn(4, 5)).square().sum().backward()
    assert layer.covariate_weight.grad.abs().sum() > 0


def test_init_scales() -> None:
    """Zeros by default; "kaiming" is normal with variance 2 / fan_out, fan_out = C_out * kernel volume, for each V_j."""
    layer = fusionconv.HybridConv2d(64, 32, 3, num_covariates=2)
    assert not layer.covariate_weight.any()
    layer = fusionconv.HybridConv2d(64, 32, 3, num_covariates=2, init="kaiming")
    for kernel in layer.covariate_weight.detach():
        assert kernel.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.03)
        assert abs(kernel.mean().item()) < 0.002
    before = layer.covariate_weight.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.covariate_weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_device_and_dtype(dtype: torch.dtype) -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=2, rank=1, covariate_bias=True, dtype=dtype)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert layer(torch.randn(2, 3, 8, 8, dtype=dtype), torch.randn(2, 2)).dtype == dtype
    assert fusionconv.HybridConv2d(3, 4, 3, num_covariates=2, device="meta").covariate_weight.is_meta


@every_layer
def test_memory_format(hybrid, plain, dims) -> None:
    """``.to(memory_format=...)`` as users call it on whole models: same values, gradients and options after it."""
    layer = hybrid(4, 6, 3, num_covariates=2, covariate_bias=True, dtype=torch.float64)
    randomise(layer)
    x, s = batch(dims), torch.randn(3, 2, dtype=torch.float64)
    y = layer(x, s)
    y.sum().backward()
    for memory_format in (torch.channels_last, torch.channels_last_3d, torch.contiguous_format):
        if dims == 3 and memory_format is torch.channels_last:
            continue  # torch refuses it for its own 3-D convolutions too
        if dims < 3 and memory_format is torch.channels_last_3d:
            continue
        layer.to(memory_format=memory_format)
        torch.testing.assert_close(layer(x, s), y)
        assert layer.covariate_weight.grad.shape == layer.covariate_weight.shape
    assert layer.float()(x.float(), s.float()).dtype == torch.float32


def test_the_inner_step_cannot_leave_the_covariates_out() -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=1)
    with pytest.raises(fusionconv.FusionError, match="would ignore the covariates"):
        layer._conv_forward(torch.randn(1, 3, 8, 8), layer.weight, layer.bias)


def test_covariates_too_large_for_the_weights_dtype() -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=1, dtype=torch.float16)
    with pytest.raises(CovariateError, match=r"within torch.float16, got up to 100000 in row\(s\) 0"):
        layer(torch.randn(1, 3, 8, 8).half(), torch.full((1, 1), 1e5))


def test_is_a_torch_convolution_to_tools_that_ask() -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=2, rank=1, covariate_bias=True, strategy="loop")
    assert isinstance(layer, nn.Conv2d)
    assert repr(layer) == (
        "HybridConv2d(3, 4, kernel_size=(3, 3), stride=(1, 1), num_covariates=2, rank=1, covariate_bias=True, "
        "strategy=loop)"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_covariates": 0}, "at least 1, got 0"),
        ({"num_covariates": -1}, "at least 1, got -1"),
        ({"num_covariates": 2.0}, "at least 1, got 2.0"),
        ({"num_covariates": True}, "at least 1, got True"),
        ({"num_covariates": 3, "rank": 4}, "from 1 to num_covariates = 3, got 4"),
        ({"num_covariates": 3, "rank": 0}, "got 0"),
        ({"num_covariates": 3, "init": "ones"}, "zeros.*kaiming.*got 'ones'"),
        ({"num_covariates": 3, "strategy": "quick"}, "grouped.*got 'quick'"),
    ],
)
def test_impossible_options(options, words) -> None:
    with pytest.raises(ValueError, match=words):
        fusionconv.HybridConv2d(3, 4, 3, **options)


def test_wrong_covariates_at_the_call() -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, num_covariates=2, rank=1)
    x = torch.randn(4, 3, 8, 8)
    with pytest.raises(CovariateError, match=r"\(N, 2\).*\(4, 1\)"):
        layer(x, torch.randn(4, 1))
    with pytest.raises(CovariateTypeError, match="int64"):
        layer(x, torch.ones(4, 2, dtype=torch.long))
    with pytest.raises(CovariateError, match="finite"):
        layer(x, torch.full((4, 2), float("nan")))
    with pytest.raises(TypeError, match=r"exactly a torch\.nn\.Conv2d, got Conv1d"):
        fusionconv.HybridConv2d.from_conv(nn.Conv1d(1, 1, 1), 1)
