import copy

import pytest
import torch
from torchvision.models import VGG16_BN_Weights
from torchvision.models.vgg import cfgs, make_layers

from fusionconv.errors import CheckpointError
from recipes.celeba.arms import _vgg16_bn, build_network
from recipes.celeba.weights import VGG16_BN_CONVS, VGG16_CONVS, calibrate_batch_norms, load_weights
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
    network = _vgg16_bn(16)
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


def test_plain_vgg16_from_a_file(plain_vgg16, tmp_path):
    """Without its classifier: the features are VGG16's over one number. With it: the very same answers inside."""
    images = torch.randn(40, 3, 32, 32)
    expected = plain_vgg16(images.clone())
    torch.save({f"features.{key}": value for key, value in plain_vgg16.state_dict().items()}, tmp_path / "vgg16.pt")
    network = build_network(
        "plain", weights=str(tmp_path / "vgg16.pt"), classifier_width=16, calibration=lambda: images
    ).eval()
    got = network.features(images.clone())
    factor = float((got * expected).sum() / expected.square().sum())
    assert factor > 0
    torch.testing.assert_close(got, factor * expected, rtol=2e-3, atol=2e-3 * float(got.detach().std()))


def test_whole_state_dicts_are_copied_where_they_fit(tmp_path, monkeypatch):
    source = _vgg16_bn(16)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(source.state_dict(), tmp_path / "vgg16_bn.pt")
    network = build_network("plain", weights=str(tmp_path / "vgg16_bn.pt"), classifier_width=16)
    for key, value in source.state_dict().items():
        if not key.startswith("classifier.6."):
            assert torch.equal(network.state_dict()[key], value), key
    narrower = build_network("plain", weights=str(tmp_path / "vgg16_bn.pt"), classifier_width=8)
    assert torch.equal(narrower.features[0].weight, source.features[0].weight)
    assert narrower.classifier[3].weight.abs().max() < 0.1  # its own start, not the file's

    monkeypatch.setattr(VGG16_BN_Weights, "get_state_dict", lambda self, *args, **kwargs: source.state_dict())
    network = build_network("plain", weights="imagenet", classifier_width=16)
    assert torch.equal(network.features[40].weight, source.features[40].weight)


def test_files_that_are_no_weights(tmp_path, plain_vgg16):
    network = _vgg16_bn(16)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    (tmp_path / "page.pt").write_text("<html>quota</html>")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pt")
    state = {f"features.{key}": value for key, value in plain_vgg16.state_dict().items()}
    torch.save(state | {"features.28.weight": torch.zeros(8, 4, 3, 3)}, tmp_path / "shape.pt")
    torch.save(state, tmp_path / "vgg16.pt")
    for name, message in (
        ("absent.pt", "is no file"),
        ("page.pt", "does not load"),
        ("list.pt", "expected a dict of tensors"),
        ("other.pt", "fc.weight"),
        ("shape.pt", "features.40.weight"),
        ("vgg16.pt", "calibrated on training images"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_weights(network, str(tmp_path / name), images=None if name == "vgg16.pt" else lambda: torch.zeros(1))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
