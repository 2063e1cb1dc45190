"""Every fusion method inside a network: what holds for hybrid holds for each, by the same frames."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import fusionconv
from fusionconv.errors import CovariateError, SurgeryError
from fusionconv.layers import METHODS, CovariateLayer
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.methods import (
    CASES,
    IDS,
    KINDS,
    ONE_EACH,
    PAIR_IDS,
    PAIRS,
    by_hand,
    depends_on_image,
    fuse,
    fused_net,
    net_by_hand,
    plain_layer,
    randomise,
    starts_as_plain,
    where,
)
from tests.helpers.networks import Body, data, small_net

cases = pytest.mark.parametrize(("method", "options"), CASES, ids=IDS)
one_each = pytest.mark.parametrize(("method", "options"), ONE_EACH, ids=[m for m, _ in ONE_EACH])


def batch(seed: int = 1, n: int = 4):
    x, s = data(seed, n)
    return x.detach(), s


def same(got, expected, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@cases
def test_values_in_a_network_and_a_call_without_covariates(method, options) -> None:
    net, (x, s) = fused_net(method, options), batch()
    same(net(x, s), net_by_hand(net, method, options, x, s))
    same(net(x, covariates=-s), net_by_hand(net, method, options, x, -s))
    with fusionconv.covariates(net, s):
        y = x
        for module in net:
            y = module(y)
    same(y, net(x, s))
    for wrong in ((x,), (x, s[:1]), (x, s[:, :1]), (x, s * float("nan")), (x, s.long())):
        with pytest.raises(CovariateError):
            net(*wrong)
    if method != "condconv":
        assert not torch.allclose(net(x, s), net(x, s.flip(0)))


class ByName(nn.Module):
    """A network that calls its layer by the name that torch gives the argument."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x, size=None):
        return self.layer(input=x) if size is None else self.layer(input=x, output_size=size)


