"""NaN in covariates: looked for once a call, by whichever way a layer gets them, and never let through.

A look is a number that Python reads from a tensor: on a GPU each is a wait. They are counted below Python.
"""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.errors import CovariateError, SurgeryError
from fusionconv.functional import hybrid_conv
from fusionconv.layers import METHODS
from fusionconv.strategies.running import can_read
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.by_hand import same

ROWS, K = 4, 2
OPTIONS = {"condconv": {"ignore_covariates": True}}


class Reads(TorchDispatchMode):
    """Counts the numbers that are read from tensors; ``fail`` is raised by the operation of that name instead."""

    def __init__(self, fail: tuple[str, Exception] | None = None) -> None:
        super().__init__()
        self.count, self.fail = 0, fail

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
        if self.fail and func.overloadpacket.__name__ == self.fail[0]:
            raise self.fail[1]
        return func(*args, **(kwargs or {}))


class Net(nn.Module):
    """Three layers on the way, one of which may run under checkpointing."""

    def __init__(self, recompute: bool | None = None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.recompute = recompute  # None, or use_reentrant

    def features(self, x):
        x = self.a(x)
        return self.b(x) if self.recompute is None else checkpoint(self.b, x, use_reentrant=self.recompute)

    def forward(self, x):
        return self.c(self.features(x).mean((2, 3)))


def net(recompute: bool | None = None, **options) -> Net:
    torch.manual_seed(0)
    return fusionconv.fuse_into(Net(recompute), ["a", "b", "c"], K, init="kaiming", **options)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(ROWS, 3, 8, 8), torch.randn(ROWS, K)


def broken(rows=(2,), value=float("nan")) -> torch.Tensor:
    s = batch()[1]
    s[list(rows), 0] = value
    return s


def in_a_block(model, x, s):
    with fusionconv.covariates(model, s):
        return model(x)


def a_part_in_a_block(model, x, s):
    with fusionconv.covariates(model, s):
        return model.features(x)


def layers_in_a_block(model, x, s):
    with fusionconv.covariates(model, s):
        return model.b(model.a(x))


def its_own_in_a_block_of_others(model, x, s):
    with fusionconv.covariates(model, torch.zeros(ROWS, K)):
        return model(x, s)


WAYS = {
    "call": lambda model, x, s: model(x, s),
    "keyword": lambda model, x, s: model(x, covariates=s),
    "functional_call": lambda model, x, s: functional_call(model, dict(model.named_parameters()), (x, s)),
    "copy": lambda model, x, s: copy.deepcopy(model)(x, s),
    "DataParallel": lambda model, x, s: nn.DataParallel(model)(x, s),
    "no_grad": lambda model, x, s: torch.no_grad()(model)(x, s),
    "inference_mode": lambda model, x, s: torch.inference_mode()(model)(x, s),
    "expanded": lambda model, x, s: model(x, s.repeat(1, 2)[:, :K]),
    "float64": lambda model, x, s: model(x, s.double()),
    "autocast": lambda model, x, s: torch.autocast("cpu", torch.bfloat16)(model)(x, s),
    "block": in_a_block,
    "part": a_part_in_a_block,
    "layers": layers_in_a_block,
    "block in a block": its_own_in_a_block_of_others,
}


@pytest.mark.parametrize("way", WAYS)
def test_looked_at_once_a_call(way) -> None:
    (x, s), model = batch(), net()
    WAYS[way](model, x, s)  # torch 2.8 reads something of its own the first time
    with Reads() as reads:
        WAYS[way](model, x, s)
    assert reads.count == (2 if way == "block in a block" else 1)  # each of the two that were given
    with pytest.raises(CovariateError, match=r"2 value\(s\), first in row\(s\) 1, 3; missing values must be imputed"):
        WAYS[way](model, x, broken((1, 3)))
    with pytest.raises(CovariateError, match=r"1 value\(s\), first in row\(s\) 2;"):
        WAYS[way](model, x, broken(value=float("-inf")))
    off = net(check_finite=False)
    with Reads() as reads:
        WAYS[way](off, x, s)
        y = WAYS[way](off, x, broken())
    assert reads.count == 0
    assert y[2].isnan().all()
    assert y[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("check_finite", [True, False])
def test_every_method(method, check_finite) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    names = ["3"] if method == "concat" else ["0", "1"]
    model = fusionconv.fuse_into(model, names, K, method, check_finite=check_finite, **OPTIONS.get(method, {}))
    x, s = batch()
    with Reads() as reads:
        model(x, s).sum().backward()
    assert reads.count == int(check_finite)
    for bad in (s[:1], s[:3], torch.cat([s, s])):
        with pytest.raises(CovariateError, match=f"the batch has 4, the covariates have {len(bad)}"):
            model(x, bad)
    if check_finite:
        with pytest.raises(CovariateError, match=r"row\(s\) 2;"):
            model(x, broken())


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="older torch raises")
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("check_finite", [True, False])
def test_layers_that_run_again_in_backward_do_not_look_again(reentrant, check_finite) -> None:
    (x, s), model = batch(), net(reentrant, check_finite=check_finite)
    with Reads() as reads:
        model(x.requires_grad_(), s).square().sum().backward()
    assert reads.count == int(check_finite)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_is_called_by_hand_looks_itself(method) -> None:
    plain = nn.Linear(4, 2) if method == "concat" else nn.Conv1d(4, 2, 3)
    layer = METHODS[method].VARIANTS[type(plain)].from_plain(plain, K, **OPTIONS.get(method, {}))
    x = torch.randn(ROWS, 4) if method == "concat" else torch.randn(ROWS, 4, 8)
    with Reads() as reads:
        layer(x, batch()[1])
    assert reads.count == 1
    with pytest.raises(CovariateError, match=r"row\(s\) 2;"):
        layer(x, broken())


def test_values_that_change_after_they_were_looked_at() -> None:
    """In place, inside the block, before the call, or by the network itself."""
    (x, s), model = batch(), net().eval()
    with fusionconv.covariates(model, s):
        s[1, 1] = float("nan")
        for call in (model, model.features, model.a):
            with pytest.raises(CovariateError, match=r"row\(s\) 1;"):
                call(x)
        s[1, 1] = 0.5
        expected = model(x)
    same(model(x, s), expected)
    block = fusionconv.covariates(model, s)
    s[3] = float("inf")
    with block, pytest.raises(CovariateError, match=r"2 value\(s\), first in row\(s\) 3;"):
        model.a(x)
    model, s = net().eval(), batch()[1]
    model.a.register_forward_hook(lambda *_: (s.fill_(float("nan")), None)[1])
    with pytest.raises(CovariateError, match=r"row\(s\) 0, 1, 2, 3;"):
        model(x, s)


@pytest.mark.parametrize(("given", "dtype"), [(1e5, torch.float16), (-7e4, torch.float16), (1e39, torch.float32)])
@pytest.mark.parametrize("way", ["call", "block", "part", "layers"])
def test_values_that_a_layer_cannot_hold(given, dtype, way) -> None:
    """Finite ones, which would be infinite in the dtype of the weights."""
    x, s = batch()
    s = s.double()
    model = net().to(dtype)
    with Reads() as reads:
        WAYS[way](model, x.to(dtype), s)
    assert reads.count == 1
    s[2, 0] = given
    end = "65504" if dtype == torch.float16 else r"3\.40282e\+38"
    words = rf"within {dtype}, got up to {re.escape(f'{abs(given):g}')} in row\(s\) 2, where it ends at {end}; standard"
    with pytest.raises(CovariateError, match=words):
        WAYS[way](model, x.to(dtype), s)


@pytest.mark.parametrize("rank", [None, 1])
def test_values_that_a_layer_called_by_hand_cannot_hold(rank) -> None:
    layer = fusionconv.HybridConv2d(3, 4, 3, K, rank=rank).half()
    x, s = batch()
    s[[1, 3], 0] = torch.tensor([-7e4, 65_510.0])  # the second is rounded to 65504
    with Reads() as reads:
        layer(x.half(), batch()[1])
    assert reads.count == (1 if rank is None else 2)  # what the map has made is looked at too
    with pytest.raises(CovariateError, match=r"got up to 70000 in row\(s\) 1, where it ends at 65504; standard"):
        layer(x.half(), s)
    s[1] = 0
    assert layer(x.half(), s).isfinite().all()
    s[2, 0] = float("inf")
    with pytest.raises(CovariateError, match=r"got NaN or infinity in 1 value\(s\), first in row\(s\) 2;"):
        layer(x.half(), s)


def test_the_setting_is_the_models() -> None:
    model = fusionconv.fuse_into(Net(), "a", K, check_finite=False)
    with pytest.raises(SurgeryError, match="check_finite=False already"):
        fusionconv.fuse_into(model, "b", K)
    assert type(model.b) is nn.Conv2d
    fusionconv.fuse_into(model, "b", K, check_finite=False)
    assert model(batch()[0], broken())[2].isnan().all()
    for again in (copy.deepcopy(model), fusionconv.fuse_into(fusionconv.unfuse(model), "a", K, check_finite=False)):
        assert again(batch()[0], broken())[2].isnan().all()


def test_load_takes_the_setting(tmp_path) -> None:
    path = fusionconv.save(net(check_finite=False), tmp_path / "model")
    with pytest.raises(CovariateError, match=r"row\(s\) 2;"):
        fusionconv.load(path, Net())[0](batch()[0], broken())
    off, _ = fusionconv.load(path, Net(), check_finite=False)
    assert off(batch()[0], broken())[2].isnan().all()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), RuntimeError("device-side assert")])
