"""pipeline: where the time of the CelebA recipe's training goes: decoding, loader, resizing, step, all of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from fusionconv.tabular import CovariateEncoder

__all__ = ["measure"]

SETTINGS = {"cpu": (64, 8, 64), "cuda": (224, 256, 4096)}  # image size, batch, images in a pass


def measure(device: torch.device, quick: bool = False, budget: float = 0.0) -> Iterator[dict[str, Any]]:
    """A record for each part: images a second. JPEGs of CelebA's size (178 x 218) are drawn into a temporary folder."""
    from recipes.celeba.arms import build_network
    from recipes.celeba.images import FaceImages, decode, prepare, rows_by_file

    size, batch_size, count = SETTINGS[device.type]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(16, cores)
    with tempfile.TemporaryDirectory() as folder:
        files = _draw(Path(folder), count if not quick else 64)
        male = np.random.default_rng(0).integers(0, 2, len(files))
        rows = pd.DataFrame({"Male": male, "target": np.arange(len(files)) % 2}, index=files)
        table = rows_by_file(rows, CovariateEncoder(["Male"]).fit(rows))
        images = FaceImages(Path(folder), table, rows[["target"]])

        def loader() -> DataLoader[Any]:
            return DataLoader(
                images, batch_size, num_workers=workers, collate_fn=images.collate, pin_memory=device.type == "cuda",
                drop_last=True,
            )  # fmt: skip

        batch = images.collate([images[i] for i in range(batch_size)])
        raw, s, target = batch["images"].to(device), batch["covariates"].to(device), batch["targets"].to(device)
        steps = {}
        for arm in ("plain", "hybrid"):
            torch.manual_seed(0)
            network: Any = build_network(arm, weights="none", classifier_width=512).to(device).train()
            if device.type == "cuda":
                network = network.to(memory_format=torch.channels_last)
            steps[arm] = _step(network, size, prepare, arm == "hybrid")

        def epoch(arm: str) -> Callable[[], int]:
            def run() -> int:
                seen = 0
                for batch in loader():
                    moved = (batch[key].to(device, non_blocking=True) for key in ("images", "covariates", "targets"))
                    steps[arm](*moved)
                    seen += len(batch["targets"])
                return seen

            return run

        parts: dict[str, Callable[[], int]] = {
            "decoding, one process": lambda: sum(decode(Path(folder) / file) is not None for file in files[:256]),
            f"loader, {workers} workers": lambda: sum(len(batch["targets"]) for batch in loader()),
            "resizing and normalising, on the device": lambda: len(prepare(raw, size, "corrected")),
            "training step, plain": lambda: steps["plain"](raw, s, target),
            "training step, hybrid (1st convolution)": lambda: steps["hybrid"](raw, s, target),
            "all of it, plain": epoch("plain"),
            "all of it, hybrid (1st convolution)": epoch("hybrid"),
        }
        for name, part in tqdm(parts.items(), desc="pipeline", unit="part"):
            part()  # warm-up
            rates = []
            for _ in range(1 if name.startswith("all") else 3):
                _wait(device)
                begun = time.perf_counter()
                seen = part()
                _wait(device)
                rates.append(seen / (time.perf_counter() - begun))
            yield {
                "part": name, "images_per_second": round(sorted(rates)[len(rates) // 2], 1), "image_size": size,
                "batch": batch_size,
            }  # fmt: skip


def _step(network: Any, size: int, prepare: Callable[..., torch.Tensor], hybrid: bool) -> Callable[..., int]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5, fused=None)

    def step(raw: torch.Tensor, s: torch.Tensor, target: torch.Tensor) -> int:
        x = prepare(raw, size, "corrected")
        if x.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=x.device.type == "cuda"):
            y = network(x, s) if hybrid else network(x)
            loss = torch.nn.functional.cross_entropy(y, target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return len(target)

    return step


def _draw(folder: Path, count: int) -> list[str]:
    """Smooth coloured noise: JPEG files of about a photograph's weight."""
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        files.append(f"{i:06d}.jpg")
        small.resize((178, 218), Image.Resampling.BICUBIC).save(folder / files[-1], quality=90)
    return files


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