@pytest.mark.parametrize(("method", "options", "kind"), PAIRS, ids=PAIR_IDS)
def test_a_layer_that_is_called_by_keyword(method, options, kind) -> None:
    plain = ByName(plain_layer(kind))
    x, s = torch.randn(3, *KINDS[kind][1], dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    size = list(plain(x).shape[2:]) if "Transpose" in kind else None
    model = fusionconv.fuse_into(plain, "layer", 2, method, **options)
    randomise(model.layer)
    expected = by_hand(model.layer, method, options, plain_layer(kind), x, s)
    same(model(x, s, size), expected)
    same(model(x, s), expected)
    same(model(x=x, covariates=s), expected)
    if method == "hybrid" and not options:  # the root itself
        root = fusionconv.fuse_into(copy.deepcopy(plain_layer(kind)), "", 2)
        root.load_state_dict(model.layer.state_dict())
        same(root(input=x, covariates=s), expected)


@one_each
def test_tools_that_look_at_a_layer_which_is_called_by_keyword(method, options) -> None:
    """summary and autotune, as of one that is called by position; also a layer by hand, with its own names."""
    kind = "Linear" if method == "concat" else "Conv2d"
    by_name, by_position = ByName(plain_layer(kind)), nn.Sequential(plain_layer(kind))
    x, s = torch.randn(3, *KINDS[kind][1], dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    fusionconv.fuse_into(by_name, "layer", 2, method, **options)
    fusionconv.fuse_into(by_position, "0", 2, method, **options)
    found, expected = (fusionconv.summary(model, x=x, covariates=s) for model in (by_name, by_position))
    assert found.flops == expected.flops > 0
    assert found.added_flops == expected.added_flops > 0
    if by_name.layer.strategies():
        tuned = fusionconv.autotune(by_name.train(), (x.requires_grad_(), s), repeats=1)
        assert [layer.name for layer in tuned] == ["layer"]

    class ByHand(ByName):
        def forward(self, x, covariates):
            return self.layer(covariates=covariates, x=x)

    made = ByHand(METHODS[method].VARIANTS[getattr(nn, kind)].from_plain(plain_layer(kind), 2, **options))
    assert fusionconv.summary(made, x=x.detach(), covariates=s).added_flops == expected.added_flops
    if made.layer.strategies():
        assert fusionconv.autotune(made, (x, s), repeats=1)[0].name == "layer"


@cases
def test_fused_and_unfused(method, options) -> None:
    torch.manual_seed(0)
    net, (x, s) = small_net().double().eval(), batch()
    before, parameters, state = net(x), dict(net.named_parameters()), copy.deepcopy(net.state_dict())
    kinds = [type(m) for m in net]
    torch.manual_seed(1)
    for layer in where(method):  # one call each
        model = fusionconv.fuse_into(net, str(layer), 2, method=method, **options)
    assert model is net
    if starts_as_plain(method, options):
        same(model(x, s), before)
    for name, p in parameters.items():
        assert model.get_parameter(name) is p
    result = model.load_state_dict(state, strict=False)  # an old checkpoint
    assert result.unexpected_keys == []
    added = [
        f"{i}.{name}"
        for i, m in enumerate(net)
        if isinstance(m, CovariateLayer)
        for name, _ in m.covariate_parameters()
    ]
    assert result.missing_keys == added
    fusionconv.unfuse(model)
    assert [type(m) for m in net] == kinds
    assert type(net) is nn.Sequential
    assert list(net.state_dict()) == list(state)
    assert dict(net.named_parameters()).items() == parameters.items()
    assert not any("covariate" in name or "fusion" in name for m in net.modules() for name in vars(m))
    same(net(x), before, 0)


@one_each
def test_copies_and_pickles(method, options) -> None:
    net, (x, s) = fused_net(method, options), batch()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(x, s), net(x, s))
        with torch.no_grad():
            for p in twin.parameters():
                p.add_(0.5)
        assert not torch.allclose(twin(x, s), net(x, s))


def test_pickle_in_a_new_process(tmp_path) -> None:
    x, s = batch()
    nets = [fused_net(method, options) for method, options in ONE_EACH]
    (tmp_path / "nets.pkl").write_bytes(pickle.dumps((nets, x, s, [net(x, s).detach() for net in nets])))
    code = (
        "import pickle, sys, torch\n"
        "nets, x, s, ys = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert all(torch.equal(net(x, s), y) for net, y in zip(nets, ys))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "nets.pkl")], check=True)


class EveryCase(nn.Module):
    """A small layer for each case, fused by it; gives every output."""

    def __init__(self, cases) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cases = cases
        kinds = ["Linear" if m == "concat" else "Conv1d" for m, _ in self.cases]
        self.kinds, self.layers = kinds, nn.ModuleList(plain_layer(kind) for kind in kinds)

    def forward(self, maps, rows):
        return [layer(rows if k == "Linear" else maps) for layer, k in zip(self.layers, self.kinds, strict=True)]

    @staticmethod
    def inputs(n: int, seed: int):
        g = torch.Generator().manual_seed(seed)
        shapes = ((n, 4, 7), (n, 3, 4), (n, 2))
        return tuple(torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes)

    def by_hand(self, maps, rows, s):
        parts = zip(self.layers, self.kinds, self.cases, strict=True)
        return [by_hand(m, *case, plain_layer(k), rows if k == "Linear" else maps, s) for m, k, case in parts]


def every_case(cases):
    model = EveryCase([(m, o) for m, o in cases if o.get("strategy") != "loop"])  # loop unrolls the batch
    for i, (method, options) in enumerate(model.cases):
        fusionconv.fuse_into(model, f"layers.{i}", 2, method=method, **options)
        randomise(model.layers[i])
    return model


def test_all_compile_in_one_graph() -> None:
    torch._dynamo.reset()
    model = every_case(CASES)
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    for seed, n in ((1, 4), (2, 3), (3, 6)):
        same(compiled(*model.inputs(n, seed)), model.by_hand(*model.inputs(n, seed)))
    assert counter.frame_count <= 2
    torch._dynamo.reset()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
def test_all_export_with_a_free_batch(strict) -> None:
    model = every_case(ONE_EACH if strict else CASES)
    batches = ({0: torch.export.Dim("batch")},) * 3
    program = torch.export.export(model, model.inputs(4, 1), dynamic_shapes=batches, strict=strict).module()
    for n in (1, 7):
        same(program(*model.inputs(n, n)), model.by_hand(*model.inputs(n, n)))
    for images, rows in ((5, 1), (1, 5), (4, 3)):
        with pytest.raises((AssertionError, RuntimeError)):
            program(*model.inputs(images, 1)[:2], model.inputs(rows, 1)[2])


def test_all_in_onnxruntime_with_another_batch() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = every_case(ONE_EACH).float()  # onnxruntime has no float64 convolution

    def inputs(n):
        return tuple(t.float() for t in model.inputs(n, seed=n))

    batches = ({0: torch.export.Dim("batch")},) * 3
    program = torch.onnx.export(model, inputs(4), dynamo=True, dynamic_shapes=batches, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())

    def run(*args):
        return session.run(None, {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)})

    for n in (1, 7):
        for got, expected in zip(run(*inputs(n)), model.by_hand(*inputs(n)), strict=True):
            same(torch.from_numpy(got), expected.detach(), 1e-4)
    with pytest.raises(Exception, match=r"(?i)concat"):
        run(*inputs(5)[:2], inputs(1)[2])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit", "ignore:.torch.jit")
@one_each
def test_a_trace_leaves_the_batch_free_and_refuses_other_rows(method, options) -> None:
    net, (x, s) = fused_net(method, options), batch()
    trace = torch.jit.trace(net, (x, s))
    for n in (1, 7):
        x, s = batch(2, n)
        same(trace(x, s), net_by_hand(net, method, options, x, s))
    if method == "condconv":  # its trace holds no operation on the covariates
        return
    for images, rows in ((5, 1), (1, 5), (4, 3)):
        with pytest.raises(RuntimeError):
            trace(batch(3, images)[0], batch(3, rows)[1])


@pytest.mark.skipif(not CAN_RECOMPUTE, reason="before torch 2.15 the library raises here")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("mode", ["reentrant", "non-reentrant"])
@one_each
def test_activation_checkpointing_is_exact(method, options, mode) -> None:
    """Two calls, then one loss on both outputs and on a feature captured in the first."""
    torch.manual_seed(0)
    model = fuse(Body(mode).double().eval(), method, options, prefix="net.")
    (x1, s1), (x2, s2) = data(1), data(2)
    expected_loss = net_by_hand(model.net, method, options, x1, s1).square().sum()
    expected_loss = expected_loss + net_by_hand(model.net, method, options, x2, s2).sum()
    expected = torch.autograd.grad(expected_loss, list(model.parameters()))
    (model(x1, s1).square().sum() + model(x2, s2).sum()).backward()
    for p, g in zip(model.parameters(), expected, strict=True):
        same(p.grad, g)


@cases
def test_merge(method, options) -> None:
    net, (x, s) = fused_net(method, options), batch()
    one = s[1]
    if depends_on_image(method, options):
        state = copy.deepcopy(net.state_dict())
        with pytest.raises(
            SurgeryError, match=rf"layer '{where(method)[0]}' \(method '{method}'\).*depend.* on the image"
        ):
            fusionconv.merge(net, one)
        assert list(net.state_dict()) == list(state)
        net(x, s)
        return
    expected = net(x, one.expand(4, 2))
    merged = fusionconv.merge(net, one)
    assert merged is net
    assert [type(m) for m in net] == [type(m) for m in small_net()]
    assert list(net.state_dict()) == list(small_net().state_dict())
    same(net(x), expected)


@cases
def test_merge_every_kind_of_layer(method, options) -> None:
    """Groups of transposed convolutions, layers without bias; the linear layer."""
    if depends_on_image(method, options):
        return

    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False)
            self.up3 = nn.ConvTranspose1d(6, 4, 3, groups=2)
            self.depthwise = nn.Conv1d(4, 8, 3, groups=4, bias=False)
            self.head = nn.Linear(8, 2, bias=False)

        def forward(self, x):
            return self.head(self.depthwise(self.up3(self.up(x).flatten(2))).tanh().transpose(1, 2))

    torch.manual_seed(0)
    names = ["head"] if method == "concat" else ["up", "up3", "depthwise", "head"]
    model = fusionconv.fuse_into(Kinds().double(), names, 2, method=method, **options)
    with torch.no_grad():
        for name in names:
            for _, p in model.get_submodule(name).covariate_parameters():
                p.normal_(std=0.5)
    x, s = torch.randn(3, 4, 5, 5, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    expected = model(x, s.expand(3, 2))
    fusionconv.merge(model, s)
    same(model(x), expected)


@cases
def test_param_groups_keep_decay_away_from_everything_that_was_added(method, options) -> None:
    net = small_net()
    plain = {id(p) for p in net.parameters()}
    fuse(net, method, options)
    groups = {g["name"]: g for g in fusionconv.param_groups(net, 1e-3, 0.05, covariate_lr=1e-3)}
    assert {id(p) for p in groups["backbone"]["params"]} == plain
    added = {id(p) for m in net if isinstance(m, CovariateLayer) for _, p in m.covariate_parameters()}
    assert {id(p) for p in groups["covariates"]["params"]} == added
    assert groups["covariates"]["weight_decay"] == 0


def test_several_methods_in_one_model() -> None:
    torch.manual_seed(0)
    net, (x, s) = small_net().double().eval(), batch()
    before = net(x)
    fusionconv.fuse_into(net, "0", 2, method="film")
    with pytest.raises(SurgeryError, match="num_covariates=2 already"):
        fusionconv.fuse_into(net, "3", 3)
    for name, method in (("3", "hybrid"), ("5", "daft"), ("8", "concat")):
        fusionconv.fuse_into(net, name, 2, method=method)
    assert [type(net[i]).__name__ for i in (0, 3, 5, 8)] == [
        "FusedFilmConv2d",
        "FusedConv2d",
        "FusedDaftConv2d",
        "FusedConcatLinear",
    ]
    same(net(x, s), before)
    assert [(c.kind, c.fused) for c in fusionconv.list_convs(net)] == [("Conv2d", True)] * 3
    with pytest.raises(SurgeryError, match=r"layer '0'.*it is a film layer already"):
        fusionconv.fuse_into(net, 0, 2)
    fusionconv.unfuse(net)
    same(net(x), before, 0)


def test_concat_counts_linear_layers() -> None:
    net = nn.Sequential(nn.Conv1d(1, 4, 1), nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 2))
    fusionconv.fuse_into(net, -1, 1, method="concat")
    fusionconv.fuse_into(net, lambda name, module: module.out_features == 4, 1, method="concat", hidden=3)
    assert [type(m).__name__ for m in net[2:]] == ["FusedConcatLinear"] * 2
    with pytest.raises(SurgeryError, match=r"from -2 to 1.*2 nn\.Linear, got 2"):
        fusionconv.fuse_into(net, 2, 1, method="concat")
    with pytest.raises(SurgeryError, match=r"holds no nn\.Linear"):
        fusionconv.fuse_into(nn.Sequential(nn.Conv1d(1, 1, 1)), -1, 1, method="concat")


