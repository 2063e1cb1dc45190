"""BrainData: a source as training, validation and test loaders of prepared volumes, each beside its own row."""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from fusionconv.errors import LeakageWarning, TableError
from fusionconv.study.volumes import VolumeError
from fusionconv.tabular import (
    CovariateEncoder,
    CovariateTable,
    check_leakage,
    covariate_collate,
    covariate_items,
    require_names,
)
from fusionconv.tabular.sides import left_right_columns, mirroring_note
from fusionconv.tabular.split import holdout, kfold
from recipes.adni.preparation import Augment, Preparation, Prepared, ReadPrepared, augmentation, prepare
from recipes.adni.sources import Source, choose_rows
from recipes.adni.tasks import Task

log = logging.getLogger("recipes.adni")

PARTS = ("train", "val", "test")


class BrainData(LightningDataModule):
    """Volumes of a source with a task's targets and some columns as covariates, split by subject.

    Args:
        source: where images and rows come from.
        task: what to predict.
        covariates: columns that the model gets besides the image; their order is part of the model.
        kinds: how a covariate is encoded where its values do not tell: name -> numeric, binary, categorical, ordinal,
            censored, or with options such as {kind: binary, codes: {1: 0, 2: 1}} and {kind: categorical, unknown:
            ignore} (docs/covariates.md).
        missing: what a missing covariate becomes: error, mean (of the training rows, with a flag), zero.
        indicator: a flag for missing covariates: auto (where training rows miss some; a later hole elsewhere is an
            error), always, never.
        missing_codes: what else means missing in any covariate, such as [-4, NA].
        unknown: a category that the training rows lack: error, or ignore (zeros; counted in the result).
        allow_leaks: covariates that define or follow the target and are used on purpose, such as [MMSE].
        rows: which rows are used, a pandas query such as "Age >= 60".
        visits: first: one image of each subject; all: every visit (subjects are never split).
        fold: a fold of the cross-validation, such as repeat0-fold2; without it a hold-out.
        n_splits: folds of a repeat.
        n_repeats: repeats of the cross-validation, each with folds of its own.
        val_size: share of the training subjects set apart to choose a checkpoint; 0: none, the last epoch counts.
        test_size: share of the subjects in the test part of a hold-out.
        split_seed: of the split, apart from that of the training.
        stratify: columns whose distribution the parts share; the default is the target.
        preparation: how a volume becomes what the network sees.
        cache: folder of prepared volumes.
        augment: random transforms of training volumes: none, light or strong, which keep left and right; flip,
            light+flip or strong+flip, which exchange them in half of the volumes.
        batch_size: volumes per step and device.
        num_workers: processes that read and transform during training.
        prepare_workers: processes that prepare; the default is one per core.
        on_error: a volume that cannot be used: fail says which and stops; skip leaves it out, counted and listed.
        in_memory: keep this share of the prepared volumes in memory (MONAI's CacheDataset).
    """

    def __init__(
        self,
        source: Source = Source(),  # noqa: B008 (frozen; jsonargparse shows it as the default)
        task: Task = Task(),  # noqa: B008
        covariates: list[str] = ["age", "sex"],  # noqa: B006
        kinds: dict[str, Any] = {},  # noqa: B006
        missing: Literal["error", "mean", "zero"] = "mean",
        indicator: Literal["auto", "always", "never"] = "auto",
        missing_codes: list[Any] = [],  # noqa: B006
        unknown: Literal["error", "ignore"] = "error",
        allow_leaks: list[str] = [],  # noqa: B006
        rows: str | None = None,
        visits: Literal["first", "all"] = "first",
        fold: str | None = None,
        n_splits: int = 5,
        n_repeats: int = 1,
        val_size: float = 0.2,
        test_size: float = 0.2,
        split_seed: int = 0,
        stratify: list[str] | None = None,
        preparation: Preparation = Preparation(),  # noqa: B008
        cache: str = "runs/adni-cache",
        augment: Augment = "light",
        batch_size: int = 8,
        num_workers: int = 0,
        prepare_workers: int | None = None,
        on_error: Literal["fail", "skip"] = "fail",
        in_memory: float = 1.0,
    ) -> None:
        super().__init__()
        self.source, self.task, self.preparation = source, task, preparation
        self.covariates, self.kinds, self.missing, self.allow_leaks = (
            list(covariates),
            dict(kinds),
            missing,
            list(allow_leaks),
        )
        self.indicator, self.missing_codes, self.unknown = indicator, list(missing_codes), unknown
        self.rows, self.visits = rows, visits
        self.fold, self.n_splits, self.n_repeats = fold, n_splits, n_repeats
        self.val_size, self.test_size, self.split_seed, self.stratify = val_size, test_size, split_seed, stratify
        self.cache, self.augment, self.batch_size, self.num_workers = Path(cache), augment, batch_size, num_workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.prepare_workers = cores if prepare_workers is None else prepare_workers
        self.on_error, self.in_memory = on_error, in_memory
        self._check_covariates()
        self.found: pd.DataFrame | None = None  # the source's rows, all of them
        self.frame: pd.DataFrame | None = None  # the rows in use, index 0 ... N-1
        self.report: pd.DataFrame | None = None  # what did not match, from the reader
        self.values: pd.DataFrame | None = None  # the targets, beside frame
        self.counts: dict[str, int] = {}
        self.unused: dict[str, dict[Any, int]] = {}  # column of the task -> its values in rows without a target
        self.skipped: dict[str, str] = {}  # image -> reason
        self.prepared: Prepared | None = None
        self.encoder: CovariateEncoder | None = None
        self.split: pd.Series | None = None
        self.doubts: list[str] = []  # what the encoder's summary asks to look at

    def _check_covariates(self) -> None:
        self.task.check()
        answer = [name for name in self.covariates if name in self.task.columns]
        if answer:
            raise TableError(
                f"--data.covariates: {', '.join(answer)} is what --data.task asks for; the model would be given the "
                "answer. Leave it out."
            )
        if len(set(self.covariates)) != len(self.covariates):
            raise TableError(f"--data.covariates names a column twice: {self.covariates}.")
        unused = [name for name in self.allow_leaks if name not in self.covariates]
        if unused:
            raise TableError(f"--data.allow_leaks names {', '.join(unused)}, which is not among --data.covariates.")

    # ---- from the source to rows with a target and a prepared volume ----

    def read_source(self) -> pd.DataFrame:
        """The source's tidy frame, read once; what did not match goes to ``report``."""
        if self.found is None:
            self.found, self.report = self.source.read()
        return self.found

    def read(self) -> None:
        """Read the source, choose rows and targets. Looks at no volume."""
        if self.frame is not None:
            return
        frame, self.counts = choose_rows(self.read_source(), self.rows, self.visits)
        if frame.empty:
            raise TableError(
                f"--data.source: no row is left: {', '.join(f'{n:,d} {what}' for what, n in self.counts.items())}. "
                "`python -m recipes.adni inspect` with the same options lists what did not match."
            )
        targets = self.task.targets(frame)
        self.counts["with a target"] = len(targets.rows)
        if targets.rows.empty:
            raise TableError(
                f"--data.task: none of the {len(frame):,d} rows has a target in {', '.join(self.task.columns)}."
            )
        absent = [name for name in self.covariates if name not in frame.columns]
        if absent:
            raise TableError(
                f"--data.covariates: the table has no column {', '.join(absent)}; it has "
                f"{', '.join(map(str, frame.columns))}."
            )
        require_names(self.kinds, [str(name) for name in frame.columns], "column in --data.kinds")
        others = frame.drop(index=targets.rows.index)
        self.unused = {
            column: others[column].value_counts(dropna=False).head(6).to_dict()
            for column in self.task.columns
            if len(others) and others[column].nunique() <= 50
        }
        self.frame = targets.rows.reset_index(drop=True)
        self.values = targets.values.reset_index(drop=True)

    def prepare_volumes(self) -> None:
        """Bring every volume in use into the cache, and leave out (or stop at) those that cannot be used."""
        if self.prepared is not None:
            return
        self.read()
        assert self.frame is not None
        assert self.values is not None
        self.prepared = prepare(self.frame["image"], self.preparation, self.cache, self.prepare_workers)
        self.skipped = self.prepared.failed
        if self.skipped and self.on_error == "fail":
            first = next(iter(self.skipped.values()))
            raise VolumeError(
                f"{len(self.skipped):,d} of {len(self.frame):,d} volumes cannot be used: {first}\n`inspect` lists them "
                "all; --data.on_error skip leaves them out and counts them."
            )
        good = self.frame["image"].astype(str).isin(self.prepared.files.keys())
        self.frame = self.frame[good].reset_index(drop=True)
        self.values = self.values[good.to_numpy()].reset_index(drop=True)
        self.counts["with a usable volume"] = len(self.frame)
        if self.frame.empty:
            raise VolumeError(f"none of the volumes can be used: {next(iter(self.skipped.values()))}")

    # ---- the split ----

    def splits(self) -> pd.DataFrame:
        """A column per fold of the cross-validation, or one column ``holdout``: train, val, test for each row."""
        assert self.frame is not None
        assert self.values is not None
        rows = self.frame.assign(_target=self.values.iloc[:, -1])
        strata = self.stratify or ["_target"]
        if self.fold is None:
            sizes = {"train": 1.0 - self.test_size - self.val_size, "val": self.val_size, "test": self.test_size}
            sizes = {name: size for name, size in sizes.items() if size > 0}
            return holdout(rows, sizes, stratify=strata, seed=self.split_seed).to_frame("holdout")
        return kfold(rows, self.n_splits, self.n_repeats, stratify=strata, val_size=self.val_size, seed=self.split_seed)

    def use(self, split: pd.Series) -> None:
        """Take a split, and fit the encoder on its training rows."""
        assert self.frame is not None
        assert self.values is not None
        self.split = split
        if self.task.kind == "classification":
            for part in split.unique():
                there = set(self.values.loc[split == part, "target"])
                gone = [name for code, name in enumerate(self.task.queries) if code not in there]
                if gone and part == "train":
                    raise TableError(
                        f"the split {split.name!r} has no {' and no '.join(gone)} in training; there are "
                        f"{self.values['target'].value_counts().to_dict()} rows per class in all. Take fewer folds "
                        "(--data.n_splits) or more data."
                    )
                if gone:
                    log.warning(
                        "%s: no %s in %s; AUC and balanced accuracy are not defined there",
                        split.name,
                        ", ".join(gone),
                        part,
                    )
        self.encoder = None
        train = self.frame[split == "train"]
        if "flip" in self.augment:
            used = [
                name for name in {**dict.fromkeys(self.covariates), **dict.fromkeys(self.task.columns)} if name in train
            ]
            if note := mirroring_note(left_right_columns(train[used]), "--data.augment light, none or strong"):
                log.warning("%s", note)
        if self.covariates:
            self.encoder = self._fit_encoder(train)
            answers = self._labels()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LeakageWarning)  # what it finds is raised below
                report = check_leakage(
                    train.assign(_answer=answers[split == "train"]),
                    self.frame[split != "train"].assign(_answer=answers[split != "train"]),
                    covariates=self.covariates, target="_answer", allow=self.allow_leaks, image=None, raise_on="never",
                )  # fmt: skip
            found = report.findings
            telling = found[found["kind"].isin(["defining covariate", "telling covariate", "telling missingness"])]
            telling = telling[~telling["name"].isin(self.allow_leaks)]
            if len(telling):
                raise TableError(
                    "--data.covariates: "
                    + "; ".join(f"{row['name']}: {row['detail']}" for _, row in telling.iterrows()).replace(
                        "_answer", "the target"
                    )
                    + ". Leave it out, or say that it is meant: --data.allow_leaks '["
                    + ", ".join(telling["name"].unique())
                    + "]'."
                )
            if report.errors:
                raise TableError(str(report))

    def _fit_encoder(self, train: pd.DataFrame) -> CovariateEncoder:
        encoder = CovariateEncoder(
            self.covariates,
            {name: kind for name, kind in self.kinds.items() if name in self.covariates},  # an arm may have fewer
            missing=self.missing,
            indicator=self.indicator,
            missing_codes=self.missing_codes,
            unknown=self.unknown,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="columns ")  # describe() says it once
            encoder.fit(train, ids="subject")
        self.doubts = encoder.summary().partition("look at:\n")[2].splitlines()
        return encoder

    def try_encoders(self, splits: pd.DataFrame, arms: Iterable[Sequence[str]] | None = None) -> None:
        """Fit the encoder of every split and encode all of its rows; looks at no volume, and leaves no split in use.

        Args:
            splits: as :meth:`splits` gives them.
            arms: the covariates of each arm; by default those of the data.

        Raises:
            TableError: what is refused, each with the splits where it is.
        """
        own, refused = list(self.covariates), {}
        for covariates in dict.fromkeys(tuple(arm) for arm in (arms or [own])):
            for name in splits.columns:
                self.covariates = list(covariates)
                try:
                    self.use(splits[name])
                    for part in splits[name].unique():
                        self.table(part)
                except TableError as error:
                    refused.setdefault(str(error), []).append(str(name))
        self.covariates, self.split, self.encoder = own, None, None
        if refused:
            told = [f"{message} (in {', '.join(dict.fromkeys(names))})" for message, names in refused.items()]
            raise TableError("\n".join(told))

    def _labels(self) -> pd.Series:
        """The answer as `check_leakage` takes it: the class's name, the number, or whether the event was seen."""
        assert self.values is not None
        if self.task.kind == "classification":
            return self.values["target"].map(dict(enumerate(self.task.queries)))
        return self.values.iloc[:, -1]

    def setup(self, stage: str) -> None:
        """Everything up to the loaders."""
        if self.split is None and self.prepared is None:
            self.read()
            self.try_encoders(self._chosen().to_frame())  # before minutes go into volumes
        self.prepare_volumes()
        if self.split is None:
            self.use(self._chosen())

    def _chosen(self) -> pd.Series:
        """The split that --data.fold names."""
        splits = self.splits()
        name = self.fold or "holdout"
        if name not in splits:
            raise TableError(f"--data.fold should be one of {', '.join(splits.columns)}, and is {name!r}.")
        return splits[name]

    # ---- loaders ----

    @property
    def num_covariates(self) -> int:
        """K, after encoding."""
        return 0 if self.encoder is None else int(self.encoder.num_covariates)

    def part(self, part: str) -> pd.DataFrame:
        """The rows of a part of the split."""
        assert self.frame is not None
        assert self.split is not None
        return self.frame[self.split == part]

    def target_scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the training targets of a regression; (0, 1) for other tasks."""
        if self.task.kind != "regression":
            return 0.0, 1.0
        assert self.values is not None
        assert self.split is not None
        train = self.values.loc[self.split == "train", "target"]
        return float(train.mean()), float(train.std(ddof=0)) or 1.0

    def table(self, part: str) -> CovariateTable:
        """The covariates of a part, by id."""
        return CovariateTable(self.part(part), self.encoder or _NoCovariates(), id=self._id())

    def _id(self) -> list[str]:
        """What names a row: subject and session, and the image where a session has several."""
        assert self.frame is not None
        columns = ["subject", "session"] if (self.frame["session"] != "").all() else ["subject"]
        return [*columns, "image"] if self.frame.duplicated(columns).any() else columns

    def dataset(self, part: str) -> tuple[Any, CovariateTable]:
        """MONAI's CacheDataset of a part (image, covariates, target, id), and the table to check its rows by."""
        from monai.data import CacheDataset
        from monai.transforms import Compose

        assert self.prepared is not None
        assert self.values is not None
        table = self.table(part)
        items = covariate_items(table)
        values = self.values.loc[self.part(part).index].to_numpy(dtype=np.float32)
        for item, value in zip(items, values, strict=True):
            item["target"] = value[0] if len(value) == 1 else value
        random = augmentation(self.augment, self.preparation.size) if part == "train" else []
        steps = Compose([ReadPrepared(self.prepared.files), *random])
        return CacheDataset(items, steps, cache_rate=self.in_memory, num_workers=None, progress=False), table

    def loader(self, part: str) -> DataLoader[dict[str, Any]]:
        """Batches of a part; those of training shuffled, and without a last batch of one (batch norm needs two)."""
        dataset, table = self.dataset(part)
        train = part == "train"
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=train,
            drop_last=train and len(dataset) % self.batch_size == 1 and len(dataset) > 1,
            num_workers=self.num_workers,
            collate_fn=functools.partial(_collate, table=table),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_seed_transforms,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled training batches."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Validation batches, in the table's order; none where --data.val_size is 0."""
        return self.loader("val") if len(self.part("val")) else []

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Test batches, in the table's order."""
        return self.loader("test")


class _NoCovariates:
    """The encoder of a study without covariates: rows of length 0."""

    columns: tuple[str, ...] = ()

    def transform(self, frame: pd.DataFrame) -> np.ndarray:
        return np.zeros((len(frame), 0), dtype=np.float32)


def _collate(batch: list[Any], table: CovariateTable) -> dict[str, Any]:
    """Checked by id; the images as plain tensors."""
    collated = covariate_collate(batch, table)
    image = collated["image"]
    collated["image"] = image.as_tensor() if hasattr(image, "as_tensor") else image
    return collated


def _seed_transforms(worker: int) -> None:
    """MONAI's random transforms draw from a state of their own, which workers would share."""
    from monai.data.utils import worker_init_fn

    worker_init_fn(worker)
