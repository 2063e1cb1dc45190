"""Networks by name: outputs, channels, heads, weights and freezing, against the libraries' own and by hand."""

import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusionconv.errors import CheckpointError, FusionError, StudyError, SurgeryError
from fusionconv.study.brain_networks import Conv5FC3, SmallResNet
from fusionconv.study.first_weights import fit_channels, load_weights
from fusionconv.study.freezing import freeze, frozen_modules
from fusionconv.study.heads import HiddenHead, last_linear, read_head
from fusionconv.study.networks import build_network, check_network

TWO_D = ["torchvision:resnet18", "torchvision:squeezenet1_1", "torchvision:googlenet", "timm:convnext_atto",
         "timm:vit_tiny_patch16_224", "monai:resnet18"]  # fmt: skip
THREE_D = ["fusionconv:conv5_fc3", "fusionconv:small_resnet", "monai:resnet10", "monai:DenseNet121"]


def make(name, size=(64, 64), channels=3, outputs=3, seed=0, **more):
    torch.manual_seed(seed)
    return build_network(name, num_outputs=outputs, in_channels=channels, image_size=size, **more)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", TWO_D)
def test_two_dimensional_networks_take_any_channels_and_give_the_outputs(name, channels):
    network = make(name, channels=channels, outputs=5).eval()
    assert network(torch.randn(2, channels, 64, 64)).shape == (2, 5)
    check_network(network, channels, (64, 64), 5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", THREE_D)
def test_three_dimensional_networks_take_any_channels_and_give_the_outputs(name, channels):
    network = make(name, (32, 32, 32), channels, 2).eval()
    assert network(torch.randn(2, channels, 32, 32, 32)).shape == (2, 2)
    check_network(network, channels, (32, 32, 32), 2)


@pytest.mark.parametrize("name", ["torchvision:inception_v3", "torchvision:googlenet"])
def test_no_second_outputs_in_training(name):
    network = make(name, (96, 96)).train()
    assert isinstance(network(torch.randn(2, 3, 96, 96)), torch.Tensor)


def test_a_networks_weights_are_the_librarys_own_of_the_same_seed():
    torchvision, monai = pytest.importorskip("torchvision"), pytest.importorskip("monai.networks.nets")
    torch.manual_seed(3)
    expected = torchvision.models.resnet18(num_classes=2).state_dict()
    assert_same(make("torchvision:resnet18", outputs=2, seed=3).state_dict(), expected)
    torch.manual_seed(3)
    expected = monai.resnet10(spatial_dims=3, n_input_channels=1, num_classes=2).state_dict()
    assert_same(make("monai:resnet10", (32, 32, 32), 1, 2, seed=3).state_dict(), expected)


def assert_same(state, expected):
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("short", "kind"), [("conv5_fc3", Conv5FC3), ("small_resnet", SmallResNet)])
def test_the_brain_networks_by_name(short, kind):
    torch.manual_seed(0)
    own = kind(2)
    made = make(f"fusionconv:{short}", (32, 32, 32), 1, 2)
    assert type(made) is kind
    assert_same(made.state_dict(), own.state_dict())


def test_their_weights_are_those_of_before():
    # the sum of all weights' absolute values as they were before the engine, seed 0
    sums = {"conv5_fc3": 4824.155827834079, "small_resnet": 1513.3576155514027}
    for short, before in sums.items():
        network = make(f"fusionconv:{short}", (32, 32, 32), 1, 2)
        assert sum(p.double().abs().sum() for p in network.parameters()).item() == pytest.approx(before, rel=1e-6)


# ---- one's own functions ----


def tiny(num_outputs, in_channels, image_size, width=4):
    pooled = nn.AdaptiveAvgPool2d(1) if len(image_size) == 2 else nn.AdaptiveAvgPool3d(1)
    conv = nn.Conv2d if len(image_size) == 2 else nn.Conv3d
    return nn.Sequential(conv(in_channels, width, 3), nn.ReLU(), pooled, nn.Flatten(), nn.Linear(width, num_outputs))


def takes_nothing(width=4):
    return tiny(3, 3, (64, 64), width)


def takes_anything(**given):
    assert set(given) == {"num_outputs", "in_channels", "image_size"}
    return tiny(**given)


def tuple_of_two(num_outputs):
    class Two(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)), x

    return Two()


def no_network():
    return "no network"


