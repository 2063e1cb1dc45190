"""Files of a study, each there whole or not at all: a killed process or a full disk leaves the old one."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError

__all__ = ["read_json", "write_csv", "write_json", "write_text"]


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is none."""
    if not path.is_file():
        return None
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object; NaN becomes null."""
    write_text(path, json.dumps(_finite(value), indent=1, default=str, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a table without its index."""
    write_text(path, frame.to_csv(index=False))


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        StudyError: there is no room.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # machines share folders, and numbers of processes
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StudyError(f"{path}: expected room to write, got {error.strerror}; make room and run it again") from error
