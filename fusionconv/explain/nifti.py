"""Maps of volumes as NIfTI files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fusionconv.errors import ExplainError

__all__ = ["write_maps", "write_nifti"]


def write_maps(maps: Tensor, folder: str | Path, affine: Any, names: Sequence[str]) -> list[Path]:
    """Maps (N, C, x, y, z), summed over C, each in a file."""
    if maps.ndim != 5:
        raise ExplainError(
            f"expected maps of volumes, (N, C, x, y, z), got {tuple(maps.shape)}; NIfTI is for 3-D images"
        )
    affines = np.asarray(affine, dtype=np.float64)
    if affines.shape not in ((4, 4), (len(maps), 4, 4)):
        raise ExplainError(f"affine: expected (4, 4) or ({len(maps)}, 4, 4), got {affines.shape}")
    if len(names) != len(maps) or len(set(names)) < len(names):
        raise ExplainError(f"names: expected {len(maps)} different ones, one for each row, got {list(names)}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    each = affines if affines.ndim == 3 else [affines] * len(maps)
    return [
        write_nifti(Path(folder) / name, one.sum(0).float().numpy(), own)
        for name, one, own in zip(names, maps, each, strict=True)
    ]


def write_nifti(path: Path, values: Any, affine: Any) -> Path:
    """An array (x, y, z), or (x, y, z, several), in millimetres; returns the path, which ends in .nii.gz."""
    import nibabel as nib

    path = path if path.name.endswith(".nii.gz") else path.with_name(f"{path.name}.nii.gz")
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path
