"""What people do with a network besides calling it: a fused one must take it, exactly, or say no.

Values are checked against `by_hand`: one plain convolution per sample with ``W + sum_j s_ij V_j`` written in, no surgery.
"""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential, create_selective_checkpoint_contexts

import fusionconv
from fusionconv.errors import CovariateError, FusionError, SurgeryError
from fusionconv.surgery.recompute import CAN_RECOMPUTE
from tests.helpers.networks import data, small_net, with_covariates_that_matter

recomputes = pytest.mark.skipif(not CAN_RECOMPUTE, reason="checkpointing inside a fused model needs torch >= 2.15")


class Around(nn.Module):
    """`small_net`, run by ``how(net, x)``."""

    def __init__(self, how=lambda net, x: net(x)) -> None:
        super().__init__()
        self.how = how
        self.net = small_net()

    def forward(self, x):
        return self.how(self.net, x)


def fused(how=None, seed: int = 0) -> Around:
    """Fused in its first and its last convolution, in float64 and eval mode, V at random."""
    torch.manual_seed(seed)
    model = Around(how) if how else Around()
    return with_covariates_that_matter(fusionconv.fuse_into(model.double().eval(), [0, -1], 2))


def by_hand(model: Around, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """What ``model(x, s)`` is to give, as a function of the model's own parameters."""
    net, rows = model.net, []
    for i in range(len(x)):
        first, last = (net[k].weight + torch.tensordot(s[i], net[k].covariate_weight, 1) for k in (0, 5))
        y = nn.functional.conv2d(x[i : i + 1], first, net[0].bias, padding=1)
        rows.append(net[6:](nn.functional.conv2d(net[1:5](y), last, net[5].bias)))
    return torch.cat(rows)


def batch(seed: int = 1, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    x, s = data(seed, n)
    return x.detach(), s


def same(got, expected, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


def expected_gradients(model: Around, x, s) -> list[torch.Tensor]:
    return list(torch.autograd.grad(by_hand(model, x, s).square().sum(), list(model.parameters())))


def assert_gradients(model: Around, x, s, expected: list[torch.Tensor] | None = None, factor: float = 1.0) -> None:
    for p, g in zip(model.parameters(), expected or expected_gradients(model, x, s), strict=True):
        same(p.grad, factor * g)


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 2},
        {"groups": 4},  # depthwise
        {"stride": 2, "padding": 1},
        {"dilation": 2, "bias": False},
        {"padding": "same"},
        *({"padding": 2, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
    ],
)
@pytest.mark.parametrize("n", [0, 1, 3])
def test_every_option_of_a_convolution(options, n) -> None:
    """Sample by sample a plain twin with the kernel written in; with no sample a result of the right shape."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 8, 3, **options), nn.Tanh()).double()
    model = with_covariates_that_matter(fusionconv.fuse_into(copy.deepcopy(plain), 0, 2))
    x, s = torch.randn(n, 4, 9, 9).double(), torch.randn(n, 2).double()
    y = model(x, s)
    assert y.shape == plain(x).shape
    for i in range(n):
        twin = copy.deepcopy(plain)
        twin[0].weight.data += torch.tensordot(s[i], model[0].covariate_weight.data, 1)
        same(y[i : i + 1], twin(x[i : i + 1]))
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())  # DDP waits for each


# ---------------------------------------------------------------- training


def test_an_average_of_weights_averages_v_too() -> None:
    """EMA: after each update, average = 0.9 average + 0.1 parameter, V included; called with covariates."""
    model = fused()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average.update_parameters(model)  # the first update copies
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    for seed in range(2):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn(p.shape, generator=torch.Generator().manual_seed(seed), dtype=p.dtype)
        average.update_parameters(model)
        expected = {n: 0.9 * expected[n] + 0.1 * p.detach() for n, p in model.named_parameters()}
    for name, p in average.module.named_parameters():
        same(p.detach(), expected[name])
    x, s = batch()
    same(average(x, s), by_hand(average.module, x, s))
    assert not torch.allclose(average(x, covariates=s), model(x, s))
    with pytest.raises(CovariateError, match="needs them in every call"):
        average(x)


def test_update_bn_needs_a_module_that_hands_on_the_covariates() -> None:
    """torch's update_bn calls ``model(batch[0])``: an error, unless batch[0] is the pair and a wrapper unpacks it."""
    model = fused()
    batches = [batch(seed) for seed in range(3)]
    with pytest.raises(CovariateError, match="needs them in every call"):
        update_bn(batches, model)

    class Unpacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pair):
            return self.model(*pair)

    update_bn([(pair,) for pair in batches], Unpacked())
    inputs = []
    for x, s in batches:  # the mean over batches of what reaches the batch norm
        kernels = model.net[0].weight + torch.einsum("nk,k...->n...", s, model.net[0].covariate_weight)
        rows = [nn.functional.conv2d(x[i : i + 1], kernels[i], model.net[0].bias, padding=1) for i in range(4)]
        inputs.append(torch.cat(rows).mean((0, 2, 3)))
    same(model.net[1].running_mean, torch.stack(inputs).mean(0).detach())


def test_accumulated_gradients_equal_those_of_the_whole_batch() -> None:
    model, (x, s) = fused(), batch(n=6)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        model(x[part], s[part]).square().sum().backward()
    assert_gradients(model, x, s)


def test_an_optimizer_made_before_the_surgery() -> None:
    """It still updates W; V it does not know, until add_param_group brings it."""
    torch.manual_seed(0)
    plain = Around().double().eval()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    model = with_covariates_that_matter(fusionconv.fuse_into(plain, [0, -1], 2))
    x, s = batch()
    for knows_v in (False, True):
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        gradients = expected_gradients(model, x, s)
        optimizer.zero_grad()
        model.zero_grad()
        model(x, s).square().sum().backward()
        optimizer.step()
        for (name, p), g in zip(model.named_parameters(), gradients, strict=True):
            same(p.detach(), before[name] - (0.1 * g if knows_v or "covariate" not in name else 0))
        if not knows_v:
            optimizer.add_param_group({"params": [p for n, p in model.named_parameters() if "covariate" in n]})


def test_frozen_w_stays_while_v_learns() -> None:
    model, (x, s) = fused(), batch()
    for name, p in model.named_parameters():
        p.requires_grad_("covariate" in name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(fusionconv.param_groups(model, 0.1, 0.5))
    model(x, s).square().sum().backward()
    optimizer.step()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == ("covariate" in name)
        assert torch.equal(p.detach(), before[name]) == ("covariate" not in name)


def test_vectors_of_parameters_and_clipping() -> None:
    model, other, (x, s) = fused(), fused(seed=1), batch()
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()), other.parameters())
    same(other(x, s), model(x, s))
    model(x, s).square().sum().backward()
    norm = torch.cat([g.flatten() for g in expected_gradients(model, x, s)]).norm()
    same(nn.utils.clip_grad_norm_(model.parameters(), 0.5), norm)
    same(model.net[0].covariate_weight.grad, expected_gradients(model, x, s)[2] * 0.5 / (norm + 1e-6), 1e-9)


