"""Image columns that may be empty: flags beside the covariates, the subset that a row has, and dropout in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from fusionconv.errors import TableError

if TYPE_CHECKING:
    from torch import Tensor

    from fusionconv.study.folds import FoldData
    from fusionconv.study.settings import Settings

__all__ = ["SUBSET", "drop_sequences", "flag_columns", "flag_kinds", "flag_places", "kept_sequences", "with_sequences"]

SUBSET = "sequences"  # the column of the subset that a row has


def flag_columns(settings: Settings) -> list[str]:
    """``missing COLUMN`` for each image column, with ``availability``; 1 where a row lacks the image, else 0.

    A row that lacks nothing has zeros, and gets the ordinary convolution.
    """
    return [f"missing {name}" for name in settings.image_column] if settings.availability else []


def flag_kinds(settings: Settings) -> dict[str, Any]:
    """How `CovariateEncoder` takes the flags: as they are, also where training lacks nothing."""
    kind = {"kind": "numeric", "scaling": "none", "missing": "zero", "indicator": "never"}
    return {name: dict(kind) for name in flag_columns(settings)}


def with_sequences(frame: pd.DataFrame, images: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows with their flags, and where any image is missing the subset that each row has (``t1+flair``).

    Raises:
        TableError: the table has a column of such a name.
    """
    there = images.notna()
    added: dict[str, Any] = {
        flag: (~there[name]).to_numpy(dtype=float)
        for flag, name in zip(flag_columns(settings), settings.image_column, strict=False)
    }
    if len(settings.image_column) > 1 and not there.all(axis=None):
        rows = there.to_numpy(dtype=bool)
        added[SUBSET] = ["+".join(n for n, has in zip(there.columns, row, strict=True) if has) for row in rows]
    if taken := [name for name in added if name in frame]:
        raise TableError(
            f"expected a table without the columns {', '.join(added)}, which the study makes of "
            f"{', '.join(map(str, images))}, got {', '.join(taken)}; rename them"
        )
    return frame.assign(**added)


def flag_places(data: FoldData, settings: Settings) -> list[int]:
    """Where the flags are among the encoded covariates; empty without them."""
    if data.encoder is None or not settings.availability:
        return []
    names = data.encoder.get_feature_names_out().tolist()
    return [names.index(flag) for flag in flag_columns(settings)]


def kept_sequences(available: Tensor, p: float) -> Tensor:
    """Which of the available images (N, columns) stay: each is dropped with probability p, anew where none is left.

    So of m available images a subset of k >= 1 is left with probability (1 - p)^k p^(m - k) / (1 - p^m); with p = 0.5
    all subsets are equally likely. All chance comes from torch's global generator.

    Args:
        available: (N, columns), bool; at least one in each row.
        p: from 0 to below 1.
    """
    import torch

    kept = available.clone()
    todo = torch.ones(len(available), dtype=torch.bool)
    while bool(todo.any()):
        draws = torch.rand(available.shape)  # all rows each time: the numbers do not depend on who has what
        kept[todo] = (available & (draws.to(available.device) >= p))[todo]
        todo = ~kept.any(1).cpu()
    return kept


def drop_sequences(batch: dict[str, Any], p: float, flags: Sequence[int]) -> dict[str, Any]:
    """A batch in which images went missing by `kept_sequences`: zero channels, and 1 in their flags.

    Args:
        batch: of the study, with ``available``, (N, columns) bool.
        p: of each image.
        flags: places of the flags among the covariates; empty where the arm has none.
    """
    kept = kept_sequences(batch["available"], p)
    images, covariates = batch["image"], batch["covariates"]
    shape = (len(images), -1, *[1] * (images.ndim - 2))
    channels = kept.repeat_interleave(images.shape[1] // kept.shape[1], 1).reshape(shape)
    if flags:
        covariates = covariates.clone()
        covariates[:, list(flags)] = (~kept).to(covariates)
    return {**batch, "image": images * channels, "covariates": covariates, "available": kept}
