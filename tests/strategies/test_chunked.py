"""chunked and tiled in several parts: against the formula by linearity in float64; what they save; what auto takes."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

from fusionconv.functional import hybrid_conv, hybrid_conv_transpose
from fusionconv.strategies import STRATEGIES, Geometry
from fusionconv.strategies.auto import choose
from tests.helpers.hybrid_cases import CASES, Case, reference


@pytest.fixture(params=[("chunked", 1), ("chunked", 250), ("chunked", 1000), ("tiled", 1), ("tiled", 4)], ids=str)
def way(request, monkeypatch) -> str:
    """The kernels of these cases have up to a few hundred numbers: chunks of one sample, of one or two, of several.

    Tiles of one output channel, and of four, which do not divide the six of most cases.
    """
    strategy, size = request.param
    if strategy == "chunked":
        monkeypatch.setattr(sys.modules["fusionconv.strategies.chunked"], "CHUNK", size)
    else:
        monkeypatch.setattr(sys.modules["fusionconv.strategies.tiled"], "TILE", 1)
        monkeypatch.setattr(sys.modules["fusionconv.strategies.tiled"], "ROWS", size)
    return strategy


def run(case: Case, tensors: dict, strategy: str) -> torch.Tensor:
    function = hybrid_conv_transpose if case.transposed else hybrid_conv
    return function(**tensors, **case.options, strategy=strategy)


@pytest.mark.parametrize("case", [*CASES, Case("more", 2, n=11, k=3)], ids=lambda c: c.name)
def test_values_and_gradients(case: Case, way: str) -> None:
    tensors = case.tensors()
    y, expected = run(case, tensors, way), reference(**tensors, transposed=case.transposed, **case.options)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    leaves = [t for t in tensors.values() if t is not None]
    for got, wanted in zip(torch.autograd.grad(y, leaves, dy), torch.autograd.grad(expected, leaves, dy), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", ["x", "covariates", "weight", "covariate_weight", "bias", "covariate_bias"])
def test_one_leaf_frozen(frozen: str, way: str) -> None:
    """What needs no gradient gets none, and the others keep theirs."""
    case = Case("frozen", 2, n=5, k=2)
    tensors = case.tensors()
    tensors[frozen] = tensors[frozen].detach()
    y, expected = run(case, tensors, way), reference(**tensors)
    leaves = [t for t in tensors.values() if t.requires_grad]
    assert len(leaves) == 5
    for got, wanted in zip(
        torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(expected.square().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_gradgradcheck(way: str) -> None:
    case = Case("2d", 2, n=3, k=2, c_in=2, c_out=2, kernel=2, size=3, options={"groups": 2})
    tensors = case.tensors()

    def f(*leaves: torch.Tensor) -> torch.Tensor:
        return run(case, dict(zip(tensors, leaves, strict=True)), way)

    assert torch.autograd.gradcheck(f, tuple(tensors.values()))
    assert torch.autograd.gradgradcheck(f, tuple(tensors.values()))


def test_no_kernel_per_sample_is_saved(way: str) -> None:
    """For the backward pass: x, s, W, V and the biases, and nothing that grows with the batch but x and s."""
    case = Case("saved", 2, n=16, k=2)
    tensors = case.tensors()
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        y = run(case, tensors, way)
    assert sorted(kept) == sorted(t.shape for t in tensors.values())
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        hybrid_conv(**tensors, strategy="grouped")
    assert any(shape[0] >= 16 * 6 for shape in kept)  # so that the test above can fail: grouped keeps N kernels
    y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_autocast(dtype: torch.dtype, way: str) -> None:
    """As the plain convolution of each sample under autocast, with its kernel formed in float32 and rounded once."""
    case = Case("autocast", 2, n=4, k=2)
    tensors = case.tensors(torch.float32)
    tensors["covariates"] = (50 + 20 * tensors["covariates"]).detach()
    with torch.autocast("cpu", dtype=dtype):
        y = run(case, tensors, way)
        s, w, v = (tensors[name] for name in ("covariates", "weight", "covariate_weight"))
        kernels = w + torch.einsum("nj,j...->n...", s.double(), v.double()).float()
        biases = tensors["bias"] + s @ tensors["covariate_bias"]
        rows = [F.conv2d(tensors["x"][i : i + 1], kernels[i], biases[i].float()) for i in range(4)]
        expected = torch.cat(rows)
    assert y.dtype == expected.dtype == dtype
    torch.testing.assert_close(y, expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
    y.float().sum().backward()
    assert tensors["weight"].grad.dtype == torch.float32
    expected_grad = torch.autograd.grad(expected.float().sum(), tensors["weight"])[0]
    error = (tensors["weight"].grad - expected_grad).abs().max() / expected_grad.abs().max()
    assert error < 2e-2


def test_another_dtype_is_an_error_as_in_the_plain_layer(way: str) -> None:
    tensors = Case("dtype", 2, n=4).tensors(torch.float32)
    with pytest.raises(RuntimeError, match="type"):
        F.conv2d(tensors["x"].double(), tensors["weight"])
    with pytest.raises(RuntimeError, match="type"):
        run(Case("dtype", 2), {**tensors, "x": tensors["x"].double()}, way)


def test_torch_func_and_compile_still_work(way: str) -> None:
    case = Case("func", 2, n=3, k=2)
    t = {name: value.detach() for name, value in case.tensors().items()}
    gradient = torch.func.grad(lambda s: run(case, {**t, "covariates": s}, way).square().sum())(t["covariates"])
    s = t["covariates"].clone().requires_grad_()
    reference(**{**t, "covariates": s}).square().sum().backward()
    torch.testing.assert_close(gradient, s.grad, rtol=1e-10, atol=1e-10)
    per_sample = torch.vmap(lambda x, s: run(case, {**t, "x": x[None], "covariates": s[None]}, way)[0])
    torch.testing.assert_close(per_sample(t["x"], t["covariates"]), reference(**t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", ["grouped", "chunked", "tiled", "auto"])
def test_channels_last_stays(strategy: str, way: str) -> None:
    tensors = Case("last", 2, n=4, size=8).tensors()
    tensors["x"] = tensors["x"].detach().contiguous(memory_format=torch.channels_last)
    y = hybrid_conv(**tensors, strategy=strategy)
    plain = F.conv2d(tensors["x"], tensors["weight"])
    assert y.stride() == plain.stride()


def _case(n: int, channels: int, values: str, size: int = 14, k: int = 1) -> str:
    x, v = torch.zeros(n, channels, size, size), torch.empty(k, channels, channels, 3, 3)
    s = torch.arange(float(n))[:, None] if values == "all differ" else torch.arange(n)[:, None] % 2.0
    return choose(x, s.expand(n, k), v)


def test_auto_on_a_cpu() -> None:
    assert _case(8, 64, "all differ") == "grouped"  # 8 kernels of 37 thousand numbers
    assert _case(8, 512, "all differ") == "chunked"  # 8 of 2.4 million
    assert _case(8, 512, "binary") == "distinct"
    assert _case(1, 512, "all differ") == "grouped"
    assert _case(8, 512, "all differ", size=8) == "stacked"  # one kernel would be used on 64 positions only
    assert _case(8, 512, "all differ", size=9) == "chunked"
    assert _case(8, 512, "all differ", size=8, k=3) == "tiled"
    assert _case(8, 512, "all differ", size=2, k=16) == "tiled"
    assert _case(8, 512, "all differ", size=9, k=3) == "chunked"
    assert _case(8, 512, "binary", size=8, k=3) == "distinct"
    x, s = torch.zeros(8, 512, 8, 8), torch.arange(8.0)[:, None].expand(8, 3)
    assert choose(x, s, torch.empty(3, 512, 256, 3, 3), Geometry(2, groups=2)) == "chunked"  # tiled has one group
    assert _case(3, 512, "binary") == "chunked"  # two of three differ: nothing to share
    s = torch.ones(8, 1, requires_grad=True)  # equal, but each with a gradient of its own
    assert choose(torch.zeros(8, 512, 14, 14), s, torch.empty(1, 512, 512, 3, 3)) == "chunked"
    assert choose(torch.zeros(8, 512, 1, 1), s, torch.empty(1, 512, 512, 1, 1)) == "stacked"
    meta = torch.empty(8, 512, 14, 14, device="meta")  # another device: its values are not read
    assert choose(meta, torch.empty(8, 1, device="meta"), torch.empty(1, 512, 512, 3, 3, device="meta")) == "grouped"


# ------------------------------------------------- gradients of layers that depend on each other


def _twice(t: dict, strategy: str | None) -> torch.Tensor:
    """One layer called twice, so x of the second call depends on W, V and s; None: the formula by linearity."""
    compute = reference if strategy is None else lambda **given: hybrid_conv(**given, strategy=strategy)
    return compute(**{**t, "x": compute(**t, padding=1).tanh()}, padding=1)


def _covariates_from_x(t: dict, strategy: str | None) -> torch.Tensor:
    s = t["x"].flatten(1)[:, :2].tanh() + t["covariates"]
    compute = reference if strategy is None else lambda **given: hybrid_conv(**given, strategy=strategy)
    return compute(**{**t, "covariates": s})


@pytest.mark.parametrize("network", [_twice, _covariates_from_x])
def test_first_derivatives_that_may_be_differentiated_again_are_the_same(network, way: str) -> None:
    """With create_graph a path from one input of the layer to another must be counted once, not here and by the caller."""
    tensors = Case("twice", 2, n=5, k=2, c_in=4, c_out=4).tensors()
    names = list(tensors)
    expected = torch.autograd.grad(network(tensors, None).square().sum(), list(tensors.values()), create_graph=True)
    once = torch.autograd.grad(network(tensors, way).square().sum(), list(tensors.values()))
    again = torch.autograd.grad(network(tensors, way).square().sum(), list(tensors.values()), create_graph=True)
    for name, wanted, a, b in zip(names, expected, once, again, strict=True):
        torch.testing.assert_close(a, wanted, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
        torch.testing.assert_close(b, wanted, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}, again: {m}")
    penalties = [sum(g.square().sum() for g in gradients) for gradients in (again, expected)]
    second = [torch.autograd.grad(penalty, list(tensors.values())) for penalty in penalties]
    for name, got, wanted in zip(names, *second, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-6, msg=lambda m, name=name: f"second, {name}: {m}")


def test_the_same_at_the_size_where_auto_takes_it() -> None:
    """Two layers of 256 channels: d loss / d s with and without create_graph."""
    torch.manual_seed(0)
    x, s = torch.randn(8, 256, 9, 9), torch.randn(8, 1, requires_grad=True)
    w, v = torch.randn(2, 256, 256, 3, 3) * 0.02, torch.randn(2, 1, 256, 256, 3, 3) * 0.02
    assert choose(x, s, v[0]) == "chunked"
    loss = hybrid_conv(hybrid_conv(x, s, w[0], v[0], padding=1).tanh(), s, w[1], v[1], padding=1).square().sum()
    (once,) = torch.autograd.grad(loss, s, retain_graph=True)
    (again,) = torch.autograd.grad(loss, s, create_graph=True)
    torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-4 * float(once.abs().max()))


def test_many_gradients_at_once(way: str) -> None:
    """``is_grads_batched``, as torch.autograd.functional.jacobian(vectorize=True) asks for them: one by one the same."""
    tensors = Case("many", 2, n=3, k=2).tensors()
    leaves = list(tensors.values())
    y = run(Case("many", 2), tensors, way)
    dys = torch.randn(4, *y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    batched = torch.autograd.grad(y, leaves, dys, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(reference(**tensors), leaves, dy) for dy in dys]
    for i, found in enumerate(batched):
        torch.testing.assert_close(found, torch.stack([one[i] for one in expected]), rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------ precision and devices


def test_autocast_leaves_float64_alone(way: str) -> None:
    tensors = Case("double", 2, n=4).tensors()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = F.conv2d(tensors["x"], tensors["weight"])
        y = run(Case("double", 2), tensors, way)
        (gradient,) = torch.autograd.grad(y.square().sum(), tensors["weight"])
    assert y.dtype == plain.dtype == torch.float64
    torch.testing.assert_close(y, reference(**tensors), rtol=1e-10, atol=1e-10)
    (expected,) = torch.autograd.grad(reference(**tensors).square().sum(), tensors["weight"])
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_a_bfloat16_model_sums_over_its_blocks_in_float32(monkeypatch) -> None:
    """dW of 128 samples in blocks of four: as near to float64 as `grouped`, which sums all at once."""
    monkeypatch.setattr(sys.modules["fusionconv.strategies.chunked"], "CHUNK", 1)
    case = Case("bf16", 2, n=128, k=2, bias=False, covariate_bias=False)
    exact = {name: t for name, t in case.tensors(torch.bfloat16).items() if t is not None}
    doubles = {name: t.detach().double().requires_grad_() for name, t in exact.items()}
    y = reference(**doubles, bias=None, covariate_bias=None)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
    expected = torch.autograd.grad(y, [doubles["weight"], doubles["covariate_weight"]], dy.double())
    error = {}
    for strategy in ("grouped", "chunked", "tiled"):
        y = hybrid_conv(**exact, strategy=strategy)
        found = torch.autograd.grad(y, [exact["weight"], exact["covariate_weight"]], dy)
        error[strategy] = [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]
    for strategy in ("chunked", "tiled"):
        assert all(c < 1.3 * g for c, g in zip(error[strategy], error["grouped"], strict=True)), error


@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_shapes_on_meta(strategy: str) -> None:
    case = Case("meta", 2, n=4)
    tensors = {name: t.detach().to("meta") for name, t in case.tensors().items()}
    assert hybrid_conv(**tensors, strategy=strategy).shape == reference(**case.tensors()).shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_auto_does_not_stack_in_half_precision(dtype: torch.dtype) -> None:
    """A head where W and s V nearly cancel: what is left is known to the kernel's own precision."""
    torch.manual_seed(0)
    x, s = torch.randn(16, 64, 1, 1, dtype=dtype), torch.full((16, 1), 72.0, dtype=dtype)
    v = (torch.randn(1, 32, 64, 1, 1) / 8).to(dtype)
    w = (-72 * v[0].double() + 0.1 * torch.randn(32, 64, 1, 1)).to(dtype)
    assert choose(x, s, v) != "stacked"
    assert choose(x.float(), s.float(), v.float()) == "stacked"
    expected = reference(x.double(), s.double(), w.double(), v.double(), None, None)
    error = {
        name: float((hybrid_conv(x, s, w, v, strategy=name).double() - expected).norm() / expected.norm())
        for name in ("auto", "grouped", "stacked")
    }
    assert error["auto"] == error["grouped"] < error["stacked"] / 3


