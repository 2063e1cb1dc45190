"""ImageAnswers: whole images through a study's network, their scores, overlays for the report, images on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from fusionconv.study.folds import FoldData
from fusionconv.study.image_checks import pixel_sizes
from fusionconv.study.patches import Windows
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import ImageTask

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ImageAnswers", "middle"]

_SHOWN = 4  # test images of each fold that are kept for the report


class ImageAnswers:
    """What the module of a study needs beside its own for a task whose answers are images.

    Args:
        data: the fold.
        settings: of the study.
    """

    def __init__(self, data: FoldData, settings: Settings) -> None:
        assert isinstance(data.task, ImageTask)
        self.data, self.task = data, data.task
        self.windows = Windows(settings.part, settings.overlap) if settings.part else None
        rows = pd.concat(list(data.frames.values()))
        self.subject = dict(zip(rows["id"], rows["subject"], strict=True))
        assert data.target_store is not None
        mm, ids = pixel_sizes(rows, settings.pixel_size), list(rows["id"])
        self.sides = {name: [side * mm[name] for side in own] for name, own in
                      zip(ids, data.target_store.sides(ids), strict=True)}  # fmt: skip
        self.boxes = {} if self.task.LABELS else data.target_store.boxes()
        self.every = [m.name for m in self.task.metrics]
        chosen = [name for name in (settings.metric, settings.select) if name in self.every]
        self.always = list(dict.fromkeys([*self.task.quick, *chosen]))  # after every epoch, and of controls
        self.wanted = self.always
        self.shown: list[str] = []
        self.overlays: dict[str, Tensor] = {}
        self.folder: Path | None = None

    def whole(self, module: nn.Module, batch: Mapping[str, Any], covariates: Tensor | None) -> Tensor:
        """Outputs (N, num_outputs, *size) of whole images, in windows where the network is one of patches."""
        if self.windows is None:
            out: Tensor = module(batch, covariates)
            return out.float()
        given = batch["covariates"] if covariates is None else covariates
        network: Any = module.network
        return self.windows(network, batch["image"], given if module.takes_covariates else None).float()

    def begin_test(self, folder: Path, keep_images: bool) -> None:
        """All metrics from now on; overlays of the first test images, and all answers on the disk if wanted."""
        self.wanted, self.shown = self.every, list(self.data.tables["test"].ids)[:_SHOWN]
        self.overlays = {}
        self.folder = folder / "images" if keep_images else None

    def rows(self, batch: Mapping[str, Any], outputs: Tensor, control: str) -> pd.DataFrame:
        """id, control, subject and the scores of a batch's images."""
        ids = list(batch["id"])
        wanted = self.wanted if control == "true" else self.always
        scores = self._scores(ids, outputs, batch["target"], wanted)
        if control == "true":
            self._keep(ids, batch, outputs)
        subjects = [self.subject[name] for name in ids]
        return pd.DataFrame({"id": ids, "control": control, "subject": subjects, **scores})

    def _scores(self, ids: list[str], outputs: Tensor, targets: Tensor, wanted: list[str]) -> Mapping[str, Any]:
        """Of the whole grid; of restored images without padding, which would count as pixels without error."""
        sides = [self.sides[name] for name in ids]
        if not any(name in self.boxes for name in ids):
            return self.task.score(outputs, targets, sides, wanted)
        rows = []
        for at, name in enumerate(ids):
            box = (slice(at, at + 1), slice(None), *self.boxes.get(name, ()))
            rows.append(pd.DataFrame(self.task.score(outputs[box], targets[box], sides[at : at + 1], wanted)))
        return {str(column): values.to_numpy() for column, values in pd.concat(rows).items()}

    def _keep(self, ids: list[str], batch: Mapping[str, Any], outputs: Tensor) -> None:
        picture = self.task.picture(outputs).cpu()
        for at, name in enumerate(ids):
            if name in self.shown:
                slices = middle(batch["target"][at].cpu(), self.task.LABELS)
                image = batch["image"][at].cpu()
                there = image.flatten(1).any(1).int().argmax()  # of several images the first that the row has
                self.overlays[f"image {name}"] = image[there][slices]
                self.overlays[f"target {name}"] = batch["target"][at].cpu()[(slice(None), *slices)]
                self.overlays[f"answer {name}"] = picture[at][(slice(None), *slices)]
        if self.folder is not None:
            from fusionconv.study.own_space import write_answer

            chances = self.task.chances(outputs).cpu()
            assert self.data.store is not None
            for name, one in zip(ids, chances, strict=True):
                write_answer(one, self.task, name, self.data.store.sources[name], self.data.store.options, self.folder)

    def write_overlays(self, folder: Path) -> None:
        """``overlays.npz``: image, target and answer of some test images; of volumes one slice."""
        if self.overlays:
            arrays = {name: value.numpy().astype(np.float32) for name, value in self.overlays.items()}
            np.savez_compressed(folder / "overlays.npz", **arrays)  # type: ignore[arg-type]


def middle(target: Tensor, labels: bool) -> tuple[Any, ...]:
    """Where to look at an image of this target (T, *size): all of a picture; of a volume the slice along the third axis
    with most of the classes, or the middle one."""
    if target.ndim == 3:
        return (slice(None), slice(None))
    areas = (target > 0).sum((0, 1, 2))
    at = int(areas.argmax()) if labels and bool(areas.any()) else target.shape[-1] // 2
    return (slice(None), slice(None), at)
