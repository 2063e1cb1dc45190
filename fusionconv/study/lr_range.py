"""``fusionconv lr-find``: a learning-rate range test of one arm, its curve, and a rate to start from."""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.study import Study

__all__ = ["find_lr", "suggested"]

BETA = 0.98  # of Lightning's smoothing
DIVERGED = 4.0  # times the lowest loss before: the search ends


def find_lr(
    study: Study, arm: str | dict[str, Any], *, out: str | Path, steps: int = 100, min_lr: float = 1e-8,
    max_lr: float = 1.0, progress: bool = True,
) -> tuple[pd.DataFrame, float | None]:  # fmt: skip
    """Train for some steps at rates that rise from step to step, on the first fold; nothing of it is kept.

    The suggestion, a tenth of the rate with the lowest smoothed loss, is a place to start from (L. N. Smith, WACV 2017).
    Give all arms the same rate, and choose it on the validation part. It is not the steepest fall per unit of rate:
    there the noise at the smallest rates wins.

    Args:
        study: table, images, network, training.
        arm: one with a network.
        out: folder for ``lr_find.csv`` and ``lr_find.png``.
        steps: how many rates are tried, one a step; at least 20.
        min_lr: the first.
        max_lr: the last.
        progress: show a bar.

    Returns:
        Columns ``lr`` and ``smoothed_loss``, and the suggestion; None where the smoothed loss never fell.

    Raises:
        StudyError: an arm without a network; wrong rates; too little data for one step.
    """
    from lightning.pytorch import seed_everything
    from lightning.pytorch.tuner import Tuner

    from fusionconv.study.checks import check_arms, check_options
    from fusionconv.study.module import StudyModule
    from fusionconv.study.networks import frozen_modules
    from fusionconv.study.runs import make_network, run_seed
    from fusionconv.study.study import parse_arms
    from fusionconv.study.training import make_trainer, quiet

    if not (steps >= 20 and 0 < min_lr < max_lr):
        raise StudyError(
            f"expected steps of at least 20 and 0 < min_lr < max_lr, got {steps}, {min_lr:g} and {max_lr:g}; change them"
        )
    (chosen,) = parse_arms([arm], study.settings)
    if not chosen.has_network:
        raise StudyError(f"arm: expected one with a network, got {chosen.name}; give image or hybrid@first")
    folder = Path(out)
    study.cache = Path(study.settings.cache) if study.settings.cache else folder / "cache"
    check_options([(chosen, study.of_arm(chosen))], study.rows)
    check_arms([chosen], study.rows, study.folds, study.settings, study.store)
    fold = str(study.folds.columns[0])
    data = study.data(chosen, fold)
    settings = replace(study.of_arm(chosen), schedule="constant", unfreeze_epoch=None, tensorboard=False, epochs=steps)
    with quiet(), tempfile.TemporaryDirectory() as scratch:
        seed = run_seed(settings.seed, fold, 0)
        seed_everything(seed, workers=True, verbose=False)
        network = make_network(chosen, data, settings)
        module = _Searching(network, data, settings, chosen.takes_covariates, seed, {},
                            frozen_modules(network, settings.freeze), ())  # fmt: skip
        trainer, _ = make_trainer(Path(scratch), data.task, settings, False, "lr-find", False)
        trainer.callbacks = [c for c in trainer.callbacks if not type(c).__name__.startswith("ModelCheckpoint")]
        finder = Tuner(trainer).lr_find(
            module, data.loader("train", settings.batch_size, train=True, seed=seed), min_lr=min_lr, max_lr=max_lr,
            num_training=steps, update_attr=False, early_stop_threshold=2 * DIVERGED,
        )  # fmt: skip
    assert finder is not None
    losses = mended(finder.results["loss"])
    table = until_it_diverged(pd.DataFrame({"lr": finder.results["lr"], "smoothed_loss": losses}))
    rate = suggested(table)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "lr_find.csv", index=False)
    _draw(table, rate, folder / "lr_find.png")
    return table, rate


def _searching() -> Any:
    from fusionconv.study.module import StudyModule

    class Searching(StudyModule):
        """A loss that is no number is part of the search."""

        def on_train_epoch_end(self) -> None:
            """No check, no log."""

    return Searching


def mended(losses: list[float]) -> list[float]:
    """Lightning's smoothed losses, with the correction of their start that belongs to them.

    The average a_k = 0.98 a_(k-1) + 0.02 loss_k starts at 0, so that after k steps it is to be divided by 1 - 0.98^k.
    Lightning 2.6.6 divides by 1 - 0.98^(k+1): a loss that is always 0.7 begins at 0.35, and every curve seems lowest
    at its left. `test_a_constant_loss` fails when Lightning mends it; this function is then to be removed.

    >>> [round(loss, 3) for loss in mended([0.7 * 0.02 / (1 - 0.98**2), 0.7 * (1 - 0.98**2) / (1 - 0.98**3)])]
    [0.7, 0.7]
    """
    return [loss * (1 - BETA ** (k + 1)) / (1 - BETA**k) for k, loss in enumerate(losses, start=1)]


def until_it_diverged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows up to the first whose loss is DIVERGED times the lowest before it, or no number."""
    loss = table["smoothed_loss"]
    over = ((loss > DIVERGED * loss.cummin()) | loss.isna()).to_numpy()
    return table.iloc[: int(over.argmax()) + 1] if over.any() else table


def suggested(table: pd.DataFrame, skip: int = 10) -> float | None:
    """A tenth of the rate with the lowest smoothed loss; None where the loss never fell.

    Args:
        table: columns lr (rising) and smoothed_loss.
        skip: the first steps, in which the smoothing has not settled.

    >>> rates = [10.0**e for e in range(-14, 1)]
    >>> suggested(pd.DataFrame({"lr": rates, "smoothed_loss": [9.0] * 10 + [0.7, 0.6, 0.5, 0.8, 2.0]}))
    0.001
    """
    left = table.iloc[skip:]
    left = left[left["smoothed_loss"].map(math.isfinite)]
    if len(left) < 2 or left["smoothed_loss"].idxmin() == left.index[0]:
        return None
    return float(left.loc[left["smoothed_loss"].idxmin(), "lr"]) / 10


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
