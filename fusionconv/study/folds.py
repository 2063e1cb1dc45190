"""Folds, and FoldData: what one arm sees of one fold, frozen. Rows and images meet by id, in every batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from fusionconv.errors import StudyError, TableError
from fusionconv.study.rows import Rows, with_strata
from fusionconv.study.sequences import flag_columns, flag_kinds
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import Task
from fusionconv.study.tasks.base import Array
from fusionconv.tabular import CovariateEncoder, CovariateTable, holdout, kfold

if TYPE_CHECKING:
    from fusionconv.study.images import ImageStore
    from fusionconv.study.target_images import TargetStore

__all__ = ["PARTS", "FoldData", "fold_data", "make_folds"]

PARTS = ("train", "val", "test")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def make_folds(rows: Rows, settings: Settings) -> pd.DataFrame:
    """A column of train, val, test (and "", not used) per fold; index as ``rows.frame``.

    ``split_column`` gives one fold, ``split``; ``folds=1`` one hold-out; else ``repeat0-fold0`` and so on. Subjects are
    on one side of each.

    Raises:
        StudyError, TableError: a subject on both sides of a given split; too few subjects.
    """
    if settings.split_column is not None:
        return _given(rows, settings)
    frame, by_target = with_strata(rows.frame, rows.task, settings)
    strata = settings.stratify or [by_target]
    if settings.folds == 1:
        sizes = {
            "train": 1 - settings.test_size - settings.val_size,
            "val": settings.val_size,
            "test": settings.test_size,
        }
        if sizes["train"] <= 0 or sizes["test"] <= 0:
            raise StudyError(f"test_size and val_size: expected something left to train and to test on, got {sizes}")
        sizes = {part: size for part, size in sizes.items() if size > 0}
        split = holdout(frame, sizes, stratify=strata, seed=settings.seed)
        return split.to_frame("holdout")
    return kfold(
        frame, settings.folds, settings.repeats, stratify=strata, val_size=settings.val_size, seed=settings.seed
    )


_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test", "0": "train", "1": "val", "2": "test"}  # fmt: skip


def _given(rows: Rows, settings: Settings) -> pd.DataFrame:
    """The split that a column gives."""
    column = str(settings.split_column)
    said = rows.frame[column].map(lambda v: "" if pd.isna(v) else str(v).strip().lower())
    split = said.map(lambda v: _NAMES.get(v.removesuffix(".0"), None if v else ""))
    if split.isna().any():
        raise StudyError(
            f"split_column {column!r}: expected train, val and test, got {sorted(set(said[split.isna()]))[:6]}; rename "
            "the values (an empty cell leaves a row out)"
        )
    gone = [part for part in ("train", "test") if not (split == part).any()]
    if gone:
        raise StudyError(f"split_column {column!r}: expected rows of train and test, got none of {' and '.join(gone)}")
    sides = rows.frame.assign(side=split)[split != ""].groupby("subject")["side"].unique()
    both = sides[sides.map(len) > 1]
    if len(both):
        raise TableError(
            f"split_column {column!r}: expected each subject on one side, got {len(both)} on several, such as "
            f"{both.index[0]} in {' and '.join(both.iloc[0])}; correct the column, or name the unit that was split "
            "with --subject"
        )
    if not (split == "val").any() and settings.val_size > 0:
        inner, by_target = with_strata(rows.frame[split == "train"], rows.task, settings)
        sizes = {"train": 1 - settings.val_size, "val": settings.val_size}
        split = split.where(split != "train", holdout(inner, sizes, stratify=by_target, seed=settings.seed))
    return split.astype(str).to_frame("split")


def make_encoder(settings: Settings, covariates: Sequence[str] | None = None) -> CovariateEncoder | None:
    """The encoder of a study's covariates, not fitted; None without covariates."""
    names = [*(settings.covariates if covariates is None else covariates), *flag_columns(settings)]
    if not names:
        return None
    kinds = {name: kind for name, kind in settings.kinds.items() if name in names} | flag_kinds(settings)
    missing: Any = settings.missing
    return CovariateEncoder(
        names, kinds, missing=missing, indicator="auto" if missing == "error" else "always",
        missing_codes=settings.missing_codes, unknown=settings.unknown,
    )  # fmt: skip


