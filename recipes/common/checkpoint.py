"""A checkpoint's note on itself, and the errors for files that are no checkpoint of this recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fusionconv.errors import CheckpointError


def note_key(recipe: str) -> str:
    """The key of a recipe's own entry in a Lightning checkpoint."""
    return f"fusionconv_{recipe}"


def read_note(checkpoint: Any, recipe: str) -> dict[str, Any]:
    """A recipe's note in a loaded checkpoint: what the model is, its encoder, what it has been through."""
    if not isinstance(checkpoint, dict) or note_key(recipe) not in checkpoint:
        found = sorted(map(str, checkpoint))[:6] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(
            f"expected a checkpoint written by `python -m recipes.{recipe} fit` (with the entry {note_key(recipe)!r}), "
            f"came {found}. Give a file from a run's checkpoints/ folder; weights to start from go to --model.weights."
        )
    note: dict[str, Any] = checkpoint[note_key(recipe)]
    return note


def open_checkpoint(path: Path) -> Any:
    """A checkpoint's contents, its tensors still on the disk; nothing in the file is executed."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint {path}. Give the path of one, or the --experiment and --root_dir of a fitted run."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds: unpickling, zip, runtime, EOF
        raise CheckpointError(
            f"{path} does not load as a checkpoint with weights_only=True: {str(error).splitlines()[0]} "
            "Give a file from a run's checkpoints/ folder."
        ) from None


def check_checkpoint(path: Path, recipe: str) -> dict[str, Any]:
    """Look into a checkpoint without reading its tensors; returns its note."""
    checkpoint = open_checkpoint(path)
    try:
        return read_note(checkpoint, recipe)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
