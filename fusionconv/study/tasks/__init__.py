"""What a study can predict: one file per task. A new task is a new file, and its name here."""

from __future__ import annotations

from typing import Any

from fusionconv.study.tasks.base import Metric, Task
from fusionconv.study.tasks.classes import Binary, Multiclass
from fusionconv.study.tasks.image_out import ImageTask
from fusionconv.study.tasks.multilabel import Multilabel
from fusionconv.study.tasks.regression import Regression
from fusionconv.study.tasks.restoration import Restoration
from fusionconv.study.tasks.segmentation import Segmentation
from fusionconv.study.tasks.survival import Survival

__all__ = ["TASKS", "ImageTask", "Metric", "Restoration", "Segmentation", "Task", "make_task"]

TASKS: dict[str, type[Task]] = {
    t.NAME: t for t in (Binary, Multiclass, Multilabel, Regression, Survival, Segmentation, Restoration)
}


def make_task(settings: dict[str, Any]) -> Task:
    """The task that `Task.settings` told of."""
    given = dict(settings)
    return TASKS[given.pop("task")](**given)