def maps(num_outputs, in_channels):
    return nn.Conv2d(in_channels, num_outputs, 1)


def divides_by_nothing(num_outputs):
    class Nothing(nn.Module):
        def forward(self, x):
            return (x[..., 64:, 64:].mean((2, 3)) if x.shape[-1] < 96 else x.mean((2, 3))) + x.new_zeros(num_outputs)

    return Nothing()


@pytest.fixture
def own(monkeypatch):
    """This module under a name that `importlib` finds."""
    monkeypatch.setitem(sys.modules, "my_networks", sys.modules[__name__])
    return "my_networks"


@pytest.mark.parametrize("function", ["tiny", "takes_nothing", "takes_anything"])
def test_an_own_function_gets_what_it_takes(own, function):
    network = make(f"{own}:{function}")
    check_network(network, 3, (64, 64), 3)


def test_an_own_function_gets_options(own):
    assert make(f"{own}:takes_nothing", options={"width": 7})[0].out_channels == 7


def test_an_own_function_is_found_in_the_folder_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "net_of_this_folder.py").write_text("from torch import nn\ndef f(): return nn.Linear(3, 3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    assert isinstance(make("net_of_this_folder:f"), nn.Linear)


def test_an_own_function_is_not_run_where_that_is_not_allowed(own):
    with pytest.raises(StudyError, match="not run from a file"):
        make("os:system", options={"command": "exit 1"}, own_functions=False)
    assert isinstance(make("torchvision:squeezenet1_1", own_functions=False), nn.Module)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("tuple_of_two", r"\(N, 3\) of Two, got a tuple of 2"),
        ("maps", r"got \(N, 3, 64, 64\): the images are not pooled"),
        ("divides_by_nothing", r"NaN or infinity.*--image-size 96"),
    ],
)
def test_outputs_of_another_kind_are_refused(own, function, says):
    with pytest.raises(SurgeryError, match=says):
        check_network(make(f"{own}:{function}"), 3, (64, 64), 3)


# ---- what cannot be built ----


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("resnet18", {}, "torchvision:resnet18 or timm:resnet18"),
        ("torchvision:", {}, "LIBRARY:NAME"),
        ("torchvision:resnet81", {}, "resnet18"),
        ("torchvision:fcn_resnet50", {}, "expected a network of torchvision"),
        ("timm:convnext_ato", {}, "convnext_atto"),
        ("monai:densenet11", {}, "densenet121|DenseNet121"),
        ("fusionconv:resnet", {"size": (32, 32, 32)}, "small_resnet"),
        ("torchvison:resnet18", {}, "did you mean torchvision"),
        ("my_networks:tinny", {}, "tiny"),
        ("my_networks:no_network", {}, "return an nn.Module, got str"),
        ("torchvision:resnet18", {"options": {"widht": 2}}, "widht"),
        ("my_networks:tiny", {"options": {"widht": 2}}, "widht"),
        ("torchvision:resnet18", {"size": (16, 16, 16)}, "expected 2-D images, got 16 x 16 x 16"),
        ("timm:resnet18", {"size": (16, 16, 16)}, "expected 2-D images"),
        ("fusionconv:small_resnet", {}, "expected 3-D images, got 64 x 64"),
        ("torchvision:vit_b_16", {"size": (64, 32)}, "square"),
        ("torchvision:resnet18", {"head": "deep"}, "linear, mlp, norm"),
        ("torchvision:resnet18", {"head": "mlp:x"}, "mlp:64"),
        ("torchvision:squeezenet1_1", {"head": "mlp"}, "last nn.Linear of 3 outputs in SqueezeNet, got none"),
        ("fusionconv:small_resnet", {"size": (32, 32, 32), "pretrained": True}, "weights=FILE"),
        ("my_networks:tiny", {"pretrained": True}, "weights=FILE"),
        ("monai:resnet18", {"pretrained": True}, "expected 3-D.*weights=FILE"),
        ("torchvision:resnet18", {"pretrained": True, "weights": "x.pt"}, "leave one out"),
        ("torchvision:resnet18", {"weights": "nowhere.pt"}, "nowhere.pt"),
    ],
)
def test_what_cannot_be_built_says_what_to_do(own, name, more, says):
    with pytest.raises(FusionError, match=says):
        make(name, **more)


