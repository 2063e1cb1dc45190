"""A killed training goes on exactly: an order of images by seed and epoch, and checkpoints within an epoch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler


class ResumableOrder(DistributedSampler[Any]):
    """torch's DistributedSampler, whose order is a function of (seed, epoch), that can begin within an epoch.

    Also for one process: then it is a random permutation per epoch.

    Args:
        dataset: what has a length.
        trainer: whose world size, rank and restored progress count; None: one process, from the start.
        batch_size: items per batch and process.
    """

    def __init__(self, dataset: Dataset[Any], trainer: Trainer | None, batch_size: int) -> None:
        world, rank = (trainer.world_size, trainer.global_rank) if trainer is not None else (1, 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        super().__init__(dataset, num_replicas=world, rank=rank, shuffle=True, seed=seed)
        self.first_epoch, self.done = 0, 0  # items of that epoch that a resumed run has behind it
        if trainer is None:
            return
        # Lightning has restored its counts by now; it asks for the loader, and with workers fetches, before set_epoch.
        epochs, batches = trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_loop.batch_progress.current
        within = 0 < batches.ready < -(-len(self) // batch_size) and epochs.processed < epochs.ready
        self.first_epoch = epochs.processed if within else epochs.ready
        self.done = batches.ready * batch_size if within else 0
        self.set_epoch(self.first_epoch)

    def __iter__(self) -> Iterator[Any]:
        """The indices of this epoch; of the epoch in which a resumed run begins, those that are left."""
        order = list(super().__iter__())
        return iter(order[self.done :] if self.epoch == self.first_epoch else order)


class ExactResume(Callback):
    """Writes a checkpoint every few minutes, within an epoch too, and puts back torch's random numbers on resuming.

    The loaders must have generators of their own, or making an iterator would draw from torch's. On one device a
    resumed CPU run then has the very figures of one that was never stopped. On several, dropout differs: the state of
    rank 0 is kept.

    A checkpoint is not taken at a step whose figures are logged, since Lightning logs them after it: with
    `log_every_n_steps` 1 there are checkpoints at the ends of epochs only.

    Args:
        path: the checkpoint, the same that is written at the end of an epoch.
        minutes: between two of them; 0: whenever possible.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path, self.minutes = path, minutes
        self._restored: dict[str, Any] | None = None
        self.images, self.seconds = 0, 0.0  # trained, and the time that the training batches took
        self._clock = self._saved = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The random numbers' states as tensors, and how fast the training was."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"torch": torch.get_rng_state(), "cuda": cuda, "images": self.images, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until the first batch: building a network in between draws random numbers."""
        self._restored = state_dict
        self.images, self.seconds = int(state_dict["images"]), float(state_dict["seconds"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock begins."""
        self._clock = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clocks begin (on_train_epoch_start is not called where an epoch is gone on with)."""
        self._clock = self._saved = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before the first batch of a resumed run: the random numbers as they were."""
        if self._restored is None:
            return
        torch.set_rng_state(self._restored["torch"])
        states: list[Tensor] = self._restored["cuda"]
        if torch.cuda.is_available() and len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states)
        self._restored = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and save when it is time."""
        now = time.perf_counter()
        self.images += len(batch["targets"])
        self.seconds += now - self._clock
        self._clock = now
        step, done = trainer.global_step, batch_idx + 1
        validates = trainer.val_check_batch is not None and done % trainer.val_check_batch == 0
        if step % trainer.log_every_n_steps == 0 or validates or done >= trainer.num_training_batches:
            return
        due = now - self._saved >= 60 * self.minutes
        if trainer.world_size > 1:
            due = trainer.strategy.broadcast(due)
        if due:
            trainer.save_checkpoint(self.path)
            self._saved = self._clock = time.perf_counter()
