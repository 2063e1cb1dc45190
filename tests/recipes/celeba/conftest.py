"""A CelebA folder of noise images in the official layout, a VGG16 of the same 13 layers but few channels, and a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionconv.tabular import CELEBA_ATTRIBUTES

TINY = [4, 4, "M", 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]
#: what makes a study tiny; the engine's options
SMALL = ["--image-size", "32", "--batch-size", "8", "--weights", "none", "--controls", "1", "--resamples", "100",
         "--trainer.accelerator", "cpu"]  # fmt: skip
TINY_VGG = ["--network", "recipes.celeba.vgg:vgg16_bn", "--network-options", "classifier_width=16"]


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
        patch.setattr("recipes.celeba.vgg.cfgs", {"D": TINY})
        yield


@pytest.fixture
def real_vgg(monkeypatch):
    from torchvision.models.vgg import cfgs

    monkeypatch.setattr("recipes.celeba.vgg.cfgs", cfgs)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, celeba, tiny_vgg):
    """A study of both arms, fitted for one epoch with two covariates. Tests that change it copy it."""
    from recipes.celeba.__main__ import main

    out = tmp_path_factory.mktemp("runs") / "both"
    words = ["--root", str(celeba), "--out", str(out), "--covariates", "Male", "Young", *SMALL, *TINY_VGG]
    assert main(["fit", *words]) == 0
    return out
