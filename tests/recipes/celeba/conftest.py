"""A CelebA folder of noise images in the official layout, a VGG16 of the same 13 layers but few channels, and runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionconv.tabular import CELEBA_ATTRIBUTES

TINY = [4, 4, "M", 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
SMALL = [
    "--data.image_size=32",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--model.weights=none",
    "--model.classifier_width=16",
    "--trainer.log_every_n_steps=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
]


def write_celeba(root: Path, num_train: int = 24, num_valid: int = 8, num_test: int = 8, size: int = 32) -> Path:
    """``root/celeba`` as the official download lays it out: CRLF tables, -1/1, runs of spaces. Images of two sizes."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    rng = np.random.default_rng(0)
    count = num_train + num_valid + num_test
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    values = rng.choice([-1, 1], (count, 40))
    for i, name in enumerate(names):
        pixels = rng.integers(0, 256, (size + 4 * (i % 2), size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "img_align_celeba" / name)
    rows = [name + "".join(f" {value:2d}" for value in row) for name, row in zip(names, values, strict=True)]
    lines = [str(count), " ".join(CELEBA_ATTRIBUTES) + " ", *rows]
    (folder / "list_attr_celeba.txt").write_bytes("".join(line + "\r\n" for line in lines).encode())
    codes = [0] * num_train + [1] * num_valid + [2] * num_test
    partition = "".join(f"{name} {code}\r\n" for name, code in zip(names, codes, strict=True))
    (folder / "list_eval_partition.txt").write_bytes(partition.encode())
    return root


@pytest.fixture(scope="session")
def celeba(tmp_path_factory):
    """A whole folder: 24 train, 8 valid, 8 test. Read only."""
    return write_celeba(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def tiny_vgg():
    """Few channels in the whole session's networks (a test that wants the real one sets cfgs back)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.celeba.arms.cfgs", {"D": TINY})
        yield


@pytest.fixture
def real_vgg(monkeypatch):
    from torchvision.models.vgg import cfgs

    monkeypatch.setattr("recipes.celeba.arms.cfgs", cfgs)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, celeba, tiny_vgg):
    """root_dir with the runs `plain` and `hybrid`, fitted for one epoch and tested. Tests that change it copy it."""
    from recipes.celeba.__main__ import main

    root = tmp_path_factory.mktemp("runs")
    for arm in ("plain", "hybrid"):
        where = [f"--root_dir={root}", f"--experiment={arm}"]
        main(["fit", f"--data.root={celeba}", f"--model.arm={arm}", "--data.covariates=[Male,Young]", *where, *SMALL])
        main(["test", *where])
    return root
