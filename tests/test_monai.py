"""MONAI around a fused model: its saliency maps against their formulas, its conversions, its networks exported.

The reference for a sample is the network merged with that sample's covariates: plain layers, no fusionconv in it.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, FusionError
from tests.helpers.recorded import randomise
from tests.surgery.test_export import export

pytest.importorskip("monai")
from monai.inferers import SaliencyInferer
from monai.networks.nets import DenseNet, DenseNet121, UNet, resnet10
from monai.networks.utils import convert_to_onnx, convert_to_torchscript
from monai.visualize import CAM, GradCAM, GradCAMpp, GuidedBackpropGrad, OcclusionSensitivity, SmoothGrad, VanillaGrad

RAW = {"upsampler": lambda size: lambda m: m, "postprocessing": lambda m: m}  # the map as it was computed


def fused(name: str, dims: int) -> tuple[nn.Module, str, str]:
    """A fused classifier of three classes in float64, its target layer, its last linear layer."""
    torch.manual_seed(dims)
    if name == "densenet":
        model = DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3)
        layers = "features.denseblock2", "class_layers.out"
    else:
        model = resnet10(spatial_dims=dims, n_input_channels=1, num_classes=3)
        layers = "layer3", "fc"
    return randomise(fusionconv.fuse_into(model.double(), [0, 3, -1], 2), std=0.05), *layers


def batch(dims: int, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(7)
    size = (64 if dims == 2 else 32,) * dims
    return torch.randn(n, 1, *size, generator=g).double(), torch.randn(n, 2, generator=g).double()


def merged(model: nn.Module, row: torch.Tensor) -> nn.Module:
    return fusionconv.merge(copy.deepcopy(model), row)


def activation_and_gradient(model: nn.Module, layer: str, x: torch.Tensor, k: int) -> tuple[torch.Tensor, ...]:
    """The target layer's output for one image, d y_k / d of it, and y_k."""
    kept = []
    hook = model.get_submodule(layer).register_forward_hook(lambda m, i, y: kept.append(y))
    score = model(x)[0, k]
    hook.remove()
    return kept[0].detach(), torch.autograd.grad(score, kept[0])[0], score.detach()


networks = pytest.mark.parametrize(("name", "dims"), [(n, d) for n in ("densenet", "resnet") for d in (2, 3)])


@networks
def test_grad_cam(name, dims) -> None:
    """relu(sum_k mean(dy / dA_k) A_k), for each image with its own covariates."""
    model, layer, _ = fused(name, dims)
    x, s = batch(dims)
    rows = []
    for i in range(2):
        a, g, _ = activation_and_gradient(merged(model, s[i]), layer, x[i : i + 1], 1)
        rows.append(F.relu((g.flatten(2).mean(2).reshape(1, -1, *[1] * dims) * a).sum(1, keepdim=True)))
    expected = torch.cat(rows)
    assert expected.max() > 0
    cam = GradCAM(model, layer, **RAW)
    got = cam(x=x, class_idx=1, covariates=s)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    assert (cam(x=x, class_idx=1, covariates=-s) - got).abs().max() > 0.01 * expected.max()
    with pytest.raises(CovariateError):
        cam(x=x, class_idx=1)


@networks
def test_grad_cam_plus_plus_one_image_at_a_time(name, dims) -> None:
    """sum_k w_k A_k with w_k = sum alpha relu(exp(y) g), alpha = g^2 / (2 g^2 + sum(A g^3))."""
    model, layer, _ = fused(name, dims)
    x, s = batch(dims)
    cam = GradCAMpp(model, layer, **RAW)
    maps = [cam(x=x[i : i + 1], class_idx=1, covariates=s[i : i + 1]) for i in range(2)]
    for i, got in enumerate(maps):
        a, g, score = activation_and_gradient(merged(model, s[i]), layer, x[i : i + 1], 1)
        below = 2 * g**2 + (a * g**3).flatten(2).sum(2).reshape(1, -1, *[1] * dims)
        alpha = g**2 / (torch.where(below == 0, 1.0, below) + 1e-7)
        w = (alpha * F.relu(score.exp() * g)).flatten(2).sum(2).reshape(1, -1, *[1] * dims)
        expected = F.relu((w * a).sum(1, keepdim=True))
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(cam(x=x[:1], class_idx=1, covariates=-s[:1]), maps[0])


@pytest.mark.parametrize("dims", [2, 3])
def test_cam(dims) -> None:
    """The last linear layer at every position of the feature map."""
    model, _, _ = fused("resnet", dims)
    x, s = batch(dims)
    got = CAM(model, "layer4", fc_layers="fc", **RAW)(x=x, class_idx=torch.tensor([1, 2]), covariates=s)
    for i, k in enumerate((1, 2)):
        a, _, _ = activation_and_gradient(merged(model, s[i]), "layer4", x[i : i + 1], k)
        expected = torch.einsum("c,nc...->n...", model.fc.weight[k], a) + model.fc.bias[k]
        torch.testing.assert_close(got[i], expected, rtol=1e-6, atol=1e-8)


