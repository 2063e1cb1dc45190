"""Tiny volumes with a table, and a cross-validation of tiny networks on them, for the tests of recipes/adni."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

CONFIG = Path(__file__).parents[2] / "recipes" / "adni" / "configs" / "default.yaml"
SIZE = (18, 20, 16)  # voxels of a file; prepared volumes have 16 each way
AFFINE = np.array([[-2.0, 0, 0, 17], [0, 2, 0, -19], [0, 0, 2, -15], [0, 0, 0, 1]])  # LAS, 2 mm
TASKS = {
    "classification": {"kind": "classification", "classes": {"CN": "dx == 'CN'", "AD": "dx == 'AD'"}},
    "three": {"kind": "classification", "classes": {"CN": "group == 'a'", "MCI": "group == 'b'", "AD": "group == 'c'"}},
    "regression": {"kind": "regression", "target": "score"},
    "survival": {"kind": "survival", "time": "years", "event": "died"},
}


def write_brains(folder, subjects=24, seed=0):
    """Volumes with a bright cube whose brightness follows the class, and table.csv beside them; returns the table."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(subjects):
        ill = i % 2
        data = random.normal(100, 5, SIZE).astype(np.float32)
        data[4:9, 5:10, 4:9] += 60 * ill + random.normal(0, 10)
        nib.save(nib.Nifti1Image(data, AFFINE), folder / f"sub-{i:03d}.nii.gz")
        rows.append({
            "subject": f"sub-{i:03d}", "session": "1", "image": f"sub-{i:03d}.nii.gz", "dx": ("CN", "AD")[ill],
            "group": "abc"[i % 3], "age": 60 + (7 * i) % 25 + 0.5, "sex": "FM"[(i // 2) % 2],
            "score": 50.0 + 10 * ill + i % 5, "years": 1.0 + (5 * i) % 11 - 0.5 * ill, "died": int(i % 4 != 0),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(folder / "table.csv", index=False)
    return table


def crossval_arguments(images, root, experiment, task="classification", *extra, repeats=1, folds=2, epochs=1):
    """The command line of a cross-validation of seconds."""
    options = {
        "experiment": experiment, "root_dir": str(root), "controls": "2",
        "data.source": {"kind": "table", "table": str(images / "table.csv"), "images": str(images), "options": {"session": "session"}},
        "data.task": TASKS[task], "data.covariates": ["age", "sex"],
        "data.n_splits": folds, "data.n_repeats": repeats, "data.val_size": 0.0, "data.cache": str(root / "cache"),
        "data.preparation": {"spacing": 2.0, "size": [16, 16, 16], "percentiles": [0.0, 100.0]},
        "data.augment": "none", "data.batch_size": 8, "data.prepare_workers": 0,
        "model.network": "small_resnet", "model.network_options": {"base": 2}, "model.schedule": "constant",
        "trainer.max_epochs": epochs, "trainer.accelerator": "cpu", "trainer.enable_progress_bar": False,
    }  # fmt: skip
    flat = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]
    return [f"--config={CONFIG}", *flat, *extra]
