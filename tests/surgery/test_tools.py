"""Tools that look into a network or rewrite it, given a fused one: right numbers, or an error that says what to do."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import fusionconv
from fusionconv.errors import CovariateError, FusionError, SurgeryError
from tests.helpers.by_hand import Around, assert_gradients, batch, by_hand, fused, same
from tests.helpers.networks import small_net, with_covariates_that_matter


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


def test_folding_batch_norm() -> None:
    """Folding scales W and leaves V as it was. torch folds into a copy of the layer, which belongs to no call."""
    model, (x, s) = fused(), batch()
    model.net[0] = nn.utils.fusion.fuse_conv_bn_eval(model.net[0], model.net[1])
    model.net[1] = nn.Identity()
    with pytest.raises(CovariateError, match="needs them in every call"):
        model(x, s)


@pytest.mark.xfail(
    strict=True, reason="torch folds into W alone, and no method of the layer is asked: docs/limits.md, Other tools"
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
