"""The command robustness: accuracy against the images' rotation, and with their pixels shuffled."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf
from tqdm import tqdm

from fusionconv.evaluation import wilson
from recipes.celeba.balance import mean_majority_accuracy
from recipes.celeba.data import CelebAData
from recipes.celeba.images import prepare, to_device
from recipes.celeba.trained import open_study
from recipes.common.figures import COLOURS, FAINT, STYLE, blank, save
from recipes.common.runs import RunError


def robustness(argv: list[str]) -> None:
    """Turn the images of a split by 0 to 360 degrees, and shuffle their pixels, and see what is left of the accuracy.

    Rotation: counterclockwise about the centre, bilinear, corners grey (0 after normalisation). Shuffled: each image's
    pixels in a random order of its own, so that colours stay and shapes are gone: what is right then comes from
    colours, from the covariates, or from the answers' frequencies.
    """
    parser = argparse.ArgumentParser(prog="python -m recipes.celeba robustness", description=robustness.__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a file of a run's checkpoints/ folder")
    parser.add_argument("--root", required=True, help="folder that holds celeba/")
    parser.add_argument("--out", type=Path, required=True, help="folder for robustness.csv and robustness.png")
    parser.add_argument("--split", choices=["valid", "test"], help="the default is test; valid for mode as_published")
    parser.add_argument("--step", type=float, default=15, help="degrees from one angle to the next")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_workers", type=int, default=min(4, os.cpu_count() or 1), help="processes that decode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the default is cuda where there is one")
    parser.add_argument("--overwrite", action="store_true", help="write over an earlier curve in --out")
    options = parser.parse_args(argv)
    if not 0 < options.step <= 360:
        raise RunError(f"--step: expected degrees above 0 and up to 360, came {options.step:g}.")
    if (options.out / "robustness.csv").exists() and not options.overwrite:
        raise RunError(f"{options.out} holds a robustness.csv already. Give another --out, or --overwrite.")

    study, note = open_study(options.checkpoint, options.device)
    split = options.split or ("valid" if note["mode"] == "as_published" else "test")
    if split == "test" and note["mode"] == "as_published":
        raise RunError("mode as_published leaves the test split alone, as the study did: --split valid.")
    if split == "valid" and note.get("fold") is not None:
        raise RunError("this network of a crossval was trained on official validation images too: --split test.")
    data = CelebAData(
        options.root, study.targets, note["covariates"], study.hparams.image_size,
        limit=options.limit, constant=note.get("constant"),
    )  # fmt: skip
    data.encoder = study.encoder
    data.setup({"valid": "validate", "test": "test"}[split])

    degrees = [options.step * i for i in range(math.floor(360 / options.step + 1e-9) + 1)]
    right = dict.fromkeys([*degrees, "shuffled"], 0.0)  # images, or for several attributes their mean share
    count = 0
    generator = torch.Generator().manual_seed(options.seed)
    faces = data.dataset(split)
    loader = DataLoader(faces, options.batch_size, num_workers=options.num_workers, collate_fn=faces.collate)
    for batch in tqdm(loader, desc="robustness", unit="batch"):
        data.on_before_batch_transfer(batch, 0)
        images = prepare(to_device(batch["images"], study.device), study.hparams.image_size, note["mode"])
        covariates, targets = batch["covariates"].to(study.device), batch["targets"].to(study.device)
        for condition in right:
            shown = shuffle_pixels(images, generator) if condition == "shuffled" else rotate(images, condition)
            with torch.inference_mode():
                outputs = study(shown, covariates)
            if not torch.isfinite(outputs).all():
                raise RunError("the network's answer is not a number: take another checkpoint of the run.")
            right[condition] += float(study.objective.right(outputs, targets).mean(1).sum())
        count += len(targets)

    table = as_table(right, count, single=len(study.targets) == 1)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "robustness.csv", index=False, float_format="%.6g")
    majority = mean_majority_accuracy(data.frames[split], study.targets)
    draw(table, majority, f"{options.checkpoint.name}, {count:,d} {split} images", options.out / "robustness.png")
    upright, shuffled = table["accuracy"].iloc[0], table["accuracy"].iloc[-1]
    lowest = table.iloc[:-1].sort_values("accuracy").iloc[0]
    print(
        f"accuracy upright {upright:.4f}; lowest {lowest['accuracy']:.4f}, at {lowest['degrees']:g} degrees; pixels "
        f"shuffled {shuffled:.4f}; always the more common answer {majority:.4f}\n"
        f"wrote robustness.csv and robustness.png to {options.out}"
    )


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Prepared images (N, 3, S, S), turned counterclockwise about their centre; what comes in at the corners is 0."""
    return images if degrees % 360 == 0 else tvf.rotate(images, degrees, InterpolationMode.BILINEAR)


def shuffle_pixels(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), each with its pixels in a random order of its own; a pixel's channels stay together."""
    pixels = images.flatten(2)
    order = torch.rand(len(images), 1, pixels.shape[2], generator=generator).argsort(2).to(images.device)
    return pixels.gather(2, order.expand_as(pixels)).view_as(images)


def as_table(right: dict[float | str, float], count: int, single: bool) -> pd.DataFrame:
    """condition, degrees, images, accuracy, low, high: Wilson's 95 % interval, for one attribute only."""
    rows = []
    for condition, hits in right.items():
        interval = wilson(round(hits), count) if single else None
        rows.append(
            {
                "condition": "shuffled" if condition == "shuffled" else "rotation",
                "degrees": math.nan if condition == "shuffled" else condition,
                "images": count,
                "accuracy": hits / count,
                "low": interval.low if interval else math.nan,
                "high": interval.high if interval else math.nan,
            }
        )
    return pd.DataFrame(rows)


@mpl.rc_context(STYLE)
def draw(table: pd.DataFrame, majority: float, title: str, path: Path) -> None:
    """The curve with its intervals, the line of shuffled pixels and that of the more common answer."""
    figure = blank(6.5, 3.8)
    axes = figure.subplots()
    curve = table[table["condition"] == "rotation"]
    axes.fill_between(curve["degrees"], curve["low"], curve["high"], color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(curve["degrees"], curve["accuracy"], color=COLOURS[0], marker="o", markersize=3.5, label="rotated")
    lines: Sequence[tuple[float, str, str, str]] = (
        (float(table["accuracy"].iloc[-1]), "pixels shuffled", COLOURS[1], "-."),
        (majority, "always the more common answer", COLOURS[6], ":"),
    )
    for height, label, colour, style in lines:
        axes.axhline(height, color=colour, linestyle=style, label=label)
    axes.set(xlabel="rotation (degrees, counterclockwise)", ylabel="accuracy", title=title, xticks=range(0, 361, 45))
    axes.grid(color=FAINT)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)
