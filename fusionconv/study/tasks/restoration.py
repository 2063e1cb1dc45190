"""Task restoration: an image for an image, such as one without noise or another sequence; PSNR and SSIM by subject."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionconv.errors import StudyError
from fusionconv.study.tasks.base import Array, Metric
from fusionconv.study.tasks.image_out import ImageTask, one_per_image, score_metric

__all__ = ["Restoration"]

_LEAST = 1e-12  # mean squared error; equal images then have 120 dB, and not infinity


class Restoration(ImageTask):
    """Values of images that are scaled as inputs are: 0 to 1 for pictures of 8 and 16 bits and for scaled volumes.

    Losses: ``l1``, ``l2`` (mean squared), ``ssim`` (1 - SSIM, plus the L1 that keeps the brightness). Metrics of an
    image, over all its pixels and channels:

    - ``psnr``: 10 log10(R^2 / MSE) in dB, R the data range; 120 dB at most.
    - ``ssim``: Wang et al. 2004, Gaussian window of 11 pixels, sigma 1.5 (a smaller window in smaller images).
    - ``mae``: mean absolute error.

    A study's metrics are means over subjects of each one's mean over its images.

    Args:
        columns: of the target images' paths; several become channels.
        loss: one of ``LOSSES``.
        channels: of each target image.
        data_range: R. 1 for images that are scaled to 0 to 1; for others the spread of the targets.
        bits: of pictures, the targets' type, which answers are written in (uint8, uint16, float32); empty: the image's.
        ratio: how many times as high as its image a target picture is.
    """

    NAME = "restoration"
    LOSSES = ("l1", "l2", "ssim")
    LABELS = False

    def __init__(
        self, columns: Sequence[str], loss: str = "default", channels: int = 1, data_range: float = 1.0,
        bits: str = "", ratio: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(columns, loss)
        self.bits, self.ratio = bits, float(ratio)
        self.channels, self.data_range = int(channels), float(data_range)
        if not (math.isfinite(self.data_range) and self.data_range > 0):
            raise StudyError(f"restoration: expected target images with contrast, got a data range of {data_range}")

    @property
    def num_outputs(self) -> int:
        """A value for each channel of each target."""
        return self.channels * len(self.columns)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """PSNR, SSIM, mean absolute error."""
        return (
            score_metric("psnr", bounds=(-math.inf, 120)),
            score_metric("ssim", bounds=(-1, 1)),
            score_metric("mae", False, (0, math.inf)),
        )

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss of outputs and targets, (N, num_outputs, *size)."""
        if self.loss_name == "l2":
            return F.mse_loss(outputs, targets)
        near = F.l1_loss(outputs, targets)
        if self.loss_name == "l1":
            return near
        losses: Any = importlib.import_module("monai.losses")
        window = window_of(targets.shape[2:])
        unlike: Tensor = losses.SSIMLoss(targets.ndim - 2, self.data_range, win_size=window)(outputs, targets)
        return unlike + near / self.data_range

    def score(
        self, outputs: Tensor, targets: Tensor, spacing: Sequence[Sequence[float]], wanted: Sequence[str]
    ) -> dict[str, Array]:
        """See the class."""
        error = (outputs - targets).double().flatten(1)
        mse = (error**2).mean(1).clamp(min=_LEAST * self.data_range**2)
        metrics: Any = importlib.import_module("monai.metrics.regression")
        dims = targets.ndim - 2
        ssim, _ = metrics.compute_ssim_and_cs(
            outputs.double(),
            targets.double(),
            dims,
            [window_of(targets.shape[2:])] * dims,
            [1.5] * dims,
            self.data_range,
        )
        return one_per_image({
            "psnr": 10 * torch.log10(self.data_range**2 / mse),
            "ssim": ssim.flatten(1).mean(1),
            "mae": error.abs().mean(1),
        })  # fmt: skip

    def picture(self, outputs: Tensor) -> Tensor:
        """The values."""
        return outputs

    def chances(self, outputs: Tensor) -> Tensor:
        """The values."""
        return outputs

    def of_chances(self, chances: Tensor) -> Tensor:
        """The values."""
        return chances

    def summary(self, picture: Tensor) -> dict[str, Array]:
        """The mean value of each image."""
        return {"mean": picture.flatten(1).double().mean(1).numpy()}

    def describe(self, targets: Array) -> str:
        """How many images, and their range."""
        return f"{len(targets)} images, targets of {self.num_outputs} channels, data range {self.data_range:.4g}"

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values."""
        said = {"channels": self.channels, "data_range": self.data_range}
        return {**super().settings, **said, "bits": self.bits, "ratio": self.ratio}


def window_of(size: Sequence[int]) -> int:
    """SSIM's window: 11 pixels, or the largest odd number that the image has room for."""
    least = min(int(n) for n in size)
    return min(11, least if least % 2 else least - 1)
