"""The front door of a recipe: a command's name to the function that runs it, and errors in plain words."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

from fusionconv.errors import FusionError


def run_command(
    recipe: str, commands: Mapping[str, tuple[str, str, str]], help_text: str, argv: list[str] | None = None
) -> None:
    """Run one command. An error of ours is printed in plain words and ends with exit code 2.

    Args:
        recipe: the recipe's package, such as ``"recipes.celeba"``.
        commands: command -> (module in it, function, one line for the help); imported when it is run.
        help_text: what is printed without a command, or for --help.
        argv: the command and its options; the default is the command line's.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv or bool(os.environ.get("FUSIONCONV_DEBUG"))
    argv = [word for word in argv if word != "--debug"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(help_text)
        return
    command, rest = argv[0], argv[1:]
    if command not in commands:
        expected = ", ".join(commands)
        print(f"error: unknown command {command!r}; expected one of {expected}\n\n{help_text}", file=sys.stderr)
        raise SystemExit(2)
    module, function, _ = commands[command]
    try:
        getattr(importlib.import_module(f"{recipe}.{module}"), function)(rest)
    except FusionError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error
