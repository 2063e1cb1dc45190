"""Settings: every option of a study in one frozen dataclass, with its default; from Python, YAML and the shell alike.

This file imports the standard library only, so that ``fusionconv compare --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fusionconv.errors import StudyError

__all__ = ["AFTERWARDS", "GROUPS", "Settings", "differences", "make_settings", "require_places", "require_writable"]

TaskName = Literal[
    "auto", "binary", "multiclass", "multilabel", "regression", "survival", "segmentation", "restoration"
]


@dataclass(frozen=True)
class Settings:
    """What a study is: its table, images, network, training and protocol.

    Args:
        table: CSV, TSV, Excel or Parquet file with one row per image.
        images: folder of the images; default: the table's folder.
        image_column: column(s) of image paths; several become channels.
        suffix: added to each path, such as .jpg where the table has ids.
        subject: column of the unit that is split; default: every row is its own subject.
        target: column to predict; several for multilabel; time and event for survival; paths for images out.
        target_folder: folder of the masks or target images; default: that of the images.
        covariates: columns that the network gets beside the image.
        kinds: how a covariate is encoded, such as gender=categorical.
        missing_codes: values that mean "missing", such as -9 or unknown.
        missing: what a missing covariate becomes: mean, zero or error.
        unknown: a category that training does not have: ignore (zeros, counted) or error.
        allow_leaks: covariates that tell the target and are used on purpose.
        rows: which rows are used, a pandas query such as "age >= 18".
        drop: values of the target whose rows are left out.
        positive: values of the target that are the positive class; all others are negative.
        classes: the classes, in order; or groups such as benign=nv,bkl malignant=mel; of masks background=0 head=255.
        limit: use this many subjects, drawn by the seed.
        sheet: sheet of an Excel file.
        decimal: mark of the numbers in a text table, . or , (61,5).
        text: columns that stay text whatever they hold, such as versions and codes.
        task: what is predicted; auto decides from the target, but for segmentation and restoration.
        dims: 2 or 3.
        image_size: height and width, or x, y, z voxels; one number for all.
        channels: of each image file: 1 (grey) or 3 (colour); default: as the files, 1 in 3-D.
        resize: 2-D: how another aspect ratio meets the size: stretch, pad or crop.
        crop: 2-D: centre crop after resizing, height and width.
        spacing: 3-D: voxel size in mm after resampling; default: as it is.
        orientation: 3-D: axes after reorientation.
        percentiles: 3-D: intensities between these become 0 to 1.
        foreground: 3-D: crop to what is above zero first.
        unknown_orientation: 3-D: take volumes whose header does not say which side is left.
        normalize: 2-D: subtract mean and divide by standard deviation: train, imagenet or none; auto: train in 2-D.
        augment: none, light, strong, or names such as hflip vflip rotate.
        patch: images out: sides of random parts that are trained on; whole images are answered in windows of them.
        overlap: of neighbouring windows, as a share of their sides.
        pixel_size: 2-D segmentation: column with the mm of a pixel of the file; surface distances are then in mm.
        availability: flags beside the covariates, 1 where a row lacks the image of an image column.
        sequence_dropout: several image columns: probability that an image goes missing in training, never all of a row.
        shuffle_pixels: all images' pixels in one other order, drawn by the seed: does the network need neighbours?
        cache: folder of decoded images; default: OUT/cache.
        on_error: an image that cannot be used: fail, or skip (counted and listed).
        network: torchvision:NAME, timm:NAME, monai:NAME, fusionconv:NAME or package.module:function.
        network_options: further arguments of the network.
        pretrained: start from the library's pretrained weights.
        weights: a file of weights to start from.
        head: last layer of every arm: linear; mlp (one hidden layer); norm (batch norm, dropout, hidden layer).
        freeze: parts that are not trained, by name, or first:N children.
        unfreeze_epoch: epoch (from 0) at which the frozen parts begin to be trained too; default: never.
        epochs: passes over the training rows.
        batch_size: images per step and device.
        lr: learning rate, the same for every arm.
        covariate_lr: of covariate parameters: scaled (lr / size of the covariates), same (lr) or a number (0: held).
        weight_decay: of all but the covariate parameters.
        covariate_weight_decay: of the covariate parameters: towards the network without covariates.
        optimizer: adamw, adam, adamax, sgd.
        momentum: of sgd; cycled where schedule is onecycle.
        schedule: constant, cosine, onecycle or multistep.
        milestones: multistep: epochs at which the rate is divided by 10.
        loss: default of the task, or of its others: balanced, mse, l1, huber, dice, cross_entropy, l2, ssim.
        select: what chooses the epoch on the validation part: loss, a metric, or last (no choice); default: loss.
        workers: processes that read images; default: 0, since decoded images are mapped into memory.
        seed: of splits, weights and order.
        tune: values to try, such as lr=1e-3,3e-3 rank=2,4; chosen on the validation part of each fold.
        trainer: options of Lightning's Trainer; --help trainer lists them.
        tensorboard: also write losses, metrics, rates and the graph for TensorBoard, in runs/ARM/FOLD/tensorboard.
        folds: number of test folds; 1: one hold-out.
        repeats: of the cross-validation, each with folds of its own.
        seeds: trainings of each arm and fold; their predictions are averaged.
        split_column: column that says train, val, test, instead of folds.
        val_size: share of the training subjects that chooses the epoch.
        test_size: share of the subjects in the test part of a hold-out.
        stratify: columns in proportion over the folds; default: the target.
        controls: how often the covariates are permuted at test; 0: no controls.
        reference: arm that the others are compared with; default: the first.
        metric: the main metric; default: the task's.
        threshold: of the positive class: 0.5, or validation (best balanced accuracy there).
        subgroups: columns for the table of subgroups; default: the covariates.
        resamples: bootstrap resamples of subjects.
        keep: which networks are kept: best, every (also each epoch's) or none.
        keep_images: images out: write each test image's answer on the pixels of its file, in runs/ARM/FOLD/images.

    Example:
        >>> from fusionconv.study import Settings
        >>> settings = Settings(table="study.csv", target="dx", covariates=["age"], dims=3, image_size=[96, 112, 96])
        >>> settings.network, settings.folds, settings.image_size
        ('torchvision:resnet18', 5, [96, 112, 96])
    """

    table: str | None = None
    images: str | None = None
    image_column: list[str] = field(default_factory=lambda: ["image"])
    suffix: str = ""
    subject: str | None = None
    target: list[str] = field(default_factory=list)
    target_folder: str | None = None
    covariates: list[str] = field(default_factory=list)
    kinds: dict[str, Any] = field(default_factory=dict)
    missing_codes: list[str | int | float] = field(default_factory=list)
    missing: str | float = "mean"
    unknown: Literal["ignore", "error"] = "ignore"
    allow_leaks: list[str] = field(default_factory=list)
    rows: str | None = None
    drop: list[str | int | float] = field(default_factory=list)
    positive: list[str | int | float] = field(default_factory=list)
    classes: list[str | int | float] | dict[str, Any] = field(default_factory=list)
    limit: int | None = None
    sheet: str | None = None
    decimal: Literal[".", ","] = "."
    text: list[str] = field(default_factory=list)
    task: TaskName = "auto"
    dims: Literal[2, 3] = 2
    image_size: list[int] = field(default_factory=lambda: [128])
    channels: Literal[1, 3] | None = None
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    crop: list[int] = field(default_factory=list)
    spacing: list[float] = field(default_factory=list)
    orientation: str = "RAS"
    percentiles: list[float] = field(default_factory=lambda: [0.5, 99.5])
    foreground: bool = False
    unknown_orientation: bool = False
    normalize: Literal["auto", "train", "imagenet", "none"] = "auto"
    augment: list[str] = field(default_factory=lambda: ["none"])
    patch: list[int] = field(default_factory=list)
    overlap: float = 0.5
    pixel_size: str | None = None
    availability: bool = False
    sequence_dropout: float = 0.0
    shuffle_pixels: bool = False
    cache: str | None = None
    on_error: Literal["fail", "skip"] = "fail"
    network: str = "torchvision:resnet18"
    network_options: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    weights: str | None = None
    head: Literal["linear", "mlp", "norm"] = "linear"
    freeze: list[str] = field(default_factory=list)
    unfreeze_epoch: int | None = None
    epochs: int = 20
    batch_size: int = 32
    lr: float = 1e-3
    covariate_lr: float | Literal["scaled", "same"] = "scaled"
    weight_decay: float = 1e-4
    covariate_weight_decay: float = 0.0
    optimizer: Literal["adamw", "adam", "adamax", "sgd"] = "adamw"
    momentum: float = 0.9
    schedule: Literal["constant", "cosine", "onecycle", "multistep"] = "onecycle"
    milestones: list[int] = field(default_factory=list)
    loss: str = "default"
    select: str | None = None
    workers: int = 0
    seed: int = 0
    tune: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    tensorboard: bool = False
    folds: int = 5
    repeats: int = 1
    seeds: int = 1
    split_column: str | None = None
    val_size: float = 0.2
    test_size: float = 0.2
    stratify: list[str] = field(default_factory=list)
    controls: int = 5
    reference: str | None = None
    metric: str | None = None
    threshold: float | Literal["validation"] = 0.5
    subgroups: list[str] = field(default_factory=list)
    resamples: int = 2000
    keep: Literal["best", "every", "none"] = "best"
    keep_images: bool = False

    def __post_init__(self) -> None:
        counts = {"epochs": 1, "batch_size": 2, "folds": 1, "repeats": 1, "seeds": 1, "controls": 0, "resamples": 100}
        for name, least in counts.items():
            if getattr(self, name) < least:
                raise StudyError(f"{name}: expected a whole number of at least {least}, got {getattr(self, name)}")
        if self.lr <= 0 or (isinstance(self.covariate_lr, float) and self.covariate_lr < 0):
            raise StudyError(
                f"lr and covariate_lr: expected more than 0 (covariate_lr 0: they are not trained), got {self.lr} and "
                f"{self.covariate_lr}"
            )
        if self.weight_decay < 0 or self.covariate_weight_decay < 0:
            raise StudyError(
                f"weight_decay and covariate_weight_decay: expected at least 0, got {self.weight_decay} and "
                f"{self.covariate_weight_decay}"
            )
        for name in ("val_size", "test_size"):
            if not 0 <= getattr(self, name) < 1:
                raise StudyError(f"{name}: expected a share of at least 0 and below 1, got {getattr(self, name)}")
        if self.limit is not None and self.limit < 1:
            raise StudyError(f"limit: expected at least 1 subject, got {self.limit}")
        if len(self.size) != self.dims or min(self.size) < 1:
            raise StudyError(
                f"image_size: expected one number or {self.dims} (dims is {self.dims}), got {list(self.image_size)}; "
                "for 3-D images give --dims 3"
            )
        if self.unfreeze_epoch is not None and not (self.freeze and 1 <= self.unfreeze_epoch < self.epochs):
            raise StudyError(
                f"unfreeze_epoch: expected an epoch from 1 to {self.epochs - 1} (epochs is {self.epochs}) and parts "
                f"that are frozen before it, got {self.unfreeze_epoch} and freeze {self.freeze or 'none'}; give "
                "--freeze PARTS, or leave --unfreeze-epoch out"
            )
        if self.shuffle_pixels and (moves := [name for name in self.augment if name not in _MOVES_NOTHING]):
            raise StudyError(
                f"shuffle_pixels: expected random transforms that leave every pixel where it is (noise, contrast), got "
                f"--augment {' '.join(moves)}, whose results would no longer have the same permutation; leave it out"
            )
        if self.patch and (len(self.part) != self.dims or min(self.part) < 1):
            raise StudyError(f"patch: expected one number or {self.dims}, each at least 1, got {list(self.patch)}")
        if self.patch and any(p > n for p, n in zip(self.part, self.crop or self.size, strict=True)):
            raise StudyError(
                f"patch: expected sides of at most {list(self.crop or self.size)} (the image's), got "
                f"{list(self.patch)}; give a smaller --patch, a larger --image-size, or leave --patch out"
            )
        if (self.availability or self.sequence_dropout) and len(self.image_column) < 2:
            raise StudyError(
                f"availability and sequence_dropout: expected at least two image columns, got {self.image_column}; a "
                "row without its only image is left out anyway"
            )
        if not 0 <= self.sequence_dropout <= 0.95:
            raise StudyError(f"sequence_dropout: expected a probability from 0 to 0.95, got {self.sequence_dropout}")
        if not 0 <= self.overlap < 1:
            raise StudyError(f"overlap: expected a share of at least 0 and below 1, got {self.overlap}")
        if isinstance(self.threshold, float) and not 0 < self.threshold < 1:
            raise StudyError(f"threshold: expected a number between 0 and 1 or 'validation', got {self.threshold}")

    @property
    def size(self) -> tuple[int, ...]:
        """The image size in all its dimensions."""
        return tuple(self.image_size) * self.dims if len(self.image_size) == 1 else tuple(self.image_size)

    @property
    def part(self) -> tuple[int, ...]:
        """The patch in all its dimensions; empty without one."""
        return tuple(self.patch) * self.dims if len(self.patch) == 1 else tuple(self.patch)

    def to_dict(self) -> dict[str, Any]:
        """Every option as plain data, as YAML writes it."""
        return dataclasses.asdict(self)


_MOVES_NOTHING = ("none", "noise", "contrast")

#: What changes no run: where it is done, and what is computed from the predictions afterwards.
AFTERWARDS = ("cache", "workers", "reference", "metric", "subgroups", "resamples", "keep", "tensorboard", "keep_images")
#: The options by subject, in the order of the help.
GROUPS: dict[str, tuple[str, str]] = {
    "table": ("table", "text"),
    "images": ("task", "on_error"),
    "network": ("network", "unfreeze_epoch"),
    "training": ("epochs", "tensorboard"),
    "protocol": ("folds", "keep_images"),
}
_LISTS = {f.name for f in dataclasses.fields(Settings) if str(f.type).startswith("list")}


def make_settings(given: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Settings from plain values; those that are not given keep ``base``'s value, or the default.

    Types are checked as the command line's are (jsonargparse reads them from the dataclass); a single value for a list
    is a list of one.

    Raises:
        StudyError: an unknown option (the nearest is named), or a value of another type.
    """
    names = [f.name for f in dataclasses.fields(Settings)]
    plain: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3)
            raise StudyError(
                f"expected an option of a study, got {name!r}"
                + (f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}")
            )
        if isinstance(value, tuple):
            value = list(value)
        elif name in _LISTS and isinstance(value, (str, int, float)):
            value = [value]
        if name in ("table", "images", "target_folder", "cache", "weights") and value is not None:
            if not isinstance(value, (str, int, os.PathLike)):
                raise StudyError(
                    f"{name}: expected a path, got {type(value).__name__}; write it to a file first, such as a CSV"
                )
            value = str(value)
        plain[name] = value
    from fusionconv.study.option_types import check_types

    return check_types({**(base.to_dict() if base else {}), **plain})


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The options whose values differ, each with both values."""
    names = dict.fromkeys([*one, *other])
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def require_places(table: str | None, images: str | None) -> None:
    """Raise where the table or the folder of the images is not there; before anything heavy is imported.

    Raises:
        StudyError: what to give.
    """
    if table is None:
        raise StudyError("table: expected a file with one row per image, got none; give --table FILE")
    if not os.path.isfile(table):
        raise StudyError(f"table: expected a file, got {table}, which is not there; give --table FILE")
    if images is not None and not os.path.isdir(images):
        raise StudyError(f"images: expected a folder, got {images}, which is not there; give --images DIR")


def require_writable(out: str | os.PathLike[str]) -> None:
    """Raise where a folder, or file, cannot be made; nothing is made.

    Raises:
        StudyError: give another ``--out``.
    """
    parent = os.path.abspath(out)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    folder = parent if parent != os.path.abspath(out) or os.path.isdir(parent) else os.path.dirname(parent)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise StudyError(f"out: expected a place that can be written, got {out}; give another --out")
