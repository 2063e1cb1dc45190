"""pipeline: what the study engine costs over a bare PyTorch loop that does the same, and what decoding costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

import fusionconv
from benchmarks.speed.timing import compare
from fusionconv.study import Study
from fusionconv.study.arms import parse_arm
from fusionconv.study.folds import FoldData
from fusionconv.study.runs import Run, do_run

__all__ = ["measure"]

SETTINGS = {"cpu": (64, 32, 640, 2), "cuda": (224, 128, 4096, 4)}  # image size, batch, images, epochs


def measure(device: torch.device, quick: bool = False, budget: float = 90.0) -> Iterator[dict[str, Any]]:
    """Records: decoding, then for each arm a whole run of a ResNet-18 by a bare loop and by the engine.

    A run is the training (AdamW, one cycle), a validation pass after each epoch, the best epoch's weights, and a test
    pass. Both sides read decoded images from memory. The engine also checks every batch's ids, logs, writes a
    checkpoint after each epoch, saves the network and writes predictions. JPEGs of 178 x 218 are drawn before.
    """
    size, batch, count, epochs = SETTINGS[device.type]
    count, epochs = (96, 1) if quick else (count, epochs)
    with tempfile.TemporaryDirectory() as folder:
        table = _draw(Path(folder), count)
        study = Study(
            table=str(table), images=folder, image_column="file", target="dx", covariates=["age", "site"],
            network="torchvision:resnet18", image_size=size, epochs=epochs, batch_size=batch, folds=1, controls=0,
            trainer={"accelerator": "gpu" if device.type == "cuda" else "cpu"}, cache=f"{folder}/cache",
        )  # fmt: skip
        begun = time.perf_counter()
        len(study.store.ids)
        yield {"part": "decoding and resizing, one process, once", "image_size": size, "batch": batch,
               "images_per_second": round(count / (time.perf_counter() - begun), 1)}  # fmt: skip
        for word in ("image", "hybrid@first"):
            arm = parse_arm(word)
            data = study.data(arm, str(study.folds.columns[0]))
            trained = epochs * len(data.frames["train"])

            def engine(arm: Any = arm, data: FoldData = data) -> None:
                with tempfile.TemporaryDirectory() as out:
                    run = Run(arm, data.fold, 0, 0, Path(out), {"fold": data.fold})
                    do_run(run, replace(data), study.settings, progress=False)

            ways: dict[str, Callable[[], Any]] = {
                "bare loop": lambda data=data, hybrid=arm.takes_covariates: _bare(data, study, hybrid, device),
                "engine": engine,
            }
            found = compare(ways, "bare loop", device, 0 if quick else budget, (1, 1) if quick else (2, 9))
            for way, timing in found.items():
                yield {
                    "part": f"a run of the arm {word}, {way}", "image_size": size, "batch": batch,
                    "images_per_second": round(trained / timing.seconds, 1), "against_bare": timing.to_dict(),
                }  # fmt: skip


def _bare(data: FoldData, study: Study, hybrid: bool, device: torch.device) -> Tensor:
    """What one would write by hand; images from one array, targets and covariates from tensors."""
    import torchvision

    settings = study.settings
    torch.manual_seed(0)
    network: Any = torchvision.models.resnet18(weights=None, num_classes=1)
    if hybrid:
        fusionconv.fuse_into(network, "first", data.num_covariates)
    network.to(device)
    groups = fusionconv.param_groups(network, settings.lr, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    assert data.store is not None
    place = {name: at for at, name in enumerate(data.store.ids)}
    pixels = torch.from_numpy(np.asarray(data.store.array))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))
    parts = {}
    for part, table in data.tables.items():
        parts[part] = (torch.tensor([place[i] for i in table.ids]), table.covariates,
                       torch.as_tensor(np.asarray(data.targets[part], dtype=np.float32)))  # fmt: skip
    rows = len(parts["train"][0])
    steps = settings.epochs * -(-rows // settings.batch_size)
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.25)

    def logits(part: str, at: Tensor) -> tuple[Tensor, Tensor]:
        places, covariates, targets = parts[part]
        x = ((pixels[places[at]].float() / 255 - mean) / std).to(device)
        y = network(x, covariates[at].to(device)) if hybrid else network(x)
        return y.flatten(), targets[at].to(device).flatten()

    def judge(part: str) -> tuple[float, Tensor]:
        network.eval()
        with torch.no_grad():
            found = [logits(part, at) for at in torch.arange(len(parts[part][0])).split(settings.batch_size)]
        y, target = (torch.cat(one) for one in zip(*found, strict=True))
        return float(F.binary_cross_entropy_with_logits(y, target)), y.sigmoid()

    best, weights = float("inf"), network.state_dict()
    for _ in range(settings.epochs):
        network.train()
        for at in torch.randperm(rows).split(settings.batch_size):
            y, target = logits("train", at)
            loss = F.binary_cross_entropy_with_logits(y, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        value, _ = judge("val")
        if value < best:
            best, weights = value, {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    judge("val")
    return judge("test")[1]


def _draw(folder: Path, count: int) -> Path:
    """Smooth coloured noise: JPEG files of about a photograph's weight, and a table of them."""
    from PIL import Image

    draw = np.random.default_rng(0)
    files = [f"{i:06d}.jpg" for i in range(count)]
    for file in files:
        small = Image.fromarray(draw.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        small.resize((178, 218), Image.Resampling.BICUBIC).save(folder / file, quality=90)
    rows = {"file": files, "dx": draw.integers(0, 2, count), "age": draw.normal(60, 9, count).round(1),
            "site": draw.choice(["A", "B", "C"], count)}  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"
