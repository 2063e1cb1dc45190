"""CelebAStudy: one arm as a LightningModule; what it learns, logs, and writes into its checkpoint."""

from __future__ import annotations

import math
import os
import time
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from fusionconv.errors import CheckpointError, SurgeryError
from fusionconv.tabular import CovariateEncoder
from recipes.celeba.arms import Arm, Mode, build_network, smallest_image
from recipes.celeba.data import CelebAData
from recipes.celeba.images import prepare
from recipes.celeba.results import COLUMNS, measure
from recipes.common.checkpoint import note_key, read_note
from recipes.common.gathering import gather_rows
from recipes.common.runs import RunError

# What a checkpoint from before an option existed would say of it.
ADDED_LATER: dict[str, Any] = {"method": "hybrid", "method_options": {}, "constant": None}


class CelebAStudy(LightningModule):
    """VGG16-BN, plain or hybrid, trained with cross-entropy and Adam (no decay, no schedule), as in the study.

    Args:
        arm: plain (images only) or hybrid (images and covariates).
        mode: corrected, or as_published with the study's own choices (arms.py says which).
        layer_idx: the convolution(s) that become hybrid: a number in registration order (negative from the end), a
            dotted name, or a list of them.
        weights: imagenet (torchvision's), none, or a file (weights.py says which files).
        classifier_width: width of the two hidden Linear layers (4096 is VGG16's own).
        lr: Adam's learning rate. The study's best plain and hybrid runs had 1e-5; give both arms the same.
        strategy: how the hybrid convolution is computed.
        calibration_images: training images for the batch norms when the weights have none (weights.py).
        target: set by --data.target.
        covariates: set by --data.covariates.
        image_size: set by --data.image_size.
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
        target: str = "Attractive",
        covariates: list[str] = ["Male"],  # noqa: B006 (jsonargparse shows it as the default; never changed)
        image_size: int = 224,
        method: str = "hybrid",
        method_options: dict[str, Any] | None = None,
        constant: float | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if image_size < smallest_image(arm, mode):
            raise SurgeryError(
                f"VGG16 halves the image five times: the {mode} {arm} arm needs --data.image_size of at least "
                f"{smallest_image(arm, mode)}, and {image_size} was given."
            )
        if arm == "hybrid" and not covariates:
            raise SurgeryError("the hybrid arm needs at least one covariate: give --data.covariates '[Male]'.")
        self.network: nn.Module | None = None
        # What goes into the checkpoint and must agree when it is loaded.
        self.identity = {
            "arm": arm,
            "mode": mode,
            "layer_idx": layer_idx,
            "classifier_width": classifier_width,
            "target": target,
            "covariates": list(covariates),
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
            strategy=h.strategy, calibration=self._calibration_images, method=h.method, method_options=h.method_options,
        )  # fmt: skip

    def _calibration_images(self) -> Tensor:
        images = self.trainer.datamodule.calibration_images(self.hparams.calibration_images)
        device = self.trainer.strategy.root_device
        return prepare([image.to(device) for image in images], self.hparams.image_size, self.hparams.mode)

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """Logits (N, 2) of prepared images (N, 3, H, W); the plain arm leaves the covariates aside."""
        assert self.network is not None, "configure_model() builds the network; Lightning calls it"
        return self.network(images, covariates) if self.hparams.arm == "hybrid" else self.network(images)

    def predict_logits(self, batch: dict[str, Any]) -> Tensor:
        """Logits of a batch of raw images: they are resized and normalised here, on the device."""
        return self(prepare(batch["images"], self.hparams.image_size, self.hparams.mode), batch["covariates"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over whatever is not frozen."""
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=self.hparams.lr)

    # ---- training ----

    def on_fit_start(self) -> None:
        """Take the encoder that the data fitted (or that a checkpoint brought)."""
        self.encoder = self.trainer.datamodule.encoder
        self.history["seed"] = int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None
        self._clock = time.perf_counter()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor | None:
        """Cross-entropy. The logged values are means since the last logged step."""
        if len(batch["targets"]) == 0:  # --data.on_error skip, and no image of this batch decodes
            if self.trainer.world_size > 1:
                raise RunError(
                    "a whole batch does not decode; on several devices every process needs one image a step."
                )
            return None
        logits = self.predict_logits(batch)
        loss = F.cross_entropy(logits, batch["targets"])
        self.window["loss"].update(loss.detach(), len(batch["targets"]))
        self.window["accuracy"].update((logits.argmax(1) == batch["targets"]).float())
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
        if not math.isfinite(loss):
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
        self.rows.append(
            pd.DataFrame(
                {
                    "index": batch["index"].cpu(),
                    "probability": logits.softmax(1)[:, 1].cpu(),
                    "target": batch["targets"].cpu(),
                    "loss": F.cross_entropy(logits, batch["targets"], reduction="none").cpu(),
                }
            )
        )

    def _evaluation_epoch_end(self, prefix: str) -> None:
        self.predictions = gather_rows(self.rows, COLUMNS)
        self.rows = []
        metrics, _ = measure(self.predictions)
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
        for key, (mean, weight, count) in note.get("window", {}).items():
            metric = self.window[key]
            metric.mean_value, metric.weight, metric._update_count = mean, weight, count
        if self._trainer is not None and isinstance(self.trainer.datamodule, CelebAData):
            self.trainer.datamodule.encoder = self.encoder

    def require_same(self, note: dict[str, Any]) -> None:
        """Raise unless a checkpoint's note is of a model like this one."""
        for key, mine in self.identity.items():
            its = note.get(key, ADDED_LATER.get(key))
            if its != mine:
                side = "data" if key in ("target", "covariates", "constant") else "model"
                raise CheckpointError(
                    f"the checkpoint's {key} is {its!r}, and this run's is {mine!r} (names and order count). "
                    f"Give --{side}.{key} as in the checkpoint, or another checkpoint."
                )
