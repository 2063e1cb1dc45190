"""What is computed on a GPU, seen without one: fake CUDA tensors know shapes, strides and operations, not values."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import fusionconv
from fusionconv.functional import hybrid_conv, hybrid_conv_transpose, hybrid_linear
from fusionconv.strategies import STRATEGIES, Geometry, choose
from fusionconv.strategies.kernels import BLOCK, per_sample, rounded_per_sample
from tests.helpers.hybrid_cases import Case, reference


class Seen(TorchDispatchMode):
    """The convolutions that run (channels of the input, groups, whether channels_last), and the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            x, groups = args[0], args[8]
            last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
            self.convolutions.append((x.shape[1], groups, last))
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and not func.is_view:
            self.largest = max(self.largest, found.numel())
        return found


@contextmanager
def bfloat16_on_a_card():
    """`torch.autocast` for CUDA, which without a card warns and does nothing."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def on_card(case: Case, strategy: str = "auto") -> tuple[str, list]:
    """The choice of auto, and the convolutions that run."""
    function = hybrid_conv_transpose if case.transposed else hybrid_conv
    shapes = {name: None if t is None else t.shape for name, t in case.tensors().items()}
    with FakeTensorMode(), Seen() as seen:
        tensors = {n: None if s is None else torch.randn(s, device="cuda") for n, s in shapes.items()}
        y = function(**tensors, **case.options, strategy=strategy)
        assert y.device.type == "cuda"
        options = {key: case.options[key] for key in ("groups",) if key in case.options}
        geometry = Geometry(case.dims, transposed=case.transposed, **options)
        chosen = choose(tensors["x"], tensors["covariates"], tensors["covariate_weight"], geometry)
    return chosen, seen.convolutions


CHOICES = [
    ("scaled", {"c_in": 1, "c_out": 32, "k": 3}),  # an X-ray
    ("scaled", {"c_in": 1, "c_out": 32, "k": 3, "dims": 3}),  # an MRI
    ("scaled", {"c_in": 1, "c_out": 32, "k": 63}),
    ("grouped", {"c_in": 1, "c_out": 32, "k": 64}),  # 65 copies of the image
    ("scaled", {"c_in": 3, "c_out": 64, "k": 3}),  # a photograph
    ("scaled", {"c_in": 12, "c_out": 64, "k": 3}),
    ("scaled", {"c_in": 8, "c_out": 64, "k": 3}),  # a multiple of 8, and not 16
    ("grouped", {"c_in": 16, "c_out": 16, "k": 3}),
    ("grouped", {"c_in": 64, "c_out": 128, "k": 200}),
    ("stacked", {"c_in": 64, "c_out": 2, "k": 3}),  # a head
    ("grouped", {"c_in": 64, "c_out": 20, "k": 8}),
    ("grouped", {"c_in": 32, "c_out": 32, "k": 3, "options": {"groups": 32}}),  # depthwise before and after
    ("grouped", {"c_in": 64, "c_out": 64, "k": 3, "options": {"groups": 4}}),
    ("scaled", {"c_in": 64, "c_out": 64, "k": 3, "options": {"groups": 16}}),
    ("scaled", {"c_in": 1, "c_out": 32, "k": 3, "transposed": True}),
    ("stacked", {"c_in": 64, "c_out": 1, "k": 3, "transposed": True}),
    ("grouped", {"c_in": 32, "c_out": 64, "k": 3, "transposed": True}),
    ("grouped", {"c_in": 1, "c_out": 32, "k": 3, "n": 1}),  # one sample: one ordinary convolution
    ("stacked", {"c_in": 64, "c_out": 64, "k": 3, "kernel": 1, "size": 1}),  # squeeze and excitation
]


@pytest.mark.parametrize(
    ("strategy", "case"), CHOICES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v))
)
def test_the_choice(strategy: str, case: dict) -> None:
    case = Case("card", **{"dims": 2, "n": 4, **case})
    assert on_card(case)[0] == strategy


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("c_in", [1, 3])
def test_no_image_becomes_a_depthwise_convolution(dims: int, c_in: int) -> None:
    """torch takes its own kernel, not cuDNN's, where groups = input channels; `grouped` does that to one channel."""
    case = Case("image", dims, n=4, k=3, c_in=c_in, c_out=16)
    assert all(groups == 1 for _, groups, _ in on_card(case)[1])
    if c_in == 1:
        assert any(groups == channels == 4 for channels, groups, _ in on_card(case, "grouped")[1])


def test_a_wide_linear_layer_under_autocast_forms_no_matrices() -> None:
    """VGG's first: N of them are 13 GB."""
    n, k, inputs, outputs = 32, 3, 25088, 4096
    with FakeTensorMode(), Seen() as seen, bfloat16_on_a_card():
        x, s = torch.randn(n, inputs, device="cuda"), torch.randn(n, k, device="cuda")
        w, v = torch.randn(outputs, inputs, device="cuda"), torch.randn(k, outputs, inputs, device="cuda")
        y = hybrid_linear(x, s, w, v)
        assert (y.shape, y.dtype) == ((n, outputs), torch.bfloat16)
    assert seen.largest <= k * inputs * outputs


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_stacked_and_scaled_do_not_round_the_covariates(dims: int) -> None:
    """1000.5 is 1000 in bfloat16, and what is left of 1000.5 V - 1000 V was 0."""
    s, v = torch.tensor([[1000.5, -1000.0]]), torch.ones(2, 1, 1, *(1,) * dims)
    x, w = torch.ones(1, 1, *(1,) * dims), torch.zeros(1, 1, *(1,) * dims)
    with torch.autocast("cpu", torch.bfloat16):
        y = hybrid_conv(x, s, w, v, strategy="stacked")
    assert (y.dtype, y.item()) == (torch.bfloat16, 0.5)
    x = torch.randn(64, 1, *(1,) * dims, generator=torch.Generator().manual_seed(0)).bfloat16()
    s = torch.full((64, 1), 1 + 2.0**-8)  # half way between two numbers of bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        y = hybrid_conv(x, s, w, v[:1], strategy="scaled")
    assert torch.equal(y, (x.float() * s[0]).bfloat16())
    assert not torch.equal(y, x * s[0].bfloat16())


