"""3-D networks by name: the two of fusionconv.study.brain_networks, and MONAI's."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from torch import nn

from fusionconv.errors import SurgeryError
from fusionconv.study.brain_networks import BRAIN_NETWORKS, Conv5FC3, SmallResNet

__all__ = ["Conv5FC3", "SmallResNet", "build_backbone"]

# MONAI's, by the names that people use: the class and the arguments for volumes with one channel.
MONAI = {
    "densenet121": ("DenseNet121", {"spatial_dims": 3, "in_channels": 1}),
    "resnet10": ("resnet10", {"spatial_dims": 3, "n_input_channels": 1}),
    "resnet18": ("resnet18", {"spatial_dims": 3, "n_input_channels": 1}),
    "resnet50": ("resnet50", {"spatial_dims": 3, "n_input_channels": 1}),
}
# What MONAI's networks call the number of outputs.
OUTPUT_NAMES = ("out_channels", "num_classes", "n_classes")


def build_backbone(name: str, num_outputs: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A network by name, with as many outputs as the task needs.

    Args:
        name: conv5_fc3, small_resnet, densenet121, resnet10, resnet18, resnet50, or any class or function of
            monai.networks.nets, such as EfficientNetBN.
        num_outputs: outputs of the last layer.
        options: further arguments of the network, such as {base: 8} or {model_name: efficientnet-b0, spatial_dims: 3,
            in_channels: 1}.

    Raises:
        SurgeryError: no such network, or it does not take these options.
    """
    options = dict(options or {})
    if name in BRAIN_NETWORKS:
        return _call(name, BRAIN_NETWORKS[name], num_outputs=num_outputs, **options)
    monai_name, defaults = MONAI.get(name, (name, {"spatial_dims": 3}))
    nets: Any = importlib.import_module("monai.networks.nets")
    maker = getattr(nets, monai_name, None)
    if maker is None:
        raise SurgeryError(
            f"--model.network: expected one of {', '.join([*BRAIN_NETWORKS, *MONAI])} or a name in "
            f"monai.networks.nets, got {name!r}."
        )
    arguments = {**defaults, **options}
    taken = inspect.signature(maker).parameters
    if not any(output in arguments for output in OUTPUT_NAMES):
        output = next((output for output in OUTPUT_NAMES if output in taken), None)
        # resnet10 and its like take **kwargs for the ResNet class, which calls it num_classes.
        if output is None and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
            output = "out_channels" if "densenet" in monai_name.lower() else "num_classes"
        if output is None:
            raise SurgeryError(
                f"MONAI's {monai_name} takes none of {', '.join(OUTPUT_NAMES)}; say which of its arguments is the "
                f"number of outputs ({num_outputs}) in --model.network_options."
            )
        arguments[output] = num_outputs
    network = _call(monai_name, maker, **arguments)
    return network


def _call(name: str, maker: Any, **arguments: Any) -> nn.Module:
    try:
        network: nn.Module = maker(**arguments)
    except (TypeError, ValueError) as error:
        raise SurgeryError(
            f"--model.network {name} with {arguments}: {error}. Correct --model.network_options."
        ) from error
    return network
