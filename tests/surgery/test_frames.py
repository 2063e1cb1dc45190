"""How covariates reach the layers: never stale, never somebody else's, exact when layers are run again in backward.

Each test fails for a wrong mechanism of the design's table: covariates kept on the layer, a pre-hook on the root, a
ContextVar, or a hook on the output's grad_fn only.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.surgery import frames
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import Body, data, fused_body, small_net

MODES = ["plain", "reentrant", "non-reentrant", "reentrant-nested", "non-reentrant-nested"]
modes = pytest.mark.parametrize("mode", MODES if CAN_RECOMPUTE else ["plain"])


def assert_as_plain(mode: str, scenario) -> None:
    """``scenario(model, x1, s1, x2, s2)`` calls backward; gradients must equal those without checkpointing."""
    results = []
    for m in ("plain", mode):
        model = fused_body(m)
        (x1, s1), (x2, s2) = data(1), data(2)
        scenario(model, x1, s1, x2, s2)
        results.append([leaf.grad for leaf in (*model.parameters(), x1, s1, x2, s2)])
    for expected, got in zip(*results, strict=True):
        assert (expected is None) == (got is None)
        if expected is not None:
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    assert frames._stack.frames == []


@modes
def test_two_forwards_then_one_loss(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        (model(x1, s1).sum() + model(x2, s2).square().sum()).backward()

    assert_as_plain(mode, scenario)


@modes
def test_split_backward_in_the_other_order(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        a, b = model(x1, s1).sum(), model(x2, s2).square().sum()
        b.backward()
        a.backward()

    assert_as_plain(mode, scenario)


@modes
def test_a_call_without_grad_in_between(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        a = model(x1, s1).sum()
        with torch.no_grad():
            model(x2, s2)
        a.backward()

    assert_as_plain(mode, scenario)


@modes
def test_backward_inside_the_frame_of_another_call(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        a = model(x1, s1).sum()
        with fusionconv.covariates(model, s2):
            a.backward()

    assert_as_plain(mode, scenario)


@modes
def test_a_loss_with_a_feature_captured_in_an_earlier_call(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        model(x1, s1)
        feature = model.feature
        (model(x2, s2).sum() + feature.square().sum()).backward()

    assert_as_plain(mode, scenario)


@modes
def test_gradients_of_the_covariates(mode) -> None:
    def scenario(model, x1, s1, x2, s2):
        s1.requires_grad_()
        model(x1, s1).square().sum().backward()
        assert s1.grad is not None

    assert_as_plain(mode, scenario)


@modes
def test_covariates_are_freed_after_backward(mode) -> None:
    model = fused_body(mode)
    x, s = data(1)
    s = s.clone()
    gone = weakref.ref(s)
    y = model(x, s).sum()
    y.backward()
    model.feature = None
    del y, s
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="needs torch >= 2.15")
@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
def test_covariates_changed_in_place_before_backward(mode) -> None:
    model = fused_body(mode)
    x, s = data(1)
    y = model(x, s).sum()
    s.fill_(9.0)
    with pytest.raises(CovariateError, match="changed in place before its backward"):
        y.backward()


def test_a_parameters_own_node_does_not_hold_the_covariates() -> None:
    """DDP keeps every AccumulateGrad node alive; a hook on one would keep the covariates of its first call."""
    model = fused_body()
    x, s = data(1)
    s = s.clone()
    gone = weakref.ref(s)
    y = model(x, s)
    queue, held = [y.grad_fn], []
    while queue:
        node = queue.pop()
        held += [node] if node.name() == "torch::autograd::AccumulateGrad" else []
        queue += [n for n, _ in node.next_functions if n is not None]
    y.sum().backward()
    model.feature = None
    del y, s, node
    gc.collect()
    assert held
    assert gone() is None


@pytest.mark.skipif(CAN_RECOMPUTE, reason="this torch recomputes exactly")
def test_older_torch_raises_instead_of_guessing() -> None:
    model = fused_body("non-reentrant")
    x, s = data(1)
    y = model(x, s).sum()
    with fusionconv.covariates(model, data(2)[1]), pytest.raises(CovariateError, match=r"torch >= 2\.15"):
        y.backward()


def test_without_the_node_hook_recomputation_raises(monkeypatch) -> None:
    """What torch < 2.15 does, simulated: an error, even inside another call's frame."""
    monkeypatch.setattr("fusionconv.surgery.recompute.CAN_RECOMPUTE", False)
    for mode in ("reentrant", "non-reentrant"):
        model = fused_body(mode)
        x, s = data(1)
        y = model(x, s).sum()
        with fusionconv.covariates(model, data(2)[1]), pytest.raises(CovariateError, match=r"torch >= 2\.15"):
            y.backward()
    model = fused_body("plain")
    model(*data(1)).sum().backward()  # nothing is run again, so nothing is missing


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="needs torch >= 2.15")
def test_an_error_in_backward_leaves_no_frame_behind() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("bad backward")

    class WithBad(Body):
        def forward(self, x):
            return Bad.apply(super().forward(x))

    model = fusionconv.fuse_into(WithBad().double(), 0, 2)
    x, s = data(1)
    with pytest.raises(RuntimeError, match="bad backward"):
        model(x, s).sum().backward()
    with pytest.raises(CovariateError, match="needs them"):
        model(x)
    model(x, s)
    assert frames._stack.frames == []


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="needs torch >= 2.15")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_backward_pass_that_fails_leaves_no_covariates_to_the_next(reentrant) -> None:
    """A layer that the next backward runs from outside any call took those of the call whose backward had failed."""

    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("bad backward")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return checkpoint(lambda t: Failing.apply(self.conv(t)), x, use_reentrant=reentrant)

    model = fusionconv.fuse_into(Net(), 0, 2, init="kaiming")
    x, s = torch.randn(4, 3, 8, 8, requires_grad=True), torch.randn(4, 2)
    with pytest.raises(RuntimeError, match="bad backward"):
        model(x, s).sum().backward()
    outside = x * 1.0
    outside.register_hook(lambda g: model.conv(x.detach()).sum() * 0 + g)
    with pytest.raises(CovariateError, match="from outside its call"):
        outside.sum().backward()


