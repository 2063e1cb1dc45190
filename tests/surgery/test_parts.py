"""Parts of U-shaped networks: what list_convs names against what runs, and what the words choose."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv import fuse_into, list_convs
from fusionconv.errors import SurgeryError
from fusionconv.study.networks import build_network

NETWORKS = {
    "BasicUNet": 32,
    "UNet": 32,
    "DynUNet": 32,
    "SwinUNETR": 64,
    "AttentionUnet": 32,
    "SegResNet": 32,
    "VNet": 32,
}


def made(name, dims=2):
    size = (NETWORKS[name],) * dims
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_network(f"monai:{name}", num_outputs=2, in_channels=1, image_size=size), size


class Plain(nn.Module):
    """A U-Net whose names say nothing: only the order and the modules tell."""

    def __init__(self):
        super().__init__()
        self.a, self.pool, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1)
        self.c, self.grow, self.d = (
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(12, 2, 3, padding=1),
        )

    def forward(self, x):
        x = self.a(x)
        return self.d(torch.cat([x, self.grow(self.c(self.b(self.pool(x))))], 1))


def ran(model, size):
    """Each convolution in the order in which it runs, with the pixels of its output."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, _ConvNd):
            module.register_forward_hook(lambda m, i, out, name=name: found.update({name: out[0, 0].numel()}))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, *size))
    return found


@pytest.mark.parametrize("name", [*NETWORKS, "plain"])
def test_parts_are_those_that_run(name):
    model, size = (Plain(), (16, 16)) if name == "plain" else made(name)
    pixels = ran(model, size)
    part = {conv.name: conv.part for conv in list_convs(model) if conv.name in pixels}
    order = {p: [n for n, name in enumerate(pixels) if part[name] == p] for p in ("encoder", "bottleneck", "decoder")}
    assert all(order.values())
    assert min(order["decoder"]) > max(order["bottleneck"])  # what runs first is what is named first
    if name != "SwinUNETR":  # its blocks on the skips run all before the decoder
        assert max(order["encoder"]) < min(order["bottleneck"])
    least = min(pixels.values())
    assert {pixels[n] for n, p in part.items() if p == "bottleneck"} == {least}
    assert all(part[n] == "decoder" for n, m in model.named_modules() if isinstance(m, _ConvNd) and m.transposed)
    assert all(pixels[n] > least for n, p in part.items() if p == "encoder") or name in ("UNet", "AttentionUnet")


@pytest.mark.parametrize("name", ["BasicUNet", "DynUNet", "UNet", "SwinUNETR"])
@pytest.mark.parametrize("word", ["encoder", "bottleneck", "decoder", "all"])
def test_words_fuse_the_part_and_change_nothing_at_first(name, word):
    model, size = made(name)
    model.eval()
    images, s = torch.randn(2, 1, *size), torch.randn(2, 3)
    before = model(images)
    expected = {c.name for c in list_convs(model) if c.role == "main" and word in (c.part, "all")}
    fuse_into(model, word, 3)
    assert {c.name for c in list_convs(model) if c.fused} == expected
    torch.testing.assert_close(model(images, s), before, atol=1e-5, rtol=1e-4)


def test_three_dimensions_have_the_same_parts():
    flat, solid = ([c.part for c in list_convs(made("BasicUNet", dims)[0])] for dims in (2, 3))
    assert flat == solid


def test_other_networks_have_an_encoder_only():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    assert {c.part for c in list_convs(net)} == {""}
    assert [c.fused for c in list_convs(fuse_into(net, "encoder", 1))] == [True, True]
    for word in ("bottleneck", "decoder"):
        with pytest.raises(SurgeryError, match="part of a U-shaped network, and Sequential has none"):
            fuse_into(nn.Sequential(nn.Conv2d(1, 2, 3)), word, 1)


def test_a_part_whose_layers_cannot_be_fused_says_so():
    model = Plain()
    torch.nn.utils.parametrizations.weight_norm(model.b)
    torch.nn.utils.parametrizations.weight_norm(model.c)
    with pytest.raises(SurgeryError, match=r"on the main path of the bottleneck.*weight_norm"):
        fuse_into(model, "bottleneck", 1)
    assert not any(c.fused for c in list_convs(model))


def test_a_module_of_that_name_in_a_network_that_is_not_u_shaped_keeps_its_meaning():
    net = nn.ModuleDict({"encoder": nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))})
    assert [c.name for c in list_convs(fuse_into(net, "encoder", 1)) if c.fused] == ["encoder.1"]
