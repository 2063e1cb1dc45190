"""Images and their rows, by file name: decoded to uint8 by the workers, resized and normalised on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from fusionconv.errors import TableError
from fusionconv.tabular import CovariateEncoder, CovariateTable
from recipes.celeba.paths import few

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


def rows_by_file(
    frame: pd.DataFrame, encoder: CovariateEncoder | None, constant: float | None = None
) -> CovariateTable:
    """The encoded covariates of each file.

    Args:
        frame: its index are file names; the encoder's columns are among its columns.
        encoder: fitted on training rows; None: no covariates, rows of length 0.
        constant: this number in place of every encoded covariate.
    """
    columns = [] if encoder is None else list(encoder.columns)
    named = frame[columns].assign(file=frame.index)
    return CovariateTable(named, _Encoding(encoder, constant), id="file")


class _Encoding:
    """What a row holds: the encoder's numbers, one constant for all, or nothing."""

    def __init__(self, encoder: CovariateEncoder | None, constant: float | None) -> None:
        self.encoder, self.constant = encoder, constant

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        if self.encoder is None:
            return np.zeros((len(frame), 0), dtype=np.float32)
        encoded = self.encoder.transform(frame)
        return encoded if self.constant is None else np.full_like(encoded, self.constant)


class FaceImages(Dataset[dict[str, Any]]):
    """Image, covariates, target and id (the file's name) of each row; `collate` looks every row up by its id.

    A file that does not decode comes out as ``image=None`` with the reason.

    Args:
        folder: where the files are.
        table: the covariates by file name (`rows_by_file`).
        targets: 0 or 1 by file name, one column or several, with the very files of ``table``; None: all 0 (predict).
        transform: of a decoded image.
    """

    def __init__(
        self,
        folder: Path,
        table: CovariateTable,
        targets: pd.DataFrame | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if targets is None:
            targets = pd.DataFrame({"target": 0}, index=list(table.ids))
        if sorted(targets.index) != sorted(table.ids):
            raise TableError(
                f"expected targets of the table's {len(table):,d} files, got {len(targets):,d} rows of other files; "
                "take both from one frame"
            )
        values = targets.loc[list(table.ids)].to_numpy(dtype=np.int64)
        self.folder, self.table, self.transform = folder, table, transform
        self.answers = torch.from_numpy(values[:, 0].copy() if values.shape[1] == 1 else values)  # in the table's order
        # What items are made of is kept apart from what they are compared with.
        self.files = list(table.ids)
        self.covariates, self.targets = table.covariates.clone(), self.answers.clone()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file = self.files[index]
        row: dict[str, Any] = {"id": file, "covariates": self.covariates[index], "target": self.targets[index]}
        try:
            image = decode(self.folder / file)
            row["image"] = image if self.transform is None else self.transform(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all that PIL raises
            row["image"], row["failure"] = None, (file, str(error))
        return row

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch. Images of one size become one uint8 tensor (N, 3, H, W), images of several sizes stay a list.

        Raises:
            TableError: the covariates or the target of a row are not those of the file that its image came from.
        """
        ids = [row["id"] for row in rows]
        covariates = torch.stack([row["covariates"] for row in rows])
        targets = torch.stack([row["target"] for row in rows])
        self.table.require(ids, covariates)
        places = torch.tensor(self.table.places(ids), dtype=torch.int64)
        own = self.answers[places]
        if wrong := [name for name, mine, its in zip(ids, targets, own, strict=True) if not torch.equal(mine, its)]:
            raise TableError(
                f"expected each file's own target, got others for {len(wrong)} of {len(ids)}: {few(wrong)}; rows were "
                "shifted or put in another order than the images: take both by file name"
            )
        kept = torch.tensor([row["image"] is not None for row in rows])
        images: Any = [row["image"] for row in rows if row["image"] is not None]
        if len({image.shape for image in images}) == 1:
            images = torch.stack(images)
        return {
            "images": images,
            "covariates": covariates[kept],
            "targets": targets[kept],
            "index": places[kept],  # the row in the table, for predictions
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
