"""``fusionconv robustness``: an arm's metrics on turned images, and with each image's pixels in a random order."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fusionconv.errors import StudyError
from fusionconv.study.arms import find_arm
from fusionconv.study.files import write_csv
from fusionconv.study.folds import FoldData
from fusionconv.study.plan import require_same_rows
from fusionconv.study.predict import Predictor, load_predictor
from fusionconv.study.saved import finished_networks
from fusionconv.study.study import Study

__all__ = ["check_robustness", "rotate", "shuffle_each"]


def check_robustness(
    study: str, arm: str, step: float = 15, rows: int | None = None, seed: int = 0, out: str | None = None,
    batch_size: int = 64,
) -> pd.DataFrame:  # fmt: skip
    """Judge the networks of an arm on their own test images, turned by 0 to 360 degrees, and with pixels shuffled.

    Turned: counterclockwise about the middle (in 3-D about the third axis), bilinear; what comes in at the corners is 0
    after normalisation, so that an angle is not a rotation alone. Shuffled: the pixels of each image in a random order
    of its own, so that colours stay and shapes are gone: what is right then comes from colours, from the covariates,
    or from the answers' frequencies.

    Args:
        study: folder of a finished comparison.
        arm: one of its arms with a network.
        step: degrees from one angle to the next.
        rows: only the first so many test rows of each fold; default: all.
        seed: of the shuffling.
        out: folder for ``robustness.csv`` and ``robustness.png``; default: ``STUDY/robustness/ARM``.
        batch_size: images at once.

    Returns:
        A row for each angle and one for shuffled pixels: condition, degrees, n, and every metric (the mean over folds
        and seeds).

    Raises:
        StudyError: no such arm, or no networks of it.
    """
    if not 0 < step <= 360:
        raise StudyError(f"step: expected degrees above 0 and up to 360, got {step:g}")
    opened, arms = Study.open(study)
    chosen = find_arm(arm, [a for a in arms if a.has_network])
    if opened.rows.task.IMAGE_OUT:
        raise StudyError(
            f"robustness: expected a task of numbers, got {opened.rows.task.NAME}, whose targets would turn, too; turn "
            "the files of images and targets and run `predict` or another study on them"
        )
    models = finished_networks(Path(study), chosen.name)
    if not models:
        raise StudyError(f"{study}: expected networks of {chosen.name}, got none; run the comparison with --keep best")
    require_same_rows(opened, [chosen], Path(study))
    angles = [step * i for i in range(math.floor(360 / step + 1e-9) + 1)]
    found: list[dict[str, Any]] = []
    for model in models:
        predictor = load_predictor(model)
        data = opened.data(chosen, str(predictor.about["fold"]), predictor.encoder)
        generator = torch.Generator().manual_seed(seed)
        for degrees in (*angles, None):
            answers = _answers(predictor, data, degrees, generator, rows, batch_size)
            measured = predictor.task.measure(predictor.task.decide(answers, float(predictor.about["threshold"])))
            found.append({"condition": "shuffled" if degrees is None else "rotation", "degrees": degrees,
                          "n": len(answers), **measured})  # fmt: skip
    table = pd.DataFrame(found).groupby(["condition", "degrees"], dropna=False, sort=False).mean().reset_index()
    folder = Path(out) if out else Path(study) / "robustness" / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "robustness.csv", table)
    main = predictor.task.metric(opened.settings.metric).name
    _draw(table, main, f"{chosen.name}, {table['n'].iloc[0]:g} test images of a fold", folder / "robustness.png")
    return table


def _answers(
    predictor: Predictor, data: FoldData, degrees: float | None, generator: torch.Generator, rows: int | None,
    batch_size: int,
) -> pd.DataFrame:  # fmt: skip
    ids = list(data.tables["test"].ids)[:rows]
    frames = []
    for at in range(0, len(ids), batch_size):
        some = ids[at : at + batch_size]
        batch = data.batch("test", some)
        images = shuffle_each(batch["image"], generator) if degrees is None else rotate(batch["image"], degrees)
        covariates = None if predictor.encoder is None else batch["covariates"]
        frames.append(pd.DataFrame({"id": some, **predictor.answer(images, covariates)}))
    places = {name: at for at, name in enumerate(data.tables["test"].ids)}
    truth = predictor.task.truth(data.targets["test"][[places[name] for name in ids]])
    return pd.concat(frames, ignore_index=True).assign(**truth)


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Images (N, C, H, W), or (N, C, X, Y, Z) about the third axis, turned counterclockwise; 0 comes in at the corners.

    >>> rotate(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), 90).tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    if degrees % 360 == 0:
        return images
    transforms: Any = importlib.import_module("torchvision.transforms.v2")  # it has no types
    flat = images if images.ndim == 4 else images.movedim(4, 2)
    turned: Tensor = transforms.functional.rotate(flat, degrees, transforms.InterpolationMode.BILINEAR)
    return turned if images.ndim == 4 else turned.movedim(2, 4)


def shuffle_each(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, *size), each with its pixels in a random order of its own; a pixel's channels stay together."""
    pixels = images.flatten(2)
    order = torch.rand(len(images), 1, pixels.shape[2], generator=generator).argsort(2)
    return pixels.gather(2, order.expand_as(pixels)).view_as(images)


def _draw(table: pd.DataFrame, metric: str, title: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    curve = table[table["condition"] == "rotation"]
    axes.plot(curve["degrees"], curve[metric], marker="o", markersize=3.5, label="turned")
    axes.axhline(float(table[metric].iloc[-1]), color="C1", linestyle="-.", label="pixels shuffled")
    axes.set(xlabel="rotation (degrees, counterclockwise)", ylabel=metric, title=title, xticks=range(0, 361, 45))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
