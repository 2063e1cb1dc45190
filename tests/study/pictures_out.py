"""Sets of small images with masks: discs in pictures, balls in volumes."""

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image


def disc_pictures(folder, count=16, size=(20, 24), seed=0):
    """Pictures with a bright and a dark disc, masks of 0 and 255, and t.csv; z says which disc is meant."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    y, x = np.mgrid[: size[0], : size[1]]
    lines = []
    for n in range(count):
        left, right = draw.permutation([6.5, 17.0])
        discs = [
            (y - draw.uniform(8, 12)) ** 2 + (x - middle) ** 2 < draw.uniform(3.5, 5) ** 2 for middle in (left, right)
        ]
        z = n // 2 % 2
        mask = discs[z]
        pixels = 110 + 60 * discs[0] - 60.0 * discs[1] + draw.normal(0, 12, size)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"images/p{n:02d}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(folder / f"masks/p{n:02d}.png")
        lines.append({"file": f"p{n:02d}.png", "mask": f"p{n:02d}.png", "patient": f"s{n // 2:02d}", "z": z,
                      "age": draw.normal(60, 8)})  # fmt: skip
    frame = pd.DataFrame(lines)
    frame.to_csv(folder / "t.csv", index=False)
    return frame


def ball_volumes(folder, count=8, size=(18, 16, 14), seed=0, affine=None):
    """Volumes with masks of 0, 1 (a ball) and 2 (its core), each with its own affine, and t.csv."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    lines = []
    for n in range(count):
        centre, radius = draw.uniform(6, 9, 3), draw.uniform(3.5, 5)
        far = np.linalg.norm(grid - centre, axis=-1)
        labels = (far < radius).astype(np.uint8) + (far < radius / 2)
        values = 40 + 80 * (labels > 0) + 60 * (labels > 1) + draw.normal(0, 8, size)
        own = np.diag([-2.0 if n % 2 else 2.0, 1.5, 2.0, 1.0]) if affine is None else affine
        nib.save(nib.Nifti1Image(values.astype(np.float32), own), folder / f"v{n}.nii.gz")
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), own), folder / f"v{n}_mask.nii.gz")
        lines.append({"scan": f"v{n}.nii.gz", "mask": f"v{n}_mask.nii.gz", "age": draw.normal(60, 8)})
    frame = pd.DataFrame(lines)
    frame.to_csv(folder / "t.csv", index=False)
    return frame
