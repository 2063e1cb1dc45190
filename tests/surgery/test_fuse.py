"""fuse_into, list_convs, unfuse: what changes in a network, what does not, and what is refused."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, CovariateTypeError, SurgeryError
from tests.helpers.networks import Body, data, fused_body, small_net, with_covariates_that_matter


def hybrid_by_hand(model: nn.Sequential, plain: nn.Sequential, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The fused `small_net` without the library: a copy of the plain network for each sample, kernels written in."""
    rows = []
    for i in range(len(x)):
        twin = copy.deepcopy(plain)
        for name, layer in model.named_modules():
            if hasattr(layer, "covariate_weight"):
                with torch.no_grad():
                    for j in range(s.shape[1]):
                        twin.get_submodule(name).weight += s[i, j] * layer.covariate_weight[j]
        rows.append(twin(x[i : i + 1]))
    return torch.cat(rows)


@pytest.mark.parametrize("layer_idx", [0, 1, -1, "3", [0, -1], [2, "0", 1], lambda name, m: m.in_channels == 6])
def test_each_sample_gets_the_kernel_of_its_own_covariates(layer_idx) -> None:
    plain = small_net().double().eval()
    model = fusionconv.fuse_into(copy.deepcopy(plain), layer_idx, num_covariates=2)
    x, s = data(0)
    torch.testing.assert_close(model(x, s), plain(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_()
    y = model(x, s)
    torch.testing.assert_close(y, hybrid_by_hand(model, plain, x, s), rtol=1e-10, atol=1e-10)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(x[order], s[order]), y[order], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(model(x, s[order]), y)


def test_which_layers_an_index_means() -> None:
    assert [c.name for c in fusionconv.list_convs(small_net())] == ["0", "3", "5"]
    for layer_idx, names in [(0, ["0"]), (-1, ["5"]), ([2, 0], ["0", "5"]), ("3", ["3"]), ([1, "3", -2], ["3"])]:
        model = fusionconv.fuse_into(small_net(), layer_idx, 1)
        assert [c.name for c in fusionconv.list_convs(model) if c.fused] == names


def test_nothing_else_changes() -> None:
    model = small_net()
    seen = []
    model[0].register_forward_hook(lambda *a: seen.append(1))
    before = {name: (id(m), type(m)) for name, m in model.named_modules()}
    parameters = dict(model.named_parameters())
    keys, text = list(model.state_dict()), repr(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model[0].weight.requires_grad_(False)

    same = fusionconv.fuse_into(model, [0, -1], num_covariates=2)
    assert same is model
    assert isinstance(model, nn.Sequential)
    assert all(dict(model.named_parameters())[name] is p for name, p in parameters.items())
    assert not model[0].weight.requires_grad
    assert model[0].covariate_weight.requires_grad
    old = model.load_state_dict(dict.fromkeys([]), strict=False)  # a checkpoint without anything
    assert {"0.covariate_weight", "5.covariate_weight"} <= set(old.missing_keys)
    x, s = torch.randn(4, 3, 8, 8), torch.randn(4, 2)
    before_step = model[5].weight.clone()
    model(x, s).sum().backward()
    optimizer.step()
    assert not torch.equal(model[5].weight, before_step)
    assert seen == [1]

    assert fusionconv.unfuse(model) is model
    assert {name: (id(m), type(m)) for name, m in model.named_modules()} == before
    assert list(model.state_dict()) == keys
    assert repr(model) == text
    assert not [k for m in model.modules() for k in m.__dict__ if "fusion" in k or "covariate" in k]
    model(x)
    assert seen == [1, 1]
    with pytest.raises(SurgeryError, match="expected a model that fuse_into has fused"):
        fusionconv.unfuse(model)


def test_old_checkpoints_lack_only_the_new_keys() -> None:
    old = small_net().state_dict()
    result = fusionconv.fuse_into(small_net(), 1, 2, covariate_bias=True, rank=1).load_state_dict(old, strict=False)
    assert result.unexpected_keys == []
    assert sorted(result.missing_keys) == ["3.covariate_bias", "3.covariate_map", "3.covariate_weight"]


def test_fuse_again_in_a_later_call() -> None:
    model = fusionconv.fuse_into(small_net(), 0, 2)
    kind = type(model)
    fusionconv.fuse_into(model, 1, 2)
    assert type(model) is kind
    assert model(torch.randn(2, 3, 8, 8), torch.randn(2, 2)).shape == (2, 4)
    assert [c.fused for c in fusionconv.list_convs(model)] == [True, True, False]
    assert type(fusionconv.unfuse(model)[3]) is nn.Conv2d


def test_a_layer_under_two_names_and_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    model = fusionconv.fuse_into(Twice().double(), "b", 2)
    assert len(fusionconv.list_convs(model)) == 1
    model.a.covariate_weight.data.normal_()
    x, s = data(1)
    kernels = model.a.weight + torch.einsum("nk,k...->n...", s, model.a.covariate_weight)
    for i in range(4):
        once = torch.nn.functional.conv2d(x[i : i + 1], kernels[i], model.a.bias, padding=1)
        twice = torch.nn.functional.conv2d(once, kernels[i], model.a.bias, padding=1)
        torch.testing.assert_close(model(x, s)[i : i + 1], twice, rtol=1e-10, atol=1e-10)


def test_the_layer_as_the_root() -> None:
    conv = nn.Conv2d(3, 4, 3)
    x, s = torch.randn(2, 3, 8, 8), torch.randn(2, 1)
    before = conv(x)
    assert fusionconv.fuse_into(conv, 0, 1) is conv
    torch.testing.assert_close(conv(x, s), before)
    assert torch.equal(pickle.loads(pickle.dumps(conv))(x, s), conv(x, s))
    assert type(fusionconv.unfuse(conv)) is nn.Conv2d


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_every_kind_of_convolution(conv) -> None:
    model = nn.Sequential(conv(2, 3, 3), nn.ReLU())
    x = torch.randn(2, 2, *(6,) * (model[0].weight.ndim - 2))
    before = model(x)
    fusionconv.fuse_into(model, 0, 1)
    torch.testing.assert_close(model(x, torch.randn(2, 1)), before)


# ---------------------------------------------------------------- the signature of the root


def test_forward_signatures() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x, scale=2.0, *extra, flag=False, **more):
            """Of the base."""
            return self.conv(x) * scale, extra, flag, more

    model = fusionconv.fuse_into(Optional(), 0, 1)
    assert str(inspect.signature(model.forward)) == "(x, covariates=None, scale=2.0, *extra, flag=False, **more)"
    assert model.forward.__doc__ == "Of the base."
    x, s = torch.randn(2, 3, 8, 8), torch.zeros(2, 1)
    y, extra, flag, more = model(x, s, 3.0, "e", flag=True, other=1)
    torch.testing.assert_close(y, 3 * torch.nn.functional.conv2d(x, model.conv.weight, model.conv.bias))
    assert (extra, flag, more) == (("e",), True, {"other": 1})
    assert torch.equal(model(x, covariates=s)[0], model(x=x, covariates=s, scale=2.0)[0])

    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, *images):
            return [self.conv(x) for x in images]

    model = fusionconv.fuse_into(Several(), 0, 1)
    assert str(inspect.signature(model.forward)) == "(*images, covariates=None)"
    assert len(model(x, x, covariates=s)) == 2


def test_a_forward_that_takes_covariates_itself() -> None:
    """A late concat and a hybrid layer in one network: both get the same vector."""

    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 8)
            self.head = nn.Linear(5, 1)

        def forward(self, x, covariates):
            return self.head(torch.cat([self.conv(x).flatten(1), covariates], 1))

    plain = Late()
    x, s = torch.randn(2, 3, 8, 8), torch.randn(2, 1)
    before = plain(x, s)
    model = fusionconv.fuse_into(plain, 0, 1)
    assert str(inspect.signature(model.forward)) == "(x, covariates)"
    torch.testing.assert_close(model(x, s), before)


