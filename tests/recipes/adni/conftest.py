"""Tiny studies on disk: volumes of 16 to 20 voxels a side, written as NIfTI in each layout that the recipe reads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from recipes.adni.__main__ import main

SHAPE = (16, 18, 16)
# What makes a run on these volumes quick; goes behind every command.
TINY = [
    "--spacing", "2", "2", "2", "--image-size", "16", "--augment", "none", "--batch-size", "8", "--epochs", "1", "--lr", "1e-2",
    "--network", "fusionconv:small_resnet", "--network-options", "base=2", "--repeats", "1", "--folds", "2", "--controls", "2",
    "--resamples", "100", "--trainer.accelerator", "cpu",
]  # fmt: skip


def write_volume(path: Path, value: float = 0.5, seed: int = 0, affine: np.ndarray | None = None, shape=SHAPE) -> Path:
    """Noise around a ball whose brightness is ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    data = value * ((grid**2).sum(0) < 0.5) + 0.05 * rng.random(shape)
    nib.save(
        nib.Nifti1Image(data.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine), path
    )
    return path


def subjects(count: int, seed: int = 0) -> pd.DataFrame:
    """Rows with age, sex, education and a diagnosis that is half of each."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.uniform(60, 90, count).round(1),
            "sex": rng.choice(["F", "M"], count),
            "education": rng.integers(8, 21, count),
            "diagnosis": np.where(np.arange(count) % 2, "AD", "CN"),
        }
    )


def write_bids(root: Path, count: int = 24, seed: int = 6) -> pd.DataFrame:
    """A BIDS folder; the ball is brighter in AD."""
    rows = subjects(count, seed)
    rows.insert(0, "participant_id", [f"sub-{i:03d}" for i in range(count)])
    root.mkdir(parents=True, exist_ok=True)
    rows.to_csv(root / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    for i, row in rows.iterrows():
        value = 0.4 + 0.4 * (row["diagnosis"] == "AD")
        name = row["participant_id"]
        write_volume(root / name / "anat" / f"{name}_T1w.nii.gz", value, seed=int(i))
    return rows


@pytest.fixture(scope="session")
def bids(tmp_path_factory) -> Path:
    """A BIDS folder of 24 subjects, for tests that change nothing in it."""
    root = tmp_path_factory.mktemp("bids")
    write_bids(root)
    return root


@pytest.fixture(scope="session")
def arguments(bids, tmp_path_factory) -> list[str]:
    """Options of a command on ``bids``; the cache is shared, --out is to be given."""
    cache = tmp_path_factory.mktemp("cache")
    return ["--config", "recipes/adni/configs/bids-ad-cn.yaml", "--images", str(bids), "--cache", str(cache), *TINY]


@pytest.fixture(scope="session")
def finished(arguments, tmp_path_factory) -> Path:
    """The folder of a crossval: image, covariates and hybrid on two folds; for tests that change nothing in it."""
    out = tmp_path_factory.mktemp("finished") / "out"
    assert main(["crossval", *arguments, "--arms", "image", "covariates", "hybrid@first", "--out", str(out)]) == 0
    return out
