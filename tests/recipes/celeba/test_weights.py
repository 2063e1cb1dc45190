import copy
from pathlib import Path

import pytest
import torch
from torchvision.models import VGG16_BN_Weights
from torchvision.models.vgg import cfgs, make_layers

from fusionconv.errors import CheckpointError
from fusionconv.study.networks import build_network
from recipes.celeba.vgg import vgg16_bn
from recipes.celeba.weights import VGG16_BN_CONVS, VGG16_CONVS, calibrate_batch_norms, weights_file
from tests.recipes.celeba.conftest import TINY

pytestmark = pytest.mark.usefixtures("tiny_vgg")


@pytest.fixture
def plain_vgg16():
    """The features of a VGG16 without batch norm, under torchvision's names."""
    torch.manual_seed(1)
    features = make_layers(TINY, batch_norm=False)
    for layer in features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.normal_(layer.bias, std=0.3)
    return features


def test_convolution_numbers_are_torchvisions():
    for numbers, batch_norm in ((VGG16_CONVS, False), (VGG16_BN_CONVS, True)):
        with torch.device("meta"):
            layers = make_layers(cfgs["D"], batch_norm)
        assert tuple(i for i, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d)) == numbers


@pytest.mark.parametrize("first", [1.0, 60.0], ids=["ordinary", "made for 0 to 255"])
@pytest.mark.parametrize("keep_scale", [True, False])
def test_plain_vgg16_is_calibrated_to_itself_in_train_and_eval(plain_vgg16, first, keep_scale):
    """The features of VGG16, the very ones or all of them over one number; at ordinary scales inside."""
    plain = copy.deepcopy(plain_vgg16)
    with torch.no_grad():
        plain[0].weight.mul_(first)
        plain[0].bias.mul_(first).add_(0.1)
    images = torch.randn(40, 3, 32, 32)
    expected = plain(images.clone())
    network = vgg16_bn(2, (32, 32), 16)
    for old, new in zip(VGG16_CONVS, VGG16_BN_CONVS, strict=True):
        network.features[new].load_state_dict(plain[old].state_dict())
    calibrate_batch_norms(network.features, images, keep_scale)
    for training in (False, True):
        network.train(training)
        got = network.features(images.clone())
        factor = 1.0 if keep_scale else float((got * expected).sum() / expected.square().sum())
        torch.testing.assert_close(got, factor * expected, rtol=2e-3, atol=2e-3 * float(got.detach().std()))
    assert expected.std() > 1e-6 * first  # there was something to agree on
    for layer in network.features:
        if isinstance(layer, torch.nn.Conv2d):  # He's scale: Adam's steps are as large as the learning rate
            rms = float(layer.weight.square().mean().sqrt())
            assert rms == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=1e-3)
    norms = [layer for layer in network.features if isinstance(layer, torch.nn.BatchNorm2d)]
    assert all(float(norm.weight.median()) == pytest.approx(1.0, rel=1e-3) for norm in norms[:-1])


def build(weights, width=16, function="vgg16_bn", **options):
    """As the engine does it."""
    return build_network(f"recipes.celeba.vgg:{function}", num_outputs=2, in_channels=3, image_size=(32, 32),
                         options={"classifier_width": width, **options}, weights=weights)  # fmt: skip


def file_of(weights, tmp_path, images=None, **options):
    return weights_file(str(weights), lambda: build(None, **options), lambda: images, tmp_path / "cache")


@pytest.mark.parametrize("function", ["vgg16_bn", "as_published"])
def test_plain_vgg16_from_a_file(plain_vgg16, tmp_path, function):
    """Without its classifier: the features are VGG16's over one number."""
    images = torch.rand(40, 3, 32, 32)
    seen = (images - 0.5) / 0.5 if function == "as_published" else images
    expected = plain_vgg16(seen.clone())
    torch.save({f"features.{key}": value for key, value in plain_vgg16.state_dict().items()}, tmp_path / "vgg16.pt")
    path = file_of(tmp_path / "vgg16.pt", tmp_path, images, function=function)
    assert file_of(tmp_path / "vgg16.pt", tmp_path, images, function=function) == path  # the same bytes, the same name
    first = Path(path).read_bytes()
    Path(path).unlink()
    assert Path(file_of(tmp_path / "vgg16.pt", tmp_path, images, function=function)).read_bytes() == first
    network = build(path, function=function).eval()
    got = network.features(seen.clone())
    factor = float((got * expected).sum() / expected.square().sum())
    assert factor > 0
    torch.testing.assert_close(got, factor * expected, rtol=2e-3, atol=2e-3 * float(got.detach().std()))
    torch.manual_seed(0)
    assert torch.equal(build(path).classifier[0].weight, (torch.manual_seed(0), build(None))[1].classifier[0].weight)


def test_a_new_layer_stays_new_whatever_the_file_holds(tmp_path):
    source = vgg16_bn(2, (32, 32), 16)
    torch.save(source.state_dict(), tmp_path / "vgg16_bn.pt")
    torch.manual_seed(0)
    network = build_network("recipes.celeba.vgg:as_published", num_outputs=2, in_channels=3, image_size=(64, 64),
                            options={"classifier_width": 16, "layer": 0}, weights=str(tmp_path / "vgg16_bn.pt"))  # fmt: skip
    assert torch.equal(network.features[3].weight, source.features[3].weight)
    assert not torch.equal(network.features.published.weight, source.features[0].weight)


def test_whole_state_dicts_are_copied_where_they_fit(tmp_path, monkeypatch):
    source = vgg16_bn(2, (32, 32), 16)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "vgg16_bn.pt"
    torch.save({**source.state_dict(), "classifier.6.weight": torch.zeros(1000, 16)}, path)
    assert file_of(path, tmp_path) == str(path)
    network = build(str(path))
    for key, value in source.state_dict().items():
        if not key.startswith("classifier.6.weight"):
            assert torch.equal(network.state_dict()[key], value), key
    narrower = build(str(path), width=8)
    assert torch.equal(narrower.features[0].weight, source.features[0].weight)
    assert narrower.classifier[3].weight.abs().max() < 0.1  # its own start, not the file's

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(VGG16_BN_Weights, "get_state_dict", lambda self, *args, **kwargs: source.state_dict())
    assert file_of("imagenet", tmp_path) == str(tmp_path / "checkpoints/vgg16_bn-6c64b313.pth")
    assert file_of("none", tmp_path) is None


def test_files_that_are_no_weights(tmp_path, plain_vgg16):
    (tmp_path / "page.pt").write_text("<html>quota</html>")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pt")
    state = {f"features.{key}": value for key, value in plain_vgg16.state_dict().items()}
    torch.save(state | {"features.28.weight": torch.zeros(8, 4, 3, 3)}, tmp_path / "shape.pt")
    for name, message in (
        ("absent.pt", "expected a file"),
        ("page.pt", "expected a state dict"),
        ("list.pt", "expected a state dict"),
        ("other.pt", "fc.weight"),
        ("shape.pt", "features.40.weight"),
    ):
        with pytest.raises(CheckpointError, match=message):
            file_of(tmp_path / name, tmp_path, torch.zeros(2, 3, 32, 32))
    assert not (tmp_path / "cache").exists()