def decorated(forward):
    """Without functools.wraps: all that can be told of the arguments is (*args, **kwargs)."""

    def wrapper(*args, **kwargs):
        return forward(*args, **kwargs)

    return wrapper


def decorated_self(forward):
    return lambda module, *args, **kwargs: forward(module, *args, **kwargs)


@pytest.mark.parametrize("decorator", [decorated, decorated_self])
def test_a_decorated_forward_takes_covariates_by_name(decorator) -> None:
    """Nothing says where its own arguments end, so that a second positional one may be a mask as well."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        @decorator
        def forward(self, x, scale=1.0):
            return self.conv(x) * scale

    plain = Net()
    x, s = torch.randn(2, 3, 8, 8), torch.randn(2, 1)
    before = plain(x, 3.0)
    model = with_covariates_that_matter(fusionconv.fuse_into(copy.deepcopy(plain), 0, 1))
    torch.testing.assert_close(model(x, 3.0, covariates=0 * s), before)
    expected = before + 3 * s[:, :, None, None] * torch.nn.functional.conv2d(x, model.conv.covariate_weight[0])
    for call in (
        lambda: model(x, 3.0, covariates=s),
        lambda: model(x, scale=3.0, covariates=s),
        lambda: copy.deepcopy(model)(x=x, covariates=s, scale=3.0),
        lambda: torch.compile(model, backend="eager", fullgraph=True)(x, 3.0, covariates=s),
    ):
        torch.testing.assert_close(call(), expected, rtol=1e-4, atol=1e-5)
    with fusionconv.covariates(model, s):
        torch.testing.assert_close(model(x, 3.0), expected, rtol=1e-4, atol=1e-5)
    for call in (lambda: model(x), lambda: model(x, s), lambda: model(x, 3.0), lambda: model.conv(x)):
        with pytest.raises(CovariateError, match=r"by name, model\(images, covariates=s\), of shape \(N, 1\)"):
            call()
    torch.testing.assert_close(fusionconv.unfuse(model)(x, 3.0), before)


def test_the_error_says_how_this_model_takes_them() -> None:
    class ByName(nn.Sequential):
        def forward(self, *, x):
            return super().forward(x)

    x = torch.randn(2, 3, 8, 8)
    layers = [nn.Conv2d(3, 4, 3)]
    for model, words in (
        (fusionconv.fuse_into(ByName(*layers), 0, 1), r"call: by name, model\(images, covariates=s\), of shape"),
        (fusionconv.fuse_into(small_net(), 0, 1), r"call: model\(images, covariates\), or covariates=\.\.\., of shape"),
    ):
        with pytest.raises(CovariateError, match=words):
            model(x=x) if isinstance(model, ByName) else model(x)
        with pytest.raises(CovariateError, match=words):
            copy.deepcopy(model)[0](x)


class Without(nn.Sequential):
    """A class that can be built without arguments; timm and torchvision write ``self.__class__()``."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Conv2d(3, width, 3))

    def twin(self) -> nn.Module:
        twin = self.__class__()
        twin.load_state_dict(self.state_dict(), strict=False)
        return twin


