"""Images: decoded in the loader's workers to uint8 at their own size, resized and normalised on the training device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

# What the study did, and what torchvision's ImageNet weights were trained with.
NORMALISATION = {
    "as_published": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "corrected": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def decode(path: Path) -> Tensor:
    """One image file as a uint8 tensor (3, H, W). PIL reads it: it refuses truncated files instead of guessing.

    torchvision.io decodes JPEG to the same bytes 1.3 to 1.8 times as fast (13 kB faces, one core, torchvision 0.29,
    Pillow 13), but is deprecated there.
    """
    with Image.open(path) as image:
        array = np.asarray(image.convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


class FaceImages(Dataset[dict[str, Any]]):
    """Rows of image, covariates and target. A file that does not decode comes out as ``image=None`` with the reason."""

    def __init__(
        self,
        folder: Path,
        files: list[str],
        covariates: np.ndarray,
        targets: np.ndarray,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.folder = folder
        self.files = files
        self.covariates = torch.tensor(covariates, dtype=torch.float32)
        self.targets = torch.tensor(np.ascontiguousarray(targets), dtype=torch.int64)  # (rows,), or (rows, targets)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {"index": index, "covariates": self.covariates[index], "target": self.targets[index]}
        try:
            image = decode(self.folder / self.files[index])
            row["image"] = image if self.transform is None else self.transform(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all that PIL raises
            row["image"], row["failure"] = None, (self.files[index], str(error))
        return row


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch. Images of one size become one uint8 tensor (N, 3, H, W), images of several sizes stay a list."""
    good = [row for row in rows if row["image"] is not None]
    images: Any = [row["image"] for row in good]
    if len({image.shape for image in images}) == 1:
        images = torch.stack(images)
    return {
        "images": images,
        "covariates": torch.stack([row["covariates"] for row in rows])[
            torch.tensor([r["image"] is not None for r in rows])
        ],
        "targets": torch.stack([row["target"] for row in rows])[torch.tensor([r["image"] is not None for r in rows])],
        "index": torch.tensor([row["index"] for row in good], dtype=torch.int64),
        "failures": [row["failure"] for row in rows if row["image"] is None],
    }


def to_device(images: Tensor | list[Tensor], device: torch.device | str) -> Tensor | list[Tensor]:
    """The images of a batch on ``device``, as one tensor or as a list, as they came."""
    return images.to(device) if isinstance(images, Tensor) else [image.to(device) for image in images]


def prepare(images: Tensor | list[Tensor], size: int, mode: str) -> Tensor:
    """uint8 images, where they are, to the network's input: float32 (N, 3, size, size), resized and normalised.

    The aspect is not kept: 218 x 178 becomes a square, as in the study. Bilinear with antialiasing, as PIL resizes.
    """
    if isinstance(images, Tensor):
        resized = tvf.resize(images, [size, size], antialias=True)
    elif images:
        resized = torch.stack([tvf.resize(image, [size, size], antialias=True) for image in images])
    else:
        return torch.zeros(0, 3, size, size)
    mean, std = (torch.tensor(v, device=resized.device).view(3, 1, 1) for v in NORMALISATION[mode])
    return (resized.float() / 255 - mean) / std


def augmentation(size: int) -> v2.Transform:
    """For training: a random part of the image (half of its area or more), resized to a square, and a random flip.

    One image at a time, in the loader's workers, as uint8. (A batch given to torchvision's transforms as one tensor
    would get one crop for all of its images.) Smaller parts than a half would lose the mouth or the hair that is asked
    for.
    """
    return v2.Compose([v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True), v2.RandomHorizontalFlip()])
