"""Volumes resampled, cropped and scaled once, kept in a cache that is keyed by each file's content and every setting."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from recipes.adni.volumes import VolumeError, check_volume
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
    """Prepare every image that the cache does not hold yet. Can be stopped and started again; each file is written whole.

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
    made = 0
    jobs = [(image, preparation, cache) for image in images]
    bar = tqdm(total=len(jobs), desc="prepare", unit="volume", disable=not progress or len(jobs) < 2)
    with bar, _map(workers, jobs) as results:
        for image, file, reason, new in results:
            bar.update()
            made += new
            if reason is None:
                files[image] = Path(file)
            else:
                failed[image] = reason
                bar.set_postfix(failed=len(failed))
    return Prepared({image: files[image] for image in images if image in files}, failed, made)


class _map:  # noqa: N801 (a function with a with-block)
    """The jobs' results as they come, in this process or in several."""

    def __init__(self, workers: int, jobs: Sequence[Any]) -> None:
        self.workers, self.jobs = min(workers, len(jobs)), jobs
        self.pool: concurrent.futures.ProcessPoolExecutor | None = None

    def __enter__(self) -> Iterable[tuple[str, str, str | None, bool]]:
        if self.workers < 2:
            return map(_prepare_one, self.jobs)
        # spawn: a forked process inherits locks of torch's threads
        self.pool = concurrent.futures.ProcessPoolExecutor(
            self.workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        )
        futures = [self.pool.submit(_prepare_one, job) for job in self.jobs]
        return (future.result() for future in concurrent.futures.as_completed(futures))

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=kind is None, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)  # the processes are as many as the cores


def _prepare_one(job: tuple[str, Preparation, Path]) -> tuple[str, str, str | None, bool]:
    image, preparation, cache = job
    try:
        key = preparation.key(content_hash(image))
        file = cache / key[:2] / f"{key}.npy"
        if _whole(file, preparation.size):
            return image, str(file), None, False
        check_volume(image, allow_unknown_orientation=preparation.allow_unknown_orientation)
        volume = preparation.transforms()({"image": image})["image"]
        array = np.asarray(volume.as_tensor().cpu().numpy(), dtype=np.float32)
        if not np.isfinite(array).all() or array.std() == 0:
            raise VolumeError(
                f"{image}: expected an image within {preparation.size} voxels, came one without contrast or with "
                "values that are not finite; look at it with `inspect`, or change --data.preparation"
            )
        # float16 halves the cache; its step below 1 is 0.0005 at most
        write_whole(file, array.astype(np.float16) if preparation.percentiles is not None else array)
        return image, str(file), None, True
    except VolumeError as error:
        return image, "", str(error), False
    except OSError as error:
        if isinstance(error, FileNotFoundError) or str(cache) not in str(error.filename or ""):
            return image, "", f"{image}: {error.strerror or error}", False
        raise RunError(
            f"--data.cache {cache}: {error.strerror}: is the disk full? What was prepared is kept."
        ) from error
    except Exception as error:  # MONAI raises many kinds; the image is listed with its reason, the others go on
        return image, "", f"{image}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", False


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


Augment = Literal["none", "light", "strong"]


def augmentation(strength: Augment, size: Sequence[int]) -> list[Any]:
    """Random transforms of training volumes.

    none; light: left and right exchanged in half of them, shifts by up to two voxels, noise; strong: besides, rotations
    by up to 6 degrees, scaling by up to 5 %, contrast.
    """
    from monai.transforms import (
        BorderPadd,
        RandAdjustContrastd,
        RandAffined,
        RandFlipd,
        RandGaussianNoised,
        RandSpatialCropd,
    )

    if strength == "none":
        return []
    flip = RandFlipd("image", prob=0.5, spatial_axis=0)  # RAS: the first axis is left to right
    noise = RandGaussianNoised("image", prob=0.5, std=0.02)
    if strength == "light":
        shift = [BorderPadd("image", 2), RandSpatialCropd("image", roi_size=tuple(size), random_size=False)]
        return [flip, *shift, noise]
    turn = RandAffined(
        "image", prob=0.8, rotate_range=(0.1,) * 3, scale_range=(0.05,) * 3, translate_range=(2,) * 3,
        padding_mode="zeros", mode="bilinear",
    )  # fmt: skip
    return [flip, turn, noise, RandAdjustContrastd("image", prob=0.3, gamma=(0.8, 1.25))]
