"""What others set on modules, or copy of them: methods on objects, copies of parts, adapters, quantised weights."""

from __future__ import annotations

import copy
import functools
import gc
import types
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import fusionconv
from fusionconv.errors import CovariateError, FusionError, SurgeryError
from fusionconv.strategies import STRATEGIES
from fusionconv.surgery.recompute import CAN_RECOMPUTE


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.up(self.conv(x).relu()).mean((2, 3)))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8), torch.randn(4, 2)


def with_v(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_()
    return model


# ---------------------------------------------------------------- a method of the object's own


def a_closure(module: nn.Module) -> None:
    old = module.forward
    module.forward = lambda *a, **k: old(*a, **k)


def hook_like_accelerate(module: nn.Module) -> None:
    old = module.forward
    module._old_forward = old
    module.forward = functools.update_wrapper(
        functools.partial(lambda m, *a, **k: m._old_forward(*a, **k), module), old
    )


def another_forward(module: nn.Module) -> None:
    module.forward = types.MethodType(lambda self, *a: type(self).forward(self, *a), module)


def compiled(module: nn.Module) -> None:
    module.forward = torch.compile(module.forward, backend="eager")


PATCHES = [a_closure, hook_like_accelerate, another_forward, compiled]


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("where", ["conv", "up", "head", ""])
@pytest.mark.parametrize("method", ["hybrid", "film"])
def test_a_forward_of_its_own_is_refused(patch, where, method) -> None:
    model = Net()
    patch(model.get_submodule(where))
    before = [(type(m), set(vars(m))) for m in model.modules()]
    with pytest.raises(SurgeryError, match=r"has a forward of its own, set on the object.*remove_hook_from_module"):
        fusionconv.fuse_into(model, where or "conv", 2, method=method)
    assert [(type(m), set(vars(m))) for m in model.modules()] == before
    if where:
        assert fusionconv.list_convs(model)[0].refused is None or where == "conv"


def test_an_inner_step_of_its_own_is_refused() -> None:
    """The tiling trick of image generators: convolutions that wrap around."""
    model = Net()
    model.conv._conv_forward = types.MethodType(lambda self, x, w, b: nn.functional.conv2d(x, w, b), model.conv)
    with pytest.raises(SurgeryError, match="_conv_forward of its own"):
        fusionconv.fuse_into(model, "conv", 2)


@pytest.mark.parametrize("patch", [a_closure, hook_like_accelerate, another_forward])
def test_set_after_the_surgery_the_covariates_still_count_and_nothing_is_undone_half(patch) -> None:
    x, s = batch()
    model = with_v(fusionconv.fuse_into(Net(), ["conv", "head"], 2))
    expected = model(x, s)
    for where in ("conv", ""):
        patch(model.get_submodule(where))
    assert torch.equal(model(x, s), expected)
    kinds = [type(m) for m in model.modules()]
    for undo in (fusionconv.unfuse, lambda m: fusionconv.merge(m, s[0])):
        with pytest.raises(SurgeryError, match="forward of its own"):
            undo(model)
        assert [type(m) for m in model.modules()] == kinds
    for where in ("conv", ""):
        del model.get_submodule(where).forward
    merged = fusionconv.merge(copy.deepcopy(model), s[0])
    torch.testing.assert_close(merged(x), model(x, s[:1].expand(4, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("undo", [fusionconv.unfuse, lambda m: fusionconv.merge(m, torch.zeros(2))])
def test_its_own_method_bound_again(undo) -> None:
    """accelerate's unwrap_model leaves ``model.forward = MethodType(<the class's forward>, model)`` behind."""
    x, s = batch()
    for before_fusing in (True, False):
        model = Net()
        plain = model(x)
        if before_fusing:
            model.forward = types.MethodType(Net.forward, model)
            model.conv.forward = model.conv.forward  # the same of a layer
        with_v(fusionconv.fuse_into(model, "conv", 2))
        assert not torch.allclose(model(x, s), plain)
        if not before_fusing:
            for module in (model, model.conv):
                module.forward = types.MethodType(type(module).forward, module)
        undo(model)
        assert type(model) is Net
        torch.testing.assert_close(model(x), plain)


# ---------------------------------------------------------------- copies of parts


class Momentum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.teacher: nn.Module | None = None

    def forward(self, x):
        y = self.student(x)
        return y if self.teacher is None else y - self.teacher(x)


def a_teacher(model: Momentum) -> None:
    model.teacher = copy.deepcopy(model.student)


def replaced(model: Momentum) -> None:
    model.student = copy.deepcopy(model.student)


def from_elsewhere(model: Momentum) -> None:
    model.student[0] = fusionconv.fuse_into(Momentum(), "student.0", 2).student[0]


@pytest.mark.parametrize("change", [a_teacher, replaced, from_elsewhere])
def test_a_part_of_another_model_is_refused_before_anything_is_written(change, tmp_path) -> None:
    x, s = batch()
    model = fusionconv.fuse_into(Momentum(), "student.0", 2)
    change(model)
    with pytest.raises(CovariateError, match=r"belongs to no call.*teacher = copy\.deepcopy\(part\)"):
        model(x, s)
    before = [type(m) for m in model.modules()]
    for act in (
        lambda: fusionconv.save(model, tmp_path / "model"),
        lambda: fusionconv.unfuse(model),
        lambda: fusionconv.merge(model, s[0]),
    ):
        with pytest.raises(SurgeryError, match=r"belongs to no call of this model.*fuse the part itself"):
            act()
    assert not (tmp_path / "model").exists()
    assert [type(m) for m in model.modules()] == before


def test_the_way_that_the_error_names(tmp_path) -> None:
    """The part fused by itself and copied: two models, each with the covariates of its own call."""
    x, s = batch()
    student = with_v(fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "0", 2))
    teacher = copy.deepcopy(student)
    assert torch.equal(student(x, s), teacher(x, s))
    fusionconv.save(teacher, tmp_path / "teacher")
    fusionconv.unfuse(student)
    again, _ = fusionconv.load(tmp_path / "teacher", student)
    assert torch.equal(again(x, s), teacher(x, s))
    outer = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), "0", 2)
    outer.append(nn.Identity())
    outer[2] = teacher  # a fused model inside another one stays one of its own
    assert type(fusionconv.unfuse(outer)[0]) is nn.Conv2d
    assert isinstance(teacher[0], fusionconv.HybridConv2d)


# ---------------------------------------------------------------- adapters (PEFT's mechanism)


class Lora(nn.Module):
    """As peft.tuners.lora.Linear and Conv2d: a sum beside the layer, of two small layers of the same kind."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        kind = type(base_layer)
        if isinstance(base_layer, nn.Linear):
            small = [
                nn.Linear(base_layer.in_features, 2, bias=False),
                nn.Linear(2, base_layer.out_features, bias=False),
            ]
        else:
            args = (base_layer.kernel_size, base_layer.stride, base_layer.padding)
            small = [
                kind(base_layer.in_channels, 2, *args, bias=False),
                kind(2, base_layer.out_channels, 1, bias=False),
            ]
        self.lora_A, self.lora_B = nn.ModuleDict({"x": small[0]}), nn.ModuleDict({"x": small[1]})
        self.use_dora: dict[str, bool] = {}

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["x"](self.lora_A["x"](x))

    def merged(self) -> nn.Module:
        a, b = self.lora_A["x"].weight, self.lora_B["x"].weight
        with torch.no_grad():
            self.base_layer.weight += torch.einsum("or,ri...->oi...", b.flatten(1), a)
        return self.base_layer


class Scaled(nn.Module):  # as IA3
    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer

    def forward(self, x):
        return 2 * self.base_layer(x)


@pytest.mark.parametrize("layer", ["conv", "head"])
@pytest.mark.parametrize(
    "method", ["hybrid", "lowrank", "hyper", "film", "daft", "scale", "attention", "concat", "condconv"]
)
def test_lora_merges_to_the_same_or_is_refused(layer, method) -> None:
    if (method, layer) in (("concat", "conv"), ("condconv", "head")):
        pytest.skip("not a layer of this method")
    x, s = batch()
    options = {"ignore_covariates": True} if method == "condconv" else {}
    model = with_v(fusionconv.fuse_into(Net(), layer, 2, method=method, **options)).double()
    wrapped = Lora(model.get_submodule(layer)).double()
    assert not isinstance(wrapped.lora_A["x"], fusionconv.HybridConv2d)
    setattr(model, layer, wrapped)
    x, s = x.double(), s.double()
    if method in ("film", "daft", "scale", "attention"):
        with pytest.raises(SurgeryError, match=rf"'{layer}' \({method}\) is inside an adapter.*Lora"):
            model(x, s)
        with pytest.raises(SurgeryError, match="inside an adapter"):
            fusionconv.covariates(model, s)
        return
    before = model(x, s)
    setattr(model, layer, wrapped.merged())
    torch.testing.assert_close(model(x, s), before, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["dora", "scaled"])
def test_adapters_that_do_more_than_add_are_refused(kind) -> None:
    model = fusionconv.fuse_into(Net(), "head", 2)
    model.head = Scaled(model.head) if kind == "scaled" else Lora(model.head)
    if kind == "dora":
        model.head.use_dora["x"] = True
    with pytest.raises(SurgeryError, match="merged into the weight would give other numbers"):
        model(*batch())


def test_a_fused_class_called_as_a_constructor_gives_a_plain_layer() -> None:
    model = fusionconv.fuse_into(Net(), ["conv", "up", "head"], 2)
    assert type(type(model.conv)(3, 4, 3)) is nn.Conv2d
    assert type(type(model.up)(3, 4, kernel_size=3)) is nn.ConvTranspose2d
    assert type(type(model.head)(3, 4)) is nn.Linear


# ---------------------------------------------------------------- weights that are none


class Int8(torch.Tensor):
    """As torchao's quantised tensors: a class of its own, as a parameter."""


def test_quantised_is_not_called_sharded() -> None:
    model = fusionconv.fuse_into(Net(), "head", 2)
    quantised = torch.randn(2, 4).as_subclass(Int8).requires_grad_()
    model.head._parameters["weight"] = quantised
    for undo in (fusionconv.unfuse, lambda m: fusionconv.merge(m, torch.zeros(2))):
        with pytest.raises(SurgeryError, match=r"weight is a Int8 \(quantised") as error:
            undo(model)
        assert "sharded (" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear])