# ---------------------------------------------------------------- torch.func and higher derivatives


def test_functional_call() -> None:
    model, other, (x, s) = fused(), fused(seed=1), batch()
    parameters = {n: p.detach() for n, p in other.named_parameters()}
    expected = by_hand(other, x, s)
    same(torch.func.functional_call(model, parameters, (x, s)), expected)
    same(torch.func.functional_call(model, parameters, (x,), {"covariates": s}), expected)
    same(model(x, s), by_hand(model, x, s))


def test_per_sample_gradients_by_vmap() -> None:
    model, (x, s) = fused(), batch()
    parameters = {n: p.detach() for n, p in model.named_parameters()}

    def loss(p, xi, si):
        return torch.func.functional_call(model, p, (xi[None], si[None])).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x, s)
    for i in range(4):
        expected = expected_gradients(model, x[i : i + 1], s[i : i + 1])
        for name, g in zip(parameters, expected, strict=True):
            same(got[name][i], g, 1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_directional_derivatives_and_jacobians_by_the_covariates() -> None:
    model, (x, s) = fused(), batch()
    direction = torch.randn_like(s)
    y, dy = torch.func.jvp(lambda t: model(x, t), (s,), (direction,))
    same(y, by_hand(model, x, s))
    h = 1e-6
    same(dy, (by_hand(model, x, s + h * direction) - by_hand(model, x, s - h * direction)) / (2 * h), 1e-6)
    jacobian = torch.autograd.functional.jacobian(lambda t: by_hand(model, x, t), s)
    same(torch.func.jacrev(lambda t: model(x, t))(s), jacobian)
    same(torch.func.jacfwd(lambda t: model(x, t))(s), jacobian)


def test_gradgradcheck_through_a_fused_model() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Tanh(), nn.Conv2d(2, 1, 2)).double()
    net = with_covariates_that_matter(fusionconv.fuse_into(net, [0, 1], 1))
    leaves = [torch.randn(2, 1, 3, 3).double().requires_grad_(), torch.randn(2, 1).double().requires_grad_()]
    inputs = (*leaves, *net.parameters())
    assert torch.autograd.gradcheck(lambda x, s, *_: net(x, s), inputs)
    assert torch.autograd.gradgradcheck(lambda x, s, *_: net(x, s), inputs)