def test_an_exception_inside_forward_leaves_nothing_behind() -> None:
    model = fused_body()
    x, s = data(1)
    with pytest.raises(ValueError, match="3 channels"):
        model(x[:, :2], s)
    with pytest.raises(CovariateError, match="needs them in every call"):
        model(x)
    with pytest.raises(CovariateError, match="needs them in every call"):
        model.net[0](x)


def test_with_covariates_reaches_other_methods() -> None:
    model = fused_body().eval()
    x, s = data(1)
    with fusionconv.covariates(model, s):
        assert torch.equal(model(x), model.net(x))
        other = data(2)[1]
        inner = model(x, other)  # the innermost frame wins
    assert torch.equal(inner, model(x, other))
    assert not torch.equal(inner, model(x, s))
    with pytest.raises(CovariateError, match=r"\(N, 2\)"):
        fusionconv.covariates(model, torch.randn(4, 5))


def test_fused_model_inside_a_fused_model() -> None:
    class Outer(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 3, padding=1)
            self.inner = inner

        def forward(self, x, inner_s):
            return self.inner(self.stem(x), inner_s)

    inner = fusionconv.fuse_into(small_net().double().eval(), 0, 1)
    outer = fusionconv.fuse_into(Outer(inner).double().eval(), "stem", 2)
    for m in (inner[0], outer.stem):
        m.covariate_weight.data.normal_()
    (x, s), t = data(1), torch.randn(4, 1, dtype=torch.float64)
    y = outer(x, t, s)  # forward(x, inner_s, covariates)
    with fusionconv.covariates(outer, s):
        h = outer.stem(x)
    torch.testing.assert_close(y, inner(h, t))
    fusionconv.unfuse(outer)
    assert type(outer.inner[0]).__name__ == "FusedConv2d"  # the inner model is its own
    outer(x, t)


