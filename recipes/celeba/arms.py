"""The two arms: a network as it is, and with a convolution that takes the covariates (corrected or as_published)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models import VGG, vgg16_bn
from torchvision.models.vgg import cfgs, make_layers

from fusionconv import fuse_into
from fusionconv.errors import SurgeryError
from fusionconv.surgery.select import resolve
from recipes.celeba.backbones import build_backbone
from recipes.celeba.weights import load_weights

Arm = Literal["plain", "hybrid"]
Mode = Literal["corrected", "as_published"]


def build_network(
    arm: Arm,
    mode: Mode = "corrected",
    layer_idx: int | str | list[int | str] = 0,
    num_covariates: int = 1,
    weights: str = "imagenet",
    classifier_width: int = 4096,
    num_classes: int = 2,
    strategy: str = "auto",
    calibration: Callable[[], Tensor] | None = None,
    arch: str = "vgg16_bn",
    method: str = "hybrid",
    method_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network of one arm.

    Args:
        arm: ``"plain"``: call ``network(images)``; ``"hybrid"``: call ``network(images, covariates)``.
        mode: ``"corrected"``: the hybrid layer keeps the pretrained convolution's kernel, bias, stride and padding, and
            V = 0, so that both arms start with the same outputs. ``"as_published"``: what the CelebA study did: the
            layer is a new one without padding and bias, W and V are Kaiming-normal (fan_out), and with more than one
            covariate V is frozen (the study kept it in a plain list: never trained, never saved).
        layer_idx: which convolution(s) become hybrid, as `fusionconv.fuse_into` counts them.
        num_covariates: K, the number of encoded covariates.
        weights: ``"imagenet"``, ``"none"`` or a file (weights.py).
        classifier_width: width of VGG16-BN's two hidden Linear layers; 4096 is its own. Less makes a small machine's
            work lighter, and leaves no pretrained classifier.
        num_classes: outputs.
        strategy: how the hybrid layer is computed, see `fusionconv.functional.hybrid_conv`.
        calibration: gives training images when the weights ask for them (weights.py).
        arch: the network: VGG16-BN, or another of torchvision or timm (backbones.py).
        method: how `fusionconv.fuse_into` puts the covariates in: hybrid, film, concat, ... ; another than hybrid in
            mode corrected only. ``layer_idx`` counts what the method takes: for concat the Linear layers.
        method_options: the method's own options, such as ``{"hidden": 16}``.
    """
    if mode == "as_published" and method != "hybrid":
        raise SurgeryError(
            f"mode as_published is the study's own hybrid layer, and --model.method {method} was given: "
            "the study has no such row. Give --model.mode corrected."
        )
    if arch == "vgg16_bn":
        network = _vgg16_bn(classifier_width)
        load_weights(network, weights, calibration)
        network.classifier[6] = nn.Linear(classifier_width, num_classes)
    else:
        network = build_backbone(arch, num_classes, weights)
    if arm == "plain":
        return network

    # Everything random is drawn before this line, so that one seed gives both corrected arms the same numbers.
    if mode == "corrected":
        options = {"strategy": strategy} if method == "hybrid" else {}
        with torch.random.fork_rng(devices=[]):  # a method's own hidden layer must not change the dropout that follows
            return fuse_into(network, layer_idx, num_covariates, method=method, **{**options, **(method_options or {})})

    names = resolve(network, layer_idx)
    for name in names:
        old = network.get_submodule(name)
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, padding=0, bias=False)
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        network.set_submodule(name, new)
    fused = fuse_into(network, names, num_covariates, init="kaiming", strategy=strategy)
    if num_covariates > 1:
        for name in names:
            fused.get_submodule(name).covariate_weight.requires_grad_(False)
    return fused


def _vgg16_bn(width: int) -> VGG:
    """torchvision's vgg16_bn, initialised as torchvision does, with hidden Linear layers of another width."""
    with torch.device("meta"):  # its own 120 million classifier weights would be made only to be thrown away
        network = vgg16_bn()
    network.features = make_layers(cfgs["D"], batch_norm=True)
    channels = [layer.out_channels for layer in network.features if isinstance(layer, nn.Conv2d)]
    network.classifier = nn.Sequential(
        nn.Linear(channels[-1] * 7 * 7, width), nn.ReLU(True), nn.Dropout(0.5),
        nn.Linear(width, width), nn.ReLU(True), nn.Dropout(0.5),
        nn.Linear(width, 1000),
    )  # fmt: skip
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
    return network


def smallest_image(arm: Arm, mode: Mode) -> int:
    """VGG16: below so many pixels nothing is left after five poolings (and after a convolution without padding)."""
    return 64 if (arm, mode) == ("hybrid", "as_published") else 32