# ----------------------------------------------------------------- distinct where values cannot be read


def test_distinct_falls_back_where_values_cannot_be_read() -> None:
    """Compiled in one graph, exported, under vmap and on fake tensors: as `grouped`, for other covariates too."""
    t = {name: value.detach() for name, value in Case("read", 2, n=4, k=1).tensors().items()}
    others = {**t, "covariates": torch.tensor([[0.0], [1.0], [1.0], [0.0]], dtype=torch.float64)}

    class Net(torch.nn.Module):
        def forward(self, x, covariates, weight, covariate_weight, bias, covariate_bias):
            return hybrid_conv(x, covariates, weight, covariate_weight, bias, covariate_bias, strategy="distinct")

    torch._dynamo.reset()
    compiled = torch.compile(Net(), fullgraph=True, backend="aot_eager")
    exported = torch.export.export(Net(), tuple(t.values())).module()
    for function in (
        compiled,
        exported,
        torch.vmap(lambda *a: Net()(*(v[None] for v in a[:2]), *a[2:])[0], (0, 0, *[None] * 4)),
    ):
        for given in (t, others):
            torch.testing.assert_close(function(*given.values()), reference(**given), rtol=1e-10, atol=1e-10)
    with FakeTensorMode() as mode:
        fake = Net()(*(mode.from_tensor(value) for value in t.values()))
    assert fake.shape == reference(**t).shape
