"""Random transforms of training images, 2-D by torchvision and 3-D by MONAI; seeds hold through torch's generator."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError
from fusionconv.study.image_options import ImageOptions

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MOVES",
    "Seeded",
    "augmentation",
    "chosen_steps",
    "flat_moves",
    "flat_transform",
    "solid_transform",
]

STEPS = ("crop", "hflip", "vflip", "rotate", "shift", "scale", "contrast", "noise")  # in the order of their doing
MOVES = STEPS[:6]  # those that move pixels; the others change their values

#: What light and strong are; no flips: left and right, up and down often mean something.
PRESETS: dict[str, dict[str, float]] = {
    "none": {},
    "light": {"rotate": 5, "shift": 0.05},
    "strong": {"rotate": 15, "shift": 0.1, "contrast": 0.2, "noise": 0.02},
}
PRESETS_3D: dict[str, dict[str, float]] = {
    "none": {},
    "light": {"shift": 2, "noise": 0.02},
    "strong": {"rotate": 0.1, "shift": 2, "scale": 0.05, "contrast": 0.2, "noise": 0.02},
}
#: A step that is named alone; scale is not.
ALONE = {"crop": 0.5, "hflip": 0.5, "vflip": 0.5, "rotate": 15, "shift": 0.1, "contrast": 0.2, "noise": 0.02}
ALONE_3D = ALONE | {"rotate": 0.1, "shift": 2}


def augmentation(names: str | Sequence[str], options: ImageOptions) -> Callable[[Tensor], Tensor] | None:
    """A random transform of one image, float (C, *options.shape) in and out; None where nothing is asked for.

    In 2-D (values as :meth:`ImageStore.read` gives them):

    - ``light``: rotated by up to 5 degrees and shifted by up to 5 % of each side.
    - ``strong``: up to 15 degrees and 10 %, contrast times 0.8 to 1.2, noise of standard deviation up to 0.02.

    In 3-D:

    - ``light``: shifted by up to two voxels, and noise of standard deviation up to 0.02 in half of them.
    - ``strong``: in 80 %: rotated by up to 0.1 (6 degrees) about each axis, scaled by up to 5 % and shifted by up to
      two voxels; noise as above; gamma of 0.8 to 1.25 in 30 %.

    Or single steps, also beside these: ``hflip`` (left and right exchanged in half of the images), ``vflip`` (top and
    bottom), ``rotate``, ``shift``, ``noise``, ``contrast``, ``crop`` (a random part of at least half of the area,
    resized; in 3-D at least 0.8 of each side). Flips are never done unless they are named.

    What a rotation or shift brings in from outside has the image's smallest value (3-D: zero). A channel that is zero
    everywhere (an image that a row does not have) stays zero. All chance comes from torch's global
    generator, in 3-D too.

    Args:
        names: none, light, strong, or steps; one or several.
        options: of the images.

    Raises:
        StudyError: a name that there is none of; ``none`` beside others.

    >>> import torch
    >>> change = augmentation(["light", "hflip"], ImageOptions(size=(24, 16)))
    >>> change(torch.rand(3, 24, 16)).shape
    torch.Size([3, 24, 16])
    >>> augmentation("none", ImageOptions()) is None
    True
    """
    chosen = chosen_steps(names, options)
    if not chosen:
        return None
    return _KeepBlank(
        flat_transform(chosen, options) if options.dims == 2 else Seeded(solid_transform(chosen, options))
    )


def chosen_steps(names: str | Sequence[str], options: ImageOptions) -> dict[str, float]:
    """The steps that these names stand for, with their strengths, in the order in which they are done.

    Raises:
        StudyError: a name that there is none of; ``none`` beside others.
    """
    names = [names] if isinstance(names, str) else list(names)
    presets, alone = (PRESETS, ALONE) if options.dims == 2 else (PRESETS_3D, ALONE_3D)
    chosen: dict[str, float] = {}
    for name in names:
        if name not in presets and name not in alone:
            near = difflib.get_close_matches(name, [*presets, *alone], n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join([*presets, *alone])}"
            raise StudyError(f"augment: expected names of random transforms, got {name!r}{hint}")
        if name == "none" and len(names) > 1:
            raise StudyError(f"augment: expected none alone or other names, got {names}; leave none out")
        for step, strength in (presets[name] if name in presets else {name: alone[name]}).items():
            chosen[step] = max(strength, chosen.get(step, 0))
    return {step: chosen[step] for step in STEPS if step in chosen}


class _KeepBlank:
    """Channels that are zero everywhere stay so."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Tensor) -> Tensor:
        there = image.flatten(1).any(dim=1)
        out = self.transform(image)
        return out if bool(there.all()) else out * there.view(-1, *[1] * (image.ndim - 1))


# ---- 2-D ----


