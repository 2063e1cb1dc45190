"""A small study on the disk: forty pictures of 16 x 16, a table with holes and a rare category, a tiny network."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

NETWORK = "tests.study.tiny:network"


def write_pictures(folder, count=40, seed=0):
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    bright = draw.integers(0, 2, count)
    for n in range(count):
        pixels = np.clip(draw.normal(90 + 60 * bright[n], 25, (16, 16)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{n:02d}.png")
    age = draw.normal(60, 10, count).round(1)
    frame = pd.DataFrame({
        "file": [f"p{n:02d}.png" for n in range(count)],
        "patient": [f"s{n // 2:02d}" for n in range(count)],
        "dx": np.where(bright, "ill", "well"),
        "age": np.where(np.arange(count) == 7, np.nan, age),
        "site": np.array(["A", "B", "C"])[np.r_[2, draw.integers(0, 2, count - 1)]],  # C: one row only
        "score": 10 * bright + 0.1 * age,
        "months": draw.integers(1, 60, count).astype(float),
        "event": draw.integers(0, 2, count),
    })  # fmt: skip
    frame.to_csv(folder.parent / "t.csv", index=False)
    return frame


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The settings of the study, whose files are shared by all tests that do not change them."""
    folder = tmp_path_factory.mktemp("small")
    write_pictures(folder / "images")
    return {
        "table": str(folder / "t.csv"), "images": str(folder / "images"), "image_column": "file", "subject": "patient",
        "target": "dx", "covariates": ["age", "site"], "network": NETWORK, "image_size": 16, "epochs": 2, "batch_size": 8,
        "folds": 2, "controls": 2, "resamples": 100, "cache": str(folder / "cache"),
    }  # fmt: skip
