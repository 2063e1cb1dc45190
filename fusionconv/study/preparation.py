"""One 3-D image of one or several files, as the network sees it: MONAI's transforms in the order of the options."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.errors import ImageError
from fusionconv.study.target_notes import Moved, same_pixels
from fusionconv.study.volumes import VolumeInfo, check_volume

if TYPE_CHECKING:
    from fusionconv.study.image_options import ImageOptions

__all__ = ["on_file_grid", "prepare_target_volumes", "prepare_volume"]


def prepare_volume(files: Sequence[str | None], options: ImageOptions) -> np.ndarray:
    """(len(files), *size): reoriented, resampled, cropped or padded around the middle, each file scaled by itself.

    float16 where ``options.percentiles`` scale to 0 ... 1 (its steps are 0.0005 at most), else float32. Files that are
    None become zeros.

    Raises:
        ImageError: a file that :func:`fusionconv.study.volumes.check_volume` refuses; files that do not lie on one
            grid; nothing but one value within the size.
    """
    there = [file for file in files if file is not None]
    arrays = _scaled(_geometry(options)(_stacked(there, options)), options)
    out = np.zeros((len(files), *options.size), np.float32)
    places = [n for n, file in enumerate(files) if file is not None]
    for place, file, one in zip(places, there, arrays, strict=True):
        out[place] = one
        if not np.isfinite(out[place]).all() or out[place].std() == 0:
            raise ImageError(
                f"{file}: expected an image within {options.size} voxels, got one without contrast or with values "
                "that are not finite; look at it with `inspect`, or change image_size, spacing or percentiles"
            )
    return out.astype(np.float16) if options.percentiles is not None else out


def prepare_target_volumes(
    images: Sequence[str], targets: Sequence[str], options: ImageOptions, labels: bool, background: int = 0
) -> Moved:
    """Masks (uint16, nearest) or target images of a row's images, moved as these are.

    Where the images are cropped to their foreground, the targets are cropped to the images'. Target images are scaled
    each by its own percentiles, of what there is before it is cropped or padded to ``options.size``: so that the scale,
    and errors in it, do not depend on the size. Masks are padded with their background.

    Raises:
        ImageError: as `prepare_volume`; a target on another grid than its image; labels that are no
            whole numbers.
    """
    from fusionconv.study.masks import require_labels

    first = _headers(images, options, voxels=options.foreground)[0]
    inputs = [_load(file) for file in images]
    for file in targets:
        info = check_volume(file, allow_unknown_orientation=options.allow_unknown_orientation, flat=labels)
        _require_one_grid(first, info, "a mask or target image needs the shape and the affine of its image")
    volumes = [_load(file) for file in targets]
    own = [volume.cpu().numpy() for volume in volumes]
    if labels:
        for file, values in zip(targets, own, strict=True):
            require_labels(values, file)
    is_image = any(same_pixels(one.cpu().numpy(), other) for one in inputs for other in own)
    image = _together(inputs) if options.foreground else None
    monai: Any = importlib.import_module("monai.transforms")
    *steps, fit = _steps(options, "nearest" if labels else "bilinear", image)
    moved = monai.Compose(steps)(_together(volumes) - background)  # what comes in from outside is zero
    if labels:
        array = np.rint(fit(moved).cpu().numpy() + background).astype(np.uint16)
    else:
        array = np.asarray(fit(_scaled(moved, options)), np.float32)
        array = array.astype(np.float16) if options.percentiles is not None else array
    ends = [(max(0, want - have) // 2, want) for have, want in zip(moved.shape[1:], options.size, strict=True)]
    box = [(start, min(want, start + have)) for (start, want), have in zip(ends, moved.shape[1:], strict=True)]
    sides = [float(side) for side in moved.pixdim]
    return Moved(array, own, sides, float(np.prod(first.spacing)), box, is_image=is_image)


def _scaled(volume: Any, options: ImageOptions) -> np.ndarray:
    """(C, *size) float32; with ``options.percentiles`` each channel between its own."""
    if options.percentiles is None:
        return np.asarray(volume.cpu().numpy(), dtype=np.float32)
    monai: Any = importlib.import_module("monai.transforms")  # it declares no exports
    scale = monai.ScaleIntensityRangePercentiles(*options.percentiles, 0.0, 1.0, clip=True)
    channels = [scale(volume[n : n + 1]).cpu().numpy() for n in range(len(volume))]
    return np.asarray(np.concatenate(channels), dtype=np.float32)


def _stacked(files: Sequence[str], options: ImageOptions) -> Any:
    """The volumes of one grid as channels.

    Raises:
        ImageError: a file that cannot be used; files that do not lie on one grid.
    """
    _headers(files, options)
    return _together([_load(file) for file in files])


def _headers(files: Sequence[str], options: ImageOptions, voxels: bool = True) -> list[VolumeInfo]:
    """The checked headers of volumes of one grid; ``voxels``: read these too."""
    unknown = options.allow_unknown_orientation
    infos = [check_volume(file, voxels=voxels, allow_unknown_orientation=unknown) for file in files]
    for info in infos[1:]:
        _require_one_grid(infos[0], info)
    return infos


def _together(volumes: Sequence[Any]) -> Any:
    import torch

    volume = volumes[0]
    if len(volumes) > 1:
        volume = volume.clone()
        volume.set_array(torch.cat([v.as_tensor() for v in volumes]))
    return volume


def _geometry(options: ImageOptions) -> Any:
    """What moves voxels: MONAI's transforms, which can be undone."""
    monai: Any = importlib.import_module("monai.transforms")
    return monai.Compose(_steps(options))


