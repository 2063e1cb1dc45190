"""The converters of docs/migration.md on more layers than the page shows, in float64, outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.markdown import ROOT, blocks

PAGE = ROOT / "docs" / "migration.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


@pytest.fixture(autouse=True)
def float64():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def same(new: nn.Module, old: nn.Module, x: torch.Tensor, s: torch.Tensor) -> None:
    """Outputs, and what goes back to the image and the covariates."""
    found = []
    for model in (new, old):
        xi, si = x.clone().requires_grad_(), s.clone().requires_grad_()
        y = model(xi, si)
        y.sin().sum().backward()
        found.append((y, xi.grad, si.grad))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [
    {}, {"bias": True}, {"stride": 2}, {"stride": 2, "kernel_size": 5, "bias": True}, {"dilation": 2},
    {"groups": 4}, {"groups": 8, "out_channels": 8, "bias": True}, {"padding": 0}, {"padding": 3, "stride": (2, 1)},
    {"kernel_size": (3, 5), "padding": (1, 2)}, {"kernel_size": 1, "num_experts": 1}, {"num_experts": 9, "bias": True},
    {"padding": "same"}, {"padding": "valid"},
])  # fmt: skip
def test_timm_s_condconv(page: dict[str, Any], options: dict[str, Any]) -> None:
    from timm.layers import CondConv2d

    old = CondConv2d(**{"in_channels": 8, "out_channels": 16, "kernel_size": 3, **options})
    new = page["from_timm"](old)
    same(new, old, torch.randn(5, 8, 11, 10), torch.rand(5, old.num_experts))
    assert not new.weight.any()


def test_timm_s_condconv_with_dynamic_padding_is_refused(page: dict[str, Any]) -> None:
    from timm.layers import CondConv2d

    old = CondConv2d(8, 16, 3, stride=2, padding="same")
    assert old.dynamic_padding
    with pytest.raises(ValueError, match="expected static padding"):
        page["from_timm"](old)


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize(("channels", "covariates", "bottleneck"), [(6, 4, 7), (3, 1, 2)])
def test_daft(page: dict[str, Any], conv: type[nn.Module], channels: int, covariates: int, bottleneck: int) -> None:
    dims = int(conv.__name__[4])
    layer, daft = conv(2, channels, 3), page["Published"](channels, covariates, bottleneck)
    plain = conv(2, channels, 3)
    plain.load_state_dict(layer.state_dict())

    class Old(nn.Module):
        def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            return daft(plain(x), s)

    same(page["from_daft"](layer, daft), Old(), torch.randn(3, 2, *(7,) * dims), torch.randn(3, covariates))


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (4, 1, 5, 5), (2, 3, 1, 7)])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_the_original_layer(page: dict[str, Any], shape: tuple[int, ...], stride: int, padding: int) -> None:
    W_0, W_1 = torch.randn(shape), torch.randn(shape)

    class Old(nn.Module):
        def forward(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            kernels = [W_0 + W_1 * s[i, 0] for i in range(len(x))]
            one = [nn.functional.conv2d(x[i : i + 1], kernels[i], None, stride, padding) for i in range(len(x))]
            return torch.cat(one)

    new = page["from_original"](W_0, W_1, stride, padding)
    same(new, Old(), torch.randn(4, shape[1], 9, 9), torch.randint(0, 2, (4, 1)).double())


@pytest.mark.parametrize("seed", range(3))
def test_film(page: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    old = page["Film"]()
    same(page["from_film"](old), old, torch.randn(4, 3, 8, 8), torch.randn(4, 2))