@dataclass(frozen=True)
class FoldData:
    """One fold as one arm sees it.

    Attributes:
        fold: its name.
        task: what is predicted.
        frames: the rows of train, val and test.
        tables: their covariates, by id.
        targets: their targets.
        encoder: fitted on the training rows; None without covariates.
        store: the images; None for an arm without.
        center, scale: of a regression's targets in training.
        mean, std: of the images' channels, subtracted and divided by.
        unknown: column -> rows of val and test with a category that training does not have.
        target_store: the masks or target images, of a task that has them.
    """

    fold: str
    task: Task
    frames: Mapping[str, pd.DataFrame]
    tables: Mapping[str, CovariateTable]
    targets: Mapping[str, Array]
    encoder: CovariateEncoder | None
    store: ImageStore | None
    center: float = 0.0
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    target_store: TargetStore | None = None

    @property
    def num_covariates(self) -> int:
        """K, after encoding."""
        return 0 if self.encoder is None else int(self.encoder.num_covariates)

    def batch(self, part: str, ids: Sequence[str], augment: Any = None, patch: Sequence[int] = ()) -> dict[str, Any]:
        """The batch of some rows of a part, as training sees it: image, covariates, target, id."""
        rows = _Rows(self, part, augment, patch)
        return checked(rows.__getitems__([rows.ids.index(i) for i in ids]), self.tables[part])

    def loader(
        self, part: str, batch_size: int, *, train: bool = False, augment: Any = None, workers: int = 0, seed: int = 0,
        epoch: int = 0, rank: tuple[int, int] = (0, 1), patch: Sequence[int] = (),
    ) -> DataLoader[dict[str, Any]]:  # fmt: skip
        """Batches of a part: image, covariates, target, id. Training rows in an order of (seed, epoch).

        With ``patch`` training rows are random parts of their images.
        """
        dataset = _Rows(self, part, augment if train else None, patch if train else ())
        generator = torch.Generator()  # of its own: making an iterator draws a number, which must not be the network's
        order = EpochOrder(dataset, rank, train, seed, epoch, generator)
        last_of_one = train and len(order) % batch_size == 1 and len(order) > 1  # batch norm needs two
        return DataLoader(
            dataset, batch_size, sampler=order, drop_last=last_of_one, num_workers=workers, generator=generator,
            collate_fn=functools.partial(checked, table=self.tables[part]), pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0, multiprocessing_context="fork" if workers > 0 else None,
        )  # fmt: skip


class EpochOrder(DistributedSampler[Any]):
    """An order that is a function of (seed, epoch), so that a resumed run goes on as the uninterrupted one."""

    def __init__(
        self, dataset: Dataset[Any], rank: tuple[int, int], shuffle: bool, seed: int, epoch: int, workers:
        torch.Generator
    ) -> None:  # fmt: skip
        self.workers = workers
        super().__init__(dataset, num_replicas=rank[1], rank=rank[0], shuffle=shuffle, seed=seed)
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Also the seeds of the loader's workers."""
        super().set_epoch(epoch)
        self.workers.manual_seed((1_000_003 * (self.seed + 1) + epoch) % 2**63)