def test_another_of_its_class_is_of_the_original_class() -> None:
    """With arguments or without; a replica by torch, which is made without __init__, stays a fused one."""
    model = with_covariates_that_matter(fusionconv.fuse_into(Without(), 0, 1))
    x, s = torch.randn(2, 3, 8, 8), torch.randn(2, 1)
    assert inspect.signature(type(model)) == inspect.signature(Without)
    for twin in (type(model)(), type(model)(4), type(model)(width=4), model.twin()):
        assert type(twin) is Without
        assert type(twin[0]) is nn.Conv2d
        assert twin(x).shape == (2, 4, 6, 6)
        assert type(copy.deepcopy(twin)) is Without
        assert fusionconv.fuse_into(twin, 0, 1)(x, s).shape == (2, 4, 6, 6)
    torch.testing.assert_close(model.twin()(x), model(x, 0 * s))
    replica = model._replicate_for_data_parallel()
    assert type(replica) is type(model)
    assert torch.equal(replica(x, s), model(x, s))


class Refuses(nn.Sequential):
    def __init_subclass__(cls, **kwargs) -> None:
        raise TypeError("final: no subclasses, please")


class Final(type):
    def __new__(cls, name, bases, namespace):
        if any(isinstance(base, Final) for base in bases):
            raise RuntimeError(f"type {bases[0].__name__} is final")
        return super().__new__(cls, name, bases, namespace)


class OfMetaclass(nn.Sequential, metaclass=Final):
    pass


class WantsAnOption(nn.Sequential):
    def __init_subclass__(cls, *, option) -> None:
        pass


