"""What ``--help`` prints: a command's options, a line each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from fusionconv.study.own_options import OWN, POSITIONAL, WITH_SETTINGS
from fusionconv.study.settings import GROUPS, Settings

__all__ = ["help_text", "trainer_help"]


def help_text(
    command: str, what: str, own: Mapping[str, tuple[Any, str]] | None = None, *, usage: str | None = None
) -> str:
    """A command's options, a line each; ``own`` and ``usage`` as of a program on top of the engine."""
    lines = [usage or _usage(command), "", f"{what[:1].upper()}{what[1:]}.", ""]
    for name, (default, text) in (OWN[command] if own is None else own).items():
        lines.append(_line(name, text, default))
    if command in WITH_SETTINGS:
        lines.append(_line("config", "YAML file of options; those of the command line win", None))
        told = dict(re.findall(r"^ {8}(\w+): (.*?)\n?$", str(Settings.__doc__), re.M))
        fields = {f.name: f for f in dataclasses.fields(Settings)}
        order = list(fields)
        for title, (first, last) in GROUPS.items():
            lines += [f"{title}:"]
            for name in order[order.index(first) : order.index(last) + 1]:
                f = fields[name]
                made: Any = f.default_factory
                default = f.default if f.default is not dataclasses.MISSING else made()
                lines.append(_line(name, told[name].rstrip("."), default))
    return "\n".join(lines)


def _usage(command: str) -> str:
    name = POSITIONAL.get(command)
    word = "" if name is None else f" {name.upper()}" if "(needed)" in OWN[command][name][1] else f" [{name.upper()}]"
    return f"usage: fusionconv {command}{word}{' [--config FILE]' if command in WITH_SETTINGS else ''} [options]"


def _line(name: str, text: str, default: Any) -> str:
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    end = (
        f" ({shown})"
        if shown not in (None, "", {}, []) and not isinstance(default, (bool, type)) and "default" not in text
        else ""
    )
    return f"  --{name.replace('_', '-'):<20} {text}{end}"


def trainer_help() -> str:
    """The options of Lightning's Trainer."""
    import inspect

    from lightning.pytorch import Trainer

    lines = ["--trainer.KEY VALUE gives an option of Lightning's Trainer:", ""]
    for name, p in list(inspect.signature(Trainer.__init__).parameters.items())[1:]:
        lines.append(f"  --trainer.{name:<36} {p.annotation} (default: {p.default})".replace("typing.", ""))
    return "\n".join(lines)
