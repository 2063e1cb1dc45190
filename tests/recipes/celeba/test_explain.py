import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionconv.errors import TableError
from recipes.celeba.__main__ import main
from recipes.celeba.explain import Camera, covariate_settings
from recipes.celeba.study import CelebAStudy
from recipes.common.runs import RunError

pytestmark = pytest.mark.usefixtures("tiny_vgg")


@pytest.fixture
def study():
    pytest.importorskip("captum")
    torch.manual_seed(0)
    study = CelebAStudy("hybrid", weights="none", classifier_width=16, image_size=64, covariates=["Male", "Young"])
    study.configure_model()
    nn.init.normal_(study.network.features[0].covariate_weight, 0, 0.3)
    return study.eval()


class Guided(torch.autograd.Function):
    """ReLU whose backward lets through what is positive in both directions (Springenberg et al. 2015)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (x > 0) * (grad > 0)


class GuidedReLU(nn.Module):
    def forward(self, x):
        return Guided.apply(x)


def test_both_maps_are_their_formulas(study):
    """Also for the hybrid arm, whose covariates must reach the layer in Captum's calls."""
    images, s = torch.randn(2, 3, 64, 64), torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    camera = Camera(study, 0, None)
    assert camera.layer == "features.40"
    maps, pixels = camera(images, s)

    kept = {}
    hook = study.network.features[40].register_forward_hook(lambda m, i, out: kept.update(maps=out))
    outputs = study(images, s)
    hook.remove()
    gradient = torch.autograd.grad((outputs[:, 1] - outputs[:, 0]).sum(), kept["maps"])[0]
    weights = gradient.mean((2, 3), keepdim=True)
    coarse = (weights * kept["maps"]).sum(1, keepdim=True).relu()
    expected = F.interpolate(coarse, (64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(torch.from_numpy(maps), expected.detach(), rtol=1e-4, atol=1e-6)

    for name, module in list(study.network.named_modules()):
        if isinstance(module, nn.ReLU):
            study.network.set_submodule(name, GuidedReLU())
    x = images.clone().requires_grad_()
    outputs = study(x, s)
    guided = torch.autograd.grad((outputs[:, 1] - outputs[:, 0]).sum(), x)[0]
    assert guided.abs().max() > 0
    torch.testing.assert_close(torch.from_numpy(pixels), guided, rtol=1e-4, atol=1e-7)


def test_other_covariates_give_other_maps(study):
    images = torch.randn(2, 3, 64, 64)
    camera = Camera(study, 0, "features.0")
    one, other = (camera(images, torch.full((2, 2), value)) for value in (0.0, 1.0))
    assert abs(one[0] - other[0]).max() > 0
    assert abs(one[1] - other[1]).max() > 0


def test_a_shortcut_is_not_the_last_convolution():
    pytest.importorskip("captum")
    study = CelebAStudy(weights="none", arch="timm:resnet10t", image_size=64)
    study.configure_model()
    assert Camera(study.eval(), 0, None).layer == "layer4.0.conv2"


def test_no_covariate_is_guessed(tmp_path):
    (tmp_path / "t.csv").write_text("file,Male,Young\na.jpg,1,0\nb.jpg,0,1\n")
    files = ["b.jpg", "a.jpg"]
    found = covariate_settings(["Male=0", "Young=1,Male=1"], tmp_path / "t.csv", files, ["Male", "Young"])
    assert found["Male=0"].to_numpy().tolist() == [[0, 1], [0, 0]]
    assert found["Young=1,Male=1"].to_numpy().tolist() == [[1, 1], [1, 1]]
    own = covariate_settings([], tmp_path / "t.csv", files, ["Male", "Young"])
    assert next(iter(own.values())).to_numpy().tolist() == [[0, 1], [1, 0]]
    for at, table, words in (
        (["Male=1"], None, "Young should be"),
        ([], None, "Male, Young should be"),
        (["Male=yes"], tmp_path / "t.csv", "NAME=NUMBER"),
        (["Mael=1"], tmp_path / "t.csv", "Mael"),
    ):
        with pytest.raises(TableError, match=words):
            covariate_settings(at, table, files, ["Male", "Young"])
    with pytest.raises(TableError, match=r"no row for c\.jpg"):
        covariate_settings([], tmp_path / "t.csv", ["c.jpg"], ["Male", "Young"])


def test_the_command(run_folder, celeba, tmp_path, capsys):
    pytest.importorskip("captum")
    images = celeba / "celeba/img_align_celeba"
    argv = ["explain", f"--images={images}", "--count=2", "--device=cpu", f"--out={tmp_path}/grid.png"]
    hybrid = f"--checkpoint={run_folder}/hybrid/checkpoints/hybrid-best.ckpt"
    main([*argv, hybrid, "--at", "Male=0,Young=1", "Male=1,Young=1"])
    assert (tmp_path / "grid.png").stat().st_size > 10_000
    assert "2 images, 2 covariate settings, Grad-CAM of features.40" in capsys.readouterr().out
    main([*argv, f"--checkpoint={run_folder}/plain/checkpoints/plain-best.ckpt", "--overwrite"])
    for more, words in (
        ([hybrid], "--overwrite"),
        ([hybrid, "--overwrite", "--at", "Male=0"], "Young"),
        ([hybrid, "--overwrite", "--at", "Male=0,Young=0", "--layer=features.99"], "expected the name of a module"),
        ([hybrid, "--overwrite", "--at", "Male=0,Young=0", "--layer=classifier.0"], "gives no maps"),
        ([hybrid, "--overwrite", "--target=Bald"], "this network answers Attractive"),
    ):
        with pytest.raises(SystemExit):
            main([*argv, *more])
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(("image_size", "pixels"), [(32, 2), (48, 3), (64, 4), (128, 8)])
def test_a_map_of_a_few_pixels_is_drawn_as_what_it_is(image_size, pixels):
    """2 x 2 gives four squares, not a smooth hill, and a note that names a layer with more."""
    pytest.importorskip("captum")
    torch.manual_seed(0)
    study = CelebAStudy(weights="none", classifier_width=16, image_size=image_size)
    study.configure_model()
    camera = Camera(study.eval(), 0, None)
    maps, _ = camera(torch.randn(1, 3, image_size, image_size), torch.zeros(1, 1))
    assert camera.map_size == (pixels, pixels)
    blocks = maps[0].reshape(pixels, image_size // pixels, pixels, image_size // pixels)
    constant = bool((blocks == blocks[:, :1, :, :1]).all())
    note = camera.too_coarse(image_size)
    if pixels >= 4:
        assert note is None
        assert not constant
        return
    assert constant
    assert f"{pixels} x {pixels} pixels" in note
    finer = Camera(study, 0, camera.finer)
    finer(torch.randn(1, 3, image_size, image_size), torch.zeros(1, 1))
    assert camera.finer in note
    assert finer.too_coarse(image_size) is None


def test_a_map_of_one_pixel_is_refused():
    pytest.importorskip("captum")
    study = CelebAStudy(weights="none", arch="resnet18", image_size=32)
    study.configure_model()
    with pytest.raises(RunError, match="say nothing of where"):
        Camera(study.eval(), 0, None)(torch.randn(1, 3, 32, 32), torch.zeros(1, 1))