def _steps(options: ImageOptions, mode: str = "bilinear", image: Any = None) -> list[Any]:
    """The transforms; the last crops or pads to the size. ``image``: whose foreground is cropped to."""
    monai: Any = importlib.import_module("monai.transforms")
    steps = _axes_and_spacing(options, mode)
    if options.foreground:
        crop = monai.CropForeground(allow_smaller=True)
        if image is not None:
            start, end = crop.compute_bounding_box(monai.Compose(_axes_and_spacing(options, "bilinear"))(image))
            crop = monai.SpatialCrop(roi_start=start, roi_end=end)
        steps.append(crop)
    return [*steps, monai.ResizeWithPadOrCrop(spatial_size=options.size)]


def _axes_and_spacing(options: ImageOptions, mode: str) -> list[Any]:
    monai: Any = importlib.import_module("monai.transforms")
    steps: list[Any] = [monai.Orientation(axcodes=options.orientation, labels=None)]
    if options.spacing is not None:
        steps.append(monai.Spacing(pixdim=options.spacing, mode=mode, padding_mode="zeros"))
    return steps


def on_file_grid(values: np.ndarray, file: str | Sequence[str], options: ImageOptions) -> tuple[np.ndarray, np.ndarray]:
    """A map of a prepared volume on the voxels of its file, and the file's affine.

    Cropping, padding, resampling (trilinear) and reorientation are undone one after the other; what the preparation
    had cropped away is zero.

    Args:
        values: (*size), one value for each prepared voxel, or (C, *size), several.
        file: that was prepared; of several image columns all, since their common foreground may have been cropped to.
        options: how.

    Raises:
        ImageError: a map of another size; the way back does not end at the file's shape and affine.
    """
    import nibabel as nib

    data: Any = importlib.import_module("monai.data")
    files = [file] if isinstance(file, str) else list(file)
    file = files[0]
    channels = values if values.ndim == 4 else values[None]
    if tuple(channels.shape[1:]) != tuple(options.size) or values.ndim not in (3, 4):
        raise ImageError(f"{file}: expected a map of {options.size} voxels, got {values.shape}")
    steps = _geometry(options)
    prepared = steps(_together([_load(one) for one in files]))
    marked = data.MetaTensor(
        np.ascontiguousarray(channels, dtype=np.float32), meta=prepared.meta,
        applied_operations=prepared.applied_operations,
    )  # fmt: skip
    back = steps.inverse(marked)
    image: Any = nib.load(file)
    if tuple(back.shape[1:]) != image.shape[:3] or not np.allclose(back.affine.numpy(), image.affine, atol=1e-3):
        raise ImageError(
            f"{file}: expected the map to come back to {image.shape[:3]} voxels and the file's affine, got "
            f"{tuple(back.shape[1:])}; MONAI cannot undo this preparation, and the map is not written"
        )
    found = back.as_tensor().numpy()
    return found if values.ndim == 4 else found[0], np.asarray(image.affine)


def _load(file: str) -> Any:
    """A MetaTensor (1, x, y, z), as MONAI's LoadImage and EnsureChannelFirst give it.

    LoadImage itself makes every reader that MONAI has, and some of them warn.
    """
    data: Any = importlib.import_module("monai.data")
    monai: Any = importlib.import_module("monai.transforms")
    reader = data.NibabelReader()
    array, about = reader.get_data(reader.read(file))
    about["filename_or_obj"] = file
    return monai.EnsureChannelFirst()(data.MetaTensor.ensure_torch_and_prune_meta(np.asarray(array, np.float32), about))


def _require_one_grid(
    first: VolumeInfo, other: VolumeInfo, why: str = "several image columns become channels of one image"
) -> None:
    """Voxel n of both lies at one place."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.array(first.shape) - 1
    apart = np.abs(corners @ (np.array(first.affine) - np.array(other.affine)).T)[:, :3].max()
    if first.shape != other.shape or apart > 0.5 * min(first.spacing):
        raise ImageError(
            f"{other.path}: expected the grid of {first.path}, {_grid(first)}, got {_grid(other)}"
            + (f", {apart:.3g} mm apart" if first.shape == other.shape else "")
            + f"; {why}: register and resample them to one grid first"
        )


def _grid(info: VolumeInfo) -> str:
    spacing = " x ".join(f"{length:.4g}" for length in info.spacing)
    return f"{' x '.join(map(str, info.shape))} voxels ({info.orientation}, {spacing} mm)"
