"""What the processes of a distributed run found, brought together in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch


def gather(items: list[Any]) -> list[Any]:
    """The lists of all processes as one; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return items
    lists: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(lists, items)
    return [item for part in lists for item in part]


def gather_rows(rows: list[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """All processes' rows (with ``index`` and ``columns``), each once, in the table's order.

    A distributed sampler repeats a few rows so that every process gets as many; here they are counted once, and so the
    figures of 8 devices are those of one.
    """
    frames = gather(rows)
    if not frames:
        return pd.DataFrame({column: [] for column in ("index", *columns)})
    return pd.concat(frames).drop_duplicates("index").sort_values("index", ignore_index=True)
