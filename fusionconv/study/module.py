"""StudyModule: the one LightningModule. It trains a network of one arm on one fold and collects its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from fusionconv.errors import StudyError
from fusionconv.optimizer_groups import param_groups
from fusionconv.study.folds import FoldData
from fusionconv.study.image_answers import ImageAnswers
from fusionconv.study.sequences import drop_sequences, flag_places
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import ImageTask

__all__ = ["StudyModule"]


class StudyModule(LightningModule):
    """A network of one arm and the loss of its task.

    Args:
        network: called as ``network(images)``, or ``network(images, covariates)``.
        data: the fold.
        settings: rates, schedule and so on.
        takes_covariates: whether the network does.
        seed: of the run; each epoch draws its random numbers from (seed, epoch).
        controls: name -> id -> covariates to give in place of the true ones at test.
        frozen: modules with running statistics that stay as they are while their part is frozen.
        later: frozen parameters that are trained from epoch ``settings.unfreeze_epoch`` on.
    """

    def __init__(
        self, network: nn.Module, data: FoldData, settings: Settings, takes_covariates: bool, seed: int,
        controls: Mapping[str, Mapping[str, Tensor]] | None = None, frozen: tuple[nn.Module, ...] = (),
        later: tuple[nn.Parameter, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.data, self.settings, self.takes_covariates = network, data, settings, takes_covariates
        self.seed, self.controls, self.frozen = seed, dict(controls or {}), frozen
        self._later = later
        for parameter in later:
            parameter.requires_grad_(True)  # known to the optimizer and to DDP from the start
        self.task = data.task
        weights = self.task.class_weights(data.targets["train"])
        self.class_weights: Tensor | None
        self.register_buffer(
            "class_weights",
            None if weights is None else torch.as_tensor(weights, dtype=torch.float32),
            persistent=False,
        )
        self.collected: list[pd.DataFrame] = []
        self.predictions: pd.DataFrame | None = None  # of the last validation or test pass
        self._truth = {
            name: target
            for part, table in data.tables.items()
            for name, target in zip(table.ids, data.targets[part], strict=True)
        }
        self._losses = {"train": _Mean(), "judged": _Mean()}  # validation runs inside a training epoch
        self._flags = flag_places(data, settings)
        self.images = ImageAnswers(data, settings) if isinstance(self.task, ImageTask) else None

    def forward(self, batch: Mapping[str, Any], covariates: Tensor | None = None) -> Tensor:
        """Outputs (N, num_outputs) of a batch."""
        if not self.takes_covariates:
            out: Tensor = self.network(batch["image"])
        else:
            out = self.network(batch["image"], batch["covariates"] if covariates is None else covariates)
        return out

    # ---- training ----

    def configure_optimizers(self) -> Any:
        """The optimizer of the settings; covariate parameters in groups of their own."""
        s = self.settings
        rate = s.covariate_lr if isinstance(s.covariate_lr, float) else {"scaled": None, "same": s.lr}[s.covariate_lr]
        rows = self.data.tables["train"].covariates if self.takes_covariates else None
        groups = param_groups(self.network, s.lr, s.weight_decay, rate, s.covariate_weight_decay, covariates=rows)
        make: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adamax": torch.optim.Adamax}
        one_kernel = {"fused": True} if s.optimizer != "adamax" and self._fused_steps() else {}  # a step in one launch
        optimizer = (
            torch.optim.SGD(groups, momentum=s.momentum, **one_kernel)
            if s.optimizer == "sgd"
            else make[s.optimizer](groups, **one_kernel)
        )
        steps = int(self.trainer.estimated_stepping_batches)
        if s.schedule == "constant" or (s.schedule in ("cosine", "onecycle") and steps < 8):
            return optimizer  # too few steps to go up and down in
        rates = [group["lr"] for group in optimizer.param_groups]
        if s.schedule == "multistep":
            each = torch.optim.lr_scheduler.MultiStepLR(optimizer, s.milestones or [s.epochs // 2, 3 * s.epochs // 4])
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": each, "interval": "epoch"}}
        schedule: Any = (
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            if s.schedule == "cosine"
            else torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.25)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _fused_steps(self) -> bool:
        """On a card, unless gradients are scaled (float16): such an optimizer cannot be clipped in Lightning."""
        scaled = getattr(getattr(self.trainer, "precision_plugin", None), "scaler", None) is not None
        return self.device.type == "cuda" and not scaled

    def on_fit_start(self) -> None:
        """On a card 2-D convolutions run in channels_last, the order that its kernels are made for; same numbers."""
        if self.device.type == "cuda":
            in_channels_last(self.network)

    def on_train_epoch_start(self) -> None:
        """Random numbers of (seed, epoch), so that a resumed run draws those of the uninterrupted one."""
        torch.manual_seed((1_000_003 * (self.seed + 1) + self.current_epoch) % 2**63)
        self._losses["train"] = _Mean()
        for module in self.frozen:
            module.train(self._thawed)

    @property
    def _thawed(self) -> bool:
        start = self.settings.unfreeze_epoch
        return start is not None and self.current_epoch >= start

    def on_after_backward(self) -> None:
        """What is still frozen has no gradient: the optimizer, its decay and clipping leave it alone."""
        if not self._thawed:
            for parameter in self._later:
                parameter.grad = None

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The task's loss; with sequence dropout after images went missing."""
        if self.settings.sequence_dropout:
            batch = drop_sequences(batch, self.settings.sequence_dropout, self._flags if self.takes_covariates else ())
        return self._add(self(batch).float(), batch["target"], "train")

    def _add(self, outputs: Tensor, target: Tensor, what: str) -> Tensor:
        """The loss of a batch, which is added to the epoch's."""
        loss = self.task.loss(outputs, (target - self.data.center) / self.data.scale, self.class_weights)
        self._losses[what].add(loss.detach(), len(target))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss, weighted by rows; stop where it is no longer a number."""
        loss = self._losses["train"].value
        if not math.isfinite(loss):
            raise StudyError(
                f"expected a finite training loss, got {loss} in epoch {self.current_epoch} with lr "
                f"{self.settings.lr:g}; "
                "start with a smaller rate, or check the images' range"
            )
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        group = self.trainer.optimizers[0].param_groups[0]
        self.log("lr", group["lr"], sync_dist=True)
        momentum = group.get("momentum", group.get("betas", (None,))[0])
        if momentum is not None:
            self.log("momentum", momentum, sync_dist=True)

    # ---- validation and test: rows are collected, and measured once over all processes ----

    def on_validation_epoch_start(self) -> None:
        """Nothing is left of an earlier pass."""
        self.collected = []
        self._losses["judged"] = _Mean()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect answers to the true covariates."""
        self._collect(batch, {})

    def test_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect answers to the true covariates and to each control."""
        self._collect(batch, self.controls if self.takes_covariates else {})

    def _collect(self, batch: dict[str, Any], controls: Mapping[str, Mapping[str, Tensor]]) -> None:
        given: dict[str, Tensor | None] = {"true": None}
        for name, rows in controls.items():
            given[name] = torch.stack([rows[i] for i in batch["id"]]).to(batch["covariates"])
        if self.images is not None:
            for name, covariates in given.items():
                raw = self.images.whole(self, batch, covariates)
                if name == "true":
                    self._add(raw, batch["target"], "judged")
                self.collected.append(self.images.rows(batch, raw, name))
            return
        truth = self.task.truth(np.stack([self._truth[i] for i in batch["id"]]))  # as the table has them, in float64
        for name, covariates in given.items():
            raw = self(batch, covariates).float()
            if name == "true":
                self._add(raw, batch["target"], "judged")
            outputs = raw.double().cpu().numpy() * self.data.scale + self.data.center
            self.collected.append(
                pd.DataFrame({"id": batch["id"], "control": name, **truth, **self.task.answers(outputs)})
            )

    def _finish(self) -> pd.DataFrame:
        rows = pd.concat(gathered(self.collected), ignore_index=True).drop_duplicates(["id", "control"])
        scores = rows[self.task.score_columns(rows) if self.images is None else self.images.always]
        if not bool(scores.notna().all(axis=None)):
            raise StudyError(
                "expected numbers from the network, got NaN: its weights are not finite; give a smaller --lr"
            )
        return self.task.decide(rows)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self.predictions = self._finish()
        metrics = {"loss": self._losses["judged"].value, **self.task.measure(self.predictions)}
        for name, value in metrics.items():
            self.log(f"val/{name}", value, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Keep the rows."""
        self.predictions = self._finish()
        self.mean_loss = self._losses["judged"].value


def in_channels_last(network: nn.Module) -> None:
    """Weights of 2-D convolutions in channels_last, which images and maps then follow; all others stay as they are.

    >>> network = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv3d(8, 8, 3))
    >>> in_channels_last(network)
    >>> network[0].weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:  # Module.to(memory_format=...) refuses the five of a hybrid layer's V
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


class _Mean:
    """A mean over rows, of the means of batches."""

    def __init__(self) -> None:
        self.sum, self.rows = torch.zeros(()), 0

    def add(self, mean: Tensor, rows: int) -> None:
        self.sum = self.sum.to(mean.device) + mean * rows
        self.rows += rows

    @property
    def value(self) -> float:
        return float(self.sum) / max(self.rows, 1)


def gathered(frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """The frames of all processes; every process must call it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return frames
    lists: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(lists, frames)
    return [frame for part in lists for frame in part]
