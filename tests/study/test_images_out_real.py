"""Images out on small real data: the shapes of AdrenalMNIST3D, brains of ds002748."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from fusionconv.study import Study

DATA = os.environ.get("FUSIONCONV_TEST_DATA")
needs = pytest.mark.skipif(
    not DATA, reason="needs the folder of real data with adrenalmnist3d.npz in the variable FUSIONCONV_TEST_DATA"
)
AFFINE = np.diag([-2.0, 2, 2, 1])
NETWORK = {"network": "monai:UNet", "network_options": {"channels": [4, 8], "strides": [2], "num_res_units": 0}}


def write(path, voxels):
    nib.save(nib.Nifti1Image(voxels, AFFINE), path)


@needs
def test_glands_out_of_noise(tmp_path):
    """Adrenal glands as masks, their noisy copies as images: Dice of the kept masks is what the tables say."""
    glands = np.load(Path(DATA) / "adrenalmnist3d.npz")["test_images"][:16] > 0
    draw = np.random.default_rng(0)
    for n, gland in enumerate(glands):
        write(tmp_path / f"g{n:02d}.nii.gz", (gland + draw.normal(0, 0.3, gland.shape)).astype(np.float32))
        write(tmp_path / f"m{n:02d}.nii.gz", gland.astype(np.uint8))
    table = {"file": [f"g{n:02d}.nii.gz" for n in range(16)], "mask": [f"m{n:02d}.nii.gz" for n in range(16)],
             "volume": glands.sum((1, 2, 3)) / 1000}  # fmt: skip
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    study = Study(
        table=str(tmp_path / "t.csv"), image_column="file", target="mask", task="segmentation", covariates="volume",
        dims=3, image_size=28, epochs=8, batch_size=2, lr=1e-2, folds=1, test_size=0.3, controls=0, resamples=100,
        keep_images=True, **NETWORK,
    )  # fmt: skip
    study.compare(["hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    found = {}
    for path in (tmp_path / "out/runs/hybrid-first").glob("*/images/*.nii.gz"):
        answer, true = np.asarray(nib.load(path).dataobj) > 0, glands[int(path.name[1:3])]
        found[path.name] = 2 * (answer & true).sum() / (answer.sum() + true.sum())
    assert len(found) >= 4
    subjects = pd.read_csv(tmp_path / "out/subjects.csv")
    np.testing.assert_allclose(sorted(subjects["dice"]), sorted(found.values()), atol=1e-6)
    assert np.mean(list(found.values())) > 0.6


@needs
def test_brains_out_of_blur(tmp_path):
    """Blurred brains of several widths, restored: PSNR of the kept volumes, which have 0 to 1 as the scaled targets."""
    file = Path(DATA) / "ds002748_96x96x60_uint8.npz"
    if not file.is_file():
        pytest.skip(f"needs {file.name} in the folder of FUSIONCONV_TEST_DATA")
    brains = np.load(file)["image"][:12, 24:72:2, 24:72:2, 16:48:2] / np.float32(255)
    widths = np.linspace(0.6, 1.6, 12)
    for n, (brain, width) in enumerate(zip(brains, widths, strict=True)):
        write(tmp_path / f"b{n:02d}.nii.gz", gaussian_filter(brain, width).astype(np.float32))
        write(tmp_path / f"t{n:02d}.nii.gz", brain)
    table = {"file": [f"b{n:02d}.nii.gz" for n in range(12)], "sharp": [f"t{n:02d}.nii.gz" for n in range(12)],
             "width": widths}  # fmt: skip
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    study = Study(
        table=str(tmp_path / "t.csv"), image_column="file", target="sharp", task="restoration", covariates="width",
        dims=3, image_size=[24, 24, 16], percentiles=[0, 100], epochs=4, batch_size=2, lr=3e-3, folds=1, test_size=0.4,
        controls=0, resamples=100, keep_images=True, **NETWORK,
    )  # fmt: skip
    study.compare(["hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    subjects = pd.read_csv(tmp_path / "out/subjects.csv").set_index("subject")
    kept = sorted((tmp_path / "out/runs/hybrid-first").glob("*/images/*.nii.gz"))
    assert len(kept) >= 4
    for path in kept:
        true = brains[int(path.name[1:3])]
        error = np.square(nib.load(path).get_fdata() - (true - true.min()) / np.ptp(true)).mean()
        assert subjects["psnr"][path.name] == pytest.approx(10 * np.log10(1 / error), abs=2e-3)