@pytest.mark.parametrize("operation", ["abs", "amax", "_local_scalar_dense"])
def test_an_error_while_looking_is_no_answer(error, operation) -> None:
    """It was taken for "cannot be read": a batch with NaN went through on a GPU without memory."""
    (x, s), model = batch(), net()
    layer = fusionconv.HybridConv2d(3, 4, 3, K)
    for call in (lambda: model(x, s), lambda: layer(x, s), lambda: fusionconv.covariates(model, s)):
        with Reads((operation, error)), pytest.raises(type(error), match=str(error)):
            call()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), RuntimeError("device-side assert")])
def test_an_error_while_looking_at_a_rank_map_or_windows(error) -> None:
    from fusionconv.surgery.window_guard import _rows_are_equal

    layer = fusionconv.HybridConv2d(3, 4, 3, K, rank=1)
    with Reads(("all", error)), pytest.raises(type(error), match=str(error)):
        layer(*batch())
    with Reads(("all", error)), pytest.raises(type(error), match=str(error)):
        _rows_are_equal(batch()[1])


class OnACard(torch.Tensor):
    """A tensor that says that it is on a GPU."""

    is_cuda = True


def test_nothing_is_read_while_a_graph_is_captured(monkeypatch) -> None:
    """A read would end the capture of a CUDA graph: in the finite check, in `distinct` and in the guard of windows."""
    from fusionconv.strategies.distinct import distinct
    from fusionconv.strategies.geometry import Geometry
    from fusionconv.surgery.window_guard import _rows_are_equal

    x, s = batch()
    tensors = (x, s, torch.randn(4, 3, 3, 3), torch.randn(K, 4, 3, 3, 3), None, None, Geometry(2))
    expected = distinct(*tensors)
    captured = s.as_subclass(OnACard)
    for capturing in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda capturing=capturing: capturing)
        assert can_read(captured) is not capturing
        assert _rows_are_equal(captured) is capturing
        unique = Reads(("unique_dim", RuntimeError("operation not permitted when stream is capturing")))
        with unique:
            if capturing:
                same(distinct(tensors[0], captured, *tensors[2:]).as_subclass(torch.Tensor), expected, 1e-5)
            else:
                with pytest.raises(RuntimeError, match="not permitted"):
                    distinct(tensors[0], captured, *tensors[2:])
        with Reads() as reads:
            hybrid_conv(*tensors[:1], captured, *tensors[2:4], check_finite=True)
        assert reads.count == int(not capturing)


