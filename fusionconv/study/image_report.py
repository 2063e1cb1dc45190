"""Figures of a study whose answers are images: overlays of test images, and every subject's score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.study.figures import arm_colour
from fusionconv.study.tasks import Segmentation, Task

__all__ = ["image_figures", "outline", "upright"]

Array = np.ndarray[Any, Any]
_YELLOW = "#ffd400"  # grey, the image arm's colour elsewhere, cannot be seen on an image


def image_figures(
    out: Path, predictions: pd.DataFrame, task: Task, metric: str, arms: Sequence[str], dims: int
) -> Iterator[tuple[str, Any, str]]:
    """Name, figure and caption of each."""
    true = predictions[predictions["control"] == "true"]
    found = _overlays(out, true, arms)
    if found:
        yield (
            "overlays", overlay_figure(found, true, task, metric, dims),
            "Test images of the first fold. " + (
                "Outlines: the mask (white) and each arm's answer (colour); of volumes the slice with most of the mask."
                if isinstance(task, Segmentation) else
                "The image, its target, each arm's answer, below it answer minus target; of volumes the middle slice."
            ),
        )  # fmt: skip
    yield "subject-scores", subject_figure(true, metric, arms), f"{metric} of every subject; a line is a subject."


def _overlays(out: Path, true: pd.DataFrame, arms: Sequence[str]) -> dict[str, dict[str, Array]]:
    """Arm -> what overlays.npz of its first fold holds."""
    fold = true["fold"].iloc[0]
    found = {}
    for arm in arms:
        path = out / "runs" / arm / str(fold) / "overlays.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as saved:
                found[arm] = {name: saved[name] for name in saved.files}
    return found


def overlay_figure(found: dict[str, dict[str, Array]], true: pd.DataFrame, task: Task, metric: str, dims: int) -> Any:
    """A row for each image: the image, and every arm's answer with its score."""
    from matplotlib.figure import Figure

    turned = dims == 3
    names = [name.removeprefix("image ") for name in next(iter(found.values())) if name.startswith("image ")]
    masks = isinstance(task, Segmentation)
    columns = ["image", *([] if masks else ["target"]), *found]
    lines = len(names) if masks else 2 * len(names)
    first = next(iter(found.values()))
    height, width = upright(first[f"image {names[0]}"], turned).shape
    figure = Figure(figsize=(2.2 * len(columns), 2.2 * height / width * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, len(columns), squeeze=False)
    for axes in panels.ravel():
        axes.set_axis_off()
    scores = true.drop_duplicates(["arm", "id"]).set_index(["arm", "id"])[metric]
    for at, name in enumerate(names):
        line = panels[at if masks else 2 * at]
        image, target = upright(first[f"image {name}"], turned), first[f"target {name}"]
        line[0].imshow(image, cmap="gray")
        line[0].set_title(name[-22:], fontsize=7)
        low, high = float(target.min()), float(target.max())
        if not masks:
            line[1].imshow(upright(target[0], turned), cmap="gray", vmin=low, vmax=high)
            line[1].set_title("target", fontsize=7)
        for column, arm in enumerate(found, start=len(columns) - len(found)):
            answer, axes = found[arm][f"answer {name}"], line[column]
            title = f"{arm}\n{metric} {scores.get((arm, name), np.nan):.3f}"
            axes.set_title(title, fontsize=7)
            if masks:
                axes.imshow(image, cmap="gray")
                outline(axes, target, "white", turned)
                outline(axes, answer, _YELLOW if arm == "image" else arm_colour(arm), turned, dashed=True)
                continue
            axes.imshow(upright(answer[0], turned), cmap="gray", vmin=low, vmax=high)
            error = upright(answer[0] - target[0], turned)
            bound = 0.25 * (high - low) or 1.0
            panels[2 * at + 1][column].imshow(error, cmap="RdBu_r", vmin=-bound, vmax=bound)
    return figure


def outline(axes: Any, picture: Array, colour: str, turned: bool, dashed: bool = False) -> None:
    """The borders of class numbers or masks (T, a, b); ``turned``: of a slice of a volume."""
    for mask in picture:
        for label in np.unique(mask[mask > 0]):
            shown = upright(mask == label, turned).astype(float)
            if shown.any() and not shown.all():
                axes.contour(shown, [0.5], colors=[colour], linewidths=0.9, linestyles="--" if dashed else "-")


def upright(picture: Array, turned: bool = False) -> Array:
    """A slice of a volume with x to the right and y upwards, as the other figures have it; pictures as they are."""
    return picture.T[::-1] if turned else picture


def subject_figure(true: pd.DataFrame, metric: str, arms: Sequence[str], most: int = 200) -> Any:
    """Every subject's mean score, arm by arm, those of one subject joined (at most ``most`` subjects)."""
    from matplotlib.figure import Figure

    means = true.groupby(["subject", "arm"])[metric].mean().unstack().reindex(columns=list(arms))
    figure = Figure(figsize=(1.5 + 1.3 * len(arms), 3.6), layout="constrained")
    axes = figure.subplots()
    for _, row in means.head(most).iterrows():
        axes.plot(range(len(arms)), row.to_numpy(dtype=float), color="0.8", lw=0.6, zorder=0)
    for at, arm in enumerate(arms):
        values = means[arm].dropna().to_numpy()
        axes.plot(np.full(len(values), at), values, ".", ms=4, color=arm_colour(arm), alpha=0.6)
        axes.plot([at - 0.2, at + 0.2], [values.mean()] * 2, color=arm_colour(arm), lw=2)
    axes.set_xticks(range(len(arms)), list(arms), fontsize=8)
    axes.set_ylabel(f"{metric} (bar: mean)", fontsize=8)
    axes.grid(axis="y", alpha=0.3)
    return figure
