"""Crops of photographs with real camera noise, and a table with the ISO and the camera of each.

    python -m benchmarks.real.crops --table polyu.csv --pairs pairs --out crops

The 100 pairs of the PolyU set (Xu et al. 2018): one shot, and the mean of hundreds of shots of the same scene. Of
each pair eight crops of 64 x 64 pixels are taken, on a grid, as PNG. crops/table.csv: ``noisy``, ``clean``, ``scene``
(29 of them, each of one camera and one ISO; split by it), ``camera``, ``log2_iso``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.real.blurred import psnr

__all__ = ["main"]

SIDE = 64
PLACES = [(y, x) for y in (64, 384) for x in (32, 160, 288, 416)]


def main(words: list[str] | None = None) -> None:
    """Write the crops and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    (given.out / "images").mkdir(parents=True, exist_ok=True)
    rows, noise = [], dict[str, list[float]]()
    for pair in pd.read_csv(given.table).itertuples():
        crops: dict[tuple[str, int], Image.Image] = {}
        for kind, written in (("real", "noisy"), ("mean", "clean")):
            image = Image.open(given.pairs / f"{pair.name}_{kind}.JPG").convert("RGB")
            for n, (y, x) in enumerate(PLACES):
                crops[written, n] = image.crop((x, y, x + SIDE, y + SIDE))
                crops[written, n].save(given.out / "images" / f"{pair.name}_{n}_{written}.png")
        for n in range(len(PLACES)):
            names = {kind: f"{pair.name}_{n}_{kind}.png" for kind in ("noisy", "clean")}
            told = {"scene": pair.scene, "camera": pair.camera, "log2_iso": float(np.log2(pair.iso))}
            rows.append({**names, **told})
            noisy, clean = (np.asarray(crops[kind, n], float) / 255 for kind in names)
            noise.setdefault(pair.scene, []).append(psnr(noisy, clean))
    pd.DataFrame(rows).to_csv(given.out / "table.csv", index=False)
    level = np.mean([np.mean(found) for found in noise.values()])
    print(f"{given.out}: {len(rows)} crops; PSNR of the noisy ones {level:.1f} dB (mean over scenes)")


if __name__ == "__main__":
    main()
