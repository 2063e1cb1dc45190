"""hybrid_conv: every strategy against the formula by linearity, in float64, values and all gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

from fusionconv.errors import CovariateError, CovariateTypeError
from fusionconv.functional import hybrid_conv, hybrid_conv_transpose, hybrid_linear
from fusionconv.strategies import STRATEGIES
from tests.helpers.hybrid_cases import CASES, Case, reference

NAMES = [*STRATEGIES, "auto"]


def run(case: Case, strategy: str, tensors: dict) -> torch.Tensor:
    function = hybrid_conv_transpose if case.transposed else hybrid_conv
    return function(**tensors, **case.options, strategy=strategy)


def gradients(y: torch.Tensor, tensors: dict, seed: int = 1) -> dict[str, torch.Tensor]:
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)
    leaves = {name: t for name, t in tensors.items() if t is not None and t.requires_grad}
    return dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), cotangent), strict=True))


def assert_agrees(case: Case, strategy: str, tensors: dict, expected_tensors: dict | None = None) -> None:
    expected_tensors = expected_tensors or tensors
    y = run(case, strategy, tensors)
    expected = reference(**expected_tensors, transposed=case.transposed, **case.options)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    wanted = gradients(expected, expected_tensors)
    for name, gradient in gradients(y, tensors).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-10, atol=1e-10, msg=lambda m, n=name: f"d{n}: {m}")


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_values_and_gradients(case: Case, strategy: str) -> None:
    assert_agrees(case, strategy, case.tensors())


@pytest.mark.parametrize("strategy", NAMES)
def test_equal_rows_that_take_no_gradient(strategy: str) -> None:
    """Repeated 0/1 rows, as sex or scanner give them: the case that `distinct` merges."""
    case = Case("binary", 2, n=9, k=2, options={"padding": 1, "groups": 2})
    tensors = case.tensors()
    tensors["covariates"] = torch.tensor([[0, 1], [1, 1], [0, 1], [0, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1.0]])
    tensors["covariates"] = tensors["covariates"].double()
    assert_agrees(case, strategy, tensors)
    tensors["covariates"] = torch.ones(9, 2, dtype=torch.float64)
    assert_agrees(case, strategy, tensors)


@pytest.mark.parametrize("strategy", NAMES)
def test_equal_rows_have_gradients_of_their_own(strategy: str) -> None:
    """d/ds_i belongs to sample i alone even where s_i = s_k; a merged row would give one sample the sum."""
    case = Case("binary", 2, n=4, k=1)
    tensors = case.tensors()
    tensors["covariates"] = torch.ones(4, 1, dtype=torch.float64, requires_grad=True)
    assert_agrees(case, strategy, tensors)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("layout", ["strided", "channels_last", "expanded"])
def test_memory_layouts(strategy: str, layout: str) -> None:
    case = Case(layout, 2, size=8)
    tensors = case.tensors()
    x = tensors["x"].detach()
    if layout == "channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        x = torch.stack([x, x + 1], dim=-1)[..., 0]
    else:
        x = x[:1].expand(3, -1, -1, -1)
        tensors["covariate_weight"] = tensors["covariate_weight"].detach().transpose(-1, -2).requires_grad_()
        tensors["covariates"] = torch.randn(2, 3, dtype=torch.float64).T.requires_grad_()
    assert not x.is_contiguous()
    tensors["x"] = x.requires_grad_()
    assert_agrees(case, strategy, tensors)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("transposed", [False, True])
def test_empty_batch(strategy: str, transposed: bool) -> None:
    """No sample: an empty output of the right shape, and zero, not missing, gradients (DDP waits for them)."""
    case = Case("empty", 2, n=0, transposed=transposed)
    tensors = case.tensors()
    y = run(case, strategy, tensors)
    assert y.shape == (0, 6, *((9, 9) if transposed else (5, 5)))
    y.sum().backward()
    for name, t in tensors.items():
        assert t.grad is not None, name
        assert t.grad.shape == t.shape
        assert not t.grad.any()


SMALL = [
    Case("1d", 1, n=2, k=2, c_in=2, c_out=2, kernel=2, size=4),
    Case("2d", 2, n=2, k=2, c_in=2, c_out=2, kernel=2, size=3, options={"groups": 2}),
    Case("3d", 3, n=2, k=1, c_in=1, c_out=2, kernel=2, size=3),
    Case("2d-transposed", 2, n=2, k=1, c_in=2, c_out=2, kernel=2, size=2, transposed=True, options={"stride": 2}),
]


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("case", SMALL, ids=lambda c: c.name)
def test_gradcheck_and_gradgradcheck(case: Case, strategy: str) -> None:
    tensors = case.tensors()

    def f(*leaves: torch.Tensor) -> torch.Tensor:
        return run(case, strategy, dict(zip(tensors, leaves, strict=True)))

    assert torch.autograd.gradcheck(f, tuple(tensors.values()))
    assert torch.autograd.gradgradcheck(f, tuple(tensors.values()))


@pytest.mark.parametrize("strategy", NAMES)
def test_forward_mode(strategy: str) -> None:
    """jvp along the covariates, equal rows included: the derivative of y_i is sum_j t_ij (x_i * V_j)."""
    case = Case("jvp", 2, n=4, k=1, covariate_bias=False)
    t = {k: v.detach() if v is not None else None for k, v in case.tensors().items()}
    s, tangent = torch.ones(4, 1, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)[:, None]
    _, along = torch.func.jvp(lambda s_: run(case, strategy, {**t, "covariates": s_}), (s,), (tangent,))
    expected = tangent[:, :, None, None] * F.conv2d(t["x"], t["covariate_weight"][0])
    torch.testing.assert_close(along, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_as_plain_conv(strategy: str, dtype: torch.dtype) -> None:
    """Same output dtype as nn.Conv2d, error of the size of nn.Conv2d's, float32 gradients of the parameters."""
    case = Case("amp", 2, n=4, k=2, c_in=16, size=10)
    tensors = case.tensors(torch.float32)
    exact = reference(**{k: v.double() for k, v in tensors.items()})
    with torch.autocast("cpu", dtype=dtype):
        y = run(case, strategy, tensors)
        # one plain convolution per sample with the exact kernel: what rounding alone costs
        kernels = tensors["weight"] + torch.einsum("nj,j...->n...", tensors["covariates"], tensors["covariate_weight"])
        plain = torch.cat([F.conv2d(x[None], w) for x, w in zip(tensors["x"], kernels.float(), strict=True)])
    assert y.dtype == plain.dtype == dtype
    scale = exact.abs().mean()
    assert (y.double() - exact).abs().mean() / scale < 8 * torch.finfo(dtype).eps
    y.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in tensors.values())


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("autocast", [False, True])
def test_images_of_another_precision_than_the_weights_are_refused_as_by_torch(strategy: str, autocast: bool) -> None:
    tensors = Case("dtype", 2, n=3, k=2).tensors(torch.float32)
    tensors |= {"x": tensors["x"].detach().double(), "bias": None, "covariate_bias": None}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        with pytest.raises(RuntimeError, match=r"(?i)double"):
            F.conv2d(tensors["x"], tensors["weight"])
        with pytest.raises(RuntimeError, match=r"(?i)double"):
            run(Case("dtype", 2, n=3, k=2), strategy, tensors)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_changed_in_place_behind_the_layer(case: Case, strategy: str) -> None:
    """nn.ReLU(inplace=True), or y += 1: as with a plain convolution, where the output is no view of anything."""
    tensors = case.tensors()
    if case.dims == 2:
        tensors["x"] = tensors["x"].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    y = run(case, strategy, tensors).mul_(3).relu_()
    expected = (3 * reference(**tensors, transposed=case.transposed, **case.options)).relu()
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    wanted = gradients(expected, tensors)
    for name, gradient in gradients(y, tensors).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-10, atol=1e-10)
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():  # a frozen network, and a parameter behind it
        y = run(case, strategy, tensors)
        plain = y.clone()
    y.mul_(factor).sum().backward()
    torch.testing.assert_close(factor.grad, plain.sum())