@pytest.mark.parametrize(
    ("name", "size", "takes"),
    [
        ("torchvision:alexnet", (28, 28), 64),
        ("torchvision:vgg11", (28, 28), 32),
        ("fusionconv:conv5_fc3", (16,) * 3, 32),
    ],
)
def test_an_image_size_at_which_maps_vanish_is_named_with_one_that_fits(name, size, takes):
    network = make(name, size, 1)
    with pytest.raises(SurgeryError, match=f"got 1 channels of {size[0]} x .*--image-size {takes}$"):
        check_network(network, 1, size, 3)
    check_network(network, 1, (takes,) * len(size), 3)


def test_other_channels_or_dimensions_are_named(own):
    with pytest.raises(SurgeryError, match="it takes 3 channels; give --channels 3"):
        check_network(make(f"{own}:takes_nothing"), 1, (64, 64), 3)
    with pytest.raises(SurgeryError, match="it takes 2-D images"):
        check_network(make(f"{own}:takes_nothing"), 3, (16, 16, 16), 3)


def test_the_check_changes_neither_modes_nor_random_numbers_nor_statistics():
    network = make("torchvision:resnet18")
    network.layer1.eval()
    before = {name: m.training for name, m in network.named_modules()}
    state, random = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    check_network(network, 3, (64, 64), 3)
    assert {name: m.training for name, m in network.named_modules()} == before
    assert_same(network.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)


# ---- heads ----


@pytest.mark.parametrize(
    ("name", "size", "last"),
    [("torchvision:resnet18", (64, 64), "fc"), ("timm:convnext_atto", (64, 64), "head.fc"),
     ("timm:mobilenetv3_small_050", (64, 64), "classifier"), ("monai:resnet10", (32,) * 3, "fc"),
     ("fusionconv:conv5_fc3", (32,) * 3, "head.6")],
)  # fmt: skip
def test_a_head_stands_in_the_place_of_the_last_linear_layer(name, size, last):
    channels = 1 if len(size) == 3 else 3
    plain, mlp = make(name, size, channels), make(name, size, channels, head="mlp:8")
    width = plain.get_submodule(last).in_features
    head = mlp.get_submodule(last)
    assert isinstance(head, HiddenHead)
    assert (head.hidden.in_features, head.hidden.out_features, head.output.out_features) == (width, 8, 3)
    backbone = {k: v for k, v in plain.state_dict().items() if not k.startswith(f"{last}.")}
    assert all(torch.equal(mlp.state_dict()[k], v) for k, v in backbone.items())
    features = {}
    mlp.get_submodule(last).register_forward_hook(lambda _, args, out: features.update(x=args[0], y=out))
    out = mlp.eval()(torch.randn(2, channels, *size))
    expected = torch.relu(features["x"] @ head.hidden.weight.T + head.hidden.bias) @ head.output.weight.T
    torch.testing.assert_close(out, expected + head.output.bias)


def test_a_head_of_batch_norm_dropout_and_a_hidden_layer():
    head = make("torchvision:resnet18", head="norm").fc
    assert [type(layer) for layer in head] == [nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU, nn.Linear]
    assert (head.hidden.out_features, head.dropout.p) == (256, 0.5)
    assert read_head("norm:16").hidden == 16


class TwoWide(nn.Module):
    """The layer that is registered last is not the one that answers."""

    def __init__(self, num_outputs, in_channels):
        super().__init__()
        self.answers = nn.Linear(4, num_outputs)
        self.first = nn.Linear(in_channels, num_outputs)
        self.between = nn.Linear(num_outputs, 4)

    def forward(self, x):
        return self.answers(torch.relu(self.between(torch.relu(self.first(x.mean((2, 3)))))))


def test_of_several_layers_as_wide_the_one_that_answers_is_the_last(own):
    network = make(f"{own}:TwoWide")
    assert last_linear(network, 3) == "first"  # by registration alone
    assert last_linear(network, 3, 3, (8, 8)) == "answers"
    assert isinstance(make(f"{own}:TwoWide", head="mlp").answers, HiddenHead)


# ---- weights ----


def filled(network):
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(torch.randn(value.shape) if value.is_floating_point() else value)
    return network