HOWS = {
    "plain": None,
    "sequential-reentrant": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=True),
    "sequential-non-reentrant": lambda net, x: checkpoint_sequential(net, 3, x, use_reentrant=False),
    "selective": lambda net, x: checkpoint(
        net,
        x,
        use_reentrant=False,
        context_fn=partial(create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default]),
    ),
}
hows = pytest.mark.parametrize("how", HOWS if CAN_RECOMPUTE else ["plain"])


@pytest.mark.parametrize("how", [h for h in HOWS if h != "selective"] if CAN_RECOMPUTE else ["plain"])
def test_backward_twice_through_one_graph(how) -> None:
    model, (x, s) = fused(HOWS[how]), batch()
    loss = model(x.requires_grad_(), s).square().sum()
    loss.backward(retain_graph=True)
    with fusionconv.covariates(model, batch(2)[1]):
        loss.backward()
    assert_gradients(model, x, s, factor=2)


@pytest.mark.parametrize("how", ["plain", "non-reentrant"] if CAN_RECOMPUTE else ["plain"])
def test_a_gradient_of_a_gradient(how) -> None:
    """A gradient penalty; reentrant checkpointing cannot do that with any network."""
    model = fused(None if how == "plain" else lambda net, x: checkpoint(net, x, use_reentrant=False))
    x, s = batch()
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x, s).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    (slope,) = torch.autograd.grad(by_hand(model, x, s).square().sum(), x, create_graph=True)
    expected = torch.autograd.grad(slope.square().sum(), list(model.parameters()), allow_unused=True)
    for p, g in zip(model.parameters(), expected, strict=True):
        same(p.grad if p.grad is not None else torch.zeros_like(p), g if g is not None else torch.zeros_like(p), 1e-9)


@hows
@pytest.mark.filterwarnings("ignore:A saved_tensors_hooks context")
@pytest.mark.parametrize("saving", ["on-cpu", "packed"])
def test_saved_tensors_hooks(how, saving) -> None:
    model, (x, s) = fused(HOWS[how]), batch()
    packed = []

    def pack(t):
        packed.append(t)
        return t.numpy() if not t.requires_grad else t.detach().numpy()

    hooks = (
        torch.autograd.graph.save_on_cpu()
        if saving == "on-cpu"
        else torch.autograd.graph.saved_tensors_hooks(pack, torch.from_numpy)
    )
    with hooks:
        model(x.requires_grad_(), s).square().sum().backward()
    assert saving == "on-cpu" or packed
    assert_gradients(model, x, s)


# ---------------------------------------------------------------- precision, devices, layouts


def test_autocast() -> None:
    model, (x, s) = fused().float(), (t.float() for t in batch())
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x, s)
    assert y.dtype == torch.bfloat16
    expected = by_hand(model, x, s)
    assert 0 < (y - expected).abs().max() < 0.02 * expected.abs().max()
    y.float().square().sum().backward()
    g = expected_gradients(model, x, s)[2]
    assert (model.net[0].covariate_weight.grad - g).norm() < 0.03 * g.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_grad_scaler() -> None:
    model, (x, s) = fused().float().cuda(), (t.float().cuda() for t in batch())
    expected = expected_gradients(model, x, s)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.0), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", torch.float16):
        loss = model(x, s).square().sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert (p.grad - g).norm() < 0.03 * g.norm() + 1e-3
    scaler.step(optimizer)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
