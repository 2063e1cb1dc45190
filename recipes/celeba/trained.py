"""A trained network from a checkpoint, ready to answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from recipes.celeba.study import CelebAStudy
from recipes.common.checkpoint import check_checkpoint


def open_study(checkpoint: Path, device: str | None) -> tuple[CelebAStudy, dict[str, Any]]:
    """The study in a checkpoint, in evaluation mode on ``device`` (None: the GPU where there is one), and its note."""
    note = check_checkpoint(checkpoint, "celeba")
    study = CelebAStudy.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    study.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return study, note
