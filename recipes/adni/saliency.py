"""A map in prepared space, back in the space of the subject's own file: the preparation undone by MONAI's inverses."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np

from fusionconv.study.volumes import VolumeError
from recipes.adni.preparation import Preparation


def in_subject_space(
    saliency: np.ndarray, image: str | Path, preparation: Preparation
) -> tuple[np.ndarray, np.ndarray]:
    """The map on the voxels of ``image``, and that file's affine.

    Cropping, padding, resampling (trilinear) and reorientation are undone one after the other; what the preparation had
    cropped away is zero.

    Args:
        saliency: (*preparation.size), one value for each prepared voxel.
        image: the file that was prepared.
        preparation: how.

    Raises:
        VolumeError: the way back does not end at the file's shape and affine.
    """
    import nibabel as nib
    import torch
    from monai.data import MetaTensor

    steps = preparation.transforms()
    prepared = steps({"image": str(image)})["image"]
    if prepared.shape[1:] != saliency.shape:
        raise VolumeError(f"{image}: expected a map of {tuple(prepared.shape[1:])} voxels, came {saliency.shape}.")
    marked = MetaTensor(
        torch.as_tensor(np.ascontiguousarray(saliency, dtype=np.float32))[None],
        meta=copy.deepcopy(prepared.meta),
        applied_operations=copy.deepcopy(prepared.applied_operations),
    )
    back = steps.inverse({"image": marked})["image"]
    file = nib.load(image)
    shape = file.shape[:3]
    if tuple(back.shape[1:]) != shape or not np.allclose(back.affine.numpy(), file.affine, atol=1e-3):
        raise VolumeError(
            f"{image}: the map came back with shape {tuple(back.shape[1:])} instead of {shape}, or with another "
            "affine; it is not written. MONAI cannot undo this preparation."
        )
    return back[0].as_tensor().numpy(), np.asarray(file.affine)


def save_in_subject_space(saliency: np.ndarray, image: str | Path, preparation: Preparation, out: Path) -> Path:
    """Write the map as NIfTI (float32) with the shape and affine of ``image``, to be laid over it in any viewer."""
    import nibabel as nib

    data, affine = in_subject_space(saliency, image, preparation)
    written = nib.Nifti1Image(data.astype(np.float32), affine)
    written.header.set_xyzt_units("mm")
    out.parent.mkdir(parents=True, exist_ok=True)
    nib.save(written, out)
    return out
