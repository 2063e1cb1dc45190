"""Networks by name: torchvision:resnet18, timm:..., monai:..., fusionconv:..., package.module:function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.errors import StudyError, SurgeryError
from fusionconv.study.first_weights import load_weights
from fusionconv.study.forked import forked_rng
from fusionconv.study.freezing import freeze, frozen_modules, frozen_parameters
from fusionconv.study.heads import HeadOptions, find_head, last_linear, put_head, read_head
from fusionconv.study.network_makers import LIBRARIES, make_network
from fusionconv.surgery.eval_mode import in_eval_mode

__all__ = ["HeadOptions", "build_network", "check_network", "freeze", "frozen_modules", "frozen_parameters"]


def build_network(
    name: str, *, num_outputs: int, in_channels: int, image_size: Sequence[int],
    options: Mapping[str, Any] | None = None, pretrained: bool = False,
    weights: str | None = None, head: str | HeadOptions | None = "linear",
    own_functions: bool = True,
) -> nn.Module:  # fmt: skip
    """A network called as ``network(images)``, (N, in_channels, *image_size) -> (N, num_outputs).

    The same seed gives the same weights, whichever arm is made of it afterwards.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, ``monai:NAME``, ``fusionconv:NAME``, or ``package.module:function``.
            A function is called with num_outputs, in_channels and image_size, as far as it takes them, and with
            ``options``.
        num_outputs: of the last layer.
        in_channels: of the images.
        image_size: height and width, or three sizes in 3-D.
        options: further arguments of the network.
        pretrained: start from the library's weights, which it downloads; the last layer is new, and a first
            convolution of other channels takes the mean of the pretrained kernels.
        weights: a file of weights to start from (torch or safetensors). What does not fit is logged.
        head: the last layer of every arm: linear (the network's own), mlp, norm (see `HeadOptions`).
        own_functions: whether ``package.module:function`` may be called. Say False where the name comes from a file
            that somebody else made.

    Raises:
        StudyError: no such network, or it does not take these options.
        SurgeryError: it cannot have these channels, dimensions or head.
        CheckpointError: the weights cannot be had, or are another network's.

    >>> net = build_network("fusionconv:small_resnet", num_outputs=2, in_channels=1, image_size=(16, 16, 16))
    >>> net(torch.zeros(3, 1, 16, 16, 16)).shape
    torch.Size([3, 2])
    """
    if pretrained and weights is not None:
        raise StudyError(f"weights: expected pretrained or weights, got both (weights={weights}); leave one out")
    wanted = read_head(head)
    if not own_functions and name.partition(":")[0] not in LIBRARIES:
        raise StudyError(
            f"network: expected one of {', '.join(LIBRARIES)}, got {name!r}; a function of one's own is not run from a "
            "file: build the network, and load the weights into it"
        )
    network = make_network(name, num_outputs, in_channels, image_size, options or {}, pretrained)
    network = put_head(network, wanted, num_outputs, in_channels, image_size)
    if weights is not None:
        load_weights(network, weights, _head_names(network, num_outputs))
    return network


def _head_names(network: nn.Module, num_outputs: int) -> list[str]:
    """The last layer, which other weights may lack."""
    found = find_head(network)
    if found is not None:
        return [found]
    try:
        return [last_linear(network, num_outputs)]
    except SurgeryError:
        return []


def check_network(
    network: nn.Module, in_channels: int, image_size: Sequence[int], num_outputs: int, images_out: bool = False
) -> None:
    """Send two images of noise through, in eval mode; modes and random numbers stay as they are.

    Args:
        network: to be checked.
        in_channels: of the images.
        image_size: of the images.
        num_outputs: that its answers have.
        images_out: whether its answers are images, (N, num_outputs, *image_size), or rows, (N, num_outputs).

    Raises:
        SurgeryError: the network does not take such images (the message says which it takes), or its outputs are not
            finite numbers of shape (N, num_outputs).
    """
    images = _by(in_channels, image_size)
    try:
        out = _answer(network, in_channels, image_size)
    except _FAILURES as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise SurgeryError(
            f"network: expected images that {type(network).__name__} takes, got {images} ({why}); "
            f"{_what_it_takes(network, in_channels, image_size, images_out)}"
        ) from error
    shape = (num_outputs, *image_size) if images_out else (num_outputs,)
    large = " as large as the images," if images_out else ""
    expected = f"network: expected outputs (N, {', '.join(map(str, shape))}) of {type(network).__name__},{large} got"
    if not isinstance(out, Tensor):
        kind = f"a {type(out).__name__}" + (f" of {len(out)}" if isinstance(out, (tuple, list, dict)) else "")
        raise SurgeryError(f"{expected} {kind}; name a function of your own that returns a network of one tensor")
    if tuple(out.shape) != (2, *shape):
        got = ", ".join(["N" if out.ndim and out.shape[0] == 2 else "?", *map(str, out.shape[1:])])
        raise SurgeryError(f"{expected} ({got}): {_other_shape(out, network, in_channels, image_size, shape)}")
    if not torch.isfinite(out).all():
        raise SurgeryError(
            f"{expected} NaN or infinity for {images}: its maps may have no pixel left; "
            f"{_what_it_takes(network, in_channels, image_size, images_out)}"
        )


def _other_shape(
    out: Tensor, network: nn.Module, in_channels: int, image_size: Sequence[int], shape: Sequence[int]
) -> str:
    """What to do about outputs that are not (2, *shape)."""
    if len(shape) == 1:
        pooled = out.ndim == 2
        what = "its last layer needs num_outputs outputs" if pooled else "the images are not pooled to one row each"
        return f"{what}; mend it, or give another network"
    if out.ndim != len(shape) + 1:
        return "it is no network of images out; give one such as monai:BasicUNet"
    if out.shape[1] != shape[0]:
        return f"it needs an argument that says {shape[0]} output channels; give it in --network-options"
    return _what_it_takes(network, in_channels, image_size, True)


_FAILURES = (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError)


def _answer(network: nn.Module, in_channels: int, image_size: Sequence[int]) -> Any:
    like = next((p for p in network.parameters() if p.is_floating_point()), torch.zeros(()))
    noise = torch.randn(2, in_channels, *image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), forked_rng(), in_eval_mode(network):
        return network(noise.to(like))


def _what_it_takes(network: nn.Module, in_channels: int, image_size: Sequence[int], images_out: bool = False) -> str:
    """What to change: the channels, or the least of some usual sizes with which it works."""
    first = next((m for m in network.modules() if isinstance(m, _ConvNd)), None)
    if first is not None and first.weight.ndim - 2 != len(image_size):
        return f"it takes {first.weight.ndim - 2}-D images; give --dims {first.weight.ndim - 2}, or another network"
    if first is not None and first.in_channels != in_channels:
        return f"it takes {first.in_channels} channels; give --channels {first.in_channels}"
    if images_out:
        return _multiples(network, in_channels, image_size)
    sizes = (32, 48, 64, 96, 128, 192, 224, 256, 299, 384) if len(image_size) == 2 else (16, 24, 32, 48, 64, 96)
    for size in sizes:
        try:
            out = _answer(network, in_channels, [size] * len(image_size))
        except _FAILURES:
            continue
        if isinstance(out, Tensor) and bool(torch.isfinite(out).all()):
            same = " x ".join([str(size)] * len(image_size))
            return f"of the usual sizes it takes {same} first; give --image-size {size}"
    return f"it takes none of the sizes {', '.join(map(str, sizes))} either; give another network"


def _multiples(network: nn.Module, in_channels: int, image_size: Sequence[int]) -> str:
    """The next size up that an images-out network takes: multiples of 2, 4, 8, 16, 32 or 64."""
    for step in (2, 4, 8, 16, 32, 64):
        size = [-(-side // step) * step for side in image_size]
        try:
            out = _answer(network, in_channels, size)
        except _FAILURES:
            continue
        if isinstance(out, Tensor) and list(out.shape[2:]) == size and bool(torch.isfinite(out).all()):
            shown = " ".join(map(str, size))
            return f"it takes multiples of {step}; give --image-size {shown} (or --patch {shown})"
    return "it takes no multiples of 2 to 64 near this size either; give another network"


def _by(in_channels: int, image_size: Sequence[int]) -> str:
    return f"{in_channels} channels of " + " x ".join(map(str, image_size))
