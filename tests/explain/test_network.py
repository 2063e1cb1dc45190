"""fusionconv.summary against torch's counter and by hand; the drawn network against the model."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fusionconv
from fusionconv.errors import ExplainError, SurgeryError
from fusionconv.explain import plot_network
from tests.helpers.explained import fused, net


def counted(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    return counter.get_total_flops()


# ---- summary ----


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("method", "where"), [
    ("hybrid", "all"), ("hybrid", "8"), ("lowrank", "all"), ("film", "first"), ("concat", "8"), ("hyper", "last"),
])  # fmt: skip
def test_the_networks_own_flops_are_the_plain_networks(dims, method, where):
    plain = net(dims=dims)
    model = fusionconv.fuse_into(copy.deepcopy(plain), where, 3, method=method)
    found = fusionconv.summary(model, (2, *[8] * dims))
    assert found.flops == counted(plain, torch.zeros(1, 2, *[8] * dims).double())
    assert found.parameters == sum(p.numel() for p in plain.parameters())
    assert found.added_parameters == sum(p.numel() for p in model.parameters()) - found.parameters
    assert found.added_flops == sum(layer.added_flops for layer in found.layers) > 0


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_hybrid_layer_costs_what_the_counter_says(transposed, groups):
    """`loop` forms its kernels element by element, which no counter sees: it counts the plain layer there.
    `grouped` forms them by a product, which it counts."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    plain = nn.Sequential(kind(4, 6, 3, stride=2, groups=groups))
    x, s = torch.randn(1, 4, 9, 9), torch.randn(1, 5)
    results = {}
    for strategy in ("loop", "grouped"):
        model = fusionconv.fuse_into(copy.deepcopy(plain), 0, 5, strategy=strategy)
        found = fusionconv.summary(model, x=x)
        results[strategy] = counted(model, x, s)
        assert found.flops == counted(plain, x)
        assert found.added_flops == 2 * 5 * plain[0].weight.numel()
    assert results["loop"] == found.flops
    assert results["grouped"] == found.flops + found.added_flops


