"""CelebAData: the folder and its tables as training, validation and test loaders."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fusionconv.errors import TableError
from fusionconv.tabular import CovariateEncoder, read_celeba_attributes, read_celeba_partition, require_columns
from recipes.celeba.folds import assign_fold
from recipes.celeba.images import FaceImages, augmentation, collate
from recipes.celeba.objective import target_names
from recipes.common.resuming import ResumableOrder

log = logging.getLogger("recipes.celeba")

SPLITS_OF_STAGE = {"fit": ("train", "valid"), "validate": ("valid",), "test": ("test",)}


def celeba_folder(root: str | Path) -> Path:
    """The folder with img_align_celeba/ in it: ``root`` itself or ``root/celeba``, as in torchvision."""
    for folder in (Path(root) / "celeba", Path(root)):
        if (folder / "img_align_celeba").is_dir():
            return folder
    raise TableError(
        f"--data.root {root}: expected a folder that holds celeba/img_align_celeba/ (torchvision's layout) or "
        "img_align_celeba/ itself, and found neither. `python -m recipes.celeba download --root DIR` fetches CelebA; "
        "`python -m recipes.celeba verify --root DIR` says what is there."
    )


def table_path(folder: Path, stem: str) -> Path:
    """``stem``.txt, or the CSV edition of it."""
    for path in (folder / f"{stem}.txt", folder / f"{stem}.csv"):
        if path.is_file():
            return path
    raise TableError(
        f"expected {stem}.txt or {stem}.csv in {folder}, and found neither. "
        "`python -m recipes.celeba verify --root DIR` lists what is missing and where to get it."
    )


def few(names: list[str], count: int = 3) -> str:
    """The first few names of a long list, for a message."""
    return ", ".join(names[:count]) + (f", ... ({len(names):,d} in all)" if len(names) > count else "")


class CelebAData(LightningDataModule):
    """Images of CelebA with one attribute or several as the target and others as covariates.

    Args:
        root: folder that holds celeba/ in torchvision's layout (img_align_celeba/, list_attr_celeba.txt or .csv,
            list_eval_partition.txt or .csv), or that folder itself.
        target: the attribute to predict, several ('[Smiling, Young]'), or 'all' of the 40.
        covariates: the attributes that the hybrid layer gets; their order is part of the model.
        image_size: images are resized to a square of this many pixels.
        batch_size: images per step and device.
        num_workers: processes that decode images; the default is up to 8, one per available core.
        on_error: what to do about an image that is absent or does not decode: stop, or leave it out and count it.
        limit: use only the first so many images of each split (a trial run).
        augment: train on random parts of the images, flipped at random.
        prefetch_factor: batches that each decoding process has ready.
        fold: cross-validation on the official train and valid splits (`crossval` sets it): which fold is held out as
            "test", from 0; the official test split is left alone. A tenth of the rest chooses the checkpoint.
        folds: how many folds.
        constant: give the network this number in place of every encoded covariate, in all splits (a control).
    """

    def __init__(
        self,
        root: str,
        target: list[str] | str = "Attractive",
        covariates: list[str] = ["Male"],  # noqa: B006 (jsonargparse shows it as the default; never changed)
        image_size: int = 224,
        batch_size: int = 32,
        num_workers: int | None = None,
        on_error: Literal["fail", "skip"] = "fail",
        limit: int | None = None,
        augment: bool = False,
        prefetch_factor: int = 4,
        fold: int | None = None,
        folds: int = 5,
        constant: float | None = None,
    ) -> None:
        super().__init__()
        self.targets = target_names(target)
        if both := [name for name in self.targets if name in covariates]:
            raise TableError(
                f"the target {', '.join(map(repr, both))} is among the covariates {covariates}: the model would be "
                "given the answer. "
                "Remove it from --data.covariates or choose another --data.target."
            )
        if len(set(covariates)) != len(covariates):
            raise TableError(f"--data.covariates names an attribute twice: {covariates}. Name each once.")
        if limit is not None and limit < 1:
            raise TableError(f"--data.limit should be at least 1 image per split, but is {limit}.")
        self.root, self.target, self.covariates = root, target, list(covariates)
        self.augment, self.prefetch_factor, self.fold, self.folds = augment, prefetch_factor, fold, folds
        self.image_size, self.batch_size, self.on_error, self.limit = image_size, batch_size, on_error, limit
        self.constant = constant
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.num_workers = min(8, cores) if num_workers is None else num_workers
        self.frames: dict[str, pd.DataFrame] = {}  # split -> rows, index = file name
        self.skipped: dict[str, dict[str, str]] = {split: {} for split in ("train", "valid", "test")}  # file: reason
        self.encoder: CovariateEncoder | None = None

    def setup(self, stage: str) -> None:
        """Read the tables, check that every listed image is there, and fit the encoder on the training rows."""
        needed = [split for split in SPLITS_OF_STAGE[stage] if split not in self.frames]
        if not needed:
            return
        folder = celeba_folder(self.root)
        self.images = folder / "img_align_celeba"
        attributes = read_celeba_attributes(table_path(folder, "list_attr_celeba"))
        partition = read_celeba_partition(table_path(folder, "list_eval_partition"))
        require_columns(attributes, [*self.targets, *self.covariates])
        unknown = partition.index.difference(attributes.index).tolist()
        if unknown:
            raise TableError(
                f"the partition lists files that the attribute table does not: {few(unknown)}. "
                "The two tables must come from the same edition of CelebA."
            )
        if self.fold is not None:
            partition = assign_fold(folder, partition, self.fold, self.folds)
        present = {entry.name for entry in os.scandir(self.images)}
        for split in needed:
            rows = attributes.loc[partition.index[partition == split]][: self.limit]
            rows = self._without_absent(rows, split, present)
            if rows.empty:
                raise TableError(
                    f"the split {split!r} is empty: {partition.value_counts().to_dict()} rows are listed in the "
                    f"partition, and none of this split has an image. A {stage} needs at least one."
                )
            self.frames[split] = rows
        if self.encoder is None and self.covariates and "train" in self.frames:
            self.encoder = CovariateEncoder(self.covariates).fit(self.frames["train"])

    def _without_absent(self, rows: pd.DataFrame, split: str, present: set[str]) -> pd.DataFrame:
        absent = [name for name in rows.index if name not in present]
        if absent and self.on_error == "fail":
            raise TableError(
                f"{len(absent):,d} of the {len(rows):,d} {split} images are listed but absent from {self.images}: "
                f"{few(absent)}. Complete the folder, or leave them out with --data.on_error skip."
            )
        if absent:
            log.warning("%s: left out %d listed images that are absent: %s", split, len(absent), few(absent))
            self.skipped[split].update(dict.fromkeys(absent, "absent"))
        return rows.drop(index=absent)

    def dataset(self, split: str) -> FaceImages:
        """The rows of a split, with covariates encoded by the encoder (the checkpoint's, when one was loaded)."""
        rows = self.frames[split]
        encoded = np.zeros((len(rows), 0), dtype=np.float32)
        if self.covariates:
            assert self.encoder is not None, "setup('fit') or a checkpoint gives the encoder"
            encoded = self.encoder.transform(rows)
        if self.constant is not None:
            encoded = np.full_like(encoded, self.constant)
        answers = rows[self.targets].to_numpy() if len(self.targets) > 1 else rows[self.targets[0]].to_numpy()
        transform = augmentation(self.image_size) if self.augment and split == "train" else None
        return FaceImages(self.images, rows.index.tolist(), encoded, answers, transform)

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader[dict[str, Any]]:
        images = self.dataset(split)
        return DataLoader(
            images,
            batch_size=self.batch_size,
            sampler=ResumableOrder(images, self.trainer, self.batch_size) if shuffle else None,
            # Torch's own random numbers are the network's alone: see ExactResume. This one seeds the workers' crops.
            generator=torch.Generator().manual_seed(int(os.environ.get("PL_GLOBAL_SEED", 0))),
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            persistent_workers=self.num_workers > 0,
            prefetch_factor=self.prefetch_factor if self.num_workers > 0 else None,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled training batches."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Validation batches, in the table's order."""
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Test batches, in the table's order."""
        return self._loader("test")

    def on_before_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """In the main process: stop at an image that did not decode, or count it."""
        for file, reason in batch.pop("failures"):
            if self.on_error == "fail":
                raise TableError(
                    f"cannot decode {self.images / file}: {reason}. Replace the file, or leave such images out with "
                    "--data.on_error skip."
                )
            split = next(split for split, rows in self.frames.items() if file in rows.index)
            if file not in self.skipped[split]:
                log.warning("%s: left out an image that does not decode: %s: %s", split, file, reason)
                self.skipped[split][file] = reason
        return batch

    def calibration_images(self, count: int) -> list[Any]:
        """``count`` training images, evenly spaced in the table, decoded but not resized (see weights.py)."""
        rows = self.dataset("train")
        rows.transform = None
        step = max(1, len(rows) // count)
        images = [rows[index]["image"] for index in range(0, len(rows), step)][:count]
        return [image for image in images if image is not None]
