"""WholeCheckpoints: a checkpoint is written beside its place and put there in one step, so that the old one stays."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from recipes.common.runs import RunError


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's plugin for checkpoint files: a full disk or a kill while writing leaves the last whole one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write ``path`` by way of ``path.part``.

        Raises:
            RunError: the file could not be written; what lay at ``path`` is untouched.
        """
        write_whole(checkpoint, Path(path))


def write_whole(checkpoint: dict[str, Any], path: Path) -> None:
    """torch.save to a neighbour of ``path``, then to its place in one step. Raises RunError when that fails."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())  # or a crash of the machine may leave the new name with the old disk's emptiness
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch's writer turns a failed write into a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        kept = "The one that was there is untouched" if path.is_file() else "There was none before"
        raise RunError(
            f"the checkpoint {path} could not be written: {str(error).splitlines()[0]} (is the disk full?). {kept}; "
            "make room and go on with --resume."
        ) from error
