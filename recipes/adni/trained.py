"""A trained network out of its checkpoint, with all that it needs to be used: encoder, scale, preparation, task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionconv.errors import CheckpointError
from fusionconv.tabular import require_columns
from recipes.adni.preparation import Preparation
from recipes.adni.study import BrainStudy
from recipes.adni.tasks import Task
from recipes.common.checkpoint import check_checkpoint, open_checkpoint
from recipes.common.runs import RunError


def open_study(path: Path) -> BrainStudy:
    """The study of a checkpoint of fit or crossval, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: no such file, no checkpoint of this recipe, or weights that are not those of its note.
    """
    note = check_checkpoint(path, "adni")
    study = BrainStudy(
        arm=note["arm"],
        network=note["network"],
        network_options=note["network_options"],
        layer_idx=0 if note["layer_idx"] is None else note["layer_idx"],
        fusion_options=note["fusion_options"],
        task=Task(**note["task"]),
        covariates=note["covariates"],
    )
    study.take(note)
    study.configure_model()
    try:
        study.load_state_dict(open_checkpoint(path)["state_dict"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights are not those that its note tells of: {error}") from error
    return study.eval()


def preparation_of(study: BrainStudy) -> Preparation:
    """How a volume was prepared for this study in training."""
    return Preparation(**{k: tuple(v) if isinstance(v, list) else v for k, v in study.preparation.items()})


def refused(study: BrainStudy, frame: pd.DataFrame, where: str) -> dict[int, str]:
    """The positions of the rows whose covariates the study's encoder refuses, each with the reasons.

    Raises:
        TableError: a column is absent.
    """
    if study.hparams.arm == "image" or study.encoder is None:
        return {}
    require_columns(frame, list(study.encoder.columns), where)
    reasons: dict[int, list[str]] = {}
    for place, column, reason in study.encoder.check(frame, ids=range(len(frame))):
        reasons.setdefault(place, []).append(f"{column}: {reason}")
    return {place: "; ".join(found) for place, found in reasons.items()}


def encode(study: BrainStudy, frame: pd.DataFrame, where: str) -> Tensor:
    """The rows' covariates (N, K) as this study was trained on them; (N, 0) of the arm image, which has none.

    Raises:
        TableError: a column is absent, or the encoder refuses a value.
    """
    if study.hparams.arm == "image" or study.encoder is None:
        return torch.zeros(len(frame), 0)
    require_columns(frame, list(study.encoder.columns), where)
    return torch.as_tensor(
        np.array(study.encoder.transform(frame, ids="subject" if "subject" in frame else None), dtype=np.float32)
    )


def answers(study: BrainStudy, outputs: Tensor) -> pd.DataFrame:
    """Outputs (N, task.num_outputs) as the columns of predictions.csv; a regression's in the target's unit.

    Raises:
        RunError: outputs that are not finite.
    """
    if not bool(torch.isfinite(outputs).all()):
        raise RunError(
            "the network's answer is not a number: its weights are NaN or infinite. Take another checkpoint of the run."
        )
    return pd.DataFrame(study.answers(outputs.float()))


def device_of(asked: str) -> torch.device:
    """``auto``: a GPU where there is one.

    Raises:
        RunError: cuda was asked for and there is none.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise RunError("--device cuda: torch sees no CUDA device. Give --device cpu, or install torch with CUDA.")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked)
