"""Any classification network of torchvision or timm, by name, with as many outputs as there are questions."""

from __future__ import annotations

import difflib
import logging
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn

from fusionconv.errors import CheckpointError, SurgeryError
from recipes.celeba.images import NORMALISATION
from recipes.celeba.weights import read_state

log = logging.getLogger("recipes.celeba")
TIMM = "timm:"
WITH_AUXILIARY = ("googlenet", "inception_v3")  # their second outputs are left out


def library_of(arch: str) -> Literal["torchvision", "timm"]:
    """Which library has ``arch``: ``timm:NAME`` is timm's; a bare name torchvision's, or timm's where it has none.

    Raises:
        SurgeryError: neither has it; the message names what is spelled alike.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if arch in known:
        return "torchvision"
    name = arch.removeprefix(TIMM)
    try:
        import timm
    except ImportError:
        raise SurgeryError(
            f"--model.arch {arch!r} is none of torchvision's classification networks{_alike(arch, known)}, and timm is "
            "not installed: pip install timm"
        ) from None
    if timm.is_model(name):
        return "timm"
    candidates = timm.list_models() if arch.startswith(TIMM) else [*known, *timm.list_models()]
    raise SurgeryError(
        f"--model.arch: expected the name of a classification network of torchvision or timm, came {arch!r}"
        f"{_alike(name, candidates)}. timm's networks can be written timm:NAME."
    )


def _alike(name: str, known: list[str]) -> str:
    found = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    return f" (alike: {', '.join(found)})" if found else ""


def build_backbone(arch: str, outputs: int, weights: str) -> nn.Module:
    """The network, with a new last layer of ``outputs`` outputs.

    Args:
        arch: see `library_of`.
        outputs: of the new last layer.
        weights: ``"imagenet"`` (the library's default weights, downloaded once), ``"none"``, or a file: the state dict
            of this network; its last layer is left aside.

    Raises:
        CheckpointError: the weights cannot be had, or are those of another network.
    """
    pretrained = weights == "imagenet"
    try:
        if library_of(arch) == "timm":
            import timm

            name = arch.removeprefix(TIMM)
            if pretrained and not timm.models.is_model_pretrained(name):
                raise CheckpointError(
                    f"timm has no pretrained weights for {name!r}. Give --model.weights none or a file, or one of "
                    "timm.list_pretrained()."
                )
            network = timm.create_model(name, pretrained=pretrained, num_classes=outputs)
            trained_with = network.pretrained_cfg.get("mean"), network.pretrained_cfg.get("std")
            if pretrained and trained_with != NORMALISATION["corrected"]:
                log.warning(
                    "%s was trained on images normalised with mean and standard deviation %s; here they get ImageNet's",
                    arch, trained_with,
                )  # fmt: skip
        else:
            options = {"aux_logits": False} if arch in WITH_AUXILIARY else {}
            if arch in WITH_AUXILIARY and not pretrained:
                options["init_weights"] = True
            network = torchvision.models.get_model(arch, weights="DEFAULT" if pretrained else None, **options)
            _replace_last(network, outputs)
    except OSError as error:  # no network, a quota, a disk that is full
        raise CheckpointError(
            f"the ImageNet weights of {arch} could not be fetched: {error}. Give --model.weights FILE (a state dict "
            "of this network) or none."
        ) from None
    if weights not in ("imagenet", "none"):
        _load(network, read_state(weights), arch, weights)
    return network


def _replace_last(network: nn.Module, outputs: int) -> None:
    """Put a new layer in the place of the last one."""
    name = last_layer(network)
    old = network.get_submodule(name)
    if isinstance(old, nn.Conv2d):  # SqueezeNet's last layer is a 1 x 1 convolution
        network.set_submodule(name, nn.Conv2d(old.in_channels, outputs, old.kernel_size))
    else:
        network.set_submodule(name, nn.Linear(old.in_features, outputs, bias=old.bias is not None))


def last_layer(network: nn.Module) -> str:
    """The name of the layer that gives the outputs: the last Linear in registration order, else the last convolution.

    >>> last_layer(torchvision.models.resnet18())
    'fc'
    """
    for kind in (nn.Linear, nn.Conv2d):
        found = [name for name, module in network.named_modules() if isinstance(module, kind)]
        if found:
            return found[-1]
    raise SurgeryError(f"{type(network).__name__} has no Linear and no Conv2d, so there is no last layer to replace.")


def _load(network: nn.Module, state: dict[str, Tensor], arch: str, path: str) -> None:
    """Copy everything but the last layer; the file must be of this very network."""
    own = network.state_dict()
    last = last_layer(network) + "."
    aside = (last, "AuxLogits.", "aux1.", "aux2.")
    absent = [
        key
        for key, value in own.items()
        if not key.startswith(last)
        and not key.endswith("num_batches_tracked")
        and (key not in state or state[key].shape != value.shape)
    ]
    strange = [key for key in state if key not in own and not key.startswith(aside)]
    if absent or strange:
        raise CheckpointError(
            f"{path}: expected a state dict of {arch}; {len(absent)} of its entries are absent or of another shape "
            f"({', '.join(absent[:3]) or 'none'}), and {len(strange)} belong to another network "
            f"({', '.join(strange[:3]) or 'none'}). Give the file of this network, or another --model.arch."
        )
    network.load_state_dict(
        {key: value for key, value in state.items() if key in own and not key.startswith(last)}, strict=False
    )


@torch.no_grad()
def check_outputs(network: nn.Module, arch: str, image_size: int, num_covariates: int | None, outputs: int) -> None:
    """Run two black images through: the network must take this size, and give (2, ``outputs``).

    Args:
        network: on any device; its modes and random numbers are left as they are.
        arch: for the message.
        image_size: pixels each way.
        num_covariates: K of the hybrid arm; None for the plain arm.
        outputs: expected.
    """
    device = next(network.parameters()).device
    covariates = () if num_covariates is None else (torch.zeros(2, num_covariates, device=device),)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        answer = network(torch.zeros(2, 3, image_size, image_size, device=device), *covariates)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SurgeryError(
            f"{arch} does not take images of {image_size} x {image_size} pixels ({str(error).splitlines()[0]}). "
            "Choose another --data.image_size; 224 is what most networks were made for."
        ) from None
    finally:
        for module, training in modes.items():
            module.training = training
    if not isinstance(answer, Tensor) or tuple(answer.shape) != (2, outputs):
        came = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise SurgeryError(
            f"{arch} with a new last layer {last_layer(network)!r} should give (2, {outputs}) for two images, and gave "
            f"{came}: its last layer is not its output. Choose another --model.arch."
        )