@pytest.mark.parametrize("method", ["hybrid", "film"])
def test_complex_weights_are_refused(kind, dtype, method) -> None:
    layer = kind(2, 2, dtype=dtype) if kind is nn.Linear else kind(2, 2, 3, dtype=dtype)
    with pytest.raises(SurgeryError, match=f"its weight is {dtype}.*real floating-point"):
        fusionconv.fuse_into(nn.Sequential(layer), "0", 1, method=method)
    hybrid = {nn.Conv2d: fusionconv.HybridConv2d, nn.Linear: fusionconv.HybridLinear}.get(kind)
    if hybrid:
        with pytest.raises(ValueError, match=f"real floating-point weight, got {dtype}"):
            hybrid.from_plain(layer, 1)


def test_made_complex_since() -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(2, 2, 1)), 0, 1).to(torch.complex64)
    with pytest.raises(ValueError, match=r"weight must be real and floating point, got torch\.complex64"):
        model(torch.randn(1, 2, 3, 3, dtype=torch.complex64), torch.ones(1, 1))


# ---------------------------------------------------------------- numbers of NumPy


@pytest.mark.parametrize("number", [np.int64, np.int32, np.int8])
def test_numbers_of_numpy(number, tmp_path) -> None:
    model = fusionconv.fuse_into(Net(), number(0), number(2), rank=number(1), covariate_bias=np.bool_(True))
    fusionconv.fuse_into(model, [number(-1)], number(2), method="film", hidden=number(3))
    assert type(model.fusion_owner.num_covariates) is type(model.conv.num_covariates) is int
    again, _ = fusionconv.load(fusionconv.save(model, tmp_path / "m"), Net())
    assert torch.equal(again(*batch()), model(*batch()))
    assert fusionconv.HybridConv2d(3, 4, 3, num_covariates=number(2)).num_covariates == 2