class Frozen(nn.Sequential):
    def __setattr__(self, name, value) -> None:
        if name == "__class__":
            raise AttributeError("the class of this model is fixed")
        super().__setattr__(name, value)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Refuses, SurgeryError, r"Refuses: expected a class that can have.*final: no subclasses.*Sequential\(model\)"),
        (OfMetaclass, SurgeryError, r"RuntimeError: type OfMetaclass is final; .*Sequential\(model\)"),
        (WantsAnOption, SurgeryError, r"option.*Sequential\(model\)"),
        (Frozen, AttributeError, "is fixed"),
    ],
)
def test_a_root_that_refuses_another_class_stays_as_it_was(kind, error, words) -> None:
    model = kind(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    x = torch.randn(2, 3, 8, 8)
    before, attributes, y = list(model.state_dict()), set(vars(model)), model(x)
    with pytest.raises(error, match=words):
        fusionconv.fuse_into(model, [0, 1], 2)
    assert type(model) is kind
    assert {type(layer) for layer in model} == {nn.Conv2d}
    assert (list(model.state_dict()), set(vars(model))) == (before, attributes)
    assert not [k for layer in model for k in vars(layer) if "fusion" in k or "covariate" in k]
    assert torch.equal(model(x), y)
    inside = fusionconv.fuse_into(nn.Sequential(model), "0.1", 2)  # what the error says
    torch.testing.assert_close(inside(x, torch.randn(2, 2)), y)


@pytest.mark.parametrize("layer", [0, "0"])
def test_a_failure_of_the_root_is_undone(layer, monkeypatch) -> None:
    """Also where the root is the layer, which has another class by then."""
    model = nn.Conv2d(3, 4, 3) if layer == 0 else small_net()
    before = type(model), list(model.state_dict()), set(vars(model))

    def fails(base):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusionconv.surgery.fuse.fused_class", fails)
    with pytest.raises(KeyboardInterrupt):
        fusionconv.fuse_into(model, layer, 2)
    assert (type(model), list(model.state_dict()), set(vars(model))) == before


def test_a_forward_patched_between_two_surgeries() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.conv(x)

    x, s = torch.randn(2, 3, 8, 8), torch.zeros(2, 1)
    fusionconv.fuse_into(Net(), 0, 1)
    Net.forward = lambda self, x: 2 * self.conv(x)
    model = fusionconv.fuse_into(Net(), 0, 1)
    torch.testing.assert_close(model(x, s), 2 * torch.nn.functional.conv2d(x, model.conv.weight, model.conv.bias))


def test_parametrized_since() -> None:
    """Parametrizations change classes: nothing is unfused half, nothing is fused twice, and undone it all works."""
    zero = torch.nn.utils.parametrize
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(3, 4, 3)), 0, 1)
    zero.register_parametrization(model[0], "weight", nn.Identity())
    with pytest.raises(SurgeryError, match=r"'0' was changed.*remove_parametrizations"):
        fusionconv.unfuse(model)
    assert model(torch.randn(2, 3, 8, 8), torch.ones(2, 1)).shape == (2, 4, 6, 6)
    zero.remove_parametrizations(model[0], "weight")
    assert type(fusionconv.unfuse(model)[0]) is nn.Conv2d

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.conv(x) * self.scale

    model = fusionconv.fuse_into(Scaled(), 0, 1)
    zero.register_parametrization(model, "scale", nn.Identity())
    for call in (lambda: fusionconv.unfuse(model), lambda: fusionconv.fuse_into(model, 0, 1)):
        with pytest.raises(SurgeryError, match=r"class of the fused model was changed|hybrid layer already"):
            call()
    assert model(torch.randn(2, 3, 8, 8), torch.ones(2, 1)).shape == (2, 4, 6, 6)
    zero.remove_parametrizations(model, "scale")
    assert type(fusionconv.unfuse(model)) is Scaled


# ---------------------------------------------------------------- copies


def test_copies_are_independent() -> None:
    model = fused_body()
    x, s = data(2)
    y = model.eval()(x, s)
    model.feature = None  # torch copies no tensor that is not a leaf
    twin = copy.deepcopy(model)
    assert type(twin) is type(model)
    assert torch.equal(twin(x, s), y)
    twin.net[0].covariate_weight.data += 1
    assert torch.equal(model(x, s), y)
    fusionconv.unfuse(twin)
    assert torch.equal(model(x, s), y)
    model.feature = None
    stranger = copy.deepcopy(model)
    with fusionconv.covariates(model, s), pytest.raises(CovariateError, match="needs them in every call"):
        stranger(x)


