"""One 3-D image of one or several files, as the network sees it: MONAI's transforms in the order of the options."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.study.volumes import VolumeError, VolumeInfo, check_volume

if TYPE_CHECKING:
    from fusionconv.study.image_options import ImageOptions

__all__ = ["on_file_grid", "prepare_volume"]


def prepare_volume(files: Sequence[str | None], options: ImageOptions) -> np.ndarray:
    """(len(files), *size): reoriented, resampled, cropped or padded around the middle, each file scaled by itself.

    float16 where ``options.percentiles`` scale to 0 ... 1 (its steps are 0.0005 at most), else float32. Files that are
    None become zeros.

    Raises:
        VolumeError: a file that :func:`fusionconv.study.volumes.check_volume` refuses; files that do not lie on one
            grid; nothing but one value within the size.
    """
    import torch

    monai: Any = importlib.import_module("monai.transforms")  # it declares no exports
    there = [file for file in files if file is not None]
    infos = [check_volume(file, allow_unknown_orientation=options.allow_unknown_orientation) for file in there]
    for info in infos[1:]:
        _require_one_grid(infos[0], info)
    volumes = [_load(file) for file in there]
    volume = volumes[0]
    if len(volumes) > 1:
        volume = volume.clone()
        volume.set_array(torch.cat([v.as_tensor() for v in volumes]))
    volume = _geometry(options)(volume)
    if options.percentiles is not None:
        scale = monai.ScaleIntensityRangePercentiles(*options.percentiles, 0.0, 1.0, clip=True)
        arrays = [scale(volume[n : n + 1]) for n in range(len(there))]
    else:
        arrays = [volume[n : n + 1] for n in range(len(there))]
    out = np.zeros((len(files), *options.size), np.float32)
    places = [n for n, file in enumerate(files) if file is not None]
    for place, file, one in zip(places, there, arrays, strict=True):
        out[place] = np.asarray(one.cpu().numpy(), dtype=np.float32)[0]
        if not np.isfinite(out[place]).all() or out[place].std() == 0:
            raise VolumeError(
                f"{file}: expected an image within {options.size} voxels, got one without contrast or with values "
                "that are not finite; look at it with `inspect`, or change image_size, spacing or percentiles"
            )
    return out.astype(np.float16) if options.percentiles is not None else out


def _geometry(options: ImageOptions) -> Any:
    """What moves voxels: MONAI's transforms, which can be undone."""
    monai: Any = importlib.import_module("monai.transforms")
    steps: list[Any] = [monai.Orientation(axcodes=options.orientation, labels=None)]
    if options.spacing is not None:
        steps.append(monai.Spacing(pixdim=options.spacing, mode="bilinear", padding_mode="zeros"))
    if options.foreground:
        steps.append(monai.CropForeground(allow_smaller=True))
    steps.append(monai.ResizeWithPadOrCrop(spatial_size=options.size))
    return monai.Compose(steps)


def on_file_grid(values: np.ndarray, file: str, options: ImageOptions) -> tuple[np.ndarray, np.ndarray]:
    """A map of a prepared volume on the voxels of its file, and the file's affine.

    Cropping, padding, resampling (trilinear) and reorientation are undone one after the other; what the preparation
    had cropped away is zero.

    Args:
        values: (*size), one value for each prepared voxel.
        file: that was prepared.
        options: how.

    Raises:
        VolumeError: a map of another size; the way back does not end at the file's shape and affine.
    """
    import nibabel as nib

    data: Any = importlib.import_module("monai.data")
    if tuple(values.shape) != tuple(options.size):
        raise VolumeError(f"{file}: expected a map of {options.size} voxels, got {values.shape}")
    steps = _geometry(options)
    prepared = steps(_load(file))
    marked = data.MetaTensor(
        np.ascontiguousarray(values, dtype=np.float32)[None], meta=prepared.meta,
        applied_operations=prepared.applied_operations,
    )  # fmt: skip
    back = steps.inverse(marked)
    image: Any = nib.load(file)
    if tuple(back.shape[1:]) != image.shape[:3] or not np.allclose(back.affine.numpy(), image.affine, atol=1e-3):
        raise VolumeError(
            f"{file}: expected the map to come back to {image.shape[:3]} voxels and the file's affine, got "
            f"{tuple(back.shape[1:])}; MONAI cannot undo this preparation, and the map is not written"
        )
    return back[0].as_tensor().numpy(), np.asarray(image.affine)


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


def _require_one_grid(first: VolumeInfo, other: VolumeInfo) -> None:
    """Voxel n of both lies at one place: channels of one image."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.array(first.shape) - 1
    apart = np.abs(corners @ (np.array(first.affine) - np.array(other.affine)).T)[:, :3].max()
    if first.shape != other.shape or apart > 0.5 * min(first.spacing):
        raise VolumeError(
            f"{other.path}: expected the grid of {first.path}, {_grid(first)}, got {_grid(other)}"
            + (f", {apart:.3g} mm apart" if first.shape == other.shape else "")
            + "; several image columns become channels of one image: register and resample them to one grid first"
        )


def _grid(info: VolumeInfo) -> str:
    spacing = " x ".join(f"{length:.4g}" for length in info.spacing)
    return f"{' x '.join(map(str, info.shape))} voxels ({info.orientation}, {spacing} mm)"
