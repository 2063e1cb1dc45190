"""Arms and networks: one start for all, concat against torch.cat, hybrid sample by sample, MONAI's by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionconv.errors import SurgeryError
from recipes.adni.arms import build_network, concatenate, count_parameters
from recipes.adni.networks import Conv5FC3, SmallResNet, build_backbone


@pytest.mark.parametrize("network", ["conv5_fc3", "small_resnet"])
def test_all_arms_start_from_the_same_weights_and_give_the_same_outputs(network):
    volumes, covariates = torch.randn(2, 1, 32, 32, 32), torch.randn(2, 3)
    outputs = []
    for arm in ("image", "concat", "hybrid"):
        torch.manual_seed(0)
        model = build_network(arm, network, 2, 3).eval()
        outputs.append(model(volumes) if arm == "image" else model(volumes, covariates))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(outputs[2], outputs[0], rtol=0, atol=1e-5)


def test_concat_is_a_linear_layer_of_the_features_with_the_covariates_appended():
    torch.manual_seed(0)
    network = SmallResNet(2, base=2).double().eval()
    volumes, covariates = torch.randn(3, 1, 16, 16, 16, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    features = network.pool(network.blocks(network.stem(volumes))).flatten(1)
    weight, bias = network.fc.weight.detach().clone(), network.fc.bias.detach().clone()
    fused = concatenate(network, 4)
    joined = torch.randn(2, 4, dtype=torch.float64)
    with torch.no_grad():
        fused.fc.covariate_out_weight.copy_(joined)
    expected = torch.cat([features, covariates], 1) @ torch.cat([weight, joined], 1).T + bias
    torch.testing.assert_close(fused(volumes, covariates), expected)
    assert count_parameters(fused)["covariate_parameters"] == 2 * 4


def test_hybrid_gives_each_volume_its_own_row():
    torch.manual_seed(0)
    model = build_network("hybrid", "small_resnet", 2, 2, network_options={"base": 2}).eval()
    with torch.no_grad():
        model.stem[0].covariate_weight.normal_()
    volumes, covariates = torch.randn(4, 1, 16, 16, 16), torch.randn(4, 2)
    alone = torch.cat([model(v[None], s[None]) for v, s in zip(volumes, covariates, strict=True)])
    torch.testing.assert_close(model(volumes, covariates), alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(volumes, covariates), model(volumes, covariates.flip(0)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("densenet121", {}),
        ("resnet10", {}),
        ("EfficientNetBN", {"model_name": "efficientnet-b0", "in_channels": 1}),
        ("SEResNet50", {"in_channels": 1}),
    ],
)
def test_monai_networks_by_name_have_the_tasks_outputs(name, options):
    model = build_backbone(name, 3, options).eval()
    assert model(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: build_backbone("resnet11", 2), "resnet11"),
        (lambda: build_backbone("small_resnet", 2, {"width": 3}), "width"),
        (lambda: build_network("hybrid", "small_resnet", 2, 0), "needs covariates"),
        (lambda: build_network("hybrid", "small_resnet", 2, 1, layer_idx=99), "99"),
        (lambda: concatenate(nn.Sequential(nn.Conv3d(1, 1, 3)), 2), "no nn.Linear"),
    ],
)
def test_what_cannot_be_built_says_why(make, says):
    with pytest.raises(SurgeryError, match=says):
        make()


def test_conv5_fc3_has_five_convolutions_and_three_linear_layers():
    kinds = [type(m) for m in Conv5FC3(2).modules()]
    assert (kinds.count(nn.Conv3d), kinds.count(nn.Linear)) == (5, 3)