def test_four_threads_on_one_model() -> None:
    model = fused_body().eval()
    batches = [data(seed) for seed in range(4)]
    with torch.no_grad():
        expected = [model(x, s) for x, s in batches]
    wrong = []
    barrier = threading.Barrier(4)

    def work(k: int) -> None:
        barrier.wait()
        for _ in range(50):
            with torch.no_grad():
                if not torch.equal(model(*batches[k]), expected[k]):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_covariates_of_the_main_thread_do_not_leak_into_another() -> None:
    model = fused_body()
    x, s = data(1)
    errors = []

    def work() -> None:
        try:
            model(x)
        except CovariateError as error:
            errors.append(error)

    with fusionconv.covariates(model, s):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_asyncio_tasks_do_not_see_each_others_covariates() -> None:
    """Both have their block open while they wait; a task without covariates of its own raises."""
    model, (x, a), (_, b) = fused_body("plain").eval(), data(1), data(2)
    expected = [model(x, s) for s in (a, b)]

    async def with_own(s: torch.Tensor) -> torch.Tensor:
        with fusionconv.covariates(model, s):
            await asyncio.sleep(0)
            first = model(x)
            await asyncio.sleep(0)
            assert torch.equal(model(x), first)
            return first

    async def without() -> None:
        await asyncio.sleep(0)
        with pytest.raises(CovariateError, match="needs them in every call"):
            model(x)

    async def together() -> list[torch.Tensor]:
        found = await asyncio.gather(with_own(a), with_own(b), without())
        return found[:2]

    for got, wanted in zip(asyncio.run(together()), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    with fusionconv.covariates(model, a):  # opened around the whole loop: for every task in it
        torch.testing.assert_close(asyncio.run(_call(model, x)), expected[0])
    assert frames._stack.frames == []


async def _call(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    await asyncio.sleep(0)
    return model(x)


def test_generators_that_take_turns_are_found_out() -> None:
    model, (x, a), (_, b) = fused_body("plain").eval(), data(1), data(2)

    def answers(s: torch.Tensor):
        with fusionconv.covariates(model, s):
            yield model(x)
            yield model(x)

    first, second = answers(a), answers(b)
    next(first), next(second)
    next(first)  # nothing can tell yet that this had b
    with pytest.raises(CovariateError, match="Generators that hold"):
        list(first)
    second.close()
    assert frames._stack.frames == []
    assert len([*answers(a), *answers(b)]) == 4  # one after the other is well
    block = fusionconv.covariates(model, a)
    with block, block, fusionconv.covariates(model, b):
        model(x)
    assert frames._stack.frames == []


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="older torch raises")
def test_a_forward_that_turns_gradients_on_is_recomputed_with_its_own_covariates() -> None:
    """In a call under no_grad, inside a block that holds other covariates."""

    class Turning(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x: torch.Tensor, checkpointed: bool = True) -> torch.Tensor:
            with torch.enable_grad():
                if not checkpointed:
                    return self.conv(x).square()
                return checkpoint(lambda t: self.conv(t).square(), x, use_reentrant=False)

    torch.manual_seed(0)
    model = fusionconv.fuse_into(Turning(), 0, num_covariates=2, init="kaiming")
    x, own, other = torch.randn(3, 2, 6, 6), torch.randn(3, 2), torch.randn(3, 2)
    found = []
    for checkpointed in (False, True):
        with fusionconv.covariates(model, other), torch.no_grad():
            y = model(x, own, checkpointed)
        found.append(torch.autograd.grad(y.sum(), list(model.parameters())))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_compile_in_one_graph() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    model = fused_body().eval()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for n in (4, 3, 7):
        x, s = data(n, n=n)
        torch.testing.assert_close(compiled(x, s), model(x, s), rtol=1e-10, atol=1e-10)
    assert counter.frame_count <= 2
