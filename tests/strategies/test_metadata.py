"""MONAI's MetaTensor: every strategy and method hands on the metadata that torch's own layer hands on."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.strategies import STRATEGIES

pytest.importorskip("monai")
from monai.data import MetaTensor, decollate_batch
from monai.data.utils import list_data_collate

LAYERS = [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear]


def batch(dims: int, channels_last: bool = False) -> MetaTensor:
    images = []
    for i in range(3):
        shape = (5, *(6,) * dims)
        image = torch.randn(*shape[1:], 5) if channels_last else torch.randn(shape)
        images.append(MetaTensor(image, affine=torch.eye(4) * (i + 1), meta={"filename_or_obj": f"patient{i}.nii.gz"}))
    return list_data_collate(images)


def plain_layer(kind) -> nn.Module:
    torch.manual_seed(0)
    return kind(5, 4) if kind is nn.Linear else kind(5, 4, 3)


def check_metadata(layer: nn.Module, model: nn.Module, x: MetaTensor, s: torch.Tensor) -> None:
    expected, got = layer(x), model(x, s)
    assert type(got) is type(expected)
    torch.testing.assert_close(got.as_tensor(), expected.as_tensor(), rtol=1e-4, atol=1e-5)
    assert (got.is_batch, got.affine.shape) == (expected.is_batch, (3, 4, 4))
    assert torch.equal(got.affine, expected.affine)
    assert got.meta["filename_or_obj"] == expected.meta["filename_or_obj"] == [f"patient{i}.nii.gz" for i in range(3)]
    names = [image.meta["filename_or_obj"] for image in decollate_batch(got.detach())]
    assert names == [f"patient{i}.nii.gz" for i in range(3)]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_every_strategy(strategy, kind, grad) -> None:
    layer = plain_layer(kind)
    x = batch(2 if kind is nn.Linear else layer.weight.ndim - 2, kind is nn.Linear)
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    model = fusionconv.fuse_into(nn.Sequential(copy.deepcopy(layer)), "0", 2, strategy=strategy)
    with torch.set_grad_enabled(grad):
        check_metadata(layer, model, x, s)
        check_metadata(layer, model, x, MetaTensor(s))  # a transform has made the covariates one, too
    if grad:  # values and gradients are those of the same tensor without metadata
        nn.init.normal_(model[0].covariate_weight)
        results = []
        for image in (x, x.as_tensor()):
            image = image.clone().requires_grad_()
            model.zero_grad()
            y = model(image, s)
            y.square().sum().backward()
            found = [y, image.grad, model[0].weight.grad, model[0].covariate_weight.grad]
            results.append([t.detach().as_subclass(torch.Tensor).clone() for t in found])
        for one, other in zip(*results, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", ["lowrank", "hyper", "film", "daft", "scale", "attention", "concat", "condconv"])
def test_every_method(method, kind) -> None:
    if (method == "concat") != (kind is nn.Linear) and "c" in method[:1]:
        pytest.skip("concat takes linear layers, condconv convolutions")
    layer = plain_layer(kind)
    x = batch(2 if kind is nn.Linear else layer.weight.ndim - 2, kind is nn.Linear)
    options = {"ignore_covariates": True} if method == "condconv" else {}
    model = fusionconv.fuse_into(nn.Sequential(copy.deepcopy(layer)), "0", 2, method=method, **options)
    check_metadata(layer, model, x, torch.randn(3, 2))


def test_what_autotune_pins() -> None:
    """A whole network, with loop pinned: each file gets its own name."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), "all", 2)
    for layer in (model[0], model[2]):
        layer.strategy = "loop"
    y = model(batch(2), torch.randn(3, 2))
    names = [image.meta["filename_or_obj"] for image in decollate_batch(y.detach())]
    assert names == [f"patient{i}.nii.gz" for i in range(3)]