@pytest.mark.parametrize("number", [np.float64(2), np.bool_(True), np.int64(0), np.array([2]), 2.0, "2"])
def test_what_is_no_number_of_covariates(number) -> None:
    with pytest.raises(ValueError, match="num_covariates must be an integer of at least 1"):
        fusionconv.fuse_into(Net(), 0, number)


# ---------------------------------------------------------------- NaN of one's own making


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("layer", ["conv", "up", "head"])
def test_a_diverged_rank_map_is_named(bad, layer) -> None:
    model = fusionconv.fuse_into(Net(), layer, 2, rank=1)
    model.get_submodule(layer).covariate_map.data.fill_(bad)
    x, s = batch()
    with pytest.raises(
        FusionError, match=r"the covariates are finite, and covariate_map \(rank=1\).*diverged"
    ) as error:
        model(x, s)
    assert "imputed" not in str(error.value)
    s[1, 0] = float("nan")
    with pytest.raises(CovariateError, match="must be imputed"):
        model(x, s)


# ---------------------------------------------------------------- checkpointing under autotune


class Checkpointed(Net):
    def forward(self, x):
        x = checkpoint(lambda x: self.up(self.conv(x).relu()), x, use_reentrant=False)
        return self.head(x.mean((2, 3)))


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="needs torch >= 2.15")
@pytest.mark.parametrize("train", [True, False])
def test_autotune_of_a_checkpointed_network(train) -> None:
    model = fusionconv.fuse_into(Checkpointed(), ["conv", "up", "head"], 2).train(train)
    x, s = batch()
    tuned = fusionconv.autotune(model, (x.requires_grad_(), s), repeats=1)
    assert [t.name for t in tuned] == ["conv", "up", "head"]
    assert all(set(t.seconds) == set(STRATEGIES) for t in tuned)
    model(x, s).sum().backward()  # and a training step goes on


# ---------------------------------------------------------------- nothing outlives its call


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("by_hand", [True, False])
def test_the_covariates_of_a_call_are_freed_without_the_garbage_collector(backward, by_hand) -> None:
    model = fusionconv.fuse_into(Net(), ["conv", "head"], 2)
    encoder = nn.Linear(5, 2)
    gc.collect()
    gc.disable()
    try:
        seen = []
        for _ in range(3):
            x, s = torch.randn(4, 3, 8, 8), encoder(torch.randn(4, 5))
            seen += [weakref.ref(s)]
            if by_hand:
                with fusionconv.covariates(model, s) as frame:
                    y = nn.Sequential.forward(nn.Sequential(model.conv, nn.ReLU()), x)
                seen += [weakref.ref(frame)]
                del frame
            else:
                y = model(x, s)
            if backward:
                y.sum().backward()
            del x, s, y
        assert [ref() for ref in seen] == [None] * len(seen)
    finally:
        gc.enable()
