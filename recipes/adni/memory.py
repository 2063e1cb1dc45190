"""Too little memory, said with the settings that would need less."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from recipes.common.runs import RunError

if TYPE_CHECKING:
    from recipes.adni.data import BrainData


@contextlib.contextmanager
def memory_errors(data: BrainData) -> Iterator[None]:
    """Turn torch's out-of-memory errors into one that names the settings."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        size = " x ".join(map(str, data.preparation.size))
        raise RunError(
            f"the device's memory is too small for batches of {data.batch_size} volumes of {size} voxels: "
            f"{str(error).splitlines()[0]} Lower --data.batch_size, or --data.preparation.size (with a larger "
            "--data.preparation.spacing), or take --trainer.precision bf16-mixed or a smaller --model.network."
        ) from error