@pytest.mark.parametrize("file", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("wrap", ["", "module.", "network.", "model."])
def test_weights_of_a_file_are_copied(tmp_path, file, wrap):
    given = filled(make("fusionconv:small_resnet", (32,) * 3, 1)).state_dict()
    state, path = {wrap + key: value for key, value in given.items()}, str(tmp_path / file)
    if file.endswith("pt"):
        torch.save({"state_dict": state} if wrap == "network." else state, path)
    else:
        save_file(state, path)
    assert_same(make("fusionconv:small_resnet", (32,) * 3, 1, seed=1, weights=path).state_dict(), given)


def test_what_does_not_fit_is_told(tmp_path, caplog):
    given = filled(make("torchvision:resnet18", outputs=7)).state_dict() | {"strange": torch.zeros(2)}
    path = str(tmp_path / "w.pt")
    torch.save(given, path)
    network = make("torchvision:resnet18", channels=1, outputs=2, weights=path)
    assert "new in the network: fc.weight, fc.bias; not used: strange, fc.weight, fc.bias" in caplog.text.replace(
        "fc.weight, fc.bias, strange", "strange, fc.weight, fc.bias"
    )
    assert "mean over the channels: conv1.weight" in caplog.text
    own = network.state_dict()
    assert all(torch.equal(own[k], v) for k, v in given.items() if k.startswith(("layer", "bn1")))
    grey = torch.randn(2, 1, 16, 16)
    colour = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), given["conv1.weight"])
    torch.testing.assert_close(nn.functional.conv2d(grey, own["conv1.weight"]), colour, rtol=1e-4, atol=1e-4)


def test_with_a_head_the_file_of_the_plain_network_still_fits(tmp_path):
    given = filled(make("torchvision:resnet18")).state_dict()
    torch.save(given, tmp_path / "w.pt")
    own = make("torchvision:resnet18", head="mlp", weights=str(tmp_path / "w.pt")).state_dict()
    assert all(torch.equal(own[k], v) for k, v in given.items() if not k.startswith("fc."))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda path: torch.save(make("monai:resnet10", (32,) * 3, 1).state_dict(), path), "got 0 of its|got 1 of its"),
        (lambda path: torch.save(nn.Linear(2, 2), path), "state dict of tensors"),
        (lambda path: torch.save([1, 2], path), "got a list"),
        (lambda path: torch.save({}, path), "got a dict"),
        (lambda path: path.write_bytes(b"no weights"), "state dict of tensors"),
        (lambda path: path.write_bytes(b""), "state dict of tensors"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, says):
    content(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=says):
        load_weights(SmallResNet(2), str(tmp_path / "w.pt"), ["fc"])


def test_the_file_of_an_exploit_is_not_run(tmp_path):
    class Exploit:
        def __reduce__(self):
            return (exec, ("raise SystemExit('it ran')",))

    torch.save(Exploit(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="other objects than tensors"):
        load_weights(SmallResNet(2), str(tmp_path / "w.pt"), ["fc"])


def test_fitted_channels_give_the_same_for_equal_channels():
    kernel, x = torch.randn(4, 3, 3, 3, dtype=torch.double), torch.randn(2, 1, 8, 8, dtype=torch.double)
    expected = nn.functional.conv2d(x.expand(-1, 3, -1, -1), kernel)
    for channels in (1, 2, 5):
        got = nn.functional.conv2d(x.expand(-1, channels, -1, -1), fit_channels(kernel, channels))
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet", "inception_v3", "mobilenet_v3_small"])
@pytest.mark.parametrize("channels", [3, 1])
def test_pretrained_torchvision_keeps_all_but_the_last_layer(monkeypatch, name, channels):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(5)
    extra = {"aux_logits": True, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    given = models.get_model(name, weights=None, **extra).state_dict()
    kind = type(models.get_model_weights(name).DEFAULT)
    monkeypatch.setattr(kind, "get_state_dict", lambda self, *a, **k: given)
    network = make(f"torchvision:{name}", channels=channels, pretrained=True)
    check_network(network, channels, (96, 96), 3)
    assert isinstance(network.train()(torch.randn(2, channels, 96, 96)), torch.Tensor)  # no second outputs
    network = make(f"torchvision:{name}", channels=channels, pretrained=True)
    own = network.state_dict()
    same = [key for key in own if key in given and torch.equal(own[key], given[key])]
    differ = [key for key in own if key not in same]
    first = next(key for key in own if own[key].ndim == 4)
    last = list(dict.fromkeys(key.rpartition(".")[0] for key in own))[-1]
    assert set(differ) <= {f"{last}.weight", f"{last}.bias", *([first] if channels == 1 else [])}
    if channels == 1:
        torch.testing.assert_close(own[first], given[first].sum(1, keepdim=True))


def test_pretrained_medicalnet_keeps_all_but_the_last_layer(monkeypatch):
    resnet = pytest.importorskip("monai.networks.nets.resnet")
    bias, shortcut = resnet.get_medicalnet_pretrained_resnet_args(10)
    given = resnet.resnet10(
        spatial_dims=3, n_input_channels=1, feed_forward=False, bias_downsample=bias, shortcut_type=shortcut
    )
    state = {f"module.{key}": value for key, value in filled(given).state_dict().items()}
    monkeypatch.setattr(resnet, "get_pretrained_resnet_medicalnet", lambda depth, **_: state)
    own = make("monai:resnet10", (32,) * 3, 1, pretrained=True).state_dict()
    assert all(torch.equal(own[key.removeprefix("module.")], value) for key, value in state.items())
    own = make("monai:resnet10", (32,) * 3, 2, pretrained=True).state_dict()
    torch.testing.assert_close(own["conv1.weight"].sum(1), state["module.conv1.weight"].sum(1))
    with pytest.raises(CheckpointError, match="leave options out"):
        make(
            "monai:resnet10", (32,) * 3, 1, pretrained=True, options={"shortcut_type": "A" if shortcut == "B" else "B"}
        )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("torchvision:resnet18", r"download.pytorch.org/models/resnet18\S+\.pth"),
        ("timm:convnext_atto", "timm/convnext_atto"),
    ],
)
def test_weights_that_cannot_be_fetched_name_the_file_and_the_way_out(monkeypatch, name, file):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", offline)
    with pytest.raises(CheckpointError, match=rf"{file}.*no route to host.*weights=FILE"):
        make(name, pretrained=True)