def flat_moves(steps: dict[str, float], options: ImageOptions, labels: bool = False) -> list[Any]:
    """torchvision's transforms of the steps that move pixels; what comes in from outside is zero.

    ``labels``: to the nearest pixel, with the same random numbers. (A `tv_tensors.Mask` would be resized by `NEAREST`,
    which lies up to half a pixel beside the image.)
    """
    v2: Any = importlib.import_module("torchvision.transforms.v2")  # it has no types
    modes = v2.InterpolationMode

    height, width = options.shape
    done: list[Any] = []
    if "crop" in steps:
        ratio = (3 / 4 * width / height, 4 / 3 * width / height)
        mode = modes.NEAREST_EXACT if labels else modes.BILINEAR
        done.append(v2.RandomResizedCrop((height, width), (steps["crop"], 1.0), ratio, mode, antialias=not labels))
    if "hflip" in steps:
        done.append(v2.RandomHorizontalFlip(steps["hflip"]))
    if "vflip" in steps:
        done.append(v2.RandomVerticalFlip(steps["vflip"]))
    if "rotate" in steps or "shift" in steps:
        move = (steps["shift"],) * 2 if "shift" in steps else None
        mode = modes.NEAREST if labels else modes.BILINEAR
        done.append(v2.RandomAffine(steps.get("rotate", 0), move, interpolation=mode, fill=0))
    return done


def flat_transform(steps: dict[str, float], options: ImageOptions) -> Callable[[Tensor], Tensor]:
    """One image's transform of these steps."""
    v2: Any = importlib.import_module("torchvision.transforms.v2")  # it has no types
    done = [_FromSmallest(move) if isinstance(move, v2.RandomAffine) else move for move in flat_moves(steps, options)]
    if "contrast" in steps:
        done.append(_Contrast(steps["contrast"]))
    if "noise" in steps:
        done.append(_Noise(steps["noise"]))
    together: Callable[[Tensor], Tensor] = v2.Compose(done)
    return together


class _FromSmallest:
    """A transform that fills with zeros, on an image whose smallest value (of each channel) is taken as zero."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Tensor) -> Tensor:
        smallest = image.amin(dim=(1, 2), keepdim=True)
        return self.transform(image - smallest) + smallest


class _Contrast:
    """Differences from each channel's mean times 1 - strength to 1 + strength; any number of channels, any range."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        mean = image.mean(dim=(1, 2), keepdim=True)
        return mean + (image - mean) * (1 + self.strength * (2 * torch.rand(()) - 1))


class _Noise:
    """Normal noise of a standard deviation from 0 to ``strength``."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image: Tensor) -> Tensor:
        import torch

        return image + self.strength * torch.rand(()) * torch.randn_like(image)


# ---- 3-D ----


def solid_transform(steps: dict[str, float], options: ImageOptions, mode: str = "bilinear") -> Any:
    """MONAI's transform of these steps; ``mode`` nearest for labels."""
    monai: Any = importlib.import_module("monai.transforms")  # it declares no exports
    size = options.shape
    done: list[Any] = []
    if "crop" in steps:
        part = tuple(max(1, round(0.8 * n)) for n in size)
        done.append(monai.RandSpatialCrop(roi_size=part, max_roi_size=size, random_size=True))
        done.append(monai.Resize(spatial_size=size, mode="trilinear" if mode == "bilinear" else "nearest-exact"))
    for name, ends in (("hflip", "LR"), ("vflip", "SI")):
        if name in steps:
            axis = next(n for n, end in enumerate(options.orientation) if end in ends)
            done.append(monai.RandFlip(prob=steps[name], spatial_axis=axis))
    if "rotate" in steps:
        more: dict[str, Any] = {"translate_range": (steps["shift"],) * 3} if "shift" in steps else {}
        if "scale" in steps:
            more["scale_range"] = (steps["scale"],) * 3
        done.append(
            monai.RandAffine(prob=0.8, rotate_range=(steps["rotate"],) * 3, padding_mode="zeros", mode=mode, **more)
        )
    elif "shift" in steps:
        done.append(monai.BorderPad(int(steps["shift"])))
        done.append(monai.RandSpatialCrop(roi_size=size, random_size=False))
    if "noise" in steps:
        done.append(monai.RandGaussianNoise(prob=0.5, std=steps["noise"]))
    if "contrast" in steps:
        done.append(monai.RandAdjustContrast(prob=0.3, gamma=(0.8, 1.25)))
    return monai.Compose(done)


class Seeded:
    """MONAI's transforms with NumPy's generators of their own, seeded from torch's for each image."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Tensor, seed: int | None = None) -> Tensor:
        """The transform by this seed, or by one that is drawn."""
        import torch

        self.transform.set_random_state(seed=int(torch.randint(2**31, ())) if seed is None else seed)
        out = self.transform(image)
        return out.as_tensor().contiguous() if hasattr(out, "as_tensor") else torch.as_tensor(out)
