"""The command lr_find: Lightning's learning-rate range test, its curve and its suggestion."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from lightning.pytorch.tuner import Tuner

from recipes.celeba.training import CelebACLI
from recipes.common.figures import COLOURS, FAINT, STYLE, blank, save
from recipes.common.runs import RunError, is_rank_zero

log = logging.getLogger("recipes.celeba")
BETA = 0.98  # of Lightning's smoothing
DIVERGED = 4.0  # Lightning's; its own curve is up to half too low at the start, so that it is asked to wait for twice


def lr_find(argv: list[str]) -> None:
    """Train for some steps at rates that rise from step to step; print a tenth of the rate with the lowest loss.

    The options of ``fit``, and those below. Nothing of the short training is kept. The suggestion of a range test
    (L. N. Smith, WACV 2017) is a place to start from: give both arms the same rate, and choose it on the validation
    split. It is not Lightning's own, the steepest fall per unit of rate: there the noise at the smallest rates wins.
    """
    own = argparse.ArgumentParser(
        prog="python -m recipes.celeba lr_find", description=lr_find.__doc__, allow_abbrev=False, add_help=False
    )
    own.add_argument("--steps", type=int, default=100, help="how many rates are tried, one a step")
    own.add_argument("--min_lr", type=float, default=1e-8)
    own.add_argument("--max_lr", type=float, default=1.0)
    options, rest = own.parse_known_args(argv)
    if "-h" in rest or "--help" in rest:
        own.print_help()
    if not (options.steps >= 10 and 0 < options.min_lr < options.max_lr):
        raise RunError("expected --steps of at least 10 and 0 < --min_lr < --max_lr. Change them.")
    cli = CelebACLI("lr_find", rest)
    with cli.folder.logging():
        cli.model.searching = True
        # An epoch of a small set has fewer steps than the search; nothing is validated in between.
        cli.trainer.fit_loop.max_epochs = max(cli.trainer.max_epochs or 0, options.steps)
        cli.trainer.check_val_every_n_epoch = options.steps + 1
        finder = Tuner(cli.trainer).lr_find(
            cli.model, datamodule=cli.datamodule, min_lr=options.min_lr, max_lr=options.max_lr,
            num_training=options.steps, update_attr=False, early_stop_threshold=2 * DIVERGED,
        )  # fmt: skip
        if finder is None or not is_rank_zero():
            return
        table = until_it_diverged(
            pd.DataFrame({"lr": finder.results["lr"], "smoothed_loss": mended(finder.results["loss"])})
        )
        suggestion = suggested(table)
        table.to_csv(cli.folder.path / "lr_find.csv", index=False)
        draw(table, suggestion, cli.folder.path / "lr_find.png")
        log.info("wrote lr_find.csv and lr_find.png to %s", cli.folder.path)
        if suggestion is None:
            log.info(
                "no suggestion: the smoothed loss has not been below its start (it is a mean over some 50 steps); "
                "look at the curve, try more --steps or other rates"
            )
        else:
            log.info("suggested learning rate: --model.lr %.2e", suggestion)


def mended(losses: list[float]) -> list[float]:
    """Lightning's smoothed losses, with the correction of their start that belongs to them.

    The average a_k = 0.98 a_(k-1) + 0.02 loss_k starts at 0, so that after k steps it is to be divided by 1 - 0.98^k.
    Lightning 2.6.6 divides by 1 - 0.98^(k+1): a loss that is always 0.7 begins at 0.35, and every curve seems lowest
    at its left. `test_lr_find` fails when Lightning mends it; this function is then to be removed.

    >>> [round(loss, 3) for loss in mended([0.7 * 0.02 / (1 - 0.98**2), 0.7 * (1 - 0.98**2) / (1 - 0.98**3)])]
    [0.7, 0.7]
    """
    return [loss * (1 - BETA ** (k + 1)) / (1 - BETA**k) for k, loss in enumerate(losses, start=1)]


def until_it_diverged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows up to the first whose loss is DIVERGED times the lowest before it: what Lightning stops at."""
    loss = table["smoothed_loss"]
    over = loss > DIVERGED * loss.cummin()
    return table.iloc[: int(over.to_numpy().argmax()) + 1] if over.any() else table


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


@mpl.rc_context(STYLE)
def draw(table: pd.DataFrame, suggestion: float | None, path: Path) -> None:
    """The loss against the rate, and the suggestion as a line."""
    figure = blank(6, 3.6)
    axes = figure.subplots()
    axes.plot(table["lr"], table["smoothed_loss"], color=COLOURS[0])
    if suggestion is not None:
        axes.axvline(suggestion, color=COLOURS[1], linestyle="--", label=f"suggested: {suggestion:.1e}")
        axes.legend()
    lowest, start = table["smoothed_loss"].min(), table["smoothed_loss"].iloc[:20].max()
    if start > lowest:  # the loss at the last rates would flatten the rest
        axes.set_ylim(lowest - 0.2 * (start - lowest), start + 1.0 * (start - lowest))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    axes.grid(color=FAINT)
    save(figure, path)
