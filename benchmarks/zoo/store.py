"""Results on disk: one JSON line per network, appended as it is done, so that a sweep that was stopped goes on."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from fusionconv.study.environment import processor, versions

__all__ = ["append", "conditions", "read"]

PACKAGES = ("torch", "torchvision", "timm", "monai")


def _file(folder: Path) -> Path:
    return folder / "results.jsonl"


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The newest record of each network, by ``library/name``; a line cut off by a crash is left out."""
    records: dict[str, dict[str, Any]] = {}
    if _file(folder).exists():
        for line in _file(folder).read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            records[f"{record['library']}/{record['name']}"] = record
    return records


def append(folder: Path, record: dict[str, Any]) -> None:
    """Write ``record`` at the end, with the date and the conditions of this run."""
    folder.mkdir(parents=True, exist_ok=True)
    with _file(folder).open("a", encoding="utf-8") as file:
        file.write(json.dumps({**record, "date": date.today().isoformat(), "conditions": conditions()}) + "\n")


def conditions() -> str:
    """Versions and hardware, in one line."""
    known = versions(*PACKAGES)
    packages = ", ".join(f"{name} {known[name]}" for name in PACKAGES if known[name] != "not installed")
    return f"{packages}, Python {known['python']}, {processor()} (CPU), one thread"
