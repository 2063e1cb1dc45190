"""What the recipes' trainers share: a user's callbacks, checkpoints, a line an epoch, no advertisements."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def as_list(given: Any) -> list[Any]:
    """What Lightning takes as one, several or none, as a list."""
    return [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint of the recipe's own. Lightning tells callbacks apart by class and options; a user's may be alike."""


def best_checkpoint(trainer: Trainer) -> RunCheckpoint | None:
    """The callback that keeps the recipe's best checkpoint, whatever others a user has added."""
    own = [c for c in trainer.callbacks if isinstance(c, RunCheckpoint) and c.monitor is not None]  # type: ignore[attr-defined]
    return own[0] if own else None


class EpochLog(Callback):
    """A line in the log for every epoch: its number and the newest value of what was measured.

    Args:
        log: where it goes.
        columns: names as they are logged, such as ``train/loss``, in this order.
    """

    def __init__(self, log: logging.Logger, columns: tuple[str, ...] | list[str]) -> None:
        self.to_log, self.columns = log, tuple(columns)
        self._first: int | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The values of the epoch before are complete now."""
        if self._first is None:
            self._first = trainer.current_epoch
        else:
            self._write(trainer, trainer.current_epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch. Lightning has counted it already, unless it was stopped within."""
        if self._first is not None and trainer.current_epoch > self._first:
            self._write(trainer, trainer.current_epoch)

    def _write(self, trainer: Trainer, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        measured = {
            name: float(trainer.callback_metrics[name]) for name in self.columns if name in trainer.callback_metrics
        }
        values = ", ".join(f"{name} {value:.4f}" for name, value in measured.items() if not math.isnan(value))
        of = f" of {trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        self.to_log.info("epoch %d%s, step %d: %s", epoch, of, trainer.global_step, values or "nothing was measured")


def hide_advertisements() -> None:
    """Keep Lightning's advice to install other products out of the console and the log."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logger = logging.getLogger(name)
        if _is_no_advertisement not in logger.filters:
            logger.addFilter(_is_no_advertisement)


def _is_no_advertisement(said: logging.LogRecord) -> bool:
    text = said.getMessage().lower()
    return not any(word in text for word in ("litlogger", "litmodels", "lightning.ai", "\N{ELECTRIC LIGHT BULB}"))
