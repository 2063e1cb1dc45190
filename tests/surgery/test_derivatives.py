"""torch.func on a fused network, higher derivatives, and what stores or recomputes activations for backward."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential, create_selective_checkpoint_contexts

import fusionconv
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.by_hand import assert_gradients, batch, by_hand, expected_gradients, fused, same
from tests.helpers.networks import with_covariates_that_matter


def test_functional_call() -> None:
    model, other, (x, s) = fused(), fused(seed=1), batch()
    parameters = {n: p.detach() for n, p in other.named_parameters()}
    expected = by_hand(other, x, s)
    same(torch.func.functional_call(model, parameters, (x, s)), expected)
    same(torch.func.functional_call(model, parameters, (x,), {"covariates": s}), expected)
    same(model(x, s), by_hand(model, x, s))


def test_per_sample_gradients_by_vmap() -> None:
    model, (x, s) = fused(), batch()
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def loss(p, xi, si):
        return torch.func.functional_call(model, p, (xi[None], si[None])).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x, s)
    for i in range(4):
        expected = expected_gradients(model, x[i : i + 1], s[i : i + 1])
        for name, g in zip(parameters, expected, strict=True):
            same(got[name][i], g, 1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_directional_derivatives_and_jacobians_by_the_covariates() -> None:
    model, (x, s) = fused(), batch()
    direction = torch.randn_like(s)
    y, dy = torch.func.jvp(lambda t: model(x, t), (s,), (direction,))
    same(y, by_hand(model, x, s))
    h = 1e-6
    same(dy, (by_hand(model, x, s + h * direction) - by_hand(model, x, s - h * direction)) / (2 * h), 1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda t: by_hand(model, x, t), s)
    same(torch.func.jacrev(lambda t: model(x, t))(s), jacobian)
    same(torch.func.jacfwd(lambda t: model(x, t))(s), jacobian)


def test_gradgradcheck_through_a_fused_model() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Conv2d(2, 1, 2)).double()
    net = with_covariates_that_matter(fusionconv.fuse_into(net, [0, 1], 1))
    leaves = [torch.randn(2, 1, 3, 3).double().requires_grad_(), torch.randn(2, 1).double().requires_grad_()]
    inputs = (*leaves, *net.parameters())
    assert torch.autograd.gradcheck(lambda x, s, *_: net(x, s), inputs)
    assert torch.autograd.gradgradcheck(lambda x, s, *_: net(x, s), inputs)


HOWS = {
    "plain": None,
    "sequential-reentrant": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=True),
    "sequential-non-reentrant": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=False),
    "selective": lambda net, x: checkpoint(
        net,
        x,
        use_reentrant=False,
        context_fn=partial(create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default]),
    ),
}
hows = pytest.mark.parametrize("how", HOWS if CAN_RECOMPUTE else ["plain"])


@pytest.mark.parametrize("how", [h for h in HOWS if h != "selective"] if CAN_RECOMPUTE else ["plain"])
def test_backward_twice_through_one_graph(how) -> None:
    model, (x, s) = fused(HOWS[how]), batch()
    loss = model(x.requires_grad_(), s).square().sum()
    loss.backward(retain_graph=True)
    with fusionconv.covariates(model, batch(2)[1]):
        loss.backward()
    assert_gradients(model, x, s, factor=2)


@pytest.mark.parametrize("how", ["plain", "non-reentrant"] if CAN_RECOMPUTE else ["plain"])
def test_a_gradient_of_a_gradient(how) -> None:
    """A gradient penalty; reentrant checkpointing cannot do that with any network."""
    model = fused(None if how == "plain" else lambda net, x: checkpoint(net, x, use_reentrant=False))
    x, s = batch()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x, s).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    (slope,) = torch.autograd.grad(by_hand(model, x, s).square().sum(), x, create_graph=True)
    expected = torch.autograd.grad(slope.square().sum(), list(model.parameters()), allow_unused=True)
    for p, g in zip(model.parameters(), expected, strict=True):
        same(p.grad if p.grad is not None else torch.zeros_like(p), g if g is not None else torch.zeros_like(p), 1e-9)


@hows
@pytest.mark.filterwarnings("ignore:A saved_tensors_hooks context")
@pytest.mark.parametrize("saving", ["on-cpu", "packed"])
def test_saved_tensors_hooks(how, saving) -> None:
    model, (x, s) = fused(HOWS[how]), batch()
    packed = []

    def pack(t):
        packed.append(t)
        return t.numpy() if not t.requires_grad else t.detach().numpy()

    hooks = (
        torch.autograd.graph.save_on_cpu()
        if saving == "on-cpu"
        else torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy)
    )
    with hooks:
        model(x.requires_grad_(), s).square().sum().backward()
    assert saving == "on-cpu" or packed
    assert_gradients(model, x, s)