def test_a_whole_model_in_half_precision(dtype, tolerance) -> None:
    """Covariates in float32 or in the model's dtype: the layer takes them in the dtype of its weights."""
    model, (x, s) = fused(), batch()
    expected = by_hand(model, x, s)
    model.to(dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    for covariates in (s.float(), s.to(dtype)):
        y = model(x.to(dtype), covariates)
        assert y.dtype == dtype
        assert (y.double() - expected).abs().max() < tolerance * expected.abs().max()
    same(model.double()(x, s), by_hand(model, x, s))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_to_another_device() -> None:
    model, (x, s) = fused(), batch()
    expected = by_hand(model, x, s)
    model.cuda()
    same(model(x.cuda(), s.cuda()).cpu(), expected)
    with pytest.raises(CovariateError, match="on the device of the input"):
        model(x.cuda(), s)
    same(model.cpu()(x, s), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graph() -> None:
    model, (x, s) = fused().float().cuda(), [t.float().cuda() for t in batch()]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        model(x, s)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = model(x, s)
    for seed in (2, 3):
        for t, new in zip((x, s), batch(seed), strict=True):
            t.copy_(new)
        graph.replay()
        same(y, by_hand(model, x, s).detach(), 1e-4)


def test_meta_and_to_empty() -> None:
    """A model made on the meta device, filled later: as large checkpoints are loaded."""
    source, (x, s) = fused(), batch()
    with torch.device("meta"):
        model = fusionconv.fuse_into(Around().double().eval(), [0, -1], 2)
    assert model(x.to("meta"), s.to("meta")).shape == (4, 4)
    model.to_empty(device="cpu").load_state_dict(source.state_dict())
    same(model(x, s), by_hand(source, x, s))
    with torch.device("meta"):
        model = fusionconv.fuse_into(Around().double().eval(), [0, -1], 2)
    model.load_state_dict(source.state_dict(), assign=True)
    same(model(x, s), by_hand(source, x, s))


def test_channels_last() -> None:
    model, (x, s) = fused(), batch()
    model.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    y = model(x, s)
    same(y, by_hand(model, x, s))
    y.square().sum().backward()
    assert_gradients(model, x, s)


def test_inference_mode() -> None:
    model, (x, s) = fused(), batch()
    with torch.inference_mode():
        same(model(x, s).clone(), by_hand(model, x, s))
        born_there = s.clone()
    with torch.no_grad():
        same(model(x, born_there), by_hand(model, x, s))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        model(x, born_there)
    same(model(x, s), by_hand(model, x, s))  # and nothing is left behind


# ---------------------------------------------------------------- features, graphs, scripts


def test_forward_hooks_see_the_features() -> None:
    model, (x, s) = fused(), batch()
    seen = {}
    for name in ("net.0", "net.5"):
        model.get_submodule(name).register_forward_hook(lambda m, args, y, name=name: seen.update({name: y}))
    model(x, s).square().sum().backward()
    kernels = model.net[0].weight + torch.einsum("nk,k...->n...", s, model.net[0].covariate_weight)
    for i in range(4):
        expected = nn.functional.conv2d(x[i : i + 1], kernels[i], model.net[0].bias, padding=1)
        same(seen["net.0"][i : i + 1], expected)
    assert_gradients(model, x, s)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_fx_and_script_say_what_to_do() -> None:
    from torchvision.models.feature_extraction import create_feature_extractor

    model, by_layer = fused(), fusionconv.HybridConv2d(3, 4, 3, num_covariates=2)
    for trace in (
        lambda: torch.fx.symbolic_trace(model),
        lambda: torch.fx.symbolic_trace(by_layer),
        lambda: torch.fx.symbolic_trace(fusionconv.HybridLinear(3, 4, num_covariates=2)),
        lambda: create_feature_extractor(model, ["net.0"]),
        lambda: torch.fx.symbolic_trace(nn.Sequential(model)),
    ):
        with pytest.raises(FusionError, match=r"torch\.fx cannot trace|needs them in every call"):
            trace()
    for scripted in (model, nn.Sequential(model), model.net[0]):
        with pytest.raises(FusionError, match=r"script.*torch\.export.*merge"):
            torch.jit.script(scripted)


def test_a_layer_that_gets_its_covariates_as_an_argument_can_be_a_leaf() -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = fusionconv.HybridConv2d(3, 4, 3, num_covariates=2, init="kaiming")

        def forward(self, x, s):
            return self.conv(x, s).relu()

    from torchvision.models.feature_extraction import create_feature_extractor

    model, (x, s) = ByHand().double(), batch()
    extractor = create_feature_extractor(
        model, ["conv"], tracer_kwargs={"leaf_modules": [fusionconv.HybridConv2d]}, suppress_diff_warning=True
    )
    same(extractor(x, s)["conv"], model.conv(x, s))


def test_a_feature_extractor_made_first() -> None:
    """A torch.fx graph writes its forward anew in eval(), copies and pickles: refused as a root, fine inside one."""
    from torchvision.models.feature_extraction import create_feature_extractor

    torch.manual_seed(0)
    plain, (x, s) = small_net().double(), batch()
    extractor = create_feature_extractor(plain, {"4": "feature", "8": "out"})
    with pytest.raises(SurgeryError, match=r"torch\.fx graph.*Sequential\(graph\)"):
        fusionconv.fuse_into(extractor, 0, 2)
    model = with_covariates_that_matter(fusionconv.fuse_into(nn.Sequential(extractor), ["0.0", "0.5"], 2))
    reference = fused()
    reference.net.load_state_dict(dict(model[0].state_dict()))
    for twin in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.train().eval()
        same(twin(x, s)["out"], by_hand(reference, x, s))
        assert twin(x, s)["feature"].shape == (4, 6, 6, 6)
    twin.get_submodule("0.0").covariate_weight.data += 1
    same(model(x, s)["out"], by_hand(reference, x, s))
    assert type(fusionconv.unfuse(model)) is nn.Sequential
    assert type(extractor.get_submodule("0")) is nn.Conv2d
    assert extractor(x)["out"].shape == (4, 4)


def test_jit_trace_fixes_the_batch_size() -> None:
    model, (x, s) = fused(), batch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (x, s))
    x, s = batch(2)
    same(traced(x, s), by_hand(model, x, s))
    for n in (1, 2, 8):
        with pytest.raises(RuntimeError):
            traced(*batch(2, n=n))


# ---------------------------------------------------------------- tools that rewrite layers


def test_folding_batch_norm() -> None:
    """Folding scales W and leaves V as it was. torch folds into a copy of the layer, which belongs to no call."""
    model, (x, s) = fused(), batch()
    model.net[0] = nn.utils.fusion.fuse_conv_bn_eval(model.net[0], model.net[1])
    model.net[1] = nn.Identity()
    with pytest.raises(CovariateError, match="needs them in every call"):
        model(x, s)


@pytest.mark.xfail(
    strict=True, reason="torch folds into W alone, and no method of the layer is asked: docs/limits.md, 17"
)
def test_folding_batch_norm_into_a_layer_built_by_hand() -> None:
    model, (x, s) = fused(), batch()
    layer = fusionconv.HybridConv2d(3, 6, 3, num_covariates=2, init="kaiming").double().eval()
    norm = model.net[1]
    norm.running_var.fill_(9.0)
    same(nn.utils.fusion.fuse_conv_bn_eval(layer, norm)(x, s), norm(layer(x, s)))


def test_quantisation_leaves_hybrid_layers_alone() -> None:
    """Eager-mode quantisation knows no hybrid layer: it cannot fold one, and leaves it in floating point."""
    model, (x, s) = fused().float(), [t.float() for t in batch()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import fuse_modules, quantize_dynamic

        with pytest.raises(AssertionError, match="did not find fuser method"):
            fuse_modules(model, [["net.0", "net.1", "net.2"]])
        quantised = quantize_dynamic(model, {nn.Linear})
    head = quantised.net[8]
    assert type(head).__module__.startswith("torch.ao")
    expected = by_hand(model, x, s)
    assert (quantised(x, s) - expected).abs().max() < 0.05 * expected.abs().max()


def test_pruning() -> None:
    """Of W or V: the layer computes with what is left, and nothing is taken out before pruning is made permanent."""
    from torch.nn.utils import prune

    model, (x, s) = fused(), batch()
    for name in ("weight", "covariate_weight"):
        prune.l1_unstructured(model.net[0], name, amount=0.5)
    y = model(x, s)
    same(y, by_hand(model, x, s))
    assert (model.net[0].covariate_weight == 0).sum() == model.net[0].covariate_weight.numel() // 2
    keys = list(model.state_dict())
    for change in (fusionconv.unfuse, lambda m: fusionconv.merge(m, s[0])):
        with pytest.raises(SurgeryError, match=r"'net\.0'.*prune\.remove"):
            change(model)
    assert list(model.state_dict()) == keys
    for name in ("weight", "covariate_weight"):
        prune.remove(model.net[0], name)
    same(model(x, s), y)
    same(fusionconv.merge(copy.deepcopy(model), s[1])(x[1:2]), y[1:2])
    assert set(fusionconv.unfuse(model).state_dict()) == set(Around().state_dict())
