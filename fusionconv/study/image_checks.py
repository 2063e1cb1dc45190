"""What a study with images out cannot have, said before any image is read."""

from __future__ import annotations

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import Task
from fusionconv.study.tasks.image_out import ImageTask

__all__ = ["pixel_sizes", "require_image_options"]


def require_image_options(arm: Arm, settings: Settings, task: Task) -> None:
    """Raise where an arm or an option does not go with the task.

    Raises:
        StudyError: what does not, and what to do.
    """
    if not isinstance(task, ImageTask):
        raise StudyError(
            f"patch: expected task segmentation or restoration, got {task.NAME}, whose answer is of the whole image; "
            "leave --patch out"
        )
    if not arm.has_network:
        raise StudyError(
            f"arm {arm.name}: expected one with a network for task {task.NAME}, whose answers are images, got one of "
            "numbers; leave it out"
        )
    if settings.head != "linear":
        raise StudyError(
            f"head: expected linear for task {task.NAME}, got {settings.head}; the network's own last layer makes the "
            "image"
        )
    if settings.shuffle_pixels:
        raise StudyError(f"shuffle_pixels: expected a task of numbers, got {task.NAME}; leave it out")
    if settings.threshold != 0.5:
        raise StudyError(
            f"threshold: expected none for task {task.NAME}, whose answer is the likelier class (for each of several "
            f"masks: a probability of at least 0.5) or a value, got {settings.threshold}; leave it out"
        )
    if settings.positive or (settings.classes and task.NAME == "restoration"):
        raise StudyError(f"positive and classes: expected none for task {task.NAME}, got some; leave them out")
    if settings.pixel_size is not None and (settings.dims != 2 or task.NAME != "segmentation"):
        raise StudyError(
            f"pixel_size: expected a segmentation of 2-D images, got task {task.NAME} with dims {settings.dims}; "
            "volumes have their voxel size in the header"
        )
    from fusionconv.study.augment_pairs import pair_augmentation
    from fusionconv.study.image_options import image_options

    pair_augmentation(settings.augment, image_options(settings), task.LABELS)


def pixel_sizes(frame: pd.DataFrame, column: str | None) -> dict[str, float]:
    """id -> mm of a pixel of its file; 1 without a column.

    Raises:
        StudyError: a length that is no finite number above 0.
    """
    if column is None:
        return dict.fromkeys(frame["id"].tolist(), 1.0)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=float)
    bad = ~((values > 0) & (values < float("inf")))
    if bad.any():
        raise StudyError(
            f"pixel_size: expected lengths above 0 in {column!r}, got {frame.loc[bad, column].iloc[0]!r} and others in "
            f"{int(bad.sum())} of {len(frame)} rows; fill them in, or leave --pixel-size out for pixels"
        )
    return dict(zip(frame["id"].tolist(), values.tolist(), strict=True))
