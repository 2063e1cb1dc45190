"""Versions and hardware, to be written beside every figure."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["hardware", "processor", "versions"]


def hardware(device: Any, count: int = 1) -> str:
    """The name of the device that did the work, and how many there were; a processor with its cores."""
    import torch

    if device.type == "cuda":
        return f"{count} x {torch.cuda.get_device_name(device)}"
    if device.type != "cpu":
        return f"{count} x {device.type}"
    return f"CPU {processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The processor's name, as far as the system tells."""
    name = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return name


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that the figures depend on."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a clone without installing it
            found[package] = "not installed"
    return found