def test_pickle_in_a_new_process(tmp_path) -> None:
    model = fused_body().eval()
    x, s = data(3)
    y = model(x, s).detach()
    model.feature = None
    (tmp_path / "model.pkl").write_bytes(pickle.dumps((model, x.detach(), s, y)))
    code = (
        "import pickle, sys, torch\n"
        "model, x, s, y = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert torch.allclose(model(x, s), y, rtol=1e-12, atol=1e-12)\n"
        "import fusionconv; fusionconv.unfuse(model); print(type(model).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pkl")], capture_output=True, text=True, cwd="."
    )
    assert done.stdout.strip() == "Body", done.stderr


def test_state_dict_round_trip() -> None:
    model, other = fused_body(seed=0).eval(), fused_body(seed=1).eval()
    other.load_state_dict(model.state_dict())
    x, s = data(4)
    assert torch.equal(other(x, s), model(x, s))


# ---------------------------------------------------------------- refused


class OwnForward(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))


def old_weight_normed() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)))


@pytest.mark.parametrize(
    ("make", "layer_idx", "error", "words"),
    [
        (small_net, 3, SurgeryError, "from -3 to 2.*got 3.*list_convs"),
        (small_net, -4, SurgeryError, "got -4"),
        (small_net, "net.0", SurgeryError, "names 'net.0', which Sequential does not have"),
        (small_net, "7", SurgeryError, "Flatten, neither a convolution nor a linear layer"),
        (small_net, lambda name, m: isinstance(m, nn.Linear), SurgeryError, "chose none of the 3.*by name only"),
        (lambda: nn.TransformerEncoderLayer(8, 2), "linear1", SurgeryError, "fast path"),
        (lambda: nn.MultiheadAttention(8, 2), "out_proj", SurgeryError, "class of its own"),
        (lambda: nn.Sequential(nn.Linear(2, 2)), "O", SurgeryError, "does not have"),
        (small_net, [], SurgeryError, "empty list"),
        (small_net, [0, 7], SurgeryError, "got 7"),
        (small_net, lambda name, m: False, SurgeryError, "chose none of the 3"),
        (small_net, 1.0, TypeError, "int, a dotted name.*'last'.*a predicate.*got float"),
        (small_net, True, TypeError, "got bool"),
        (small_net, None, TypeError, "got NoneType"),
        (small_net, [0, None], TypeError, "got None"),
        (lambda: nn.Linear(2, 2), 0, SurgeryError, "holds no convolution"),
        (lambda: nn.Sequential(OwnForward(3, 4, 3)), 0, SurgeryError, "OwnForward, a class of its own"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), 0, SurgeryError, "LazyConv2d"),
        (weight_normed, 0, SurgeryError, "parametrization"),
        (old_weight_normed, 0, SurgeryError, "weight_norm"),
        (lambda: fusionconv.fuse_into(small_net(), 0, 2), 0, SurgeryError, "'0'.*hybrid layer already"),
        (
            lambda: fusionconv.fuse_into(small_net(), 0, 3),
            1,
            SurgeryError,
            "num_covariates=3 already.*got num_covariates=2",
        ),
        (lambda: nn.DataParallel(small_net()), 0, SurgeryError, "wrapped already.*DataParallel"),
        (lambda: torch.compile(small_net()), 0, SurgeryError, "OptimizedModule"),
        (lambda: "vgg16", 0, TypeError, "torch.nn.Module, got str"),
    ],
)
def test_refused_and_nothing_changed(make, layer_idx, error, words) -> None:
    model = make()
    is_module = isinstance(model, nn.Module)
    before = (type(model), [(n, id(m), type(m)) for n, m in model.named_modules()] if is_module else None)
    with pytest.raises(error, match=words):
        fusionconv.fuse_into(model, layer_idx, num_covariates=2)
    assert before == (type(model), [(n, id(m), type(m)) for n, m in model.named_modules()] if is_module else None)


def test_a_scripted_root_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch calls torch.jit deprecated
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with pytest.raises(SurgeryError, match="scripted"):
        fusionconv.fuse_into(scripted, 0, 1)