# ---- freezing ----


def names_frozen(network):
    return {name for name, p in network.named_parameters() if not p.requires_grad}


def test_freezing_by_name_and_by_first_children():
    network = make("torchvision:resnet18")
    assert freeze(network, ["layer1", "bn1.weight"]) == len(names_frozen(network))
    assert {name.partition(".")[0] for name in names_frozen(network)} == {"layer1", "bn1"}
    assert "bn1.bias" not in names_frozen(network)
    network = make("torchvision:resnet18")
    freeze(network, ["first:5"])  # conv1 bn1 relu maxpool layer1
    assert {name.partition(".")[0] for name in names_frozen(network)} == {"conv1", "bn1", "layer1"}
    network = make("torchvision:vgg11_bn", (32, 32))
    freeze(network, ["features.first:2", "features.1"])
    assert {name.rpartition(".")[0] for name in names_frozen(network)} == {"features.0", "features.1"}


def test_a_frozen_part_stays_and_its_batch_norms_too_and_v_is_trained():
    from fusionconv import fuse_into

    network = make("torchvision:resnet18")
    freeze(network, ["conv1", "bn1", "layer1"])
    network = fuse_into(network, "first", 2)
    parts = ["conv1", "bn1", "layer1"]
    norms = frozen_modules(network, parts)
    assert len(norms) == 5
    assert all(isinstance(m, nn.BatchNorm2d) for m in norms)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    for norm in norms:
        norm.eval()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    for _ in range(2):
        network(torch.randn(4, 3, 32, 32), torch.randn(4, 2)).square().mean().backward()
        optimizer.step()
    after = network.state_dict()
    changed = {key for key in after if not torch.equal(after[key], before[key])}
    assert {k for k in changed if k.split(".")[0] in parts} == {"conv1.covariate_weight"}
    assert {"bn1.running_mean", "layer1.0.bn1.running_var"}.isdisjoint(changed)
    assert {"layer2.0.bn1.running_mean", "fc.weight", "layer2.0.conv1.weight"} <= changed


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["layer9"], "did you mean layer"),
        (["layer"], "did you mean layer"),
        (["first:11"], "first:1 to first:10"),
        (["first:0"], "first:1 to first:10"),
        (["body.first:2"], "got 'body'"),
        (["first:10"], "all of it"),
    ],
)
def test_what_cannot_be_frozen_says_why_and_changes_nothing(names, says):
    network = make("torchvision:resnet18")
    with pytest.raises(SurgeryError, match=says):
        freeze(network, ["layer1", *names])
    assert not names_frozen(network)
