"""The ways out that docs/limits.md names, and the errors that lead to them."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import small_net


def batch(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, 3, 8, 8), torch.randn(rows, 2)


def fused() -> nn.Sequential:
    return fusionconv.fuse_into(small_net().eval(), "all", 2, init="kaiming")


@pytest.mark.parametrize("num_covariates", [1, 3])
def test_the_start_to_the_bit(num_covariates) -> None:
    plain = small_net().eval()
    x, s = torch.randn(4, 3, 8, 8), torch.randn(4, num_covariates)
    stacked = fusionconv.fuse_into(copy.deepcopy(plain), "all", num_covariates, strategy="stacked")
    assert torch.equal(stacked(x, s), plain(x))
    for strategy in ("auto", "grouped", "chunked", "tiled", "scaled", "loop", "distinct"):
        model = fusionconv.fuse_into(copy.deepcopy(plain), "all", num_covariates, strategy=strategy)
        torch.testing.assert_close(model(x, s), plain(x), rtol=1e-5, atol=1e-5)


class OneRow(nn.Module):
    def __init__(self, model: nn.Module, row: torch.Tensor) -> None:
        super().__init__()
        self.model, self.row = model, row

    def forward(self, images):
        return self.model(images, self.row.expand(len(images), -1))


def test_many_copies_of_one_image() -> None:
    model, (x, s) = fused(), batch()
    copies = x[1:2].expand(16, -1, -1, -1)
    with pytest.raises(CovariateError, match="the batch has 16, the covariates have 4"):
        model(copies, s)
    alone = OneRow(model, s[1:2])(copies)
    torch.testing.assert_close(alone, model(x[1:2], s[1:2]).expand(16, -1), rtol=1e-4, atol=1e-5)


class TwoDevices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, device="meta")

    def forward(self, x):
        return self.b(self.a(x).to("meta"))


def test_two_devices() -> None:
    x, s = batch()
    with pytest.raises(CovariateError, match="covariates must be on the device of the input, meta, got cpu"):
        fusionconv.fuse_into(TwoDevices(), ["a", "b"], 2)(x, s)
    assert fusionconv.fuse_into(TwoDevices(), "a", 2)(x, s).is_meta


def test_loading_that_skips_unknown_keys(tmp_path) -> None:
    model, (x, s) = fused(), batch()
    dropped = small_net().load_state_dict(model.state_dict(), strict=False)
    assert [key for key in dropped.unexpected_keys if "covariate" in key]
    ready = fusionconv.fuse_into(small_net().eval(), "all", 2)
    ready.load_state_dict(model.state_dict(), strict=False)
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path / "model"), small_net().eval())
    assert torch.equal(ready(x, s), model(x, s))
    assert torch.equal(again(x, s), model(x, s))


class Threaded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.s: torch.Tensor | None = None

    def branch(self, layer, x):
        if self.s is None:
            return layer(x)
        with fusionconv.covariates(self, self.s):
            return layer(x)

    def forward(self, x):
        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(self.branch, (self.a, self.b), (x, x)))


@pytest.mark.filterwarnings("ignore::fusionconv.errors.UnusedCovariatesWarning")
def test_branches_in_threads() -> None:
    model, (x, s) = fusionconv.fuse_into(Threaded(), "all", 2, init="kaiming"), batch()
    with pytest.raises(CovariateError, match="needs them in every call"):
        model(x, s)
    model.s = s
    with fusionconv.covariates(model, s):
        expected = model.a(x) + model.b(x)
    torch.testing.assert_close(model(x, s), expected)


def test_a_hook_that_runs_a_layer_during_backward() -> None:
    """As Opacus does; and per-sample gradients by torch.func, against one call a sample."""
    model, (x, s) = fused(), batch()
    inputs = []
    model[0].register_forward_hook(lambda layer, args, output: inputs.append(args[0]))
    model[0].register_full_backward_hook(lambda layer, *gradients: layer.forward(inputs[0].detach()) and None)
    y = model(x.requires_grad_(), s)
    says = r"from outside its call.*Opacus.*vmap\(grad" if CAN_RECOMPUTE else "use torch >= 2.15"
    with pytest.raises(CovariateError, match=says):
        y.sum().backward()

    model, (x, s) = fused(), batch()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, image, row):
        return functional_call(model, parameters, (image[None], row[None])).square().sum()

    found = vmap(grad(loss), (None, 0, 0))(parameters, x, s)
    for i in range(len(x)):
        model.zero_grad()
        model(x[i : i + 1], s[i : i + 1]).square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(found[name][i], p.grad, rtol=1e-3, atol=1e-4)