@pytest.mark.parametrize("strategy", NAMES)
def test_linear_changed_in_place(strategy: str) -> None:
    x, s, w = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 5, 4), (3, 2), (6, 4)))
    v = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([F.linear(x[i], w + s[i, 0] * v[0] + s[i, 1] * v[1]) for i in range(3)]).relu()
    y = hybrid_linear(x, s, w, v, strategy=strategy).relu_()
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    for got, wanted in zip(torch.autograd.grad(y.sum(), v), torch.autograd.grad(expected.sum(), v), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        y = hybrid_linear(x, s, w, v, strategy=strategy)
    y.mul_(factor).relu().sum().backward()
    torch.testing.assert_close(factor.grad, expected.sum().detach())


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("autocast", [False, True])
def test_many_gradients_at_once(strategy: str, autocast: bool) -> None:
    """jacobian(vectorize=True) (is_grads_batched=True), and vmap, give what one gradient after the other gives."""
    case = Case("jacobian", 2, n=3, k=2, c_in=2, c_out=2, size=4)
    tensors = case.tensors(torch.float32)

    def f(*leaves: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return run(case, strategy, dict(zip(tensors, leaves, strict=True))).float().sum(3)

    leaves = tuple(tensors.values())
    at_once = torch.autograd.functional.jacobian(f, leaves, vectorize=True)
    one_by_one = torch.autograd.functional.jacobian(f, leaves)
    for got, wanted in zip(at_once, one_by_one, strict=True):
        assert got.shape == wanted.shape
        assert (got - wanted).abs().max() <= (2e-2 if autocast else 1e-5) * wanted.abs().max()
        assert wanted.any()
    y = f(*leaves)
    of_each = torch.eye(y.numel()).reshape(-1, *y.shape)
    at_once = torch.func.vmap(lambda dy: torch.autograd.grad(y, leaves, dy, retain_graph=True))(of_each)
    for got, wanted in zip(at_once, one_by_one, strict=True):
        error = (got.reshape(wanted.shape) - wanted).abs().max()
        assert error <= (2e-2 if autocast else 1e-5) * wanted.abs().max()


ROUNDS_EACH_TERM = pytest.mark.xfail(strict=True, reason="forms no per-sample kernel: see docs/limits.md, Numbers")


@pytest.mark.parametrize(
    "strategy", [pytest.param(n, marks=ROUNDS_EACH_TERM if n in ("stacked", "scaled") else ()) for n in NAMES]
)
def test_covariates_keep_their_precision_under_autocast(strategy: str) -> None:
    """A kernel that nearly cancels (73.4 V - 73.375 V): rounding the covariate to bfloat16 would lose all of it."""
    v = torch.ones(1, 1, 1, 1, 1)
    s, w = torch.tensor([[73.4]]), torch.full((1, 1, 1, 1), -73.375)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = hybrid_conv(torch.ones(1, 1, 1, 1), s, w, v, strategy=strategy)
    assert y.item() == pytest.approx(0.025, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_covariates_are_cast_to_the_weights(dtype: torch.dtype) -> None:
    case = Case("dtype", 2)
    tensors = {k: v.detach() for k, v in case.tensors(dtype).items()}
    tensors["covariates"] = tensors["covariates"].double()  # as numpy and pandas give them
    assert run(case, "auto", tensors).dtype == dtype


@pytest.mark.parametrize("strategy", [n for n in NAMES if n != "loop"])
def test_compiles_in_one_graph_and_once_for_all_batches(strategy: str) -> None:
    case = Case("compile", 2)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda **t: run(case, strategy, t), fullgraph=True, backend=counter)
    for n in (3, 5, 8, 13):
        tensors = Case("compile", 2, n=n).tensors()
        torch.testing.assert_close(compiled(**tensors), reference(**tensors), rtol=1e-10, atol=1e-10)
    assert counter.frame_count <= 2  # the first shape, then one graph for every batch size


@pytest.mark.parametrize("strategy", ["scaled", "stacked", "auto"])
def test_exports_with_a_free_batch_size(strategy: str) -> None:
    class Wrapper(torch.nn.Module):
        def forward(self, x, s, w, v):
            return hybrid_conv(x, s, w, v, strategy=strategy)

    t = {
        k: v.detach() for k, v in Case("export", 2, bias=False, covariate_bias=False).tensors().items() if v is not None
    }
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Wrapper(), tuple(t.values()), dynamic_shapes=({0: batch}, {0: batch}, None, None), strict=False
    )
    x, s = torch.randn(7, 4, 7, 7, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)
    y = program.module()(x, s, t["weight"], t["covariate_weight"])
    expected = reference(x, s, t["weight"], t["covariate_weight"], None, None)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


def test_vmap_over_models() -> None:
    """Under vmap values cannot be read, so NaN is not looked for, and nothing breaks."""
    w, v = torch.randn(3, 2, 1, 3, 3), torch.randn(3, 1, 2, 1, 3, 3)
    x, s = torch.randn(4, 1, 6, 6), torch.randn(4, 1)
    y = torch.func.vmap(lambda w_, v_: hybrid_conv(x, s, w_, v_))(w, v)
    for i in range(3):
        torch.testing.assert_close(y[i], hybrid_conv(x, s, w[i], v[i]))


# ---------------------------------------------------------------- bad input


def inputs(n: int = 4, k: int = 2) -> dict[str, torch.Tensor]:
    return {
        "x": torch.randn(n, 3, 8, 8),
        "covariates": torch.randn(n, k),
        "weight": torch.randn(5, 3, 3, 3),
        "covariate_weight": torch.randn(k, 5, 3, 3, 3),
    }


@pytest.mark.parametrize(
    ("covariates", "error", "words"),
    [
        (torch.randn(4, 3), CovariateError, r"\(N, 2\).*\(4, 3\)"),
        (torch.randn(1, 2), CovariateError, "batch has 4, the covariates have 1.*repeat"),
        (torch.randn(5, 2), CovariateError, "batch has 4, the covariates have 5"),
        (torch.randn(4), CovariateError, r"s\[:, None\]"),
        (torch.randn(4, 2, 1), CovariateError, r"\(4, 2, 1\)"),
        (torch.zeros(4, 2, dtype=torch.long), CovariateTypeError, r"int64.*\.float\(\)"),
        (torch.zeros(4, 2, dtype=torch.bool), CovariateTypeError, "bool"),
        (torch.zeros(4, 2, dtype=torch.complex64), CovariateTypeError, "complex"),
        (
            torch.ones(4, 2).to_sparse(),
            CovariateTypeError,
            r"dense.*got one of layout torch.sparse_coo; use .*to_dense",
        ),
        (torch.ones(4, 2).to_sparse_csr(), CovariateTypeError, r"layout torch.sparse_csr; use covariates.to_dense\(\)"),
        (torch.ones(4, 2).to_sparse_csc(), CovariateTypeError, r"layout torch.sparse_csc; use covariates.to_dense\(\)"),
        (torch.ones(4, 2).to_sparse_bsr((2, 2)), CovariateTypeError, "layout torch.sparse_bsr"),
        (torch.ones(4, 2).to_mkldnn(), CovariateTypeError, "layout torch._mkldnn"),
        (torch.nested.nested_tensor([torch.ones(2)] * 4), CovariateTypeError, "got a nested one; use torch.stack"),
        ([[0.0, 1.0]] * 4, CovariateTypeError, "list.*as_tensor"),
        (None, CovariateTypeError, "NoneType"),
        (
            torch.tensor([[0, 1], [0, float("nan")], [1, 1], [float("inf"), 0]]),
            CovariateError,
            r"2 value.*row\(s\) 1, 3",
        ),
        (torch.zeros(4, 2, device="meta"), CovariateError, "device of the input, cpu, got meta"),
    ],
)
def test_bad_covariates(covariates, error, words: str) -> None:
    with pytest.raises(error, match=words):
        hybrid_conv(**{**inputs(), "covariates": covariates})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": torch.randn(4, 3, 8)}, r"2 spatial dimension.*\(4, 3, 8\)"),
        ({"x": torch.randn(3, 8, 8)}, r"x\[None\]"),
        ({"x": torch.randn(4, 2, 8, 8)}, "3 channels.*got 2"),
        ({"covariate_weight": torch.randn(0, 5, 3, 3, 3)}, "K >= 1"),
        ({"covariate_weight": torch.randn(2, 5, 3, 3, 5)}, "covariate_weight must have shape"),
        ({"weight": torch.randn(5, 3)}, "3, 4 or 5 dimensions"),
        ({"bias": torch.randn(3)}, r"bias must have shape \(5,\)"),
        ({"covariate_bias": torch.randn(1, 5)}, r"covariate_bias must have shape \(2, 5\)"),
        ({"strategy": "fastest"}, "loop.*got 'fastest'"),
    ],
)
def test_bad_shapes_and_options(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hybrid_conv(**{**inputs(), **change})
