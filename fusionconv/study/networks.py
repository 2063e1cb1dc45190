"""Networks by name: torchvision:resnet18, timm:..., monai:..., fusionconv:..., package.module:function."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.errors import StudyError, SurgeryError

__all__ = ["build_network", "check_network", "freeze", "frozen_modules"]


def build_network(
    name: str, *, num_outputs: int, in_channels: int, image_size: Sequence[int], options: Mapping[str, Any] = {},
    pretrained: bool = False, weights: str | None = None, head: str = "linear",
) -> nn.Module:  # fmt: skip
    """A network called as ``network(images)``, (N, in_channels, *image_size) -> (N, num_outputs)."""
    library, colon, model = name.partition(":")
    if not colon:
        raise StudyError(f"network: expected LIBRARY:NAME such as torchvision:resnet18, got {name!r}")
    if library == "torchvision":
        network = _torchvision(model, num_outputs, in_channels, pretrained, options)
    elif library == "timm":
        import timm

        if not timm.is_model(model):
            raise StudyError(_unknown("timm", model, timm.list_models()))
        network = timm.create_model(
            model, pretrained=pretrained, num_classes=num_outputs, in_chans=in_channels, **options
        )
    elif library == "monai":
        network = _monai(model, num_outputs, in_channels, image_size, options)
    else:
        network = _own(library, model, num_outputs, in_channels, image_size, options)
    if weights is not None:
        raise NotImplementedError
    return network


def _torchvision(
    name: str, num_outputs: int, in_channels: int, pretrained: bool, options: Mapping[str, Any]
) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise StudyError(_unknown("torchvision", name, known))
    network: nn.Module = models.get_model(
        name, weights="DEFAULT" if pretrained else None, num_classes=num_outputs, **options
    )
    first = next(n for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    old: Any = network.get_submodule(first)
    if old.in_channels != in_channels:
        new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups,
                        old.bias is not None, old.padding_mode)  # fmt: skip
        network.set_submodule(first, new)
    return network


def _monai(
    name: str, num_outputs: int, in_channels: int, image_size: Sequence[int], options: Mapping[str, Any]
) -> nn.Module:
    nets: Any = importlib.import_module("monai.networks.nets")
    maker = getattr(nets, name, None)
    if maker is None:
        raise StudyError(_unknown("monai", name, [n for n in dir(nets) if not n.startswith("_")]))
    resnet = name.lower().startswith("resnet") and name.islower()
    given: dict[str, Any] = {"spatial_dims": len(image_size)}
    given |= (
        {"n_input_channels": in_channels, "num_classes": num_outputs}
        if resnet
        else {"in_channels": in_channels, "out_channels": num_outputs}
    )
    taken = inspect.signature(maker).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        if "out_channels" not in taken and "num_classes" in taken:
            given["num_classes"] = given.pop("out_channels")
    network: nn.Module = maker(**{**given, **options})
    return network


def _own(
    module: str, name: str, num_outputs: int, in_channels: int, image_size: Sequence[int], options: Mapping[str, Any]
) -> nn.Module:
    maker = getattr(importlib.import_module(module), name)
    taken = inspect.signature(maker).parameters
    given = {"num_outputs": num_outputs, "in_channels": in_channels, "image_size": tuple(image_size)}
    network: nn.Module = maker(**{k: v for k, v in given.items() if k in taken}, **options)
    return network


def _unknown(library: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"network: expected a network of {library}, got {name!r}" + (
        f"; did you mean {' or '.join(near)}?" if near else ""
    )


@torch.no_grad()
def check_network(network: nn.Module, in_channels: int, image_size: Sequence[int], num_outputs: int) -> None:
    """Send two images through."""
    training = network.training
    network.eval()
    try:
        out = network(torch.zeros(2, in_channels, *image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise SurgeryError(
            f"network: expected one that takes {in_channels} x {tuple(image_size)}, got {error}"
        ) from error
    finally:
        network.train(training)
    if not isinstance(out, Tensor) or tuple(out.shape) != (2, num_outputs):
        raise SurgeryError(f"network: expected outputs (2, {num_outputs}), got {getattr(out, 'shape', type(out))}")


def freeze(network: nn.Module, names: Sequence[str]) -> int:
    """Parameters by name prefix are not trained."""
    count = 0
    for name, p in network.named_parameters():
        if any(name == n or name.startswith(n + ".") for n in names):
            p.requires_grad_(False)
            count += 1
    return count


def frozen_modules(network: nn.Module, names: Sequence[str]) -> tuple[nn.Module, ...]:
    """The frozen parts, kept in eval mode."""
    return tuple(m for n, m in network.named_modules() if n in names)


_ = Path
