"""ImageOptions: how a file becomes what the network sees."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from fusionconv.errors import StudyError

__all__ = ["ImageOptions", "image_options"]

REVISION = 1  # raise it when the code changes what a decoded image holds


@dataclass(frozen=True)
class ImageOptions:
    """How a file becomes what the network sees.

    Args:
        dims: 2 or 3.
        size: height and width; in 3-D x, y, z voxels.
        channels: of each image file, 1 (grey) or 3 (colour) in 2-D; 1 in 3-D.
        resize: 2-D: how another aspect ratio meets the size: stretch, pad or crop.
        crop: 2-D: height and width that are cut out of the middle after resizing.
        orientation: 3-D: axes after reorientation, such as RAS.
        spacing: 3-D: voxel size in mm after resampling; None leaves it.
        foreground: 3-D: crop to what is above zero first (skull-stripped volumes).
        percentiles: 3-D: intensities between these become 0 to 1; None leaves them.
        allow_unknown_orientation: 3-D: take volumes whose header does not say which side is left.
        shuffle: seed of one permutation of all images' pixels, done when a decoded image is read; None: none.
    """

    dims: Literal[2, 3] = 2
    size: tuple[int, ...] = (224, 224)
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    crop: tuple[int, int] | None = None
    orientation: str = "RAS"
    spacing: tuple[float, float, float] | None = None
    foreground: bool = False
    percentiles: tuple[float, float] | None = (0.5, 99.5)
    allow_unknown_orientation: bool = False
    shuffle: int | None = None

    def __post_init__(self) -> None:
        for name in ("size", "crop", "spacing", "percentiles"):  # lists, from JSON or YAML
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.dims not in (2, 3):
            raise StudyError(f"dims: expected 2 or 3, got {self.dims}")
        if len(self.size) != self.dims or min(self.size) < 1:
            raise StudyError(f"image_size: expected {self.dims} numbers of at least 1, got {list(self.size)}")
        if self.channels not in ((1, 3) if self.dims == 2 else (1,)):
            raise StudyError(f"channels: expected {'1 or 3' if self.dims == 2 else '1 in 3-D'}, got {self.channels}")
        if self.resize not in ("stretch", "pad", "crop"):
            raise StudyError(f"resize: expected stretch, pad or crop, got {self.resize!r}")
        if self.crop is not None:
            if self.dims == 3:
                raise StudyError("crop: expected 2-D images, got 3-D ones, which are cropped to image_size anyway")
            if (
                len(self.crop) != 2
                or min(self.crop) < 1
                or any(c > s for c, s in zip(self.crop, self.size, strict=True))
            ):
                raise StudyError(
                    f"crop: expected a height and a width of at most {list(self.size)} (image_size), got "
                    f"{list(self.crop)}"
                )
        axes = self.orientation.upper()
        if len(axes) != 3 or sorted("LAS".find({"R": "L", "P": "A", "I": "S"}.get(a, a)) for a in axes) != [0, 1, 2]:
            raise StudyError(f"orientation: expected three axes such as RAS, got {self.orientation!r}")
        object.__setattr__(self, "orientation", axes)
        if self.spacing is not None and (len(self.spacing) != 3 or not min(self.spacing) > 0):
            raise StudyError(f"spacing: expected three lengths in mm, got {list(self.spacing)}")
        if self.percentiles is not None and (
            len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100
        ):
            raise StudyError(f"percentiles: expected two numbers from 0 to 100, got {list(self.percentiles)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a decoded image, without its channels: ``crop``, or else ``size``."""
        return self.size if self.crop is None else self.crop

    def key(self) -> str:
        """A hash of all that a decoded image depends on besides its file: options, versions of what does the work."""
        only = {
            2: ("dims", "size", "channels", "resize", "crop"),
            3: ("dims", "size", "orientation", "spacing", "foreground", "percentiles", "allow_unknown_orientation"),
        }[self.dims]
        packages = {2: ("pillow", "torch", "torchvision", "pydicom"), 3: ("monai", "nibabel", "torch")}[self.dims]
        said = {
            **{name: value for name, value in asdict(self).items() if name in only},
            "revision": REVISION,
            "versions": {name: _version(name) for name in packages},
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def image_options(settings: Any, channels: int | None = None) -> ImageOptions:
    """The options of a study's settings.

    Args:
        settings: a :class:`fusionconv.study.settings.Settings`.
        channels: of each file; None: the settings', or else 3 in 2-D and 1 in 3-D.
    """
    dims: Literal[2, 3] = settings.dims
    chosen: Any = channels or settings.channels or (3 if dims == 2 else 1)
    return ImageOptions(
        dims=dims,
        size=tuple(settings.size),
        channels=chosen,
        resize=settings.resize,
        crop=tuple(settings.crop) or None,
        orientation=settings.orientation,
        spacing=tuple(settings.spacing) or None,
        foreground=settings.foreground,
        percentiles=tuple(settings.percentiles) or None,
        allow_unknown_orientation=settings.unknown_orientation,
        shuffle=settings.seed if settings.shuffle_pixels else None,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