@pytest.mark.parametrize(
    ("layer", "method", "options", "error", "words"),
    [
        ("0", "concat", {}, SurgeryError, "'0'.*it is a Conv2d, and method 'concat' takes only: Linear"),
        ("8", "condconv", {"ignore_covariates": True}, SurgeryError, "'8'.*it is a Linear.*takes only: Conv1d, Conv2d"),
        ("0", "condconv", {}, ValueError, "ignore_covariates=True"),
        ("0", "FiLM", {}, ValueError, "method must be one of 'hybrid', .*'condconv', got 'FiLM'"),
        ("0", None, {}, ValueError, "got None"),
        ("0", "film", {"rank": 1}, TypeError, "'film': layer options are hidden, got rank"),
        ("0", "daft", {"bottleneck": 0}, ValueError, "bottleneck"),
    ],
)
def test_refused_and_nothing_changed(layer, method, options, error, words) -> None:
    net = small_net()
    state = list(net.state_dict())
    with pytest.raises(error, match=words):
        fusionconv.fuse_into(net, layer, 2, method=method, **options)
    assert type(net) is nn.Sequential
    assert list(net.state_dict()) == state


def test_every_method_is_in_the_error_that_lists_them() -> None:
    with pytest.raises(ValueError, match="method must be one of") as error:
        fusionconv.fuse_into(small_net(), 0, 2, method="")
    assert all(repr(name) in str(error.value) for name in METHODS)
