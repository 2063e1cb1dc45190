"""Every strategy on a card, in 1-D to 3-D, against the sum of plain convolutions on a CPU in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fusionconv.functional import hybrid_conv, hybrid_conv_transpose, hybrid_linear
from fusionconv.strategies import STRATEGIES
from tests.gpu.device import DEVICE, exact_float32, on_the_device, there  # noqa: F401  # a fixture
from tests.helpers.hybrid_cases import CASES, Case, reference

pytestmark = on_the_device
NAMES = [*STRATEGIES, "auto"]


def run(case: Case, strategy: str, tensors: dict) -> torch.Tensor:
    function = hybrid_conv_transpose if case.transposed else hybrid_conv
    return function(**tensors, **case.options, strategy=strategy)


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_values_and_gradients(case: Case, strategy: str) -> None:
    """In float64, to 1e-9: s and x too, first derivatives, and of one of them the second."""
    tensors = case.tensors()
    on_device = dict(zip(tensors, there(*tensors.values()), strict=True))
    leaves = [name for name, t in tensors.items() if t is not None]
    found = []
    for y, given in ((run(case, strategy, on_device), on_device),
                     (reference(**tensors, transposed=case.transposed, **case.options), tensors)):  # fmt: skip
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        wanted = [given[name] for name in leaves]
        first = torch.autograd.grad(y, wanted, cotangent.to(y.device), create_graph=True)
        (second,) = torch.autograd.grad(first[0].square().sum(), given["weight"])
        found.append([y, *first, second])
    for name, got, expected in zip(["y", *leaves, "second"], *found, strict=True):
        assert got.device.type == DEVICE
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("strategy", NAMES)
def test_equal_rows_that_take_no_gradient(strategy: str) -> None:
    """What `distinct` merges."""
    tensors = Case("binary", 2, n=9, k=2, options={"padding": 1}).tensors()
    tensors["covariates"] = torch.tensor(
        [[0, 1], [1, 1], [0, 1], [0, 0], [1, 1], [1, 0], [0, 0], [0, 1], [1, 1]]
    ).double()
    y = hybrid_conv(*there(*tensors.values()), padding=1, strategy=strategy)
    torch.testing.assert_close(y.cpu(), reference(**tensors, padding=1), rtol=1e-9, atol=1e-9)


IMAGES = [
    Case("photograph", 2, n=8, k=3, c_in=3, c_out=32, size=32, options={"padding": 1}),
    Case("X-ray", 2, n=8, k=3, c_in=1, c_out=32, size=32, kernel=7, options={"padding": 3, "stride": 2}),
    Case("MRI", 3, n=2, k=3, c_in=1, c_out=16, size=16, options={"padding": 1}),
    Case("deep", 2, n=8, k=3, c_in=64, c_out=64, size=14, options={"padding": 1}),
    Case("deep 3-D", 3, n=2, k=3, c_in=32, c_out=32, size=8, options={"padding": 1}),
    Case("1x1", 2, n=8, k=3, c_in=64, c_out=16, size=14, kernel=1),
    Case("depthwise", 2, n=8, k=3, c_in=32, c_out=32, size=14, options={"groups": 32, "padding": 1}),
]


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("case", IMAGES, ids=lambda c: c.name)
def test_precision_and_layout(case: Case, dtype, last: bool, strategy: str) -> None:
    """As nn.Conv under autocast: its dtype, its layout, float32 gradients, an error of a few roundings."""
    tensors = case.tensors(torch.float32)
    exact = {name: t.detach().double().requires_grad_() for name, t in tensors.items()}
    expected = reference(**exact, **case.options)
    on_device = dict(zip(tensors, there(*tensors.values()), strict=True))
    if last:
        layout = torch.channels_last if case.dims == 2 else torch.channels_last_3d
        on_device["x"] = on_device["x"].detach().contiguous(memory_format=layout).requires_grad_()
    with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
        y = run(case, strategy, on_device)
    assert y.dtype == dtype
    if last and dtype == torch.float32 and case.c_in > 1:  # one channel has both layouts
        assert y.is_contiguous(memory_format=layout)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(expected, list(exact.values()), cotangent.double())
    found = torch.autograd.grad(y, list(on_device.values()), cotangent.to(DEVICE, dtype))
    tolerance = 2e-4 if dtype == torch.float32 else 16 * torch.finfo(dtype).eps
    for name, got, truth in zip(["y", *tensors], [y, *found], [expected, *wanted], strict=True):
        assert got.dtype == (dtype if name == "y" else torch.float32)
        error = (got.detach().double().cpu() - truth.detach()).norm() / truth.detach().norm()
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda d: str(d)[6:])
def test_a_linear_layer(dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x, s, w, v = (torch.randn(*shape, generator=g) for shape in ((8, 64), (8, 3), (32, 64), (3, 32, 64)))
    with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
        y = hybrid_linear(*there(x, s, w, v))
    kernels = w + torch.einsum("nk,koi->noi", s, v)
    expected = torch.stack([F.linear(row, kernel) for row, kernel in zip(x, kernels, strict=True)])
    assert (y.double().cpu() - expected).norm() / expected.norm() < (1e-5 if dtype == torch.float32 else 0.02)