def test_what_cannot_be_read() -> None:
    from torch._subclasses import FakeTensorMode

    s = batch()[1]
    assert can_read(s)
    assert can_read(s.requires_grad_())
    assert not can_read(s.to("meta"))
    with FakeTensorMode() as mode:
        assert not can_read(torch.randn(2, 3, device="cuda"))
    assert not can_read(mode.from_tensor(s))
    seen = []
    torch.func.vmap(lambda row: seen.append(can_read(row)) or row)(s)
    torch.func.grad(lambda t: seen.append(can_read(t)) or t.sum())(s)
    torch.func.vmap(torch.func.grad(lambda t: seen.append(can_read(t)) or t.sum()))(s)
    assert seen == [False, True, False]
    x, model = batch()[0], net()
    with pytest.raises(CovariateError, match=r"row\(s\) 2;"):
        torch.func.grad(lambda t: model(x, t).sum())(broken())


def test_fake_cuda_tensors_go_through() -> None:
    """Shapes on a card that is not there."""
    from torch._subclasses import FakeTensorMode

    model = net()
    with FakeTensorMode():
        parameters = {name: torch.empty(p.shape, device="cuda") for name, p in model.named_parameters()}
        x, s = torch.randn(ROWS, 3, 8, 8, device="cuda"), torch.randn(ROWS, K, device="cuda")
        try:
            y = functional_call(model, parameters, (x, s))
        except RuntimeError as error:
            if "CUDA driver" not in str(error):
                raise
            pytest.skip("this torch asks a fake card for its driver, as 2.8 does")
        assert (y.shape, y.device.type) == ((ROWS, 2), "cuda")
        with pytest.raises(CovariateError, match="the batch has 4, the covariates have 3"):
            functional_call(model, parameters, (x, s[:3]))
        with pytest.raises(CovariateError, match="on the device of the input, cuda:0, got cpu"):
            functional_call(model, parameters, (x, torch.randn(ROWS, K)))
