"""The network of every epoch, as `fusionconv.load` reads it: --keep every."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

__all__ = ["EveryEpoch"]


class EveryEpoch(Callback):
    """Writes ``epochs/000``, ``epochs/001`` and so on.

    Args:
        folder: of the run.
        save: writes a network into a folder.
    """

    def __init__(self, folder: Path, save: Callable[[nn.Module, Path], None]) -> None:
        self.folder, self.save = folder / "epochs", save

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation has been done by then."""
        if trainer.is_global_zero:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            self.save(network, self.folder / f"{trainer.current_epoch:03d}")
