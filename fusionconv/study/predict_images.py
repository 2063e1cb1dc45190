"""Images for new rows: probabilities (or values) averaged over the networks of all folds, on each file's own pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch

from fusionconv.study.answer_places import AnswerFolder
from fusionconv.study.images import ImageStore
from fusionconv.study.own_space import answer_on_file, write_own
from fusionconv.study.tasks import ImageTask

if TYPE_CHECKING:
    from fusionconv.study.predict import Predictor

__all__ = ["predict_images"]


def predict_images(
    predictors: Sequence[Predictor], store: ImageStore, frame: pd.DataFrame, folder: AnswerFolder
) -> pd.DataFrame:
    """Write an image for every row of ``frame``; one row at a time, so that memory holds few images.

    Returns:
        id, file (relative to the folder's parent; several are separated by ``;``) and the answer's shares or mean.
    """
    from tqdm import tqdm

    task = predictors[0].task
    assert isinstance(task, ImageTask)
    ids, lines = list(frame.index), []
    encoded = [p.encode(frame) for p in predictors]
    channels = store.there(ids)
    for at, name in enumerate(tqdm(ids, desc="images", leave=False, disable=len(ids) < 2)):
        image, there = store.read([name]), channels[at : at + 1]
        total = torch.zeros(())
        for predictor, rows in zip(predictors, encoded, strict=True):
            outputs = predictor.outputs(predictor.inputs(image, there), None if rows is None else rows[at : at + 1])
            total = total + task.chances(outputs.float()) / len(predictors)
        own = answer_on_file(total[0], task, store.sources[name], store.options)
        written = write_own(own, task, name, folder.path)
        folder.claim(written)
        shares = task.summary(torch.from_numpy(own.values)[None])
        files = ";".join(os.path.relpath(path, folder.path.parent) for path in written)
        lines.append({"id": name, "file": files, **{key: float(value[0]) for key, value in shares.items()}})
    return pd.DataFrame(lines)
