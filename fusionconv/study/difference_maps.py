"""What a covariate changes in the answer: the network's image at one value minus that at another, all else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from fusionconv.errors import StudyError
from fusionconv.study.folds import FoldData
from fusionconv.study.image_answers import middle
from fusionconv.study.image_report import outline, upright
from fusionconv.study.own_space import write_map
from fusionconv.study.tasks import ImageTask, Segmentation

if TYPE_CHECKING:
    from fusionconv.study.predict import Predictor

__all__ = ["difference_figure", "difference_maps", "read_difference", "write_difference_maps"]

Asked = tuple[str, Any, Any]


def read_difference(said: Sequence[Any], predictor: Predictor) -> Asked:
    """A covariate and two values of it.

    Raises:
        StudyError: another number of words; a task of numbers; a network without that covariate.
    """
    if not isinstance(predictor.task, ImageTask):
        raise StudyError(
            f"difference: expected a task whose answers are images, got {predictor.task.NAME}; effects.png shows "
            "what a covariate changes there"
        )
    if len(said) != 3:
        raise StudyError(f"difference: expected a covariate and two values, such as age 60 80, got {list(said)}")
    columns = [] if predictor.encoder is None else list(predictor.encoder.columns)
    if str(said[0]) not in columns:
        raise StudyError(f"difference: expected a covariate of the network ({', '.join(columns) or 'none'}), got "
                         f"{said[0]!r}")  # fmt: skip
    return str(said[0]), said[1], said[2]


def difference_maps(predictor: Predictor, data: FoldData, asked: Asked, ids: Sequence[str]) -> Tensor:
    """Answers of test rows at the second value minus those at the first, (N, outputs, *size).

    Of a segmentation the probabilities are subtracted, of each class but the first, or of each mask.

    Raises:
        StudyError, TableError: values that the encoder does not know.
    """
    column, low, high = asked
    assert predictor.encoder is not None
    task = predictor.task
    assert isinstance(task, ImageTask)
    batch = data.batch("test", ids)
    frame = data.frames["test"].set_index("id").loc[list(ids)]
    found = []
    for value in (low, high):
        changed = frame.assign(**{column: pd.Series([value] * len(frame), index=frame.index)})
        if predictor.encoder.unknown_counts(changed).get(column):
            raise StudyError(f"difference: expected a value of {column!r} that training has, got {value!r}")
        rows = torch.from_numpy(predictor.encoder.transform(changed))
        found.append(task.chances(predictor.outputs(batch["image"], rows).float()))
    first = 1 if isinstance(task, Segmentation) and not task.overlapping else 0
    return (found[1] - found[0])[:, first:]


def difference_figure(maps: Tensor, data: FoldData, asked: Asked, ids: Sequence[str]) -> Any:
    """Test images with the target's outline, and below each what `difference_maps` found; of volumes one slice."""
    from matplotlib.figure import Figure

    images = data.batch("test", ids)["image"]
    assert data.target_store is not None
    targets = data.target_store.read(ids)
    task = data.task
    names = task.shown if isinstance(task, Segmentation) else list(task.columns)
    shown = min(maps.shape[1], 4)
    figure = Figure(figsize=(2.1 * len(ids) + 0.8, 2.1 * (1 + shown)), layout="constrained")
    panels = figure.subplots(1 + shown, len(ids), squeeze=False)
    masks, turned = isinstance(task, Segmentation), images.ndim == 5
    drawn = None
    bound = float(maps.abs().max()) or 1.0
    for at, name in enumerate(ids):
        where = middle(targets[at], masks)
        target = targets[at][(slice(None), *where)].numpy()
        for line, axes in enumerate(panels[:, at]):
            picture = (images[at, 0] if line == 0 else maps[at, line - 1])[where].numpy()
            picture = upright(picture, turned)
            if line == 0:
                axes.imshow(picture, cmap="gray")
                axes.set_title(name[-18:], fontsize=7)
            else:
                drawn = axes.imshow(picture, cmap="RdBu_r", vmin=-bound, vmax=bound)
            if masks:
                outline(axes, target, "#ffd400" if line == 0 else "black", turned)
            axes.set(xticks=[], yticks=[])
            if at == 0 and line:
                axes.set_ylabel(names[line - 1] if line - 1 < len(names) else f"output {line}", fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=panels[1:, :].ravel().tolist(), shrink=0.8)
    column, low, high = asked
    what = "probability" if masks else "value"
    figure.suptitle(f"{what} at {column} = {high} minus {column} = {low}; line: the mask", fontsize=9)
    return figure


def write_difference_maps(maps: Tensor, data: FoldData, column: str, ids: Sequence[str], folder: Path) -> list[Path]:
    """The maps as NIfTI on the voxels of each image's own file; several outputs each have one."""
    paths = []
    for at, (name, one) in enumerate(zip(ids, maps, strict=True)):
        for output, values in enumerate(one):
            number = f"-{output}" if len(one) > 1 else ""
            paths.append(write_map(values.numpy(), name, data, folder / f"difference-{column}{number}-{at}"))
    return paths
