"""Volumes resampled, cropped and scaled once, kept in a cache keyed by each file's content and all settings."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusionconv.study.volumes import VolumeError, check_volume
from recipes.common.runs import RunError

log = logging.getLogger("recipes.adni")

REVISION = 1  # raise it when the code below changes what a prepared volume holds


@dataclass(frozen=True)
class Preparation:
    """How a volume becomes what the network sees: MONAI's transforms in the order of the arguments.

    Args:
        orientation: axes after reorientation, such as RAS; volumes come in all orientations.
        spacing: voxel size after resampling, in mm; null leaves it as it is.
        foreground: crop to what is above zero before the size is set (skull-stripped volumes).
        size: voxels of the result; what is larger is cropped around the middle, what is smaller padded with zeros.
        percentiles: intensities between these percentiles are scaled to 0 ... 1; null leaves them.
        allow_unknown_orientation: take volumes whose header does not say which side is left.
    """

    orientation: str = "RAS"
    spacing: float | None = 2.0
    foreground: bool = False
    size: tuple[int, int, int] = (96, 112, 96)
    percentiles: tuple[float, float] | None = (0.5, 99.5)
    allow_unknown_orientation: bool = False

    def transforms(self) -> Any:
        """The MONAI transforms of a dict with ``image``: a path becomes a MetaTensor (1, *size), invertible."""
        from monai.transforms import (
            Compose,
            CropForegroundd,
            EnsureChannelFirstd,
            LoadImaged,
            Orientationd,
            ResizeWithPadOrCropd,
            ScaleIntensityRangePercentilesd,
            Spacingd,
        )

        steps: list[Any] = [
            LoadImaged("image", reader="NibabelReader", image_only=True),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes=self.orientation, labels=None),
        ]
        if self.spacing is not None:
            steps.append(Spacingd("image", pixdim=(self.spacing,) * 3, mode="bilinear", padding_mode="zeros"))
        if self.foreground:
            steps.append(CropForegroundd("image", source_key="image", allow_smaller=True))
        steps.append(ResizeWithPadOrCropd("image", spatial_size=self.size))
        if self.percentiles is not None:
            low, high = self.percentiles
            steps.append(ScaleIntensityRangePercentilesd("image", low, high, 0.0, 1.0, clip=True))
        return Compose(steps)

    def key(self, content: str) -> str:
        """The cache's name for a file with this content: a hash of it, of every setting and of what does the work."""
        settings = {**asdict(self), "revision": REVISION, "monai": version("monai"), "nibabel": version("nibabel")}
        text = json.dumps({"content": content, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """What became of each image: its file in the cache, or why there is none."""

    files: dict[str, Path]  # image -> .npy in the cache
    failed: dict[str, str]  # image -> reason
    made: int  # how many were not in the cache before


def prepare(
    images: Iterable[str], preparation: Preparation, cache: Path, workers: int = 0, progress: bool = True
) -> Prepared:
    """Prepare every image that the cache does not hold yet. Can be stopped and started again.

    Every image's content is hashed each time (as fast as the disk reads), so that a file that was replaced, whatever
    its date, is prepared anew; nothing is ever served for another content or other settings.

    Args:
        images: paths.
        preparation: the settings.
        cache: folder of the cache; several studies may share it.
        workers: processes; 0 works in this one.
        progress: show a bar.

    Raises:
        RunError: the cache cannot be written.
    """
    from tqdm import tqdm

    images = list(dict.fromkeys(str(image) for image in images))
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--data.cache {cache}: {error.strerror}. Give a folder that can be written.") from error
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    jobs: list[_Job] = []
    quiet = {"unit": "volume", "disable": not progress or len(images) < 2}
    with concurrent.futures.ThreadPoolExecutor(max(1, workers)) as pool:  # hashing lets other threads run
        hashed = pool.map(lambda image: _cached(image, preparation, cache), images)
        for image, (file, reason) in zip(images, tqdm(hashed, "check the cache", len(images), **quiet), strict=True):
            if reason is not None:
                failed[image] = reason
            elif _whole(file, preparation.size):
                files[image] = file
            else:
                jobs.append((image, preparation, file))
    with tqdm(total=len(jobs), desc="prepare", **quiet | {"disable": quiet["disable"] or not jobs}) as bar:
        for image, file, reason in _work(jobs, workers):
            bar.update()
            if reason is None:
                files[image] = file
            else:
                failed[image] = reason
                bar.set_postfix(failed=len(failed))
    made = sum(image in files for image, _, _ in jobs)
    return Prepared({image: files[image] for image in images if image in files}, failed, made)


_Job = tuple[str, Preparation, Path]
FEW = 16  # volumes that are prepared sooner than processes start


def _cached(image: str, preparation: Preparation, cache: Path) -> tuple[Path, str | None]:
    """Where the cache holds a file's volume, or will; or why the file cannot be read."""
    try:
        key = preparation.key(content_hash(image))
    except OSError as error:
        return cache, f"{image}: {error.strerror or error}"
    return cache / key[:2] / f"{key}.npy", None


def _work(jobs: Sequence[_Job], workers: int) -> Iterator[tuple[str, Path, str | None]]:
    """The jobs' results as they come, from this process or several."""
    if workers < 2 or len(jobs) < FEW:
        yield from map(_prepare_one, jobs)
        return
    # spawn: a forked process inherits the locks of torch's threads
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_one_thread)
    try:
        for future in concurrent.futures.as_completed([pool.submit(_prepare_one, job) for job in jobs]):
            yield future.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise RunError(
            "a process that prepared volumes was killed, most likely for want of memory. Run it again with a smaller "
            "--data.prepare_workers; what was prepared is kept."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # the processes are as many as the cores


def _prepare_one(job: _Job) -> tuple[str, Path, str | None]:
    image, preparation, file = job
    try:
        check_volume(image, allow_unknown_orientation=preparation.allow_unknown_orientation)
        volume = preparation.transforms()({"image": image})["image"]
        array = np.asarray(volume.as_tensor().cpu().numpy(), dtype=np.float32)
        if not np.isfinite(array).all() or array.std() == 0:
            raise VolumeError(
                f"{image}: expected an image within {preparation.size} voxels, came one without contrast or with "
                "values that are not finite; look at it with `inspect`, or change --data.preparation"
            )
    except VolumeError as error:
        return image, file, str(error)
    except Exception as error:  # MONAI raises many kinds; the image is listed with its reason, the others go on
        return image, file, f"{image}: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    try:  # float16 halves the cache; for 0 ... 1 its steps are 0.0005 at most
        write_whole(file, array.astype(np.float16) if preparation.percentiles is not None else array)
    except OSError as error:
        raise RunError(
            f"--data.cache {file.parent.parent}: {error.strerror}; is the disk full? What was prepared is kept: run it "
            "again with room, or with another --data.cache."
        ) from error
    return image, file, None


def _whole(file: Path, size: Sequence[int]) -> bool:
    """Whether the cache holds this volume, readable and of the right shape."""
    try:
        return bool(np.load(file, mmap_mode="r").shape == (1, *size))
    except (OSError, ValueError, EOFError):
        return False


def write_whole(file: Path, array: np.ndarray) -> None:
    """Write a .npy so that it is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as handle:
            np.save(handle, array)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def content_hash(image: str) -> str:
    """SHA-256 of a file; of an Analyze or NIfTI pair (.img, .hdr) of both.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(image)
    pair = {".img": ".hdr", ".hdr": ".img"}.get(path.suffix)
    digest = hashlib.sha256()
    for part in sorted([path, path.with_suffix(pair)] if pair else [path]):
        with part.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


class ReadPrepared:
    """A transform for MONAI's datasets: ``image`` (a path) becomes the prepared volume, float32 (1, *size).

    The volume is a MetaTensor that says which file it was made from, so that `fusionconv.tabular.covariate_collate`
    notices an image beside another image's row.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Read one."""
        import torch
        from monai.data import MetaTensor

        image = str(item["image"])
        array = np.load(self.files[image]).astype(np.float32)
        return {**item, "image": MetaTensor(torch.from_numpy(array), meta={"filename_or_obj": image})}


Augment = Literal["none", "light", "strong", "flip", "light+flip", "strong+flip"]


def augmentation(strength: Augment, size: Sequence[int]) -> list[Any]:
    """Random transforms of training volumes. None of them mirrors the brain, unless "flip" is said.

    none; light: shifts by up to two voxels and noise; strong: rotations by up to 6 degrees, scaling by up to 5 %, noise
    and contrast; flip, light+flip, strong+flip: besides, left and right exchanged in half of the volumes.
    """
    from monai.transforms import (
        BorderPadd,
        RandAdjustContrastd,
        RandAffined,
        RandFlipd,
        RandGaussianNoised,
        RandSpatialCropd,
    )

    kind, _, mirrored = strength.rpartition("+") if "+" in strength else (strength, "", "")
    # RAS: the first axis is left to right.
    flip = [RandFlipd("image", prob=0.5, spatial_axis=0)] if "flip" in (kind, mirrored) else []
    noise = RandGaussianNoised("image", prob=0.5, std=0.02)
    if kind == "light":
        shift = [BorderPadd("image", 2), RandSpatialCropd("image", roi_size=tuple(size), random_size=False)]
        return [*flip, *shift, noise]
    if kind == "strong":
        turn = RandAffined(
            "image", prob=0.8, rotate_range=(0.1,) * 3, scale_range=(0.05,) * 3, translate_range=(2,) * 3,
            padding_mode="zeros", mode="bilinear",
        )  # fmt: skip
        return [*flip, turn, noise, RandAdjustContrastd("image", prob=0.3, gamma=(0.8, 1.25))]
    return flip
