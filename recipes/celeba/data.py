"""CelebAData: the folder and its tables as training, validation and test loaders."""

from __future__ import annotations

import logging
import os
from typing import Any, Literal

import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fusionconv.errors import TableError
from fusionconv.tabular import (
    CovariateEncoder,
    check_leakage,
    read_celeba_attributes,
    read_celeba_partition,
    require_columns,
)
from fusionconv.tabular.sides import left_right_columns, mirroring_note
from recipes.celeba.folds import assign_fold, who_is_who
from recipes.celeba.images import FaceImages, augmentation, rows_by_file
from recipes.celeba.objective import target_names
from recipes.celeba.paths import celeba_folder, few, table_path
from recipes.common.resuming import ResumableOrder

log = logging.getLogger("recipes.celeba")

SPLITS_OF_STAGE = {"fit": ("train", "valid"), "validate": ("valid",), "test": ("test",)}


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
        leaks: what to do where people (identity file) are in training and in another split, or a covariate gives the
            answer away: stop, or warn and go on.
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
        leaks: Literal["fail", "warn"] = "fail",
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
        self.constant, self.leaks = constant, leaks
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
        train = self.frames.get("train", attributes.loc[partition.index[partition == "train"]][: self.limit])
        people = who_is_who(folder)
        for split in needed:
            if split != "train" and len(train):
                self._check_leaks(train, split, people, fitted_here="train" in needed)
        if self.augment and "train" in needed:
            mirrored = left_right_columns(self.frames["train"][[*self.covariates, *self.targets]])
            if note := mirroring_note(mirrored, "--data.augment false"):
                log.warning("%s", note)

    def _check_leaks(self, train: pd.DataFrame, split: str, people: pd.Series | None, fitted_here: bool) -> None:
        """Whatever `check_leakage` finds between the training rows and those of another split.

        The images' contents are left to `verify`: reading 200,000 files takes longer than a short training.
        """
        sides = []
        for side, rows in (("train", train), (split, self.frames[split])):
            # Without identities nobody can be on both sides: the partition has each file once.
            subject = pd.Series(side, rows.index) if people is None else people.reindex(rows.index)
            if unknown := rows.index[subject.isna()].tolist():
                log.warning("%s: the identity file does not say who is on %s", side, few(unknown))
            sides.append(rows[[*self.covariates, *self.targets]].assign(subject=subject.fillna(f"unknown in {side}")))
        encoder = self.encoder if fitted_here else None
        for target in self.targets if self.covariates else self.targets[:1]:
            kept = [*self.covariates, target, "subject"]
            try:
                check_leakage(
                    sides[0][kept], sides[1][kept], encoder=encoder, covariates=self.covariates, target=target,
                    image=None, raise_on="error" if self.leaks == "fail" else "never",
                )  # fmt: skip
            except TableError as error:
                raise TableError(
                    f"train and {split}: {error}. Mend the tables, or go on all the same with --data.leaks warn."
                ) from None
            encoder = None  # encoder and people once
            sides = [rows.assign(subject=side) for side, rows in zip(("train", split), sides, strict=True)]

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
        assert self.encoder is not None or not self.covariates, "setup('fit') or a checkpoint gives the encoder"
        table = rows_by_file(rows, self.encoder if self.covariates else None, self.constant)
        transform = augmentation(self.image_size) if self.augment and split == "train" else None
        return FaceImages(self.images, table, rows[self.targets], transform)

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader[dict[str, Any]]:
        images = self.dataset(split)
        return DataLoader(
            images,
            batch_size=self.batch_size,
            sampler=ResumableOrder(images, self.trainer, self.batch_size) if shuffle else None,
            # Torch's own random numbers are the network's alone: see ExactResume. This one seeds the workers' crops.
            generator=torch.Generator().manual_seed(int(os.environ.get("PL_GLOBAL_SEED", 0))),
            num_workers=self.num_workers,
            collate_fn=images.collate,
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
