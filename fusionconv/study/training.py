"""make_trainer: Lightning's Trainer for one run, quiet, with the best epoch kept and every epoch resumable."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger

from fusionconv.errors import StudyError
from fusionconv.study.board import board_logger
from fusionconv.study.curves import CurvesLogger
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import Task

__all__ = ["make_trainer", "quiet"]


def make_trainer(
    folder: Path,
    task: Task,
    settings: Settings,
    validates: bool,
    name: str,
    progress: bool,
    more: Sequence[Callback] = (),
) -> tuple[Trainer, ModelCheckpoint | None]:
    """A trainer, and the callback that knows the best epoch (None: the last epoch counts).

    Args:
        folder: of the run: ``last.ckpt``, ``best.ckpt``, ``metrics.csv``, ``curves.png``.
        task: its metric chooses the epoch.
        settings: epochs, and ``trainer``, Lightning's own options.
        validates: whether there is a validation part to choose on.
        name: for the progress bar.
        progress: show it.
        more: callbacks that are called before the epoch's checkpoint is written.
    """
    callbacks: list[Callback] = [*more]
    best = None
    if validates and settings.select != "last":
        name_of, greater = task.chooses(settings.select)
        best = ModelCheckpoint(
            folder, "best", monitor=f"val/{name_of}", mode="max" if greater else "min",
            save_weights_only=True, enable_version_counter=False,
        )  # fmt: skip
        callbacks.append(best)
    callbacks.append(ModelCheckpoint(folder, "last", enable_version_counter=False))
    if progress:
        callbacks.append(_Bar(name))
    columns = ["train/loss", "val/loss", *(f"val/{m.name}" for m in task.metrics), "lr", "momentum"]
    loggers: list[Logger] = [CurvesLogger(folder, columns, (folder / "last.ckpt").is_file(), settings.unfreeze_epoch)]
    if settings.tensorboard:
        loggers.append(board_logger(folder))
    given: dict[str, Any] = {
        "accelerator": "auto", "devices": 1, "max_epochs": settings.epochs, "callbacks": callbacks,
        "deterministic": "warn",
        "logger": loggers, "enable_progress_bar": False,
        "enable_model_summary": False, "num_sanity_val_steps": 0, "default_root_dir": str(folder),
        "use_distributed_sampler": False, "log_every_n_steps": 1_000_000, "barebones": False,
    }  # fmt: skip
    own = {key: _plain(value) for key, value in settings.trainer.items()}
    extra = own.pop("callbacks", None)
    if extra:
        given["callbacks"] = [*callbacks, *(extra if isinstance(extra, list) else [extra])]
    try:
        return Trainer(**{**given, **own}), best
    except (TypeError, ValueError, ImportError) as error:
        raise StudyError(f"trainer: expected options of Lightning's Trainer, got {own} ({error}); --help trainer lists "
                         "them") from error  # fmt: skip


def _plain(value: Any) -> Any:
    """A word of the command line as a number or a truth value."""
    if not isinstance(value, str):
        return value
    import yaml

    return yaml.safe_load(value)


class _Bar(Callback):
    """One tqdm bar per run: epochs, with the last loss and metric."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show it."""
        from tqdm import tqdm

        if trainer.is_global_zero:
            self.bar = tqdm(total=trainer.max_epochs, initial=trainer.current_epoch, desc=self.name, unit="epoch",
                                 leave=False, dynamic_ncols=True, disable=None)  # fmt: skip

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move it."""
        if self.bar is not None:
            shown = {k.split("/")[-1]: float(v) for k, v in trainer.callback_metrics.items() if k in ("train/loss",)}
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()})
            self.bar.update()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close it."""
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close it."""
        if self.bar is not None:
            self.bar.close()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Dozens of trainers: Lightning's remarks on each, and its advertisements, are left out."""
    os.environ.setdefault("PYTORCH_LIGHTNING_NO_TIPS", "1")
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
