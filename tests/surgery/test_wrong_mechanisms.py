"""The suite can tell a wrong mechanism from the right one.

Each scenario runs on the library and on five other ways to bring covariates to a layer (the design's table). The library
passes all; each of the others fails exactly those that FAILS names, and in the way that stands there: "wrong" numbers
without any error, or an error ("raises"). The expected numbers come from plain convolutions, one sample at a time.
"""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from torch import nn

from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import Body, data
from tests.helpers.wrong_mechanisms import LAYERS, MECHANISMS


def body(fuse, mode: str = "plain", kind: type[Body] = Body) -> Body:
    torch.manual_seed(0)
    return fuse(kind(mode).double().eval())


def by_hand(model: Body, x: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``model(x, s)`` is to give, and the feature in its middle, as functions of its own parameters."""
    first, last = LAYERS
    rows, features = [], []
    for i in range(len(x)):
        kernels = {k: model.net[k].weight + torch.tensordot(s[i], model.net[k].covariate_weight, 1) for k in LAYERS}
        y = nn.functional.conv2d(x[i : i + 1], kernels[first], model.net[first].bias, padding=1)
        features.append(nn.Sequential(*model.net[first + 1 : last])(y))
        y = nn.functional.conv2d(features[-1], kernels[last], model.net[last].bias)
        rows.append(nn.Sequential(*model.net[last + 1 :])(y))
    return torch.cat(rows), torch.cat(features)


def same(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def same_gradients(model: Body, backward, expected_loss: torch.Tensor) -> None:
    model.zero_grad()
    backward()
    got = [p.grad.clone() for p in model.parameters()]
    for mine, expected in zip(got, torch.autograd.grad(expected_loss, list(model.parameters())), strict=True):
        same(mine, expected)


# ---------------------------------------------------------------- the scenarios, each over a way to fuse


def values_and_gradients(fuse) -> None:
    model, (x, s) = body(fuse), data(1)
    same(model(x, s), by_hand(model, x, s)[0])
    same_gradients(model, lambda: model(x, s).square().sum().backward(), by_hand(model, x, s)[0].square().sum())


def two_threads_inside_one_model(fuse) -> None:
    meet = threading.Barrier(2, timeout=20)

    class Meeting(Body):
        def forward(self, x):
            meet.wait()  # both calls have begun before either reaches its first layer
            y = super().forward(x)
            meet.wait()  # and neither ends, and clears anything, before both have passed their last
            return y

    model, batches = body(fuse, kind=Meeting), [data(1), data(2)]
    outputs: dict[int, torch.Tensor] = {}
    errors: list[Exception] = []

    def work(k: int) -> None:
        try:
            with torch.no_grad():
                outputs[k] = model(*batches[k])
        except Exception as error:
            errors.append(error)
            meet.abort()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    for k, (x, s) in enumerate(batches):
        same(outputs[k], by_hand(model, x, s)[0].detach())


def no_covariates_after_a_call_with_them(fuse) -> None:
    model, (x, s) = body(fuse), data(1)
    model(x, s)
    refuses(model, x)


def no_covariates_after_a_call_that_raised(fuse) -> None:
    model, (x, s) = body(fuse), data(1)
    refuses(model, x[:, :2], s)
    refuses(model, x)


def refuses(model: nn.Module, *args: torch.Tensor | None) -> None:
    try:
        model(*args, *[None] * (2 - len(args)))
    except (ValueError, TypeError, AttributeError):
        return
    raise AssertionError("an answer where there is none")


def no_covariates_for_a_model_inside_a_model(fuse) -> None:
    """The inner model is fused for itself: called without its covariates it must not take those of the outer one."""

    class Outer(Body):
        def forward(self, x):
            refuses(self.inner[0], x)
            return super().forward(x)

    model, (x, s) = body(fuse, kind=Outer), data(1)
    model.inner = [body(fuse)]  # in a list: not a submodule, so that the two share no layers
    same(model(x, s), by_hand(model, x, s)[0])


def covariates_are_freed(fuse) -> None:
    model, (x, s) = body(fuse), data(1)
    s = s.clone()
    gone = weakref.ref(s)
    model(x, s).sum().backward()
    model.feature = None
    del s
    gc.collect()
    assert gone() is None


def compile_in_one_graph(fuse) -> None:
    torch._dynamo.reset()
    model = body(fuse)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for seed in (1, 2):
        x, s = data(seed)
        same(compiled(x, s), by_hand(model, x, s)[0])


def export(fuse, strict: bool) -> None:
    class Quiet(Body):
        def forward(self, x):  # keeps no feature: an export may change no attribute
            return self.net(x)

    model, (x, s) = body(fuse, kind=Quiet), data(1)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (x.detach(), s), dynamic_shapes=({0: batch}, {0: batch}), strict=strict)
    x, s = data(2, n=7)
    same(program.module()(x, s), by_hand(model, x, s)[0])


def export_strict(fuse) -> None:
    export(fuse, strict=True)


def export_not_strict(fuse) -> None:
    export(fuse, strict=False)


def checkpoint_one_call(fuse, mode) -> None:
    model, (x, s) = body(fuse, mode), data(1)
    same_gradients(model, lambda: model(x, s).square().sum().backward(), by_hand(model, x, s)[0].square().sum())


def checkpoint_two_calls_then_one_loss(fuse, mode) -> None:
    model, (x1, s1), (x2, s2) = body(fuse, mode), data(1), data(2)
    expected = by_hand(model, x1, s1)[0].sum() + by_hand(model, x2, s2)[0].square().sum()
    same_gradients(model, lambda: (model(x1, s1).sum() + model(x2, s2).square().sum()).backward(), expected)


def checkpoint_split_backward(fuse, mode) -> None:
    model, (x1, s1), (x2, s2) = body(fuse, mode), data(1), data(2)
    expected = by_hand(model, x1, s1)[0].sum() + by_hand(model, x2, s2)[0].square().sum()

    def backward() -> None:
        a, b = model(x1, s1).sum(), model(x2, s2).square().sum()
        a.backward()
        b.backward()

    same_gradients(model, backward, expected)


def checkpoint_a_call_without_grad_in_between(fuse, mode) -> None:
    model, (x1, s1), (x2, s2) = body(fuse, mode), data(1), data(2)

    def backward() -> None:
        a = model(x1, s1).square().sum()
        with torch.no_grad():
            model(x2, s2)
        a.backward()

    same_gradients(model, backward, by_hand(model, x1, s1)[0].square().sum())


def checkpoint_a_feature_of_an_earlier_call(fuse, mode) -> None:
    model, (x1, s1), (x2, s2) = body(fuse, mode), data(1), data(2)
    expected = by_hand(model, x1, s1)[1].square().sum() + by_hand(model, x2, s2)[0].sum()

    def backward() -> None:
        model(x1, s1)
        feature = model.feature
        (model(x2, s2).sum() + feature.square().sum()).backward()

    same_gradients(model, backward, expected)


SCENARIOS = {
    f.__name__: f
    for f in (
        values_and_gradients,
        two_threads_inside_one_model,
        no_covariates_after_a_call_with_them,
        no_covariates_after_a_call_that_raised,
        no_covariates_for_a_model_inside_a_model,
        covariates_are_freed,
        compile_in_one_graph,
        export_strict,
        export_not_strict,
    )
}
RECOMPUTED = {
    f.__name__: f
    for f in (
        checkpoint_one_call,
        checkpoint_two_calls_then_one_loss,
        checkpoint_split_backward,
        checkpoint_a_call_without_grad_in_between,
        checkpoint_a_feature_of_an_earlier_call,
    )
}
RAISES_WHEN_RECOMPUTED = dict.fromkeys(RECOMPUTED, "raises")
FAILS: dict[str, dict[str, str]] = {
    "real": {},
    "hook_on_the_root": {
        "two_threads_inside_one_model": "wrong",
        "export_strict": "raises",
        "export_not_strict": "raises",
        **RAISES_WHEN_RECOMPUTED,
    },
    "context_variable": {
        "no_covariates_for_a_model_inside_a_model": "wrong",
        "compile_in_one_graph": "raises",
        "export_strict": "raises",
        **RAISES_WHEN_RECOMPUTED,
    },
    "attribute_and_finally": {"two_threads_inside_one_model": "wrong", **RAISES_WHEN_RECOMPUTED},
    "attribute_that_keeps_the_last_value": {
        "two_threads_inside_one_model": "wrong",
        "no_covariates_after_a_call_with_them": "wrong",
        "no_covariates_after_a_call_that_raised": "wrong",
        "covariates_are_freed": "wrong",
        "checkpoint_two_calls_then_one_loss": "wrong",
        "checkpoint_split_backward": "wrong",
        "checkpoint_a_call_without_grad_in_between": "wrong",
        "checkpoint_a_feature_of_an_earlier_call": "wrong",
    },
    "hook_on_the_outputs_node": {
        "covariates_are_freed": "wrong",
        "compile_in_one_graph": "raises",
        "export_strict": "raises",
        "checkpoint_a_feature_of_an_earlier_call": "wrong",
    },
}
DEPENDS_ON_TORCH = ("compile_in_one_graph", "export_strict", "export_not_strict")


def judge(mechanism: str, scenario: str, run) -> None:
    expected = FAILS[mechanism].get(scenario)
    try:
        run()
    except AssertionError as error:
        verdict, reason = "wrong", error
    except Exception as error:
        verdict, reason = "raises", error
    else:
        verdict, reason = None, None
    if verdict != expected:
        raise AssertionError(f"{mechanism} in {scenario}: expected {expected}, got {verdict}") from reason


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.filterwarnings(
    "ignore:While compiling, we found certain side effects", "ignore:The tensor attributes self.net.0.covariates"
)
def test_who_passes(mechanism, scenario) -> None:
    if mechanism != "real" and scenario in DEPENDS_ON_TORCH and not torch.__version__.startswith("2.15"):
        pytest.skip("what torch.compile makes of the others was measured with torch 2.15")
    judge(mechanism, scenario, lambda: SCENARIOS[scenario](MECHANISMS[mechanism]))


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="before torch 2.15 the library raises here")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
@pytest.mark.parametrize("scenario", RECOMPUTED)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_who_passes_under_checkpointing(mechanism, scenario, mode) -> None:
    judge(mechanism, scenario, lambda: RECOMPUTED[scenario](MECHANISMS[mechanism], mode))


def test_every_scenario_but_the_first_is_failed_by_some_mechanism() -> None:
    failed = {name for fails in FAILS.values() for name in fails}
    assert failed == {*SCENARIOS, *RECOMPUTED} - {"values_and_gradients"}
    assert all(fails for mechanism, fails in FAILS.items() if mechanism != "real")
    assert not FAILS["real"]