def test_one_bad_layer_of_several_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), OwnForward(4, 4, 3))
    with pytest.raises(SurgeryError, match="OwnForward"):
        fusionconv.fuse_into(model, [0, 1], 2)
    assert type(model[0]) is nn.Conv2d
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_failure_half_way_is_undone(monkeypatch) -> None:
    model = small_net()
    attach = fusionconv.layers.HybridLayer.attach_covariates

    def fails_on_the_second(self, *args, **kwargs):
        attach(self, *args, **kwargs)
        if self.in_channels == 6:
            raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(fusionconv.layers.HybridLayer, "attach_covariates", fails_on_the_second)
    keys = list(model.state_dict())
    with pytest.raises(torch.OutOfMemoryError):
        fusionconv.fuse_into(model, [0, 1], 2)
    assert list(model.state_dict()) == keys
    assert type(model) is nn.Sequential
    assert type(model[0]) is type(model[3]) is nn.Conv2d


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_covariates": 0}, ValueError, "at least 1"),
        ({"num_covariates": 2, "rank": 3}, ValueError, "rank"),
        ({"num_covariates": 2, "method": "flim"}, ValueError, "'hybrid'.*'film'.*got 'flim'"),
        ({"num_covariates": 2, "kernel_size": 3}, TypeError, "layer options are.*got kernel_size"),
    ],
)
def test_bad_options(options, error, words) -> None:
    model = small_net()
    with pytest.raises(error, match=words):
        fusionconv.fuse_into(model, 0, **options)
    assert type(model) is nn.Sequential


@pytest.mark.parametrize(
    ("covariates", "error", "words"),
    [
        (None, CovariateError, r"needs them in every call.*\(N, 2\)"),
        (torch.randn(1, 2), CovariateError, "batch has 4, the covariates have 1"),
        (torch.randn(4, 3), CovariateError, r"\(4, 3\)"),
        (torch.ones(4, 2, dtype=torch.int32), CovariateTypeError, "int32"),
        (torch.ones(4, 2).to_sparse(), CovariateTypeError, "to_dense"),
        (torch.full((4, 2), float("nan")), CovariateError, "finite"),
        (torch.ones(4, 2, device="meta"), CovariateError, "device"),
    ],
)
def test_bad_covariates_at_the_call(covariates, error, words) -> None:
    model = fusionconv.fuse_into(Body(), 0, 2)
    with pytest.raises(error, match=words):
        model(torch.randn(4, 3, 8, 8), covariates)
    with pytest.raises(CovariateError, match="needs them"):  # and nothing is left behind by the failed call
        model(torch.randn(4, 3, 8, 8))


# ---------------------------------------------------------------- parts


def test_a_slice_of_a_sequential_is_a_plain_sequential_over_the_same_layers() -> None:
    model = fusionconv.fuse_into(small_net().double().eval(), 0, 2)
    model[0].covariate_weight.data.normal_()
    x, s = data(0)
    part = model[:5]
    assert type(part) is nn.Sequential
    assert part[0] is model[0]
    with pytest.raises(CovariateError, match="needs them in every call"):
        part(x)
    with fusionconv.covariates(model, s):
        features = part(x)
    torch.testing.assert_close(model[5:](features), model(x, s))


def test_fused_after_it_was_compiled_in_place() -> None:
    torch._dynamo.reset()
    model = small_net().double().eval()
    x, s = data(0)
    model.compile(backend="eager")
    plain = model(x)
    fusionconv.fuse_into(model, 0, 2)
    torch.testing.assert_close(model(x, s), plain)
    model[0].covariate_weight.data.normal_()
    with fusionconv.covariates(model, s):
        expected = model[:](x)
    torch.testing.assert_close(model(x, s), expected)


# ---------------------------------------------------------------- linear layers, by name


def test_linear_layers_are_fused_by_name_only() -> None:
    plain = small_net().double().eval()
    model = fusionconv.fuse_into(copy.deepcopy(plain), ["8", 0], num_covariates=2)
    assert [c.name for c in fusionconv.list_convs(model)] == ["0", "3", "5"]  # ints still count convolutions only
    assert isinstance(model[8], fusionconv.HybridLinear)
    x, s = data(0)
    torch.testing.assert_close(model(x, s), plain(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_()
    torch.testing.assert_close(model(x, s), hybrid_by_hand(model, plain, x, s), rtol=1e-10, atol=1e-10)
    assert type(fusionconv.unfuse(model)[8]) is nn.Linear


def test_a_network_without_convolutions() -> None:
    model = fusionconv.fuse_into(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "2", 1)
    assert model(torch.randn(2, 3), torch.ones(2, 1)).shape == (2, 2)
    with pytest.raises(SurgeryError, match=r"layer '2'.*hybrid layer already"):
        fusionconv.fuse_into(model, "2", 1)
