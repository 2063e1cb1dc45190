"""``fusionconv demo``: a whole study on synthetic images whose best possible rates are known.

Every image may hold fine stripes across and fine stripes along, each with probability 1/2. The scanner, a covariate
that cannot be seen, says which of the two is the disease. So the best accuracy is 1/2 from the covariates, 3/4 from the
image (AUC 7/8) and 1 from both; a model that only adds the two up stays near 3/4.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError

if TYPE_CHECKING:
    from fusionconv.study.comparison import Comparison

__all__ = ["demo", "write_images"]

_SIZE = {2: 32, 3: 20}
_SUBJECTS = {2: 600, 3: 240}
_EPOCHS = {2: 20, 3: 20}


def demo(dims: int = 2, out: str | None = None, seed: int = 0, overwrite: bool = False) -> Comparison:
    """Write images and a table, and compare four arms on them.

    Args:
        dims: 2 or 3.
        out: folder of the study; ``runs/demo-2d`` or ``runs/demo-3d``.
        seed: of images, splits and weights.
        overwrite: throw away an earlier demo.
    """
    from fusionconv.study.study import Study

    if dims not in (2, 3):
        raise StudyError(f"dims: expected 2 or 3, got {dims!r}")
    folder = Path(out or f"runs/demo-{dims}d")
    table = write_images(folder.with_name(folder.name + "-images"), dims, _SUBJECTS[dims], seed)
    study = Study(
        table=str(table), image_column="file", subject="patient", target="disease", positive="yes",
        covariates=["scanner", "age"], dims=dims, image_size=_SIZE[dims], channels=1, percentiles=[],
        network="fusionconv:small_cnn", network_options={"channels": [4, 8, 16], "first_stride": 1},
        epochs=_EPOCHS[dims], batch_size=32, lr=3e-3, folds=3, seed=seed, controls=3,
    )  # fmt: skip
    comparison = study.compare(
        ["image", "covariates", "stacked", "concat", "hybrid@first"], out=folder, overwrite=overwrite
    )
    print("best possible accuracy: .50 covariates, .75 image, 1.00 both")
    print(
        comparison.table.pivot(index="arm", columns="metric", values="mean")[["accuracy", "auc"]].round(3).to_string()
    )
    return comparison


def write_images(folder: Path, dims: int, subjects: int, seed: int) -> Path:
    """Images (PNG, or NIfTI in 3-D) and ``table.csv`` in a folder; what is there already is left. Returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "table.csv"
    draw = np.random.default_rng(seed)
    across, along, scanner = (draw.integers(0, 2, subjects) for _ in range(3))
    frame = pd.DataFrame({
        "file": [f"p{i:04d}.{'png' if dims == 2 else 'nii.gz'}" for i in range(subjects)],
        "patient": [f"p{i:04d}" for i in range(subjects)],
        "scanner": np.array(["A", "B"])[scanner],
        "age": draw.normal(60, 10, subjects).round(1),
        "disease": np.array(["no", "yes"])[np.where(scanner == 0, across, along)],
    })  # fmt: skip
    text = frame.to_csv(index=False)
    if table.is_file() and table.read_text(encoding="utf-8") == text:
        return table
    for at, name in enumerate(frame["file"]):
        _write(folder / name, _image(dims, bool(across[at]), bool(along[at]), draw))
    table.write_text(text, encoding="utf-8")
    return table


def _image(dims: int, across: bool, along: bool, draw: np.random.Generator) -> Any:
    """Smooth background, noise, and the stripes (period of 3 pixels, any phase)."""
    size = (_SIZE[dims],) * dims
    grid = np.meshgrid(*[np.arange(n) for n in size], indexing="ij")
    image = 110 + 25 * np.cos(2 * np.pi * (grid[0] + draw.uniform(0, 40)) / 40) * np.cos(2 * np.pi * grid[-1] / 30)
    for there, axis in ((across, grid[0]), (along, grid[-1])):
        image = image + (22 * np.cos(2 * np.pi * axis / 3 + draw.uniform(0, 2 * np.pi)) if there else 0)
    return np.clip(image + draw.normal(0, 18, size), 1, 255).astype(np.uint8)


def _write(path: Path, image: Any) -> None:
    if image.ndim == 2:
        from PIL import Image

        Image.fromarray(image).save(path)
    else:
        import nibabel as nib

        nib.save(nib.Nifti1Image(image, np.eye(4)), path)
