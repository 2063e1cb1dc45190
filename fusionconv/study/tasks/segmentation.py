"""Task segmentation: a class for every pixel, or overlapping masks; MONAI's losses and metrics, by subject."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from fusionconv.errors import StudyError
from fusionconv.study.tasks.base import Array, Metric
from fusionconv.study.tasks.image_out import ImageTask, one_per_image, score_metric

__all__ = ["Segmentation", "read_classes", "surface_distances"]

SURFACES = ("surface_distance", "hausdorff95")


class Segmentation(ImageTask):
    """One target column: a mask of class values, softmax. Several: one mask each, which may overlap, a logit each.

    Losses: ``dice_ce`` (soft Dice of the classes but the first, plus cross-entropy, as nnU-Net has it), ``dice``,
    ``cross_entropy``. Metrics of an image are means over the classes but the first, the background (or over the masks):

    - ``dice``: 2 |A and B| / (|A| + |B|); 1 where neither has the class, 0 where only one has it.
    - ``surface_distance``: the mean distance between the two surfaces, both ways; ``hausdorff95``: the 95th percentile.
      0 where neither has the class; the image's diagonal where only one has it (as BraTS counts it).

    A study's metrics are means over subjects of each one's mean over its images.

    Args:
        columns: of the masks' paths.
        loss: one of ``LOSSES``.
        classes: name -> value in the mask, the background first. Empty for several columns.
        inside: of several columns, each mask's value where it is not 0; default: 1.
    """

    NAME = "segmentation"
    LOSSES = ("dice_ce", "dice", "cross_entropy")
    LABELS = True

    def __init__(
        self, columns: Sequence[str], loss: str = "default", classes: Mapping[str, int] = {}, inside: Sequence[int] = ()
    ) -> None:
        super().__init__(columns, loss)
        self.inside = [int(value) for value in inside] or [1] * len(self.columns)
        self.labels = {str(name): int(value) for name, value in classes.items()}
        if self.overlapping and self.labels:
            raise StudyError(
                f"classes: expected none with several masks ({', '.join(self.columns)}), each of which is a class, got "
                f"{', '.join(self.labels)}; leave --classes out"
            )

    @property
    def overlapping(self) -> bool:
        """Whether each column is a mask of its own."""
        return len(self.columns) > 1

    @property
    def shown(self) -> list[str]:
        """The names of what is measured: the classes but the first, or the masks."""
        return list(self.columns) if self.overlapping else list(self.labels)[1:]

    @property
    def num_outputs(self) -> int:
        """A logit for each class, or each mask."""
        return len(self.columns) if self.overlapping else len(self.labels)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Dice, surface distance, Hausdorff distance (95 %), and Dice of each class where there are several."""
        each = [f"dice_{name}" for name in self.shown] if len(self.shown) > 1 else []
        return (
            score_metric("dice", bounds=(0, 1)),
            *(score_metric(name, False, (0, math.inf)) for name in SURFACES),
            *(score_metric(name, bounds=(0, 1)) for name in each),
        )

    @property
    def quick(self) -> tuple[str, ...]:
        """All but the surface distances."""
        return tuple(m.name for m in self.metrics if m.name not in SURFACES)

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss of outputs (N, num_outputs, *size) and class numbers (N, 1, *size), or masks (N, T, *size)."""
        losses: Any = importlib.import_module("monai.losses")
        total = outputs.new_zeros(())
        if self.loss_name != "cross_entropy":
            dice = (
                losses.DiceLoss(sigmoid=True)
                if self.overlapping
                else losses.DiceLoss(softmax=True, to_onehot_y=True, include_background=False)
            )
            total = total + dice(outputs, targets)
        if self.loss_name != "dice":
            total = total + (
                F.binary_cross_entropy_with_logits(outputs, targets)
                if self.overlapping
                else F.cross_entropy(outputs, targets[:, 0].long())
            )
        return total

    def score(
        self, outputs: Tensor, targets: Tensor, spacing: Sequence[Sequence[float]], wanted: Sequence[str]
    ) -> dict[str, Array]:
        """See the class."""
        metrics: Any = importlib.import_module("monai.metrics")
        said, true = self._masks(self.picture(outputs)), self._masks(targets)
        dice = metrics.compute_dice(said, true, include_background=True, ignore_empty=False)
        found = {"dice": dice.mean(1)}
        if len(self.shown) > 1:
            found |= {f"dice_{name}": dice[:, at] for at, name in enumerate(self.shown)}
        columns = one_per_image(found)
        if set(SURFACES) & set(wanted):
            each = [surface_distances(s, t, sides) for s, t, sides in zip(said, true, spacing, strict=True)]
            columns |= {name: np.array([row[at] for row in each]) for at, name in enumerate(SURFACES)}
        return columns

    def _masks(self, picture: Tensor) -> Tensor:
        """(N, len(shown), *size) of 0 and 1."""
        if self.overlapping:
            return picture
        hot = F.one_hot(picture[:, 0].long(), self.num_outputs)
        return hot.movedim(-1, 1)[:, 1:].float()

    def picture(self, outputs: Tensor) -> Tensor:
        """The likeliest class, (N, 1, *size), or 1 where a mask's probability is at least 0.5, (N, T, *size)."""
        return (outputs >= 0).float() if self.overlapping else outputs.argmax(1, keepdim=True).float()

    def chances(self, outputs: Tensor) -> Tensor:
        """Probabilities."""
        return outputs.sigmoid() if self.overlapping else outputs.softmax(1)

    def of_chances(self, chances: Tensor) -> Tensor:
        """As `picture`."""
        return (chances >= 0.5).float() if self.overlapping else chances.argmax(1, keepdim=True).float()

    def summary(self, picture: Tensor) -> dict[str, Array]:
        """The share of the image that each class covers."""
        masks = self._masks(picture)
        return {f"share_{name}": masks[:, at].flatten(1).mean(1).numpy() for at, name in enumerate(self.shown)}

    def describe(self, targets: Array) -> str:
        """The classes with their values in the masks."""
        if self.overlapping:
            return f"{len(targets)} images, masks {', '.join(self.columns)} (they may overlap)"
        classes = ", ".join(f"{name} = {value}" if name != str(value) else name for name, value in self.labels.items())
        return f"{len(targets)} images, classes {classes or 'not known yet'}; the first is the background"

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values."""
        inside = {"inside": self.inside} if self.overlapping and set(self.inside) != {1} else {}
        return {**super().settings, "classes": self.labels, **inside}


def read_classes(given: Any) -> Mapping[str, int]:
    """``--classes background=0 head=255``, or values in order, as name -> value.

    Raises:
        StudyError: values that are not whole numbers from 0 on, or twice the same.
    """
    pairs = given.items() if isinstance(given, Mapping) else [(str(value), value) for value in given]
    classes: dict[str, int] = {}
    for name, value in pairs:
        text = str(value)
        if not text.isdecimal() or int(text) > 65535 or int(text) in classes.values():
            raise StudyError(
                f"classes: expected one whole number of its own, from 0 to 65535, for each class of a mask, got "
                f"{name}={value!r}; such as --classes background=0 head=255"
            )
        classes[str(name)] = int(text)
    if len(classes) == 1:
        raise StudyError(f"classes: expected at least two, the background first, got {', '.join(classes)} alone")
    return classes


def surface_distances(said: Tensor, true: Tensor, spacing: Sequence[float]) -> tuple[float, float]:
    """Mean and 95th percentile of the distances between the surfaces of (C, *size) masks, means over the classes.

    0 where neither mask has a pixel; the image's diagonal where only one has any.
    """
    metrics: Any = importlib.import_module("monai.metrics")
    diagonal = math.dist([0] * len(spacing), [n * side for n, side in zip(true.shape[1:], spacing, strict=True)])
    sides = [float(side) for side in spacing]
    rows = []
    for one, other in zip(said, true, strict=True):
        there = bool(one.any()), bool(other.any())
        if not all(there):
            rows.append((diagonal, diagonal) if any(there) else (0.0, 0.0))
            continue
        pair: dict[str, Any] = {"y_pred": one[None, None], "y": other[None, None], "include_background": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of an argument of its own
            mean = metrics.compute_average_surface_distance(**pair, symmetric=True, spacing=sides)
            far = metrics.compute_hausdorff_distance(**pair, percentile=95, spacing=sides)
        rows.append((float(mean), float(far)))
    means = np.array(rows).mean(0)
    return float(means[0]), float(means[1])
