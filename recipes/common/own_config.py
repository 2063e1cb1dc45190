"""A run's own config.yaml, put before the options of a command that goes on with the run or judges it."""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.common.runs import RunError, RunFolder


def early_options(argv: list[str], experiment: str) -> argparse.Namespace:
    """The few options that decide which configuration is read, before it is read; ``experiment`` is the default's."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--experiment", default=experiment)
    early.add_argument("--root_dir", default="runs")
    early.add_argument("-c", "--config", action="append")
    early.add_argument("--resume", action="store_true")
    early.add_argument("-h", "--help", action="store_true")
    return early.parse_known_args(argv)[0]


def with_own_config(early: argparse.Namespace, argv: list[str]) -> list[str]:
    """Put the run's own config.yaml before the other options (they still win)."""
    folder = RunFolder(Path(early.root_dir), early.experiment)
    if early.help:
        return argv
    if not folder.config.is_file():
        raise RunError(
            f"there is no run {folder.path} (no config.yaml in it). Fit it first, or say which run with --experiment "
            "and --root_dir, or give --config and --ckpt_path."
        )
    return ["--config", str(folder.config), *argv]