@pytest.mark.parametrize("strategy", ["scaled", "stacked"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_channels_last_goes_in_and_comes_out(strategy: str, dtype) -> None:
    """No copy into another layout and back: every convolution sees channels_last, as the plain one would."""
    case = Case("last", 2, n=4, k=3, c_in=8, c_out=16, size=8)
    tensors = {name: t.detach() for name, t in case.tensors(torch.float32).items()}
    tensors["x"] = tensors["x"].contiguous(memory_format=torch.channels_last)
    expected = reference(**{name: t.double() for name, t in tensors.items()})
    with Seen() as seen, torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        y = hybrid_conv(**tensors, strategy=strategy)
    assert seen.convolutions
    assert all(last for _, _, last in seen.convolutions)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y.double(), expected, rtol=0.1 if dtype else 1e-4, atol=0.2 if dtype else 1e-4)


# ---------------------------------------------------------------- kernels in the dtype that is computed in


def leaves(dtype: torch.dtype = torch.float64, n: int = 11, shape: tuple[int, ...] = (5, 3, 2)) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [shape, (n, 2), (2, *shape)]
    return [torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize("block", [1, 60, 10**9])
def test_formed_a_few_at_a_time(block: int, monkeypatch) -> None:
    """In float64, where nothing is rounded: values and all gradients, first and second, of the plain sum."""
    monkeypatch.setattr("fusionconv.strategies.kernels.BLOCK", block)
    tensors = leaves()
    results = []
    for form in (per_sample, lambda *t: rounded_per_sample(*t, torch.float64)):
        kernels = form(*tensors)
        first = torch.autograd.grad((kernels.sin() * kernels.detach()).sum(), tensors, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), tensors)
        results.append([kernels, *first, *second])
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    few = leaves(n=5, shape=(2, 1, 1))
    assert torch.autograd.gradcheck(lambda *t: rounded_per_sample(*t, torch.float64), few)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounded_once(dtype: torch.dtype) -> None:
    """As the sum in float32, then cast, to the last bit; gradients in float32."""
    base, covariates, basis = leaves(torch.float32)
    formed = rounded_per_sample(base, covariates, basis, dtype)
    wanted = per_sample(base, covariates, basis)
    assert formed.dtype == dtype
    assert torch.equal(formed, wanted.to(dtype))
    got = torch.autograd.grad(formed.sum(), (base, covariates, basis))
    for gradient, exact in zip(got, torch.autograd.grad(wanted.sum(), (base, covariates, basis)), strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("needed", range(8))
def test_only_the_gradients_that_are_wanted(needed: int) -> None:
    tensors = leaves()
    for i, tensor in enumerate(tensors):
        tensor.requires_grad_(bool(needed & 1 << i))
    formed, wanted = rounded_per_sample(*tensors, torch.float64), per_sample(*tensors)
    assert formed.requires_grad is bool(needed)
    some = [t for t in tensors if t.requires_grad]
    for result in zip(*(torch.autograd.grad(k.square().sum(), some) for k in (formed, wanted) if some), strict=True):
        torch.testing.assert_close(*result)


def test_n_kernels_in_full_precision_are_not_held() -> None:
    n, k, channels = 16, 2, 512
    numbers = channels * channels * 9
    with FakeTensorMode(), Seen() as seen, bfloat16_on_a_card():
        x, s = torch.randn(n, channels, 14, 14, device="cuda"), torch.randn(n, k, device="cuda")
        w, v = (
            torch.randn(channels, channels, 3, 3, device="cuda"),
            torch.randn(k, channels, channels, 3, 3, device="cuda"),
        )

        class Large(TorchDispatchMode):
            found = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                y = func(*args, **(kwargs or {}))
                if isinstance(y, torch.Tensor) and y.dtype == torch.float32 and not func.is_view:
                    self.found = max(self.found, y.numel())
                return y

        with Large() as large:
            assert hybrid_conv(x, s, w, v, padding=1, strategy="grouped").dtype == torch.bfloat16
    assert seen.largest == n * numbers
    assert large.found <= max(BLOCK, 4 * numbers)


@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_a_network_on_a_card_that_is_not_there(strategy: str) -> None:
    """Every strategy in bfloat16, channels_last; torch runs no backward pass without a card."""
    if strategy == "distinct":
        pytest.skip("reads values; fake tensors have none, so that it is grouped")
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(32, 2))
    model = fusionconv.fuse_into(model, ["0", "2", "5"], 3, strategy=strategy)
    with FakeTensorMode():
        parameters = {n: torch.empty(p.shape, device="cuda") for n, p in model.named_parameters()}
        x = torch.randn(4, 1, 12, 12, device="cuda").contiguous(memory_format=torch.channels_last)
        with bfloat16_on_a_card():
            y = torch.func.functional_call(model, parameters, (x, torch.randn(4, 3, device="cuda")))
        assert (tuple(y.shape), y.dtype, y.device.type) == ((4, 2), torch.bfloat16, "cuda")
