"""Two small 3-D networks for brain images, (N, in_channels, D, H, W) -> (N, num_outputs): Conv5_FC3 and a ResNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["BRAIN_NETWORKS", "Conv5FC3", "SmallResNet"]


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
        in_channels: channels of the images.

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
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for inputs, outputs in zip((in_channels, *channels[:-1]), channels, strict=True):
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
        """(N, in_channels, D, H, W) -> (N, num_outputs)."""
        out: Tensor = self.head(self.pool(self.features(x)))
        return out


class SmallResNet(nn.Module):
    """A ResNet of four blocks, one per scale, such as DAFT's base network (Poelsterl et al. 2021, with 4 base filters).

    Each block: two 3^3 convolutions with batch norm and a shortcut; every block after the first halves the map and
    doubles the channels. Global average pooling, one linear layer.

    Args:
        num_outputs: the last layer's outputs.
        base: channels of the first block.
        stem_stride: of the first convolution.
        dropout: before the linear layer.
        in_channels: channels of the images.

    >>> import torch
    >>> SmallResNet(3)(torch.zeros(2, 1, 32, 32, 32)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, num_outputs: int, base: int = 4, stem_stride: int = 1, dropout: float = 0.0, in_channels: int = 1
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, base, 3, stem_stride, 1, bias=False),
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
        """(N, in_channels, D, H, W) -> (N, num_outputs)."""
        out: Tensor = self.fc(self.dropout(self.pool(self.blocks(self.stem(x))).flatten(1)))
        return out


class ResidualBlock(nn.Module):
    """Two 3^3 convolutions with batch norm, and the input added (through a 1^3 convolution where shapes differ)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, D, H, W) -> (N, outputs, D/stride, H/stride, W/stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return out


BRAIN_NETWORKS: dict[str, type[nn.Module]] = {"conv5_fc3": Conv5FC3, "small_resnet": SmallResNet}
