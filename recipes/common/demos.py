"""What both demos do around their steps: a folder that is theirs to clear, and lines that say what runs."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from recipes.common.runs import RunError

MARK = "demo.json"  # the demo's settings; a folder without it is not ours to clear


def clear(out: Path, ours: Sequence[str]) -> None:
    """Remove what an earlier demo left in ``out`` (``ours`` and the mark); refuse a folder that holds anything else."""
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise RunError(
            f"{out} is not empty and is not a demo's folder (no {MARK} in it), so nothing there is touched. "
            "Give an empty or new folder with --out."
        )
    for name in (*ours, MARK):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def run(started: float, recipe: str, argv: list[str]) -> None:
    """Run a recipe's command as the command line would, after saying so."""
    say(started, f"python -m {recipe} " + " ".join(argv))
    importlib.import_module(f"{recipe}.__main__").main(argv)


def say(started: float, text: str) -> None:
    """A line with the seconds since ``started`` (time.perf_counter)."""
    print(f"\n[{time.perf_counter() - started:4.0f} s] {text}", flush=True)
