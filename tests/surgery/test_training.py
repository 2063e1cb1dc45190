"""Training a fused network: every option, averages of weights, accumulation, optimizers, frozen parameters, clipping."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import fusionconv
from fusionconv.errors import CovariateError
from tests.helpers.by_hand import Around, assert_gradients, batch, by_hand, expected_gradients, fused, same
from tests.helpers.networks import with_covariates_that_matter


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"groups": 4},  # depthwise
        {"stride": 2, "padding": 1},
        {"dilation": 2, "bias": False},
        {"padding": "same"},
        *({"padding": 2, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
    ],
)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_every_option_of_a_convolution(options, n) -> None:
    """Sample by sample a plain twin with the kernel written in; with no sample a result of the right shape."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 8, 3, **options), nn.Tanh()).double()
    model = with_covariates_that_matter(fusionconv.fuse_into(copy.deepcopy(plain), 0, 2))
    x, s = torch.randn(n, 4, 9, 9).double(), torch.randn(n, 2).double()
    y = model(x, s)
    assert y.shape == plain(x).shape
    for i in range(n):
        twin = copy.deepcopy(plain)
        twin[0].weight.data += torch.tensordot(s[i], model[0].covariate_weight.data, 1)
        same(y[i : i + 1], twin(x[i : i + 1]))
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())  # DDP waits for each


def test_an_average_of_weights_averages_v_too() -> None:
    """EMA: after each update, average = 0.9 average + 0.1 parameter, V included; called with covariates."""
    model = fused()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)  # the first update copies
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    for seed in range(2):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
        average.update_parameters(model)
        expected = {n: 0.9 * expected[n] + 0.1 * p.detach() for n, p in model.named_parameters()}
    for name, p in average.module.named_parameters():
        same(p.detach(), expected[name])
    x, s = batch()
    same(average(x, s), by_hand(average.module, x, s))
    assert not torch.allclose(average(x, covariates=s), model(x, s))
    with pytest.raises(CovariateError, match="needs them in every call"):
        average(x)


def test_update_bn_needs_a_module_that_hands_on_the_covariates() -> None:
    """torch's update_bn calls ``model(batch[0])``: an error, unless batch[0] is the pair and a wrapper unpacks it."""
    model = fused()
    batches = [batch(seed) for seed in range(3)]
    with pytest.raises(CovariateError, match="needs them in every call"):
        update_bn(batches, model)

    class Unpacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pair):
            return self.model(*pair)

    update_bn([(pair,) for pair in batches], Unpacked())
    inputs = []
    for x, s in batches:  # the mean over batches of what reaches the batch norm
        kernels = model.net[0].weight + torch.einsum("nk,k...->n...", s, model.net[0].covariate_weight)
        rows = [nn.functional.conv2d(x[i : i + 1], kernels[i], model.net[0].bias, padding=1) for i in range(4)]
        inputs.append(torch.cat(rows).mean((0, 2, 3)))
    same(model.net[1].running_mean, torch.stack(inputs).mean(0).detach())


def test_accumulated_gradients_equal_those_of_the_whole_batch() -> None:
    model, (x, s) = fused(), batch(n=6)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        model(x[part], s[part]).square().sum().backward()
    assert_gradients(model, x, s)


def test_an_optimizer_made_before_the_surgery() -> None:
    """It still updates W; V it does not know, until add_param_group brings it."""
    torch.manual_seed(0)
    plain = Around().double().eval()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    model = with_covariates_that_matter(fusionconv.fuse_into(plain, [0, -1], 2))
    x, s = batch()
    for knows_v in (False, True):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        gradients = expected_gradients(model, x, s)
        optimizer.zero_grad()
        model.zero_grad()
        model(x, s).square().sum().backward()
        optimizer.step()
        for (name, p), g in zip(model.named_parameters(), gradients, strict=True):
            same(p.detach(), before[name] - (0.1 * g if knows_v or "covariate" not in name else 0))
        if not knows_v:
            optimizer.add_param_group({"params": [p for n, p in model.named_parameters() if "covariate" in n]})


def test_frozen_w_stays_while_v_learns() -> None:
    model, (x, s) = fused(), batch()
    for name, p in model.named_parameters():
        p.requires_grad_("covariate" in name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(fusionconv.param_groups(model, 0.1, 0.5))
    model(x, s).square().sum().backward()
    optimizer.step()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == ("covariate" in name)
        assert torch.equal(p.detach(), before[name]) == ("covariate" not in name)


def test_vectors_of_parameters_and_clipping() -> None:
    model, other, (x, s) = fused(), fused(seed=1), batch()
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), other.parameters())
    same(other(x, s), model(x, s))
    model(x, s).square().sum().backward()
    norm = torch.cat([g.flatten() for g in expected_gradients(model, x, s)]).norm()
    same(nn.utils.clip_grad_norm_(model.parameters(), 0.5), norm)
    same(model.net[0].covariate_weight.grad, expected_gradients(model, x, s)[2] * 0.5 / (norm + 1e-6), 1e-9)
