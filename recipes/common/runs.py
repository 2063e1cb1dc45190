"""The folder of one run: where its files lie, who may write there, and its log file with time stamps."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fusionconv.errors import FusionError

log = logging.getLogger("recipes")  # the parent of every recipe's own


class RunError(FusionError, ValueError):
    """A run cannot start or go on as asked: its folder is taken, nothing to resume, the loss is not a number."""


def require_writable(folder: Path, option: str) -> None:
    """Raise unless ``folder`` is one that can be written to, or could be made; nothing is made.

    Args:
        folder: need not exist.
        option: which one says where it is, for the message.
    """
    there = folder.absolute()
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
    except OSError as error:
        raise RunError(f"{option}: {folder} cannot be made ({error.strerror}). Give another {option}.") from None
    if not there.is_dir():
        raise RunError(f"{option}: {folder} cannot be made, since {there} is a file. Give another {option}.")
    if not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if folder.exists() else f"cannot be made: {there} is not writable"
        raise RunError(f"{option}: {folder} {what}. Give another {option}, or mend its permissions.")


def is_rank_zero() -> bool:
    """True in the process that writes files (before and after torch.distributed has started)."""
    ranks = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(rank, "0") == "0" for rank in ranks)


@dataclass(frozen=True)
class RunFolder:
    """``<root_dir>/<experiment>/`` and the files of one run in it."""

    root_dir: Path
    experiment: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.=+-]*", self.experiment):
            raise RunError(
                f"--experiment should be a plain folder name (letters, digits, . _ - = +), but is {self.experiment!r}. "
                "Choose another name; --root_dir says where the folder goes."
            )

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.root_dir / self.experiment

    @property
    def config(self) -> Path:
        """The resolved configuration, as fit wrote it."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def checkpoint(self, which: str) -> Path:
        """Path of the checkpoint ``"best"`` or ``"last"``."""
        return self.checkpoints / f"{self.experiment}-{which}.ckpt"

    def is_taken(self) -> bool:
        """True when a fit has already left something here that is worth keeping."""
        return (self.path / "metrics.csv").exists() or any(self.checkpoints.glob("*.ckpt"))

    def claim(self, resume: bool, overwrite: bool) -> None:
        """Raise where a fit may not use this folder. Nothing is made or changed: `logging` makes it."""
        if resume and overwrite:
            raise RunError("--resume and --overwrite exclude each other: the one goes on, the other starts anew.")
        require_writable(self.path, "--root_dir")
        if self.is_taken() and not resume and not overwrite:
            raise RunError(
                f"{self.path} already holds a run, and a fit would write over it. Give another --experiment NAME, "
                "or --resume to go on from its last checkpoint, or --overwrite to throw it away."
            )

    def clear(self) -> None:
        """Remove what an earlier run left, and nothing else; log.txt goes on."""
        for name in ("config.yaml", "metrics.csv", "curves.png"):
            (self.path / name).unlink(missing_ok=True)
        for old in [
            *self.path.glob("results-*.json"),
            *self.path.glob("predictions-*.csv"),
            *self.path.glob("attributes-*"),
        ]:
            old.unlink()
        for old in (self.checkpoints, self.path / "tensorboard"):
            shutil.rmtree(old, ignore_errors=True)

    def forget(self, made: list[Path]) -> None:
        """Remove the files of a run that was refused, and those of the folders ``made`` that are empty then."""
        self.clear()
        (self.path / "log.txt").unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else has put something there
                folder.rmdir()

    @contextlib.contextmanager
    def logging(self, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Send the recipes', Lightning's and Python's warnings' messages to log.txt, with time stamps (rank 0).

        Makes the folder. Where an error comes before ``begun()`` holds, and nothing was there before, it is removed.
        """
        handlers: list[tuple[logging.Logger, logging.Handler]] = []
        level, refused = log.level, False
        made: list[Path] = []
        if is_rank_zero():
            require_writable(self.path, "--root_dir")
            made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
            self.path.mkdir(parents=True, exist_ok=True)
            to_file = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
            to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            for name in ("recipes", "lightning.pytorch", "lightning.fabric", "py.warnings"):
                handlers.append((logging.getLogger(name), to_file))
            to_console = logging.StreamHandler(sys.stdout)
            to_console.setFormatter(logging.Formatter("%(message)s"))
            handlers.append((log, to_console))
            log.setLevel(logging.INFO)
        logging.captureWarnings(True)
        to_stderr = logging.StreamHandler()  # captureWarnings takes the console away from warnings: give it back
        handlers.append((logging.getLogger("py.warnings"), to_stderr))
        for logger, handler in handlers:
            logger.addHandler(handler)
        try:
            yield
        except Exception as error:
            if is_rank_zero():
                refused = self.path in made and not begun() and not self.is_taken()
                log.error("stopped: %s", error) if not isinstance(error, FusionError) or not refused else None
            raise
        finally:
            logging.captureWarnings(False)
            for logger, handler in handlers:
                logger.removeHandler(handler)
                handler.close()
            log.setLevel(level)
            if refused:
                self.forget(made)
