"""The study's network: VGG16-BN as it is, and as the study published it: a new layer that takes the covariates.

A study names them ``recipes.celeba.vgg:vgg16_bn`` and ``recipes.celeba.vgg:as_published``; ``network_options`` are the
arguments below.

**As published.** The study's hybrid layer was a new one: without padding and bias, W and V Kaiming-normal (fan_out),
and with more than one covariate V was never trained, moved or saved, since it lay in a plain list. Images were
normalised by 0.5 / 0.5. It trained one epoch with Adam, and chose and reported on the validation split. As settings:

    network: recipes.celeba.vgg:as_published       normalize: none            split_column: as_published
    arms: [{arm: hybrid@features.published, init: kaiming, network_options: {layer: 0}, covariate_lr: 0}]

with ``covariate_lr`` 0 for several covariates and the rate itself for one. An image arm has no ``layer``.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import VGG
from torchvision.models import vgg16_bn as _torchvision_vgg16_bn
from torchvision.models.vgg import cfgs, make_layers

from fusionconv.errors import SurgeryError
from fusionconv.surgery.select import resolve

__all__ = ["as_published", "vgg16_bn"]


def vgg16_bn(num_outputs: int, image_size: tuple[int, ...], classifier_width: int = 4096) -> VGG:
    """torchvision's vgg16_bn, initialised as torchvision does, with hidden Linear layers of another width.

    Args:
        num_outputs: of the last layer.
        image_size: height and width; at least 32, of which five poolings leave one.
        classifier_width: of the two hidden Linear layers; 4096 is VGG16's own. Less makes a small machine's work
            lighter, and leaves no pretrained classifier.
    """
    _require_size(image_size, 32)
    network = _vgg16_bn(VGG, classifier_width)
    network.classifier[6] = nn.Linear(classifier_width, num_outputs)
    return network


class _Published(VGG):
    """Takes images of 0 to 1, as ``normalize: none`` gives them, and normalises them by 0.5 / 0.5."""

    @staticmethod
    def normalised(x: Tensor) -> Tensor:
        """What the first convolution sees."""
        return (x - 0.5) / 0.5

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, outputs)."""
        out: Tensor = super().forward(self.normalised(x))
        return out


def as_published(
    num_outputs: int, image_size: tuple[int, ...], classifier_width: int = 4096, layer: int | str | None = None
) -> VGG:
    """The plain network of an arm as the study had it; the arm's surgery adds V.

    The new layer is called ``features.published``: no file of weights has that name, so that it stays new.

    Args:
        num_outputs: of the last layer.
        image_size: height and width; at least 64 with a layer without padding.
        classifier_width: as in `vgg16_bn`.
        layer: which convolution is a new one, as `fusionconv.fuse_into` counts them; None: none (the image arm).
    """
    _require_size(image_size, 32 if layer is None else 64)
    network = _vgg16_bn(_Published, classifier_width)
    network.classifier[6] = nn.Linear(classifier_width, num_outputs)
    if layer is None:
        return network
    name = resolve(network, layer)[0]
    old = network.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, padding=0, bias=False)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    place = name.removeprefix("features.")
    layers = [("published", new) if n == place else (n, module) for n, module in network.features.named_children()]
    network.features = nn.Sequential(OrderedDict(layers))
    return network


def _vgg16_bn(kind: type[VGG], width: int) -> VGG:
    with torch.device("meta"):  # its own 120 million classifier weights would be made only to be thrown away
        network: VGG = _torchvision_vgg16_bn()
    network.__class__ = kind
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


def _require_size(image_size: tuple[int, ...], smallest: int) -> None:
    if min(image_size) < smallest:
        raise SurgeryError(
            f"network: expected images of at least {smallest} pixels, of which VGG16's five poolings leave one, got "
            f"{' x '.join(map(str, image_size))}; give --image-size {smallest} or more"
        )
