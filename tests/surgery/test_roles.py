"""The words "first", "last" and "all": the main path as people see it, compared with what runs."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import LayerChoiceWarning, SurgeryError
from fusionconv.surgery.roles import roles_of
from fusionconv.surgery.select import resolve
from tests.helpers.forward_order import watch

TORCHVISION = [
    "resnet18",
    "resnet50",
    "wide_resnet50_2",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "vgg11_bn",
    "alexnet",
    "googlenet",
    "inception_v3",
    "vit_b_16",
    "maxvit_t",
]
TIMM = [
    "resnet10t",
    "resnet26d",
    "seresnet50",
    "ecaresnet50t",
    "skresnet18",
    "resnest14d",
    "resnetv2_50",
    "densenet121",
    "dla34",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "convnext_atto",
    "regnety_002",
    "rexnet_100",
    "xception41",
    "inception_resnet_v2",
    "nfnet_l0",
    "repvgg_a0",
    "vit_tiny_patch16_224",
    "levit_128s",
    "legacy_seresnet18",
    "res2net50_26w_4s",
    "ese_vovnet19b_dw",
    "fastvit_t8",
    "gernet_s",
    "tresnet_m",
    "darknet53",
    "mobileone_s0",
]
# blocks whose branches are added and folded for inference, or that split their input: what the shortcut is, is no question
BRANCHED = ("repvgg", "mobileone", "fastvit", "skresnet")


def monai_nets():
    from monai.networks import nets

    return {
        "resnet10": (lambda: nets.resnet10(spatial_dims=3, n_input_channels=1, num_classes=2), (2, 1, 32, 32, 32)),
        "resnet50": (lambda: nets.resnet50(spatial_dims=2, n_input_channels=1, num_classes=2), (2, 1, 64, 64)),
        "DenseNet121": (lambda: nets.DenseNet121(3, 1, 2), (2, 1, 64, 64, 64)),
        "SEResNet50": (lambda: nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=2), (2, 1, 64, 64)),
        "EfficientNetBN": (lambda: nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=2), (2, 3, 64, 64)),
        "BasicUNet": (lambda: nets.BasicUNet(2, 1, 2), (2, 1, 64, 64)),
        "UNet": (lambda: nets.UNet(2, 1, 2, (8, 16, 32), (2, 2), num_res_units=2), (2, 1, 64, 64)),
        "SegResNet": (lambda: nets.SegResNet(2, 8, 1, 2), (2, 1, 64, 64)),
        "VNet": (lambda: nets.VNet(3, 1, 2), (2, 1, 32, 32, 32)),
        "Classifier": (lambda: nets.Classifier((1, 32, 32), 2, (4, 8, 16), (2, 2, 2)), (2, 1, 32, 32)),
    }


def check_against_what_runs(model: nn.Module, image: torch.Tensor, branched: bool = False) -> None:
    """The roles, and both words, against the order of the forward pass without shortcuts and pooled features."""
    ran = watch(model, image)
    path = [name for name in ran.order if name not in ran.shortcuts | ran.no_map]
    roles = {c.name: c.role for c in fusionconv.list_convs(model)}
    assert branched or {name for name, role in roles.items() if role == "shortcut"} == ran.shortcuts
    assert not [name for name in path if roles[name] not in ("main", "shortcut")]
    main = [name for name, role in roles.items() if role == "main"]
    assert (main[0], main[-1]) == (path[0], path[-1])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name) -> None:
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        make = getattr(models, name)
        model = make(weights=None, init_weights=False) if name in ("googlenet", "inception_v3") else make(weights=None)
    size = 299 if name == "inception_v3" else 224
    check_against_what_runs(model.eval(), torch.empty(2, 3, size, size, device="meta"))


@pytest.mark.parametrize("name", TIMM)
def test_timm(name) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False).to("meta").eval()
    image = torch.empty(2, *model.default_cfg["input_size"], device="meta")
    check_against_what_runs(model, image, branched=name.startswith(BRANCHED))


def test_monai() -> None:
    pytest.importorskip("monai")
    for name, (make, shape) in monai_nets().items():
        with torch.device("meta"):
            model = make().to("meta").eval()
        try:
            check_against_what_runs(model, torch.empty(shape, device="meta"))
        except AssertionError as error:
            raise AssertionError(name) from error


# ---------------------------------------------------------------- blocks as people write them


class Wide(nn.Module):  # xternalz/WideResNet-pytorch
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(a, b, 3, stride, 1), nn.Conv2d(b, b, 3, 1, 1)
        self.convShortcut = None if (a, stride) == (b, 1) else nn.Conv2d(a, b, 1, stride)

    def forward(self, x):
        return self.conv2(self.conv1(x).relu()) + (x if self.convShortcut is None else self.convShortcut(x))


class Nameless(nn.Module):  # nothing but the shapes tells; registered in front or behind
    def __init__(self, a: int, b: int, stride: int, front: bool = False) -> None:
        super().__init__()
        if front:
            self.p = nn.Sequential(nn.Conv2d(a, b, 1, stride), nn.BatchNorm2d(b))
        self.a, self.b = nn.Conv2d(a, b, 3, stride, 1), nn.Conv2d(b, b, 3, 1, 1)
        if not front:
            self.p = nn.Sequential(nn.Conv2d(a, b, 1, stride), nn.BatchNorm2d(b))

    def forward(self, x):
        return self.b(self.a(x).relu()) + self.p(x)


class Bottleneck(nn.Module):  # width == inputs: the last 1x1 and the shortcut have the same shape
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(a, a, 1), nn.Conv2d(a, a, 3, stride, 1), nn.Conv2d(a, b, 1)
        self.match = nn.Conv2d(a, b, 1, stride)

    def forward(self, x):
        return self.c3(self.c2(self.c1(x))) + self.match(x)


class Pooled(nn.Module):  # ResNet-D: the shortcut pools, then 1x1
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(a, b, 3, stride, 1), nn.Conv2d(b, b, 3, 1, 1)
        self.sc = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(a, b, 1))

    def forward(self, x):
        return self.b(self.a(x)) + self.sc(x)


class Up(nn.Module):  # a generator's block
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = nn.ConvTranspose2d(a, b, 4, stride, 1), nn.Conv2d(b, b, 3, 1, 1)
        self.skip = nn.ConvTranspose2d(a, b, 2, stride)

    def forward(self, x):
        return self.b(self.a(x)) + self.skip(x)


class Excited(nn.Module):  # squeeze-and-excitation by nn.Sequential, without a name
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(a, b, 3, stride, 1)
        self.g = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(b, 2, 1), nn.ReLU(), nn.Conv2d(2, b, 1), nn.Sigmoid())

    def forward(self, x):
        x = self.a(x)
        return x * self.g(x)


BLOCKS = [Wide, Nameless, lambda *s: Nameless(*s, front=True), Bottleneck, Pooled, Up, Excited]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("a", "b"), [(4, 8), (8, 4), (8, 8)])
def test_blocks(block, a, b) -> None:
    model = nn.Sequential(block(3, a, 2), block(a, b, 2))
    ran = watch(model, torch.randn(2, 3, 16, 16))
    assert ran.shortcuts or block is Excited
    check_against_what_runs(model, torch.randn(2, 3, 16, 16))


class Parallel(nn.Module):  # branches side by side, put together: none of them is a shortcut
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(6, 4, 1)
        self.one, self.three = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x)
        return torch.cat([self.one(x), self.three(x)], 1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Conv2d(6, 6, 1) for _ in range(4))

    def forward(self, x):
        return x + self.proj(self.q(x) * self.k(x) * self.v(x))


class Downsampled(nn.Module):  # ConvNeXt's stage: "downsample" stands on the main path
    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(nn.Conv2d(6, 8, 2, 2))
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.conv(self.downsample(x))


@pytest.mark.parametrize("block", [Parallel, Attention, Downsampled, lambda: nn.Sequential(nn.Conv2d(6, 6, 1, 2))])
def test_what_is_no_shortcut(block) -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), block())
    assert not watch(model, torch.randn(2, 3, 8, 8)).shortcuts
    assert {c.role for c in fusionconv.list_convs(model)} == {"main"}


# ---------------------------------------------------------------- the words in layer_idx


def net(**extra: nn.Module) -> nn.Sequential:
    parts = {"stem": nn.Conv2d(3, 4, 3), "body": Wide(4, 8, 2), "tail": Wide(8, 6, 1), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict({**parts, "fc1": nn.Linear(96, 5), "fc2": nn.Linear(5, 2), **extra}))


@pytest.mark.parametrize(
    ("layer_idx", "method", "names"),
    [
        ("first", "hybrid", ["stem"]),
        ("last", "hybrid", ["tail.conv2"]),
        ("all", "film", ["stem", "body.conv1", "body.conv2", "tail.conv1", "tail.conv2"]),
        (["last", "first"], "hybrid", ["stem", "tail.conv2"]),
        (["first", 0, "stem"], "hybrid", ["stem"]),
        ("body", "hybrid", ["body.conv2"]),
        ("body.last", "hybrid", ["body.conv2"]),
        ("body.first", "hybrid", ["body.conv1"]),
        ("body.all", "hybrid", ["body.conv1", "body.conv2"]),
        ("stem.last", "hybrid", ["stem"]),
        ("body.convShortcut", "hybrid", ["body.convShortcut"]),
        ("first", "concat", ["fc1"]),
        ("last", "concat", ["fc2"]),
        ("all", "concat", ["fc1", "fc2"]),
        ("fc1", "hybrid", ["fc1"]),
        ("fc1.all", "concat", ["fc1"]),
    ],
)
def test_words_and_containers(layer_idx, method, names) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fusionconv.fuse_into(net(), layer_idx, 2, method=method)
    fused = [n for n, m in model.named_modules() if type(m).__name__.startswith("Fused") and n]
    assert fused == names
    model(torch.randn(3, 3, 10, 10), torch.randn(3, 2))


def test_all_takes_what_can_be_fused_and_is_not_yet() -> None:
    model = net()
    nn.utils.parametrizations.weight_norm(model.stem)
    fusionconv.fuse_into(model, "body.conv1", 2)
    assert resolve(model, "all") == ["body.conv2", "tail.conv1", "tail.conv2"]
    fusionconv.fuse_into(model, "all", 2)
    with pytest.raises(SurgeryError, match=r"'all': no convolution.*'stem'.*parametrization"):
        fusionconv.fuse_into(model, "all", 2)


@pytest.mark.parametrize(
    ("make", "layer_idx", "method", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 2)), "last", "hybrid", "holds no convolution"),
        (net, "flat.last", "hybrid", "'flat' holds no convolution"),
        (net, "body.last", "concat", "'body' holds no nn.Linear"),
        (net, "body.lust", "hybrid", "does not have"),
        (net, "nowhere.last", "hybrid", "does not have"),
        (net, "body.convShortcut.first", "hybrid", r"holds none, only: 'body.convShortcut' \(shortcut\)"),
        (lambda: net(last=nn.Conv2d(2, 2, 1)), "first", "hybrid", None),
        (
            lambda: net(first=nn.Conv2d(2, 2, 1)),
            "first",
            "hybrid",
            "'first' could mean the module of that name or 'stem'",
        ),
        (lambda: net(all=nn.Sequential(nn.Conv2d(2, 2, 1))), "all", "hybrid", "could mean the module of that name or"),
        (lambda: nn.Sequential(OrderedDict(a=nn.Conv2d(2, 2, 1), last=nn.Conv2d(2, 2, 1))), "last", "hybrid", None),
        (lambda: nn.Sequential(OrderedDict(a=Parallel())), "a", "hybrid", "'a.squeeze', 'a.one', 'a.three'.*'a.last'"),
        (lambda: nn.Sequential(OrderedDict(a=Parallel())), "a.last", "hybrid", None),
    ],
)
def test_refused_words(make, layer_idx, method, words) -> None:
    model = make()
    before = [type(m) for m in model.modules()]
    if words is None:
        fusionconv.fuse_into(model, layer_idx, 2, method=method)
        return
    with pytest.raises(SurgeryError, match=words):
        fusionconv.fuse_into(model, layer_idx, 2, method=method)
    assert [type(m) for m in model.modules()] == before


@pytest.mark.parametrize(
    ("layer_idx", "method", "words"),
    [
        (-1, "hybrid", r"layer_idx=-1 is 'tail.convShortcut', whose role in Sequential is 'shortcut'.*'last'"),
        (3, "film", r"layer_idx=3 is 'body.convShortcut', whose role"),
        (0, "concat", r"counts the linear layers, not the convolutions: it is 'fc1' here"),
    ],
)
def test_an_index_that_hits_something_else_warns_once(layer_idx, method, words) -> None:
    with pytest.warns(LayerChoiceWarning, match=words) as warned:
        fusionconv.fuse_into(net(), layer_idx, 2, method=method)
    assert len(warned) == 1
    assert warned[0].filename == __file__


def test_a_transformer_has_one_convolution() -> None:
    vit = pytest.importorskip("torchvision").models.VisionTransformer(32, 8, 2, 2, 16, 32)
    fusionconv.fuse_into(copy.deepcopy(vit), "first", 2)
    with pytest.warns(LayerChoiceWarning, match="'last' is 'conv_proj', the patch embedding, as 'first' is"):
        fusionconv.fuse_into(vit, "last", 2)
    assert resolve(vit, "last", "concat") == ["heads.head"]


def test_roles_stay_when_layers_are_fused_and_are_told() -> None:
    model = net()
    before = roles_of(model)
    fusionconv.fuse_into(model, ["all", "body.convShortcut"], 2)
    assert roles_of(model) == before
    assert "shortcut  fused" in str(fusionconv.list_convs(model)[3])
