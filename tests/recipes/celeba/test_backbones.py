import pytest
import timm
import torch
import torchvision

from fusionconv.errors import CheckpointError, SurgeryError
from recipes.celeba.arms import build_network
from recipes.celeba.backbones import build_backbone, check_outputs, last_layer, library_of
from recipes.celeba.study import CelebAStudy

NETWORKS = [
    ("mobilenet_v3_small", 32, "classifier.3"),
    ("squeezenet1_1", 64, "classifier.1"),  # a convolution at the end
    ("googlenet", 64, "fc"),  # auxiliary outputs
    ("timm:resnet10t", 32, "fc"),
    ("convnext_atto", 32, "head.fc"),  # timm's, without the prefix
]


@pytest.mark.parametrize(("arch", "size", "last"), NETWORKS)
def test_the_last_layer_is_replaced_and_the_rest_kept(arch, size, last):
    network = build_backbone(arch, 3, "none")
    assert last_layer(network) == last
    rng = torch.random.get_rng_state()
    network.train()
    check_outputs(network, arch, size, None, 3)
    assert network.training  # as it was
    assert torch.equal(rng, torch.random.get_rng_state())
    answer = network(torch.randn(2, 3, size, size))
    assert answer.shape == (2, 3)
    own = timm.create_model(arch.removeprefix("timm:")) if timm.is_model(arch.removeprefix("timm:")) else None
    if arch in ("squeezenet1_1", "googlenet"):
        own = torchvision.models.get_model(arch, weights=None, **({"aux_logits": False} if arch == "googlenet" else {}))
    if arch != "mobilenet_v3_small":  # the same entries as the library's own network
        assert {key for key in own.state_dict() if not key.startswith(last)} == {
            key for key in network.state_dict() if not key.startswith(last)
        }


def test_any_network_can_be_hybrid_and_starts_as_the_plain_arm():
    networks = []
    for arm in ("plain", "hybrid"):
        torch.manual_seed(2)
        networks.append(
            build_network(arm, num_covariates=2, weights="none", num_classes=4, arch="timm:resnet10t").eval()
        )
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(networks[0](images), networks[1](images, torch.randn(3, 2)), rtol=1e-5, atol=1e-6)
    check_outputs(networks[1], "timm:resnet10t", 32, 2, 4)


def test_a_name_that_nobody_knows():
    assert (library_of("resnet18"), library_of("timm:resnet18"), library_of("resnet10t")) == (
        "torchvision",
        "timm",
        "timm",
    )
    with pytest.raises(SurgeryError, match="resnext50_32x4d"):
        library_of("resnext50_32x4")
    with pytest.raises(SurgeryError, match=r"came 'timm:resnet10'.*alike.*resnet10t"):
        CelebAStudy(arch="timm:resnet10")
    with pytest.raises(SurgeryError, match="classifier_width 16"):
        CelebAStudy(arch="resnet18", classifier_width=16)
    for wrong in ({"arch": "resnet18"}, {"optimizer": "sgd"}, {"schedule": "cosine"}, {"loss": "mse"}):
        with pytest.raises(SurgeryError, match="as_published"):
            CelebAStudy(mode="as_published", **wrong)


def test_a_size_that_the_network_does_not_take():
    network = build_backbone("timm:vit_tiny_patch16_224", 2, "none")
    with pytest.raises(SurgeryError, match=r"32 x 32 pixels.*--data\.image_size"):
        check_outputs(network, "timm:vit_tiny_patch16_224", 32, None, 2)
    with pytest.raises(SurgeryError, match=r"should give \(2, 5\)"):
        check_outputs(build_backbone("timm:resnet10t", 2, "none"), "timm:resnet10t", 32, None, 5)


def test_weights_from_a_file(tmp_path):
    other = timm.create_model("resnet10t")  # with 1000 classes
    torch.save(other.state_dict(), tmp_path / "resnet10t.pt")
    network = build_backbone("timm:resnet10t", 2, str(tmp_path / "resnet10t.pt"))
    same = [
        torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items() if "fc" not in key
    ]
    assert len(same) > 50
    assert all(same)
    assert network.fc.weight.shape == (2, 512)

    # a deeper network holds all entries of this one, in the same shapes, and is still another
    torch.save(timm.create_model("resnet14t").state_dict(), tmp_path / "deeper.pt")
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "another.pt")
    state = other.state_dict()
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "cut.pt")
    extra = {**other.state_dict(), "layer4.1.conv1.weight": torch.zeros(1)}
    torch.save(extra, tmp_path / "extra.pt")
    for name in ("deeper", "another", "cut", "extra"):
        with pytest.raises(CheckpointError, match="expected a state dict of timm:resnet10t"):
            build_backbone("timm:resnet10t", 2, str(tmp_path / f"{name}.pt"))
    with pytest.raises(CheckpointError, match="is no file"):
        build_backbone("resnet18", 2, str(tmp_path / "absent.pt"))


def test_weights_that_cannot_be_had(monkeypatch):
    with pytest.raises(CheckpointError, match="timm has no pretrained weights for"):
        build_backbone(_without_weights(), 2, "imagenet")

    def no_network(*args, **kwargs):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights.DEFAULT.__class__, "get_state_dict", no_network)
    with pytest.raises(CheckpointError, match=r"could not be fetched.*--model\.weights FILE"):
        build_backbone("resnet18", 2, "imagenet")


def _without_weights():
    return "timm:" + next(name for name in timm.list_models("resnet*") if not timm.models.is_model_pretrained(name))
