"""Versions and hardware, to be written beside every figure."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that the figures depend on."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a clone without installing it
            found[package] = "not installed"
    return found


def hardware(device: torch.device, count: int = 1) -> str:
    """The name of the device that did the work, and how many there were; a processor with its cores."""
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


def commit() -> dict[str, object]:
    """The commit of the code that runs, and whether files were changed since; both None outside a clone."""
    here = Path(__file__).parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


class PeakMemory:
    """The most memory used since it was made: of the CUDA device's allocator, or of the process (Linux)."""

    def __init__(self, device: torch.device) -> None:
        self.kind = "cuda" if device.type == "cuda" else "process"
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts anew
        except OSError:
            self.kind = "process, since it began"

    def read(self) -> int | None:
        """Bytes; None where the system does not tell."""
        if self.kind == "cuda":
            return int(torch.cuda.max_memory_allocated())
        try:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
