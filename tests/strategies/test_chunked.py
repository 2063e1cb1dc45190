"""chunked in several chunks: against the formula by linearity in float64; what it saves; what auto makes of it."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from fusionconv.functional import hybrid_conv, hybrid_conv_transpose
from fusionconv.strategies.auto import choose
from tests.helpers.hybrid_cases import CASES, Case, reference


@pytest.fixture(params=[1, 250, 1000], ids=["one-sample", "few", "some"])
def small_chunks(request, monkeypatch):
    """The kernels of these cases have up to a few hundred numbers: chunks of one sample, of one or two, of several."""
    monkeypatch.setattr(sys.modules["fusionconv.strategies.chunked"], "CHUNK", request.param)


def run(case: Case, tensors: dict) -> torch.Tensor:
    function = hybrid_conv_transpose if case.transposed else hybrid_conv
    return function(**tensors, **case.options, strategy="chunked")


@pytest.mark.parametrize("case", [*CASES, Case("more", 2, n=11, k=3)], ids=lambda c: c.name)
def test_values_and_gradients(case: Case, small_chunks: None) -> None:
    tensors = case.tensors()
    y, expected = run(case, tensors), reference(**tensors, transposed=case.transposed, **case.options)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    leaves = [t for t in tensors.values() if t is not None]
    for got, wanted in zip(torch.autograd.grad(y, leaves, dy), torch.autograd.grad(expected, leaves, dy), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", ["x", "covariates", "weight", "covariate_weight", "bias", "covariate_bias"])
def test_one_leaf_frozen(frozen: str, small_chunks: None) -> None:
    """What needs no gradient gets none, and the others keep theirs."""
    case = Case("frozen", 2, n=5, k=2)
    tensors = case.tensors()
    tensors[frozen] = tensors[frozen].detach()
    y, expected = run(case, tensors), reference(**tensors)
    leaves = [t for t in tensors.values() if t.requires_grad]
    assert len(leaves) == 5
    for got, wanted in zip(
        torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(expected.square().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


def test_gradgradcheck(small_chunks: None) -> None:
    case = Case("2d", 2, n=3, k=2, c_in=2, c_out=2, kernel=2, size=3, options={"groups": 2})
    tensors = case.tensors()

    def f(*leaves: torch.Tensor) -> torch.Tensor:
        return run(case, dict(zip(tensors, leaves, strict=True)))

    assert torch.autograd.gradcheck(f, tuple(tensors.values()))
    assert torch.autograd.gradgradcheck(f, tuple(tensors.values()))


def test_no_kernel_per_sample_is_saved(small_chunks: None) -> None:
    """For the backward pass: x, s, W, V and the biases, and nothing that grows with the batch but x and s."""
    case = Case("saved", 2, n=16, k=2)
    tensors = case.tensors()
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        y = run(case, tensors)
    assert sorted(kept) == sorted(t.shape for t in tensors.values())
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        hybrid_conv(**tensors, strategy="grouped")
    assert any(shape[0] >= 16 * 6 for shape in kept)  # so that the test above can fail: grouped keeps N kernels
    y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_autocast(dtype: torch.dtype, small_chunks: None) -> None:
    """As the plain convolution of each sample under autocast, with its kernel formed in float32 and rounded once."""
    case = Case("autocast", 2, n=4, k=2)
    tensors = case.tensors(torch.float32)
    tensors["covariates"] = (50 + 20 * tensors["covariates"]).detach()
    with torch.autocast("cpu", dtype=dtype):
        y = run(case, tensors)
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


def test_another_dtype_is_an_error_as_in_the_plain_layer(small_chunks: None) -> None:
    tensors = Case("dtype", 2, n=4).tensors(torch.float32)
    with pytest.raises(RuntimeError, match="type"):
        F.conv2d(tensors["x"].double(), tensors["weight"])
    with pytest.raises(RuntimeError, match="type"):
        run(Case("dtype", 2), {**tensors, "x": tensors["x"].double()})


def test_torch_func_and_compile_still_work(small_chunks: None) -> None:
    case = Case("func", 2, n=3, k=2)
    t = {name: value.detach() for name, value in case.tensors().items()}
    gradient = torch.func.grad(lambda s: run(case, {**t, "covariates": s}).square().sum())(t["covariates"])
    s = t["covariates"].clone().requires_grad_()
    reference(**{**t, "covariates": s}).square().sum().backward()
    torch.testing.assert_close(gradient, s.grad, rtol=1e-10, atol=1e-10)
    per_sample = torch.vmap(lambda x, s: run(case, {**t, "x": x[None], "covariates": s[None]})[0])
    torch.testing.assert_close(per_sample(t["x"], t["covariates"]), reference(**t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", ["grouped", "chunked", "auto"])
def test_channels_last_stays(strategy: str, small_chunks: None) -> None:
    tensors = Case("last", 2, n=4, size=8).tensors()
    tensors["x"] = tensors["x"].detach().contiguous(memory_format=torch.channels_last)
    y = hybrid_conv(**tensors, strategy=strategy)
    plain = F.conv2d(tensors["x"], tensors["weight"])
    assert y.stride() == plain.stride()


def _case(n: int, channels: int, values: str, size: int = 14) -> str:
    x, v = torch.zeros(n, channels, size, size), torch.empty(1, channels, channels, 3, 3)
    s = torch.arange(float(n))[:, None] if values == "all differ" else torch.arange(n)[:, None] % 2.0
    return choose(x, s, v)


def test_auto_on_a_cpu() -> None:
    assert _case(8, 64, "all differ") == "grouped"  # 8 kernels of 37 thousand numbers
    assert _case(8, 512, "all differ") == "chunked"  # 8 of 2.4 million
    assert _case(8, 512, "binary") == "distinct"
    assert _case(1, 512, "all differ") == "grouped"
    assert _case(8, 512, "all differ", size=8) == "stacked"  # one kernel would be used on 64 positions only
    assert _case(8, 512, "all differ", size=9) == "chunked"
    assert _case(3, 512, "binary") == "chunked"  # two of three differ: nothing to share
    s = torch.ones(8, 1, requires_grad=True)  # equal, but each with a gradient of its own
    assert choose(torch.zeros(8, 512, 14, 14), s, torch.empty(1, 512, 512, 3, 3)) == "chunked"
    assert choose(torch.zeros(8, 512, 1, 1), s, torch.empty(1, 512, 512, 1, 1)) == "stacked"
    meta = torch.empty(8, 512, 14, 14, device="meta")  # another device: its values are not read
    assert choose(meta, torch.empty(8, 1, device="meta"), torch.empty(1, 512, 512, 3, 3, device="meta")) == "grouped"
