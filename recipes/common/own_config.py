"""What a command line and its YAML files say, before the command is imported; a run's own config.yaml."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recipes.common.runs import RunError, RunFolder


def early_options(argv: list[str], experiment: str) -> argparse.Namespace:
    """The few options that decide which configuration is read, before it is read; ``experiment`` is the default's.

    Experiment and folder may be in a --config file too.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--experiment")
    early.add_argument("--root_dir")
    early.add_argument("-c", "--config", action="append")
    early.add_argument("--resume", action="store_true")
    early.add_argument("-h", "--help", action="store_true")
    found = early.parse_known_args(argv)[0]
    files = [Path(path) for path in found.config or []]
    found.experiment = str(found.experiment or configured([], files, "experiment") or experiment)
    found.root_dir = str(found.root_dir or configured([], files, "root_dir") or "runs")
    return found


def said(argv: Sequence[str], name: str) -> str | None:
    """The last value of --name, given as ``--name value`` or ``--name=value``; None where it is not given.

    >>> said(["--out", "a.csv", "--out=b.csv"], "out")
    'b.csv'
    """
    value = None
    for word, following in itertools.zip_longest(argv, argv[1:]):
        if word.startswith(f"--{name}="):
            value = word.partition("=")[2]
        elif word == f"--{name}" and following is not None:
            value = following
    return value


def configured(argv: Sequence[str], files: Sequence[Path], *keys: str) -> Any:
    """What the command line, else the last of the YAML files that says it, gives as an option; None where none does.

    Raises:
        RunError: a file that is not there. One that is no YAML is left to the command's own parser.
    """
    value: Any = said(argv, ".".join(keys))
    for path in reversed(files):
        if value is not None:
            break
        if not path.is_file():
            raise RunError(f"--config {path}: there is no such file. Check the path.")
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            return None
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def own_config(early: argparse.Namespace) -> Path:
    """The run's own config.yaml."""
    folder = RunFolder(Path(early.root_dir), early.experiment)
    if not folder.config.is_file():
        raise RunError(
            f"there is no run {folder.path} (no config.yaml in it). Fit it first, or say which run with --experiment "
            "and --root_dir, or give --config and --ckpt_path."
        )
    return folder.config


def with_own_config(early: argparse.Namespace, argv: list[str]) -> list[str]:
    """Put the run's own config.yaml before the other options (they still win)."""
    return argv if early.help else ["--config", str(own_config(early)), *argv]