class _Rows(Dataset[Any]):
    """A part's rows as whole batches: images are read by id, covariates and targets looked up by id."""

    def __init__(self, data: FoldData, part: str, augment: Any, patch: Sequence[int] = ()) -> None:
        self.ids = list(data.tables[part].ids)
        self.covariates = data.tables[part].covariates
        self.targets = torch.as_tensor(np.asarray(data.targets[part], dtype=np.float32))
        self.store, self.augment, self.patch = data.store, augment, tuple(patch)
        self.target_store = data.target_store
        shape = (-1, *[1] * (data.store.array.ndim - 2)) if data.store is not None else (-1,)
        self.there: Tensor | None = None  # which channels a row has, where some lack an image: the others stay zero
        if data.store is not None and not data.store.available.all():
            there = data.store.there(self.ids)
            self.there = there.reshape(*there.shape, *[1] * (data.store.array.ndim - 2))
        if data.store is not None:
            place = {name: at for at, name in enumerate(data.store.ids)}
            self.available = torch.from_numpy(data.store.available[[place[name] for name in self.ids]])
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32).reshape(shape) for v in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, places: list[int]) -> dict[str, Any]:
        ids = [self.ids[place] for place in places]
        batch = {"id": ids, "covariates": self.covariates[places], "target": self.targets[places]}
        if self.store is not None:
            images: Tensor = self.store.read(ids)
            if self.target_store is not None:
                images, batch["target"] = self._pairs(images, self.target_store.read(ids))
            elif self.augment is not None:
                images = torch.stack([self.augment(image) for image in images])
            batch["available"] = self.available[places]
            images = (images - self.mean) / self.std if len(self.mean) else images
            batch["image"] = images if self.there is None else images * self.there[places]
        return batch

    def _pairs(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Images and their targets, transformed and cut alike."""
        from fusionconv.study.patches import random_part

        assert self.target_store is not None
        labels = self.target_store.labels
        pairs = list(zip(images, targets, strict=True))
        if self.augment is not None:
            pairs = [self.augment(image, target) for image, target in pairs]
        if self.patch:
            pairs = [random_part(image, target, self.patch, labels) for image, target in pairs]
        return torch.stack([image for image, _ in pairs]), torch.stack([target for _, target in pairs])

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.__getitems__([place])


def checked(batch: dict[str, Any], table: CovariateTable) -> dict[str, Any]:
    """The batch, after a look that row n of the covariates is that of id n.

    Raises:
        TableError: rows were shifted or mixed up on the way.
    """
    table.require(batch["id"], batch["covariates"])
    return batch


def fold_data(
    rows: Rows, split: pd.Series[Any], settings: Settings, store: ImageStore | None, *,
    covariates: Sequence[str] | None = None, encoder: CovariateEncoder | None = None,
    target_store: TargetStore | None = None,
) -> FoldData:  # fmt: skip
    """What an arm sees of a fold; the encoder and every statistic are of the training rows.

    Args:
        rows: the study's.
        split: train, val, test or "" for each row.
        settings: the study's.
        store: the images; None for an arm without.
        covariates: those of this arm; None: the study's.
        encoder: a fitted one, of a network that is loaded; None: fitted here.
        target_store: the masks or target images, of a task that has them.

    Raises:
        TableError: the encoder refuses a row; a class that training does not have.
    """
    task = rows.task
    places = {part: np.flatnonzero((split == part).to_numpy()) for part in PARTS}
    frames = {part: rows.frame.iloc[at] for part, at in places.items()}
    targets = {part: rows.targets[at] for part, at in places.items()}
    if gone := task.absent(targets["train"]):
        raise TableError(
            f"fold {split.name}: expected every class in training, got none of {', '.join(gone)} "
            f"({task.describe(targets['train'])}); take fewer folds, more data, or group classes"
        )
    unknown: dict[str, int] = {}
    if encoder is None:
        encoder = make_encoder(settings, covariates)
        if encoder is not None:
            try:
                encoder = encoder.fit(frames["train"], target=list(task.columns))
            except TableError as error:
                if flat := constant_in_training(rows, split, encoder.columns):
                    raise TableError(
                        f"fold {split.name}: {error}; in the table {' and '.join(map(repr, flat))} varies: take fewer "
                        "folds, another --seed, or leave it out"
                    ) from error
                raise
    if encoder is not None:
        for part in ("val", "test"):
            if len(frames[part]):
                for name, count in encoder.unknown_counts(frames[part]).items():
                    unknown[name] = unknown.get(name, 0) + count
    tables = {part: CovariateTable(frame, encoder or _NoCovariates(), id="id") for part, frame in frames.items()
              if len(frame)}  # fmt: skip
    center, scale = 0.0, 1.0
    if task.NAME == "regression":
        center, scale = float(targets["train"].mean()), float(targets["train"].std()) or 1.0
    mean, std = _normalisation(settings, store, list(frames["train"]["id"]))
    if store is not None:
        _require_sources(rows.images, store)
    if target_store is not None:
        assert rows.target_files is not None
        _require_sources(rows.images.join(rows.target_files.add_prefix("target ")), target_store.store)
    return FoldData(str(split.name), task, frames, tables, targets, encoder, store, center, scale, mean, std,
                    {name: n for name, n in unknown.items() if n}, target_store)  # fmt: skip


def constant_in_training(rows: Rows, split: pd.Series[Any], covariates: Sequence[str]) -> list[str]:
    """The covariates that have one value in a fold's training rows and several in the table."""
    train = rows.frame[(split == "train").to_numpy()]
    return [n for n in dict.fromkeys(covariates) if train[n].nunique() == 1 < rows.frame[n].nunique()]


def _require_sources(paths: pd.DataFrame, store: ImageStore) -> None:
    """Each id's image in the store was made from the file that its row names."""
    for name, row in zip(paths.index, paths.itertuples(index=False), strict=True):
        files = tuple(path for path in row if isinstance(path, str))
        if tuple(store.sources[name]) != files:
            raise TableError(f"expected the image of {name} to come from {files}, got {store.sources[name]}; rows and "
                             "images were mixed up")  # fmt: skip


def _normalisation(settings: Settings, store: ImageStore | None, ids: list[str]) -> tuple[tuple[float, ...], ...]:
    kind = settings.normalize if settings.normalize != "auto" else "train" if settings.dims == 2 else "none"
    if store is None or kind == "none":
        return (), ()
    require_normalisation(settings, store)
    if kind == "imagenet":
        return _IMAGENET
    mean, std = store.mean_std(ids)
    return tuple(float(v) for v in mean), tuple(float(v) or 1.0 for v in std)


def require_normalisation(settings: Settings, store: ImageStore) -> None:
    """Raise where the images have other channels than ImageNet's.

    Raises:
        StudyError: give --normalize train.
    """
    if settings.normalize == "imagenet" and store.array.shape[1] != 3:
        raise StudyError(f"normalize imagenet: expected 3 channels, got {store.array.shape[1]}; give --normalize train")


class _NoCovariates:
    """The encoder of an arm without covariates: rows of length 0."""

    columns: tuple[str, ...] = ()

    def transform(self, frame: pd.DataFrame) -> Array:
        return np.zeros((len(frame), 0), dtype=np.float32)
