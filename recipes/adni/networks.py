"""3-D networks, (N, 1, D, H, W) -> (N, outputs): Conv5_FC3, a small ResNet, and MONAI's by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from fusionconv.errors import SurgeryError


class Conv5FC3(nn.Module):
    """Five convolutions and three linear layers, as used on ADNI by Wen et al. 2020 (MedIA 63:101694, "Conv5_FC3").

    Each stage: 3^3 convolution, batch norm, ReLU, max pooling by 2. Here with the linear layers' widths as options and
    an adaptive pooling before them, so that any image size of at least 32 voxels fits.

    Args:
        num_outputs: the last layer's outputs.
        channels: of the five convolutions.
        hidden: widths of the two hidden linear layers.
        pooled: size of the maps before the linear layers.
        dropout: before the first linear layer.

    >>> import torch
    >>> Conv5FC3(2)(torch.zeros(1, 1, 48, 56, 48)).shape
    torch.Size([1, 2])
    """

    def __init__(
        self,
        num_outputs: int,
        channels: Sequence[int] = (8, 16, 32, 64, 128),
        hidden: tuple[int, int] = (64, 32),
        pooled: int = 1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for inputs, outputs in zip((1, *channels[:-1]), channels, strict=True):
            stages += [
                nn.Conv3d(inputs, outputs, 3, padding=1),
                nn.BatchNorm3d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool3d(2),
            ]
        self.features = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool3d(pooled)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels[-1] * pooled**3, hidden[0]),
            nn.ReLU(inplace=True),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(inplace=True),
            nn.Linear(hidden[1], num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, D, H, W) -> (N, num_outputs)."""
        return self.head(self.pool(self.features(x)))


class SmallResNet(nn.Module):
    """A ResNet of four blocks, one per scale, such as DAFT's base network (Poelsterl et al. 2021, with 4 base filters).

    Each block: two 3^3 convolutions with batch norm and a shortcut; every block after the first halves the map and
    doubles the channels. Global average pooling, one linear layer.

    >>> import torch
    >>> SmallResNet(3)(torch.zeros(2, 1, 32, 32, 32)).shape
    torch.Size([2, 3])
    """

    def __init__(self, num_outputs: int, base: int = 4, stem_stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(1, base, 3, stem_stride, 1, bias=False),
            nn.BatchNorm3d(base),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(2),
        )
        widths = [base * 2**i for i in range(4)]
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(inputs, outputs, 1 if i == 0 else 2)
                for i, (inputs, outputs) in enumerate(zip((base, *widths[:-1]), widths, strict=True))
            )
        )
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, D, H, W) -> (N, num_outputs)."""
        return self.fc(self.dropout(self.pool(self.blocks(self.stem(x))).flatten(1)))


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions with batch norm, and the input added (through a 1^3 convolution where shapes differ)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, H, W) -> (N, outputs, D/stride, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


OWN = {"conv5_fc3": Conv5FC3, "small_resnet": SmallResNet}
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
    if name in OWN:
        return _call(name, OWN[name], num_outputs=num_outputs, **options)
    monai_name, defaults = MONAI.get(name, (name, {"spatial_dims": 3}))
    nets: Any = importlib.import_module("monai.networks.nets")
    maker = getattr(nets, monai_name, None)
    if maker is None:
        raise SurgeryError(
            f"--model.network should be one of {', '.join([*OWN, *MONAI])} or a name in monai.networks.nets, and is "
            f"{name!r}."
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
