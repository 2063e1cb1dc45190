"""Tiny studies on disk: volumes of 16 to 20 voxels a side, written as NIfTI in each layout that the recipe reads."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.helpers.brains import crossval_arguments, write_brains

SHAPE = (16, 18, 16)
# What makes a run on these volumes quick; goes behind every command.
TINY = [
    "--data.preparation.spacing", "null", "--data.preparation.size", "[16, 16, 16]", "--data.preparation.percentiles", "null",
    "--data.augment", "none", "--data.prepare_workers", "0", "--data.batch_size", "8",
    "--model.network", "small_resnet", "--model.network_options", "{base: 2}",
    "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--trainer.devices", "1",
    "--trainer.enable_progress_bar", "false",
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


def write_bids(root: Path, count: int = 24, seed: int = 0) -> pd.DataFrame:
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


@pytest.fixture
def arguments(bids, tmp_path) -> list[str]:
    """Options of a command on ``bids``, everything written under tmp_path."""
    return [
        "--config", "recipes/adni/configs/bids-ad-cn.yaml", "--data.source.images", str(bids),
        "--root_dir", str(tmp_path / "runs"), "--data.cache", str(tmp_path / "cache"), *TINY,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """(images folder, table, run folder) of a crossval with --keep_checkpoints: image, covariates and hybrid, two folds."""
    from recipes.adni.crossval import main

    root = tmp_path_factory.mktemp("kept")
    table = write_brains(root / "images", 20)
    arms = {"image": {"arm": "image"}, "covariates": {"arm": "covariates"}, "hybrid": {"arm": "hybrid"}}
    more = ["--keep_checkpoints", f"--arms={json.dumps(arms)}"]
    main(crossval_arguments(root / "images", root, "run", "classification", *more))
    return root / "images", table, root / "run"
