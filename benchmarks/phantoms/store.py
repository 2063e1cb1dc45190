"""Results on disk: one JSON line for each setting, appended as it is done, so that a run that was stopped goes on."""

from __future__ import annotations

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from fusionconv.study.environment import processor

__all__ = ["append", "read"]

Record = dict[str, Any]


def read(folder: Path) -> dict[str, Record]:
    """The newest record of each setting, by its key; a line cut off by a crash is left out."""
    records: dict[str, Record] = {}
    for file in sorted(folder.glob("results*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            records[record["key"]] = record
    return records


def append(folder: Path, part: int, record: Record) -> None:
    """Write ``record`` at the end of this part's file, with the date and the conditions."""
    folder.mkdir(parents=True, exist_ok=True)
    stamped = {**record, "date": date.today().isoformat(), "conditions": conditions()}
    with (folder / f"results-{part}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(stamped) + "\n")


def conditions() -> str:
    """Versions and hardware, in one line."""
    return f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}, {processor()}, no GPU"
