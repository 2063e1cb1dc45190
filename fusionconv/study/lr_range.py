"""``fusionconv lr-find``: a learning-rate range test of one arm, its curve, and a rate to start from."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from fusionconv.errors import StudyError
from fusionconv.study.checks import check_arms, check_options
from fusionconv.study.module import StudyModule
from fusionconv.study.networks import frozen_modules
from fusionconv.study.plan import parse_arms
from fusionconv.study.runs import make_network, run_seed
from fusionconv.study.study import Study
from fusionconv.study.training import make_trainer, quiet

__all__ = ["find_lr", "suggested"]

BETA = 0.98  # of the smoothing: a mean over some 50 steps
FALL = 1e-3  # of the loss: less is noise
DIVERGED = 4.0  # times the lowest loss before: the search ends


def find_lr(
    study: Study, arm: str | Mapping[str, Any], *, out: str | Path, steps: int = 100, min_lr: float = 1e-8,
    max_lr: float = 1.0,
) -> tuple[pd.DataFrame, float | None]:  # fmt: skip
    """Train for some steps at rates that rise from step to step, on the first fold; nothing of it is kept.

    The suggestion, a tenth of the rate with the lowest smoothed loss, is a place to start from (L. N. Smith, WACV
    2017). Give all arms the same rate, and choose it on the validation part. It is not the steepest fall per unit of
    rate: there the noise at the smallest rates wins.

    Args:
        study: table, images, network, training; its ``lr`` is not used, but where ``covariate_lr`` is another rate,
            their ratio is kept.
        arm: one with a network.
        out: folder for ``lr_find.csv`` and ``lr_find.png``.
        steps: how many rates are tried, one a step; at least 20.
        min_lr: the first.
        max_lr: the last.

    Returns:
        Columns ``lr`` and ``smoothed_loss``, and the suggestion; None where the smoothed loss never fell.

    Raises:
        StudyError: an arm without a network; rates or steps that cannot be.
    """
    if not (steps >= 20 and 0 < min_lr < max_lr):
        raise StudyError(
            f"expected --steps of at least 20 and 0 < --min-lr < --max-lr, got {steps}, {min_lr:g} and {max_lr:g}"
        )
    chosen = parse_arms([arm], study.settings)[0]
    if not chosen.has_network:
        raise StudyError(f"arm: expected one with a network, got {chosen.name}; give image or hybrid@first")
    folder = Path(out)
    study.cache = folder / "cache"
    settings = replace(study.of_arm(chosen), schedule="constant", unfreeze_epoch=None, tensorboard=False, epochs=steps)
    check_options([(chosen, settings)], study.rows)
    check_arms([chosen], study.rows, study.folds, study.settings, study.store)
    fold = str(study.folds.columns[0])
    data, seed = study.data(chosen, fold), run_seed(settings.seed, fold, 0)
    search = _Rising(steps, min_lr, max_lr, settings.lr)
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        seed_everything(seed, workers=True, verbose=False)
        network = make_network(chosen, data, settings)
        module = StudyModule(network, data, settings, chosen.takes_covariates, seed, {},
                             frozen_modules(network, settings.freeze))  # fmt: skip
        trainer, _ = make_trainer(Path(scratch), data.task, settings, False, "lr-find", False, [search])
        loader = data.loader("train", settings.batch_size, train=True, seed=seed, patch=settings.part)
        with contextlib.suppress(_Enough):
            trainer.fit(module, loader)
    table = pd.DataFrame({"lr": search.rates, "smoothed_loss": search.losses})
    rate = suggested(table)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "lr_find.csv", index=False)
    _draw(table, rate, folder / "lr_find.png")
    return table, rate


class _Enough(Exception):  # noqa: N818 - it is no error
    """Ends the training."""


class _Rising(Callback):
    """Sets the rate of each step, and keeps the smoothed loss.

    The average a_k = 0.98 a_(k-1) + 0.02 loss_k starts at 0; after k steps it is divided by 1 - 0.98^k.
    """

    def __init__(self, steps: int, low: float, high: float, lr: float) -> None:
        self.planned = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
        self.lr, self.average = lr, 0.0
        self.ratios: list[float] = []
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The rate of this step; groups keep their ratios."""
        groups = trainer.optimizers[0].param_groups
        self.ratios = self.ratios or [group["lr"] / self.lr for group in groups]
        for group, ratio in zip(groups, self.ratios, strict=True):
            group["lr"] = ratio * self.planned[len(self.rates)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The loss; the end after the last rate, and where it has diverged."""
        loss = float(outputs["loss"])
        self.rates.append(self.planned[len(self.rates)])
        self.average = BETA * self.average + (1 - BETA) * loss
        self.losses.append(self.average / (1 - BETA ** len(self.rates)))
        left = [value for value in self.losses if math.isfinite(value)]
        diverged = not math.isfinite(self.losses[-1]) or self.losses[-1] > DIVERGED * min(left)
        if diverged or len(self.rates) == len(self.planned):
            raise _Enough


def suggested(table: pd.DataFrame, skip: int = 10) -> float | None:
    """A tenth of the rate with the lowest smoothed loss; None where the loss never fell by 0.1 %.

    Args:
        table: columns lr (rising) and smoothed_loss.
        skip: the first steps, in which the smoothing has not settled.

    >>> rates = [10.0**e for e in range(-14, 1)]
    >>> suggested(pd.DataFrame({"lr": rates, "smoothed_loss": [9.0] * 10 + [0.7, 0.6, 0.5, 0.8, 2.0]}))
    0.001
    """
    left = table.iloc[skip:]
    left = left[left["smoothed_loss"].map(math.isfinite)]
    loss = left["smoothed_loss"]
    if len(left) < 2 or not loss.min() < (1 - FALL) * loss.iloc[0]:
        return None
    return float(left["lr"].to_numpy()[int(loss.to_numpy().argmin())]) / 10


def _draw(table: pd.DataFrame, rate: float | None, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(table["lr"], table["smoothed_loss"])
    if rate is not None:
        axes.axvline(rate, color="C1", linestyle="--", label=f"suggested: {rate:.1e}")
        axes.legend(frameon=False)
    lowest, start = table["smoothed_loss"].min(), table["smoothed_loss"].iloc[:20].max()
    if start > lowest:  # the loss at the last rates would flatten the rest
        axes.set_ylim(lowest - 0.2 * (start - lowest), start + 1.0 * (start - lowest))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    figure.savefig(path, dpi=110)
