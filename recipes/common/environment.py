"""The commit of the code and the memory that a run took, to be written beside every figure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch


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