def test_formulas_of_the_other_methods():
    def added(method, **options):
        model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(4, 6, 3)), 0, 5, method=method, **options)
        return fusionconv.summary(model, (4, 10, 10)).added_flops

    Q, P, C, K = 6 * 4 * 9, 64, 6, 5
    assert added("hybrid", rank=2) == 2 * 2 * Q + 2 * 2 * K
    assert added("hyper", hidden=7) == 2 * 7 * Q + 2 * 7 * K
    assert added("film") == 4 * C * K + 2 * C * P
    assert added("scale", hidden=7) == 2 * 7 * K + 2 * C * 7 + C * P
    assert added("daft") == 2 * 7 * (C + K) + 2 * 2 * C * 7 + 3 * C * P
    assert added("lowrank", rank=2) == 2 * 2 * K + min(2 * 2 * P * (Q // C + C), 2 * 2 * Q)
    assert added("condconv", ignore_covariates=True) == 2 * 4 * Q + 4 * 100 + 2 * 4 * 4


def test_summary_as_a_table_and_as_a_dict():
    model = fusionconv.fuse_into(net(), "first", 3, rank=2)
    found = fusionconv.summary(model)
    assert found.flops is None
    lines = str(found).splitlines()
    assert lines[0] == "Sequential: 1 fused layer, 3 covariate(s)"
    assert lines[2].split() == ["layer", "method", "kind", "weight", "parameters", "added"]
    assert lines[4].split() == ["0", "hybrid", "(rank=2)", "Conv2d", "4x2x3x3", "76", "+150"]
    assert len({len(line) for line in lines[2:7]}) == 1
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["options"] == {"rank": 2}
    assert "FLOPs" in repr(fusionconv.summary(model, (2, 8, 8)))


def test_summary_warns_where_the_added_part_is_larger():
    model = fusionconv.fuse_into(net(), "all", 8)
    found = fusionconv.summary(model, (2, 8, 8))
    assert "add 1,440 parameters to the" in found.warnings[0]
    assert f"Warning: {found.warnings[0]}" in str(found)
    assert fusionconv.summary(fusionconv.fuse_into(net(), "first", 1)).warnings == ()


def test_summary_changes_nothing_and_knows_plain_models():
    model = fused().train()
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    fusionconv.summary(model, (2, 8, 8))
    assert [m.training for m in model] == [n != 1 for n in range(len(model))]
    torch.testing.assert_close(dict(model.state_dict()), dict(before))
    assert "0 fused layers" in str(fusionconv.summary(net(), (2, 8, 8)))
    layer = fusionconv.HybridConv2d(2, 3, 3, num_covariates=2)
    assert fusionconv.summary(layer, (2, 8, 8)).added_flops == 2 * 2 * 54


class Own(nn.Module):
    """A network of one's own, which hands its covariates to its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = fusionconv.HybridConv2d(2, 3, 3, num_covariates=2)

    def forward(self, x, covariates):
        return self.conv(x, covariates)


@pytest.mark.parametrize("make", [Own, lambda: fusionconv.HybridConv2d(2, 3, 3, num_covariates=2)])
def test_networks_that_are_called_with_covariates_get_zeros(make):
    model = make()
    found = fusionconv.summary(model, (2, 8, 8))
    assert (found.num_covariates, found.flops, found.added_flops) == (2, 2 * 36 * 54, 2 * 2 * 54)
    said = texts(plot_network(model, (2, 8, 8), names=["age", "sex"]))
    assert {"age", "sex", "2 × 8 × 8"} <= set(said)
    if make is Own:
        assert "3 × 6 × 6" in said


@pytest.mark.parametrize(("given", "says"), [
    ({"input_size": 3}, "input_size"), ({"input_size": (0, 3)}, "input_size"), ({"input_size": (2, 8.5, 8)}, "input_size"),
    ({"input_size": "288"}, "input_size"), ({"input_size": ["a"]}, "input_size"), ({"x": torch.zeros(3)}, "x: expected a batch"),
    ({"input_size": (2, 8, 8), "x": torch.zeros(1, 2, 8, 8)}, "got both"),
])  # fmt: skip
def test_summary_of_what_does_not_fit(given, says):
    with pytest.raises(SurgeryError, match=says):
        fusionconv.summary(fused(), **given)
    with pytest.raises(SurgeryError, match="model: expected"):
        fusionconv.summary(3)


class TwoInputs(nn.Module):
    """A network that needs more than a batch of images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)

    def forward(self, x, mask):
        return self.conv(x) * mask


def test_a_network_of_several_inputs_is_refused_with_what_it_lacks_and_works_wrapped():
    model = fusionconv.fuse_into(TwoInputs(), "first", 2)
    for look in (fusionconv.summary, plot_network):
        with pytest.raises(
            SurgeryError, match="got TwoInputs, whose forward says: missing a required argument: 'mask'"
        ):
            look(model, (2, 8, 8))
    assert fusionconv.summary(model).layers[0].name == "conv"  # without an image nothing is called

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = TwoInputs()

        def forward(self, x):
            return self.net(x, 1.0)

    assert fusionconv.summary(fusionconv.fuse_into(Wrapped(), "first", 2), (2, 8, 8)).flops == 2 * 36 * 54


# ---- the drawing ----


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def boxes(figure):
    return [p for p in figure.axes[0].patches if p.get_gid() is not None]


def test_blocks_run_in_order_with_their_shapes():
    figure = plot_network(fused(), (2, 8, 8), names=["age", "sex", "site"])
    said = texts(figure)
    assert [p.get_gid() for p in boxes(figure)] == ["0", "4", "6", "8"]
    assert [t for t in said if "×" in t and "conv" not in t] == ["2 × 8 × 8", "4 × 8 × 8", "3 × 6 × 6", "3 × 1 × 1"]
    assert {"age", "sex", "site", "hybrid", "image", "BN, ReLU"} <= set(said)
    lefts = [p.get_x() for p in boxes(figure)]
    assert lefts == sorted(lefts)
    edges = {p.get_gid(): p.get_linewidth() for p in boxes(figure)}
    assert edges["0"] > edges["4"] == edges["8"]


@pytest.mark.parametrize("size", [None, (3, 64, 64)])
def test_a_resnet_is_drawn_by_its_stages(size):
    torchvision = pytest.importorskip("torchvision")
    model = fusionconv.fuse_into(torchvision.models.resnet18(), "last", 12)
    figure = plot_network(model, size)
    names = [p.get_gid() for p in boxes(figure)]
    assert names == ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    assert "hybrid: 1.conv2" in texts(figure)
    assert "s_12" in texts(figure)
    assert ("512 × 2 × 2" in texts(figure)) == (size is not None)


def test_texts_stay_inside_their_blocks():
    model = fusionconv.fuse_into(net(), "all", 3)
    figure = plot_network(model, (2, 8, 8))
    figure.canvas.draw()
    for box in boxes(figure):
        around = box.get_window_extent()
        inside = [t for t in figure.axes[0].texts if around.x0 < sum(t.get_window_extent().intervalx) / 2 < around.x1
                  and around.y0 < sum(t.get_window_extent().intervaly) / 2 < around.y1]  # fmt: skip
        assert inside
        for text in inside:
            assert text.get_window_extent().x0 >= around.x0 - 1
            assert text.get_window_extent().x1 <= around.x1 + 1


def test_a_plain_network_has_no_covariates():
    said = texts(plot_network(net(), (2, 8, 8), title="plain"))
    assert not [t for t in said if "covariate" in t]
    assert "plain" in said
    with pytest.raises(ExplainError, match="input_size: expected a size"):
        plot_network(net(), (5, 8, 8))
    with pytest.raises(ExplainError, match="input_size"):
        plot_network(net(), 8)
    with pytest.raises(ExplainError, match="names: expected 3"):
        plot_network(fused(), names=["a"])
