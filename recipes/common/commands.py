"""The front door of a recipe: a command's name to the function that runs it, and errors in plain words."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Mapping

from fusionconv.errors import FusionError

# What the system says of a place that cannot be written to, or of a file that cannot be read.
PLACES = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT,
    errno.ENAMETOOLONG,
}  # fmt: skip


def run_command(
    recipe: str,
    commands: Mapping[str, tuple[str, str, str]],
    help_text: str,
    argv: list[str] | None = None,
    check: Callable[[str, list[str]], None] | None = None,
) -> None:
    """Run one command. What a user can mend is printed in plain words and ends with exit code 2.

    Args:
        recipe: the recipe's package, such as ``"recipes.celeba"``.
        commands: command -> (module in it, function, one line for the help); imported when it is run.
        help_text: what is printed without a command, or for --help.
        argv: the command and its options; the default is the command line's.
        check: called with the command and its options before the command is imported, which takes seconds.
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
        if check is not None:
            check(command, rest)
        getattr(importlib.import_module(f"{recipe}.{module}"), function)(rest)
    except Exception as error:
        text = _plain(error)
        if debug or text is None:
            raise
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from error


def _plain(error: Exception) -> str | None:
    """The message for a user who can mend it; None for a mistake of the program."""
    if isinstance(error, FusionError):
        return str(error)
    if isinstance(error, OSError) and error.errno in PLACES and error.filename is not None:
        return (
            f"{error.filename}: expected a place that can be read and written, got: {error.strerror}. Give another "
            "folder or file (--root_dir, --out), or mend its permissions."
        )
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, for options that do not go together
        return f"{error} (said by Lightning of the --trainer options). Change them."
    return None
