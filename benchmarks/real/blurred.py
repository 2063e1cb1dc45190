"""Brain slices with known blur and noise: degraded and clean images, a table, and the Wiener filter that knows all.

    python -m benchmarks.real.blurred --table study.csv --volumes volumes --out slices

TABLE is OASIS-1's with a column ``file``; the first visit of each person is taken. Two axial slices a person are
blurred by an anisotropic Gaussian at an angle (in the frequency domain, periodic, on the whole slice, whose border is
empty), white noise is added, and the middle 64 x 64 pixels are kept as float32 TIFF. slices/table.csv has for each
row what the acquisition tells (``width_1``, ``width_2`` in pixels, ``cos``, ``sin`` of twice the angle, ``noise``,
and five products), its person, its part of the split by person, whether its blur is wider than any in training
(``blur``: seen or unseen), and the PSNR of the degraded image and of the Wiener filter that knows blur, noise and the
mean power spectrum of the training slices.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

__all__ = ["COVARIATES", "degrade", "psnr", "transfer", "wiener"]

COVARIATES = ("width_1", "width_2", "cos", "sin", "noise", "widths", "along_cos", "along_sin", "noise_1", "noise_2")
WIDTHS = {"seen": (0.5, 2.5), "unseen": (2.5, 3.5)}  # pixels of 2 mm; the other width: 0.3 to 1
NOISE = (0.01, 0.08)
SLICES = (40, 50)
SIDE = 64


def transfer(shape: tuple[int, int], width_1: float, width_2: float, angle: float) -> np.ndarray:
    """What a Gaussian of two widths (pixels), turned by ``angle``, does to each frequency of an image; real, (H, W)."""
    y, x = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), indexing="ij")
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    return np.asarray(np.exp(-2 * np.pi**2 * ((width_1 * along) ** 2 + (width_2 * across) ** 2)))


def degrade(clean: np.ndarray, blur: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    """Blur and white noise of standard deviation ``noise``."""
    return np.asarray(np.fft.ifft2(np.fft.fft2(clean) * blur).real + draw.normal(0, noise, clean.shape))


def wiener(image: np.ndarray, blur: np.ndarray, noise: float, power: np.ndarray, mean: float) -> np.ndarray:
    """The linear filter of least squared error for images of this mean and power spectrum (of ``fft2``)."""
    gain = blur * power / (blur**2 * power + noise**2 * image.size)
    return np.asarray(np.fft.ifft2(np.fft.fft2(image - mean) * gain).real + mean)


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    """In dB, of images from 0 to 1."""
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


def middle(image: np.ndarray) -> np.ndarray:
    """The middle 64 x 64 pixels."""
    top, left = ((side - SIDE) // 2 for side in image.shape)
    return image[top : top + SIDE, left : left + SIDE]


def read_slices(table: Path, volumes: Path, limit: int | None) -> list[tuple[str, int, np.ndarray]]:
    """(person, number of the slice, slice from 0 to 1) of each first visit."""
    visits: Any = pd.read_csv(table)
    visits = visits[visits["ID"].str.endswith("MR1") & visits["file"].notna()].head(limit or len(visits))
    found = []
    for person, file in tqdm(list(zip(visits["ID"], visits["file"], strict=True)), desc="volumes", unit="person"):
        values = np.squeeze(np.asarray(nib.load(volumes / file).dataobj, dtype=np.float64))  # type: ignore[attr-defined]
        values = (values / np.percentile(values, 99.8)).clip(0, 1)
        found += [(str(person), number, values[:, :, number]) for number in SLICES]
    return found


def main(words: list[str] | None = None) -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--volumes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="so many people")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    slices = read_slices(given.table, given.volumes, given.limit)
    draw = np.random.default_rng(given.seed)
    people = draw.permutation(sorted({person for person, _, _ in slices}))
    ends = [round(share * len(people)) for share in (0.6, 0.75)]
    part = {person: ("train", "val", "test")[sum(n >= end for end in ends)] for n, person in enumerate(people)}
    train = np.stack([image for person, _, image in slices if part[person] == "train"])
    mean = float(train.mean())
    power = (np.abs(np.fft.fft2(train - mean)) ** 2).mean(0)
    (given.out / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for person, number, clean in tqdm(slices, desc="slices", unit="slice"):
        for blur in ("seen", "unseen") if part[person] == "test" else ("seen",):
            wide, narrow = draw.uniform(*WIDTHS[blur]), draw.uniform(0.3, 1)
            angle, noise = draw.uniform(0, np.pi), draw.uniform(*NOISE)
            seen_as = transfer(clean.shape, wide, narrow, angle)
            image = degrade(clean, seen_as, noise, draw)
            name = f"{person}_{number}_{blur}"
            for kind, pixels in (("degraded", image), ("clean", clean)):
                Image.fromarray(middle(pixels).astype(np.float32)).save(given.out / "images" / f"{name}_{kind}.tif")
            along = wide**2 - narrow**2
            told = (wide, narrow, np.cos(2 * angle), np.sin(2 * angle), noise, wide * narrow, along * np.cos(2 * angle),
                    along * np.sin(2 * angle), noise * wide, noise * narrow)  # fmt: skip
            rows.append({
                "degraded": f"{name}_degraded.tif", "clean": f"{name}_clean.tif", "person": person,
                "split": part[person], "blur": blur, **dict(zip(COVARIATES, told, strict=True)),
                "psnr_degraded": psnr(middle(image), middle(clean)),
                "psnr_wiener": psnr(middle(wiener(image, seen_as, noise, power, mean)), middle(clean)),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(given.out / "table.csv", index=False)
    print(table.groupby(["split", "blur"])[["psnr_degraded", "psnr_wiener"]].agg(["mean", "count"]).round(2))


if __name__ == "__main__":
    main()
