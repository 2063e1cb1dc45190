"""What the network sees: some training images as decoded, and as they enter the network after augmentation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionconv.study.augment_pairs import augmentation_of
from fusionconv.study.folds import FoldData
from fusionconv.study.forked import forked_rng
from fusionconv.study.image_report import outline
from fusionconv.study.settings import Settings

__all__ = ["draw_inputs", "picture"]


def draw_inputs(path: Path, data: FoldData, settings: Settings) -> None:
    """Write the figure, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    inputs_figure(data, settings).savefig(part, dpi=120, facecolor="white")
    os.replace(part, path)


def inputs_figure(data: FoldData, settings: Settings, images: int = 6, draws: int = 3) -> Any:
    """The first training images: a row as decoded, then rows as they enter the network in several epochs.

    Of a volume the middle slice along its third axis is shown, of several image columns the first. What enters the
    network is shown on the scale of its own smallest and largest value, which stand above it.
    """
    from matplotlib.figure import Figure

    assert data.store is not None
    ids = list(data.tables["train"].ids)[:images]
    augment = augmentation_of(settings.augment, data)
    with forked_rng():
        torch.manual_seed(settings.seed)
        draws = 1 if augment is None else draws
        batches = [data.batch("train", ids, augment) for _ in range(draws)]
        seen = [batch["image"] for batch in batches]
    height, width = picture(seen[0][0], data.store.options.channels).shape[:2]
    figure = Figure(
        figsize=(1.6 * len(ids) + 0.5, (1.6 * height / width + 0.2) * (draws + 1) + 0.2), layout="constrained"
    )
    panels = figure.subplots(draws + 1, len(ids), squeeze=False)
    titles = ["decoded", *(f"entering\nthe network{f', {n + 1}' if draws > 1 else ''}" for n in range(draws))]
    masks: list[Any] = [None] * (draws + 1)
    if data.target_store is not None and data.target_store.labels:
        masks = [data.target_store.read(ids), *(batch["target"] for batch in batches)]
    for line, title, batch, mask in zip(panels, titles, [data.store.read(ids), *seen], masks, strict=True):
        for at, (axes, name, image) in enumerate(zip(line, ids, batch, strict=True)):
            axes.imshow(picture(image, data.store.options.channels), cmap="gray", vmin=0, vmax=1)
            if mask is not None:
                flat = mask[at] if mask.ndim == 4 else mask[at, ..., mask.shape[-1] // 2]
                outline(axes, flat.numpy(), "#ffcc00", mask.ndim == 5)
            axes.set(xticks=[], yticks=[])
            axes.set_title(
                os.path.basename(name)[-20:] if title == "decoded" else f"{image.min():.2g} to {image.max():.2g}",
                fontsize=6,
            )
        line[0].set_ylabel(title, fontsize=8)
    return figure


def picture(image: Tensor, channels: int) -> np.ndarray[Any, Any]:
    """(height, width) or (height, width, 3) from 0 to 1, of an image (C, *size); a volume's middle slice, upright."""
    shown = image[:3] if channels == 3 else image[:1]
    if shown.ndim == 4:
        shown = shown[..., shown.shape[-1] // 2].transpose(1, 2).flip(1)  # x to the right, y upwards
    low, high = shown.min(), shown.max()
    if low < 0 or high > 1:
        shown = (shown - low) / (high - low)
    found: np.ndarray[Any, Any] = shown.permute(1, 2, 0).numpy() if channels == 3 else shown[0].numpy()
    return found
