"""BrainStudy: one arm as a LightningModule; what it learns, collects, and writes into its checkpoint."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import pandas as pd
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fusionconv import param_groups
from fusionconv.errors import CheckpointError
from fusionconv.tabular import CovariateEncoder
from recipes.adni.arms import Arm, build_network
from recipes.adni.tasks import Task
from recipes.adni.weights import load_weights
from recipes.common.checkpoint import note_key, read_note
from recipes.common.gathering import gather_rows
from recipes.common.runs import RunError


class BrainStudy(LightningModule):
    """A 3-D network of one arm, trained with AdamW.

    Args:
        arm: image (the volume alone), concat (covariates beside the last layer's features), hybrid (covariates in the
            convolutions of layer_idx); covariates (no image; crossval only).
        network: conv5_fc3, small_resnet, densenet121, resnet10, resnet18, resnet50, or a name in monai.networks.nets.
        network_options: further arguments of the network.
        layer_idx: hybrid: the convolution(s) that take the covariates: first, last, a dotted name, a number in
            registration order (negative from the end), or a list of them.
        fusion_options: hybrid: what else fuse_into takes, such as {rank: 2} or {covariate_bias: true}.
        weights: a file to start from: a checkpoint of this recipe, or a state dict; what does not fit by name and
            shape is named and stays new.
        lr: learning rate; the same for all arms, or it is not the arms that are compared.
        weight_decay: AdamW's; the covariate parameters have none (fusionconv.param_groups).
        covariate_lr: learning rate of the covariate parameters; the default is lr.
        schedule: constant; cosine: down to zero over all steps; onecycle: up to lr and down again.
        task: set by --data.task.
        covariates: set by --data.covariates.
    """

    def __init__(
        self,
        arm: Arm = "image",
        network: str = "conv5_fc3",
        network_options: dict[str, Any] = {},  # noqa: B006 (jsonargparse shows it as the default; never changed)
        layer_idx: int | str | list[int | str] = 0,
        fusion_options: dict[str, Any] = {},  # noqa: B006
        weights: str | None = None,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        covariate_lr: float | None = None,
        schedule: Literal["constant", "cosine", "onecycle"] = "onecycle",
        task: Task = Task(),  # noqa: B008
        covariates: list[str] = ["age", "sex"],  # noqa: B006
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["task"])  # it goes into the note, as plain values
        self.task = task
        self.network: nn.Module | None = None
        # What goes into the checkpoint and must agree when it is loaded.
        self.identity = {
            "arm": arm,
            "network": network,
            "network_options": dict(network_options),
            "layer_idx": layer_idx if arm == "hybrid" else None,
            "fusion_options": dict(fusion_options) if arm == "hybrid" else {},
            "task": asdict(task),
            "covariates": list(covariates),
        }
        self.num_covariates: int | None = None  # K, known when the encoder is
        self.encoder: CovariateEncoder | None = None
        self.scale = (0.0, 1.0)  # of a regression's target: mean and standard deviation in training
        self.preparation: dict[str, Any] = {}
        self.window = MeanMetric(nan_strategy="disable", sync_on_compute=False)
        self.collected: list[pd.DataFrame] = []
        self.predictions: pd.DataFrame | None = None  # of the last validation or test epoch
        self.controls: dict[str, Mapping[str, Tensor]] = {}  # control -> id -> covariates to be given in its place
        self.history: dict[str, Any] = {"epochs": 0, "steps": 0, "seconds": 0.0, "seed": None, "loaded": None}

    # ---- the network: built late, when the encoder has told how many covariates there are ----

    def configure_model(self) -> None:
        """Build the network."""
        if self.network is not None:
            return
        h = self.hparams
        data = getattr(self._trainer, "datamodule", None) if self._trainer is not None else None
        if self.num_covariates is None and data is not None:
            self.num_covariates = data.num_covariates
        if h.arm == "covariates":
            raise RunError("the arm 'covariates' has no network to fit: run it with crossval.")
        self.network = build_network(
            h.arm, h.network, self.task.num_outputs, self.num_covariates or 0, h.layer_idx, h.network_options,
            h.fusion_options,
        )  # fmt: skip
        fresh = self._trainer is not None and self.trainer.state.fn == "fit" and not self.trainer.ckpt_path
        if h.weights is not None and fresh:
            self.history["loaded"] = load_weights(self.network, h.weights)

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """Outputs (N, task.num_outputs) of volumes (N, 1, *size); the image arm leaves the covariates aside."""
        assert self.network is not None, "configure_model() builds the network; Lightning calls it"
        return self.network(images) if self.hparams.arm == "image" else self.network(images, covariates)

    def configure_optimizers(self) -> Any:
        """AdamW; the covariate parameters in a group of their own, without decay."""
        h = self.hparams
        optimizer = torch.optim.AdamW(param_groups(self, h.lr, h.weight_decay, h.covariate_lr))
        steps = int(self.trainer.estimated_stepping_batches)
        if h.schedule == "constant" or steps < 8:  # too few steps to go up and down in
            return optimizer
        if h.schedule == "cosine":
            schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        else:
            rates = [group["lr"] for group in optimizer.param_groups]
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.25)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ---- training ----

    def on_fit_start(self) -> None:
        """Take over what the data know (or a checkpoint brought)."""
        data = self.trainer.datamodule
        self.encoder, self.scale, self.preparation = data.encoder, data.target_scale(), asdict(data.preparation)
        self.history["seed"] = int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None
        self._clock = time.perf_counter()

    def _targets(self, batch: dict[str, Any]) -> Tensor:
        """Targets as the loss takes them: those of a regression standardised."""
        target: Tensor = batch["target"]
        return (target - self.scale[0]) / self.scale[1] if self.task.kind == "regression" else target

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The task's loss. The logged value is the mean over the epoch."""
        loss = self.task.loss(self(batch["image"], batch["covariates"]), self._targets(batch))
        self.window.update(loss.detach(), len(batch["id"]))
        self.log("train/loss", loss.detach(), prog_bar=True, logger=False)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss; stop where it is no longer a number."""
        if self.window.update_count == 0:
            return
        loss = self.window.compute()
        self.window.reset()
        if not math.isfinite(float(loss)):
            raise RunError(
                f"the training loss is {float(loss)} in epoch {self.current_epoch}, with --model.lr "
                f"{self.hparams.lr:g} and --trainer.precision {self.trainer.precision}. Start with a smaller rate."
            )
        for logger in self.trainer.loggers:
            logger.log_metrics({"train/loss": float(loss), "epoch": self.current_epoch}, step=self.global_step)

    def answers(self, outputs: Tensor) -> dict[str, Any]:
        """The columns of predictions.csv that outputs become; those of a regression in the target's unit."""
        columns = self.task.rows(outputs)
        if self.task.kind == "regression":
            columns["prediction"] = columns["prediction"] * self.scale[1] + self.scale[0]
        return columns

    # ---- validation and test: rows are collected, and measured once over all processes ----

    def _collect(self, batch: dict[str, Any]) -> None:
        given: dict[str, Tensor] = {"true": batch["covariates"]}
        for name, rows in self.controls.items():
            given[name] = torch.stack([rows[i] for i in batch["id"]]).to(batch["covariates"])
        for control, covariates in given.items():
            outputs = self(batch["image"], covariates).float()
            columns = self.answers(outputs)
            target = batch["target"].double().cpu().numpy()
            names = ["time", "event"] if self.task.kind == "survival" else ["target"]
            answers = dict(zip(names, target.reshape(len(target), -1).T, strict=True))
            frame = pd.DataFrame({"id": batch["id"], "control": control, **answers, **columns})
            self.collected.append(frame.assign(index=[f"{control}/{i}" for i in batch["id"]]))

    def _finish(self, prefix: str) -> None:
        rows = gather_rows(self.collected, ["id", "control"]).drop(columns="index")
        self.collected = []
        self.predictions = rows
        true = rows[rows["control"] == "true"]
        answers = true.drop(columns=["id", "control"])
        if not bool(answers.notna().all(axis=None)):
            raise RunError(
                "the network's answers are not numbers: its weights are NaN or infinite. Start again with a smaller "
                "--model.lr."
            )
        for name, value in self.task.measure(true).items():
            self.log(f"{prefix}/{name}", value, prog_bar=name == self.task.monitor[0], sync_dist=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the rows of a batch."""
        self._collect(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._finish("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the rows of a batch, for the true covariates and for each control."""
        self._collect(batch)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._finish("test")

    # ---- the checkpoint: only tensors and plain types, so that weights_only=True loads it ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what the model is, the encoder, the preparation, and how long it has been trained."""
        now = time.perf_counter()
        self.history["seconds"] += now - getattr(self, "_clock", now)
        self._clock = now
        self.history |= {"epochs": self.current_epoch + 1, "steps": self.global_step}
        data = self.trainer.datamodule
        checkpoint[note_key("adni")] = {
            **self.identity,
            "num_covariates": self.num_covariates,
            "encoder": self.encoder.to_dict() if self.encoder is not None else None,
            "scale": list(self.scale),
            "preparation": {k: list(v) if isinstance(v, tuple) else v for k, v in self.preparation.items()},
            "history": dict(self.history),
            "split": {
                name: getattr(data, name) for name in ("fold", "n_splits", "n_repeats", "val_size", "split_seed")
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model; else take over its encoder, scale and history."""
        note = read_note(checkpoint, "adni")
        self.require_same(note)
        self.take(note)
        if self._trainer is not None and self.trainer.datamodule is not None:
            self.trainer.datamodule.encoder = self.encoder

    def take(self, note: dict[str, Any]) -> None:
        """Take over a checkpoint's encoder, number of covariates, scale, preparation and history."""
        self.encoder = CovariateEncoder.from_dict(note["encoder"]) if note["encoder"] is not None else None
        self.num_covariates = note["num_covariates"]
        self.scale = (note["scale"][0], note["scale"][1])
        self.preparation = note["preparation"]
        self.history = dict(note["history"])

    def require_same(self, note: dict[str, Any]) -> None:
        """Raise unless a checkpoint's note is of a model like this one."""
        for key, mine in self.identity.items():
            if note[key] != mine:
                raise CheckpointError(
                    f"the checkpoint's {key} is {note[key]!r}, and this run's is {mine!r} (names and order count). "
                    f"Give --{'data' if key in ('task', 'covariates') else 'model'}.{key} as in the checkpoint, or "
                    "another checkpoint."
                )
