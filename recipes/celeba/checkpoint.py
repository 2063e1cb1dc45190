"""A checkpoint's note on itself, and the errors for files that are no checkpoint of this recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fusionconv.errors import CheckpointError

NOTE = "fusionconv_celeba"  # the key of our own entry in a Lightning checkpoint


def read_note(checkpoint: Any) -> dict[str, Any]:
    """Our note in a loaded checkpoint: arm, mode, layer_idx, target, covariates, encoder, history."""
    if not isinstance(checkpoint, dict) or NOTE not in checkpoint:
        found = sorted(map(str, checkpoint))[:6] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(
            f"expected a checkpoint written by `python -m recipes.celeba fit` (with the entry {NOTE!r}), and found "
            f"{found}. Give a file from a run's checkpoints/ folder; pretrained weights go to --model.weights."
        )
    note: dict[str, Any] = checkpoint[NOTE]
    return note


def check_checkpoint(path: Path) -> dict[str, Any]:
    """Look into a checkpoint without reading its tensors; returns its note."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint {path}. Give the path of one, or the --experiment and --root_dir of a fitted run."
        )
    try:  # mmap: tensors stay on the disk; weights_only: nothing in the file is executed
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds: unpickling, zip, runtime, EOF
        raise CheckpointError(
            f"{path} does not load as a checkpoint with weights_only=True: {str(error).splitlines()[0]} "
            "Give a file from a run's checkpoints/ folder."
        ) from None
    try:
        return read_note(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
