"""CelebAStudy: one arm as a LightningModule; what it learns, logs, and writes into its checkpoint."""

from __future__ import annotations

import logging
import math
import os
import time
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from fusionconv.errors import CheckpointError
from fusionconv.tabular import CovariateEncoder
from recipes.celeba.arms import Arm, Mode, build_network
from recipes.celeba.attributes import columns_of, rows_of
from recipes.celeba.backbones import check_outputs
from recipes.celeba.data import CelebAData
from recipes.celeba.images import prepare
from recipes.celeba.objective import Loss, Objective, target_names
from recipes.celeba.options import check_options
from recipes.celeba.phases import Features, OptimizerName, Schedule, make_optimizer, make_scheduler
from recipes.celeba.results import measure_all
from recipes.common.checkpoint import note_key, read_note
from recipes.common.gathering import gather_rows
from recipes.common.runs import RunError

log = logging.getLogger("recipes.celeba")


class CelebAStudy(LightningModule):
    """One arm, plain or hybrid; as in the study: VGG16-BN, cross-entropy, Adam without decay or schedule.

    Args:
        arm: plain (images only) or hybrid (images and covariates).
        mode: corrected, or as_published with the study's own choices (arms.py says which).
        layer_idx: the convolution(s) that become hybrid: first, last, a dotted name, a number in registration order
            (negative from the end), or a list of them.
        weights: imagenet (torchvision's), none, or a file (weights.py says which files).
        classifier_width: width of the two hidden Linear layers (4096 is VGG16's own).
        lr: the learning rate. The study's best plain and hybrid runs had 1e-5; give both arms the same.
        strategy: how the hybrid convolution is computed.
        calibration_images: training images for the batch norms when the weights have none (weights.py).
        target: set by --data.target.
        covariates: set by --data.covariates.
        image_size: set by --data.image_size.
        arch: the network: vgg16_bn, or another classification network of torchvision or timm (timm:NAME) by name.
        loss: auto: cross_entropy for one target, bce for several. mse: targets -1 and 1, squared error, threshold 0.
        optimizer: adam, adamax, adamw or sgd (momentum 0.9).
        weight_decay: of everything but what the covariates multiply.
        schedule: of the learning rate over the training's steps: constant, one_cycle (up, then down) or cosine (down).
        freeze_epochs: so many epochs at first train the head and the covariate kernels only; the features and their
            batch norm statistics stay as they are. Each phase has its own schedule.
        finetune_factor: the epochs after these have this multiple of lr.
        channels_last: images and kernels with the channels last in memory: faster on GPUs with half precision.
        compile: torch.compile the network: true, false, or the name of one of its backends.
        method: how the hybrid arm puts the covariates in, as `fusionconv.fuse_into` names it: hybrid, film, concat, ...
        method_options: the method's own options, such as {hidden: 16} for concat.
        constant: set by --data.constant.
    """

    def __init__(
        self,
        arm: Arm = "plain",
        mode: Mode = "corrected",
        layer_idx: int | str | list[int | str] = 0,
        weights: str = "imagenet",
        classifier_width: int = 4096,
        lr: float = 1e-5,
        strategy: str = "auto",
        calibration_images: int = 256,
        target: list[str] | str = "Attractive",
        covariates: list[str] = ["Male"],  # noqa: B006 (jsonargparse shows it as the default; never changed)
        image_size: int = 224,
        arch: str = "vgg16_bn",
        loss: Loss = "auto",
        optimizer: OptimizerName = "adam",
        weight_decay: float = 0.0,
        schedule: Schedule = "constant",
        freeze_epochs: int = 0,
        finetune_factor: float = 0.1,
        channels_last: bool = False,
        compile: bool | str = False,
        method: str = "hybrid",
        method_options: dict[str, Any] | None = None,
        constant: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.targets = target_names(target)
        self.objective = Objective.choose(loss, len(self.targets))
        check_options(self.hparams, self.objective)
        self.network: nn.Module | None = None
        # What goes into the checkpoint and must agree when it is loaded.
        self.identity = {
            "arm": arm,
            "mode": mode,
            "layer_idx": layer_idx,
            "classifier_width": classifier_width,
            "target": self.targets[0] if len(self.targets) == 1 else self.targets,
            "covariates": list(covariates),
            "arch": arch,
            "loss": self.objective.loss,
            "method": method,
            "method_options": dict(method_options or {}),
            "constant": constant,
        }
        self.encoder: CovariateEncoder | None = None
        self.window = nn.ModuleDict(
            {key: MeanMetric(nan_strategy="disable", sync_on_compute=False) for key in ("loss", "accuracy")}
        )
        self.rows: list[pd.DataFrame] = []
        self.predictions: pd.DataFrame | None = None  # of the last validation or test epoch: all rows, each once
        self.features: Features | None = None  # of a first phase with frozen features
        self.searching = False  # lr_find: a loss that is not a number is part of the search
        self.fold: list[int] | None = None  # of cross-validation
        self._clock = time.perf_counter()
        self.history = {"epochs": 0, "steps": 0, "seconds": 0.0, "seed": None}  # what the weights have been through

    # ---- the network: built late, when it is known whether a checkpoint follows and on which device ----

    def configure_model(self) -> None:
        """Build the network. Pretrained weights are fetched only where no checkpoint will fill the network."""
        if self.network is not None:
            return
        h = self.hparams
        trainer = self._trainer
        fresh = trainer is not None and trainer.state.fn == "fit" and not trainer.ckpt_path
        self.network = build_network(
            h.arm, h.mode, h.layer_idx, len(h.covariates), h.weights if fresh else "none", h.classifier_width,
            num_classes=self.objective.outputs, strategy=h.strategy, calibration=self._calibration_images,
            method=h.method, method_options=h.method_options, arch=h.arch,
        )  # fmt: skip
        if h.arch != "vgg16_bn":
            rows = len(h.covariates) if h.arm == "hybrid" else None
            check_outputs(self.network, h.arch, h.image_size, rows, self.objective.outputs)
        if h.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if h.compile and trainer is not None:
            self.network.compile(**({} if h.compile is True else {"backend": h.compile}))

    def _calibration_images(self) -> Tensor:
        images = self.trainer.datamodule.calibration_images(self.hparams.calibration_images)
        device = self.trainer.strategy.root_device
        return prepare([image.to(device) for image in images], self.hparams.image_size, self.hparams.mode)

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """Outputs (N, O) of prepared images (N, 3, H, W); the plain arm leaves the covariates aside."""
        assert self.network is not None, "configure_model() builds the network; Lightning calls it"
        return self.network(images, covariates) if self.hparams.arm == "hybrid" else self.network(images)

    def predict_logits(self, batch: dict[str, Any]) -> Tensor:
        """Logits of a batch of raw images: they are resized and normalised here, on the device."""
        images = prepare(batch["images"], self.hparams.image_size, self.hparams.mode)
        if self.hparams.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self(images, batch["covariates"])

    def configure_optimizers(self) -> Any:
        """The optimizer over whatever is not frozen, and the learning rate of every step where it changes."""
        h = self.hparams
        optimizer = make_optimizer(self.network, h.optimizer, h.lr, h.weight_decay)
        if h.schedule == "constant" and not h.freeze_epochs:
            return optimizer
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            raise RunError("a schedule and frozen epochs need to know the length: give --trainer.max_epochs.")
        if h.freeze_epochs and self.trainer.world_size > 1:
            raise RunError(
                "--model.freeze_epochs works on one device: DDP decides at its start which gradients it averages. "
                "Train the first phase with --trainer.devices 1."
            )
        if h.freeze_epochs >= epochs:
            log.warning("all %d epochs have frozen features: there is no fine-tuning (--trainer.max_epochs)", epochs)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = make_scheduler(
            optimizer, h.schedule, steps, epochs, min(h.freeze_epochs, epochs), h.finetune_factor
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- the first phase: features frozen ----

    def on_train_start(self) -> None:
        """Find what a first phase freezes, also when a run goes on in the middle of one."""
        if self.hparams.freeze_epochs:
            self.features = Features(self.network)
            self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Freeze the features, or thaw them when their epochs are over."""
        frozen = self.current_epoch < self.hparams.freeze_epochs
        if self.features is not None and self.features.frozen != frozen:
            self.features.freeze(frozen)

    def train(self, mode: bool = True) -> CelebAStudy:
        """As every module's; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if mode and self.features is not None:
            self.features.hold_statistics()
        return self

    # ---- training ----

    def setup(self, stage: str) -> None:
        """Take the encoder that the data fitted; a checkpoint brings its own later."""
        if stage != "fit":
            return
        data = self.trainer.datamodule
        if data.augment and self.hparams.mode == "as_published":
            raise RunError("mode as_published trained without crops and flips: leave --data.augment out.")
        self.encoder = data.encoder
        self.fold = fold_of(data)

    def on_fit_start(self) -> None:
        """Begin to count the seconds."""
        self.history["seed"] = int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None
        self._clock = time.perf_counter()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """The loss. The logged values are means since the last logged step."""
        if len(batch["targets"]) == 0:  # --data.on_error skip, and no image of this batch decodes
            if self.trainer.world_size > 1:
                raise RunError(
                    "a whole batch does not decode; on several devices every process needs one image a step."
                )
            return None
        logits = self.predict_logits(batch)
        loss = self.objective.losses(logits, batch["targets"])
        self.window["loss"].update(loss.detach(), len(batch["targets"]))
        self.window["accuracy"].update(self.objective.right(logits.detach(), batch["targets"]))
        self._log_window(prog_bar=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Begin a new window after each logged step, and stop there when the loss is no longer a number."""
        if self.global_step % self.trainer.log_every_n_steps == 0:
            self._check_and_reset_window()

    def on_train_epoch_end(self) -> None:
        """Log the rest of the epoch, so that a short one leaves a point on the curve too."""
        if self.window["loss"].update_count:
            self._log_window()
            self._check_and_reset_window()

    def _log_window(self, prog_bar: bool = False) -> None:
        values = {f"train/{key}": metric.compute() for key, metric in self.window.items()}
        self.log_dict(values, prog_bar=prog_bar, on_step=prog_bar, on_epoch=not prog_bar)

    def _check_and_reset_window(self) -> None:
        if self.window["loss"].update_count == 0:
            return
        loss = float(self.window["loss"].compute())
        if not math.isfinite(loss) and not self.searching:
            raise RunError(
                f"the training loss is {loss} by step {self.global_step}, with --model.lr {self.hparams.lr:g} and "
                f"--trainer.precision {self.trainer.precision}. Start again with a smaller learning rate; checkpoints "
                "of earlier epochs are kept."
            )
        for metric in self.window.values():
            metric.reset()

    # ---- validation and test: rows are collected, and measured once over all processes ----

    def _evaluation_step(self, batch: dict[str, Any]) -> None:
        if len(batch["targets"]) == 0:
            return
        logits = self.predict_logits(batch).float()
        self.rows.append(rows_of(self.objective, self.targets, logits, batch["targets"], batch["index"]))

    def _evaluation_epoch_end(self, prefix: str) -> None:
        self.predictions = gather_rows(self.rows, columns_of(self.targets))
        self.rows = []
        metrics = measure_all(self.predictions, self.targets)
        # Every process has all rows and so the same values; sync_dist only tells Lightning that they may be averaged.
        self.log_dict({f"{prefix}/{key}": value for key, value in metrics.items()}, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the rows of a batch."""
        self._evaluation_step(batch)

    def on_validation_epoch_end(self) -> None:
        """Log val/loss, val/accuracy, val/f1_macro and val/auroc."""
        self._evaluation_epoch_end("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Collect the rows of a batch."""
        self._evaluation_step(batch)

    def on_test_epoch_end(self) -> None:
        """Log test/loss, test/accuracy, test/f1_macro and test/auroc."""
        self._evaluation_epoch_end("test")

    # ---- the checkpoint: only tensors and plain types, so that weights_only=True loads it ----

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what the model is, the encoder, and how long it has been trained."""
        now = time.perf_counter()
        self.history["seconds"] += now - self._clock
        self._clock = now
        whole = self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch  # else within an epoch
        self.history |= {"epochs": self.current_epoch + int(whole), "steps": self.global_step}
        encoder = self.encoder.to_dict() if self.encoder is not None else None
        checkpoint[note_key("celeba")] = {
            **self.identity,
            "encoder": encoder,
            "history": dict(self.history),
            "fold": self.fold,
            # What was trained since the last logged step, so that a resumed run logs the same means.
            "window": {
                key: [metric.mean_value.cpu(), metric.weight.cpu(), metric.update_count]
                for key, metric in self.window.items()
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model; else take over its encoder and history."""
        note = read_note(checkpoint, "celeba")
        self.require_same(note)
        self.encoder = CovariateEncoder.from_dict(note["encoder"]) if note["encoder"] is not None else None
        self.history = dict(note["history"])
        self.fold = note.get("fold")
        for key, (mean, weight, count) in note.get("window", {}).items():
            metric = self.window[key]
            metric.mean_value, metric.weight, metric._update_count = mean, weight, count
        if self._trainer is not None and isinstance(self.trainer.datamodule, CelebAData):
            self.trainer.datamodule.encoder = self.encoder
            if fold_of(self.trainer.datamodule) != self.fold:
                raise CheckpointError(
                    f"the checkpoint was trained on fold {self.fold} (fold, folds; None: the official splits), and "
                    f"--data.fold and --data.folds say {fold_of(self.trainer.datamodule)}: it could be judged on "
                    "its own training images. Leave the two as they were in the fit."
                )

    def require_same(self, note: dict[str, Any]) -> None:
        """Raise unless a checkpoint's note is of a model like this one."""
        for key, mine in self.identity.items():
            its = note.get(key)
            if its != mine:
                side = "data" if key in ("target", "covariates", "constant") else "model"
                raise CheckpointError(
                    f"the checkpoint's {key} is {its!r}, and this run's is {mine!r} (names and order count). "
                    f"Give --{side}.{key} as in the checkpoint, or another checkpoint."
                )


def fold_of(data: CelebAData) -> list[int] | None:
    """The fold of cross-validation and their number; None for the official splits."""
    return None if data.fold is None else [data.fold, data.folds]