def test_gradients_of_the_image() -> None:
    model, _, _ = fused("resnet", 2)
    x, s = batch(2, n=1)

    def gradient(image: torch.Tensor) -> torch.Tensor:
        image = image.clone().requires_grad_()
        return torch.autograd.grad(merged(model, s[0])(image)[0, 1], image)[0]

    torch.testing.assert_close(VanillaGrad(model)(x.clone(), index=1, covariates=s), gradient(x), rtol=1e-6, atol=1e-9)
    torch.manual_seed(5)
    got = SmoothGrad(model, n_samples=3, magnitude=False, verbose=False)(x.clone(), index=1, covariates=s)
    torch.manual_seed(5)
    spread = (0.15 * (x.max() - x.min())).item()
    noises = [torch.normal(0, spread, size=x.shape) for _ in range(3)]
    torch.testing.assert_close(got, sum(gradient(x + e) for e in noises) / 3, rtol=1e-6, atol=1e-9)
    guided = GuidedBackpropGrad(model)(x.clone(), index=1, covariates=s)
    same = GuidedBackpropGrad(merged(model, s[0]))(x.clone(), index=1)
    torch.testing.assert_close(guided, same, rtol=1e-6, atol=1e-9)


class OneRow(nn.Module):
    """The way of docs/monai.md: every image that comes is one patient's."""

    def __init__(self, model, row) -> None:
        super().__init__()
        self.model, self.row = model, row

    def forward(self, images):
        return self.model(images, self.row.expand(len(images), -1))


@pytest.mark.parametrize("how", ["one image a batch", "OneRow"])
def test_occlusion_sensitivity(how) -> None:
    """Its sliding window runs over one grid, so that the window guard has to let it pass."""
    model, _, _ = fused("resnet", 2)
    x, s = batch(2, n=1)
    options = {"mask_size": 32, "mode": 0.0, "overlap": 0.0, "activate": False, "verbose": False}
    if how == "OneRow":
        got, _ = OcclusionSensitivity(OneRow(model, s).eval(), n_batch=3, **options)(x)
    else:
        got, _ = OcclusionSensitivity(model, n_batch=1, **options)(x, covariates=s)
        with pytest.raises(CovariateError, match="one row per sample"):
            OcclusionSensitivity(model, n_batch=3, **options)(x, covariates=s)
    for corner in ((0, 0), (0, 32), (32, 0), (32, 32)):
        place = slice(corner[0], corner[0] + 32), slice(corner[1], corner[1] + 32)
        hidden = x.clone()
        hidden[(..., *place)] = 0.0
        expected = merged(model, s[0])(hidden)[0, :, None, None].expand(3, 32, 32).float()  # MONAI's dtype
        torch.testing.assert_close(got[(0, slice(None), *place)].as_tensor(), expected, rtol=1e-3, atol=1e-4)


def test_saliency_inferer() -> None:
    model, layer, _ = fused("resnet", 2)
    x, s = batch(2)
    got = SaliencyInferer("GradCAM", layer, 1)(x, model, covariates=s)
    torch.testing.assert_close(got, GradCAM(model, layer)(x=x, class_idx=1, covariates=s))


def segmenter() -> nn.Module:
    torch.manual_seed(0)
    model = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,), num_res_units=1)
    return randomise(fusionconv.fuse_into(model, [0, 1, -2, -1], 2, covariate_bias=True))


def small_densenet() -> nn.Module:
    torch.manual_seed(0)
    options = {"init_features": 4, "growth_rate": 4, "block_config": (2, 2)}
    model = DenseNet(spatial_dims=3, in_channels=1, out_channels=3, **options)
    return randomise(fusionconv.fuse_into(model, [0, 2, -1], 2))


def cubes(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 16, 16, 16, generator=g), torch.randn(n, 2, generator=g)


def each_alone(model: nn.Module, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([merged(model, s[i])(x[i : i + 1]) for i in range(len(x))])


@pytest.mark.parametrize("make", [segmenter, small_densenet])
def test_networks_exported_with_a_free_batch(make) -> None:
    model = make()
    program = export(model, cubes(2)).module()
    x, s = cubes(3, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(program(x, s), each_alone(model, x, s), rtol=1e-3, atol=1e-4)


def test_convert_to_torchscript_by_tracing(tmp_path) -> None:
    model = segmenter()
    convert_to_torchscript(model, str(tmp_path / "m.ts"), inputs=cubes(2), use_trace=True)
    loaded = torch.jit.load(str(tmp_path / "m.ts"))
    for n in (1, 3):
        x, s = cubes(n, seed=n)
        with torch.no_grad():
            torch.testing.assert_close(loaded(x, s), each_alone(model, x, s), rtol=1e-3, atol=1e-4)
    with pytest.raises(FusionError, match=r"torch\.jit\.script"):  # MONAI's default
        convert_to_torchscript(model)


def test_convert_to_onnx() -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = segmenter()
    free = {"images": {0: "batch"}, "covariates": {0: "batch"}}
    onnx = convert_to_onnx(model, cubes(2), ["images", "covariates"], ["y"], dynamic_axes=free)
    session = ort.InferenceSession(onnx.SerializeToString())
    x, s = cubes(3, seed=1)
    (y,) = session.run(None, {"images": x.numpy(), "covariates": s.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), each_alone(model, x, s), rtol=1e-3, atol=1e-4)
    with pytest.raises(Exception, match=r"(?i)concat"):  # one patient's row for three
        session.run(None, {"images": x.numpy(), "covariates": s[:1].numpy()})
