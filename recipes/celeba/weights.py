"""Weights of VGG16-BN for ``--weights``: torchvision's, a file, or a plain VGG16's with calibrated batch norms."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import torch
from torch import Tensor, nn
from torchvision.models import VGG, VGG16_BN_Weights

from fusionconv.errors import CheckpointError
from fusionconv.study.first_weights import read_weights

__all__ = ["IMAGES", "calibrate_batch_norms", "weights_file"]

log = logging.getLogger("fusionconv.study")
IMAGES = 256  # training images on which the batch norms of a plain VGG16 are calibrated
# The convolutions among features.*: torchvision's vgg16 has (conv, relu), vgg16_bn has (conv, norm, relu).
VGG16_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN_CONVS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)


def weights_file(weights: str, network: Callable[[], VGG], images: Callable[[], Tensor], cache: Path) -> str | None:
    """The file for the setting ``weights`` of a study; None for random weights.

    Args:
        weights: ``"none"``; ``"imagenet"`` (torchvision downloads its own, once); or a file: a state dict of vgg16_bn,
            or the ``features.*`` of torchvision's vgg16 (13 convolutions without batch norm).
        network: makes the plain network of the study; called only where weights are calibrated.
        images: gives a batch of training images, ready for the network; asked for only by a plain VGG16's weights.
        cache: folder of the file with the calibrated batch norms.

    Raises:
        CheckpointError: the file is absent, is not a state dict, or is one of another network.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        return _imagenet()
    state = read_weights(weights)
    if "features.1.running_mean" in state:  # the first batch norm
        return weights
    if not all(state.get(f"features.{i}.weight", torch.empty(0)).ndim == 4 for i in VGG16_CONVS):
        raise CheckpointError(
            f"{weights}: expected a state dict of torchvision's vgg16_bn, or the features.* of its vgg16, got the keys "
            f"{', '.join(list(state)[:4])}, ... Save `model.state_dict()` of one of the two."
        )
    filled, shown = network(), images()
    digest = hashlib.sha256(Path(weights).read_bytes() + shown.numpy().tobytes() + repr(filled).encode())
    path = cache / f"vgg16-calibrated-{digest.hexdigest()[:12]}.pt"
    classifier = _copy(filled, _renamed(state), weights)
    shown = getattr(filled, "normalised", lambda x: x)(shown)  # as_published normalises within
    calibrate_batch_norms(filled.features, shown, keep_scale=classifier)
    log.warning(
        "%s has no batch norms: those of the network were calibrated on %d training images. It is not the VGG16-BN of "
        "ImageNet; say so beside its results", weights, len(shown),
    )  # fmt: skip
    known = ("features.", "classifier.0.", "classifier.3.") if classifier else ("features.",)
    kept = {name: value for name, value in filled.state_dict().items() if name.startswith(known)}
    if not path.is_file():  # parts of a grid may come here at the same time
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{uuid4().hex}")
        whole = io.BytesIO()  # its bytes, which are in the key of every run, do not depend on a file's name
        torch.save({name: value.clone() for name, value in kept.items()}, whole)
        part.write_bytes(whole.getvalue())
        part.replace(path)
    return str(path)


def _imagenet() -> str:
    weights = VGG16_BN_Weights.IMAGENET1K_V1
    try:
        weights.get_state_dict(progress=True)
    except OSError as error:  # no network, a quota, a disk that is full
        raise CheckpointError(
            f"the ImageNet weights of vgg16_bn could not be fetched: {error}. Give --weights FILE or none."
        ) from None
    return str(Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A plain VGG16's convolutions under the names that they have in vgg16_bn; its classifier, where it comes along."""
    names = {f"features.{old}.{kind}": f"features.{new}.{kind}"
             for old, new in zip(VGG16_CONVS, VGG16_BN_CONVS, strict=True) for kind in ("weight", "bias")}  # fmt: skip
    return {names.get(key, key): value for key, value in state.items()}


def _copy(network: VGG, state: dict[str, Tensor], source: str) -> bool:
    """Copy every tensor that fits. The convolutions must all fit; classifier layers of another width are left.

    Returns:
        Whether the classifier's hidden layers came along.
    """
    own = network.state_dict()
    fits = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    lacking = [f"features.{i}.{kind}" for i in VGG16_BN_CONVS for kind in ("weight", "bias")]
    lacking = [key for key in lacking if key not in fits]
    if lacking:
        raise CheckpointError(f"{source} lacks, or has in another shape: {', '.join(lacking)}. Is it a VGG16?")
    # The classifier is taken whole or not at all, apart from its last layer, which answers another question.
    hidden = ("classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias")
    whole = all(key in fits for key in hidden)
    if not whole:
        fits = {key: value for key, value in fits.items() if key.startswith("features.")}
    fits = {key: value for key, value in fits.items() if not key.startswith("classifier.6.")}
    network.load_state_dict(fits, strict=False)
    return whole


@torch.no_grad()
def calibrate_batch_norms(features: nn.Sequential, images: Tensor, keep_scale: bool = True) -> None:
    """Set the batch norms of ``features`` so that it computes what it does without them, at ordinary scales.

    Layer by layer, on ``images``, in train and in eval mode. With mean m and variance v of its input per channel over
    the batch, a batch norm of weight sqrt(v + eps) / a, bias m / a, running_mean m and running_var v gives x / a: the
    network without batch norms, each channel divided by a positive number a of its own. ReLU and max pooling let a
    factor like that through, and the next convolution takes it back: W[:, c] a_c. Here a = sqrt(v + eps), so that the
    batch norms start at weight one as ImageNet's do; and since a batch norm does not mind the scale of what comes in,
    each convolution is brought to He's root mean square, sqrt(2 / fan_in). Otherwise weights that were made for images
    from 0 to 255 (a first kernel of 10, where ImageNet's is 0.1) would stand still under Adam, whose steps are as large
    as the learning rate, and so would a hybrid layer's V seem to do nothing.

    Args:
        features: a Sequential of convolutions, each followed by a batch norm, and layers that let positive factors
            through, run one after the other.
        images: (N, 3, H, W), ready for the network, on its device; a few hundred.
        keep_scale: the last batch norm gives x itself, for a classifier that was trained on it; else x over the one
            number that brings its standard deviation, over all channels, to one.
    """
    x = images
    norms = [layer for layer in features if isinstance(layer, nn.BatchNorm2d)]
    before: nn.Conv2d | None = None
    divided = torch.ones(images.shape[1], device=images.device)  # by what each channel of x has been divided
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            before = layer
            layer.weight.mul_(divided[None, :, None, None])
            scale = layer.weight.square().mean().sqrt() / (2 / layer.weight[0].numel()) ** 0.5
            layer.weight.div_(scale)
            if layer.bias is not None:
                layer.bias.div_(scale)
        if not isinstance(layer, nn.BatchNorm2d):
            # In pieces, since 256 images of 224 pixels are 3 GB after the first convolution; ReLUs work in place.
            x = torch.cat([layer(piece) for piece in x.split(32)])
            continue
        assert before is not None, "a batch norm follows a convolution"
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        spread = (variance + layer.eps).sqrt()
        if layer is not norms[-1]:
            divisor = spread.clamp(min=0.1 * float(spread.mean()))  # a channel that is nearly constant stays small
        else:  # x here is what the network had, over `scale`
            divisor = torch.full_like(spread, float(1 / scale if keep_scale else spread.square().mean().sqrt()))
        layer.weight.copy_(spread / divisor)
        layer.bias.copy_(mean / divisor)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)
        x = x / divisor[None, :, None, None]
        divided = divisor * scale  # of what the network without batch norms has here
