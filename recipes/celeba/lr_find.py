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


def lr_find(argv: list[str]) -> None:
    """Train for some steps at rates that rise from step to step; print the rate where the loss falls fastest.

    The options of ``fit``, and those below. Nothing of the short training is kept. The suggestion (L. N. Smith, WACV
    2017) is a place to start from: give both arms the same rate, and choose it on the validation split.
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
    cli.folder.path.mkdir(parents=True, exist_ok=True)
    with cli.folder.logging():
        cli.model.searching = True
        # An epoch of a small set has fewer steps than the search; nothing is validated in between.
        cli.trainer.fit_loop.max_epochs = max(cli.trainer.max_epochs or 0, options.steps)
        cli.trainer.check_val_every_n_epoch = options.steps + 1
        finder = Tuner(cli.trainer).lr_find(
            cli.model, datamodule=cli.datamodule, min_lr=options.min_lr, max_lr=options.max_lr,
            num_training=options.steps, update_attr=False,
        )  # fmt: skip
        if finder is None or not is_rank_zero():
            return
        table = pd.DataFrame({"lr": finder.results["lr"], "smoothed_loss": finder.results["loss"]})
        suggestion = finder.suggestion()
        table.to_csv(cli.folder.path / "lr_find.csv", index=False)
        draw(table, suggestion, cli.folder.path / "lr_find.png")
        log.info("wrote lr_find.csv and lr_find.png to %s", cli.folder.path)
        if suggestion is None or not math.isfinite(suggestion):
            log.info("no suggestion: the loss of too few steps is a number; look at the curve, try more --steps")
        else:
            log.info("suggested learning rate: --model.lr %.2e", suggestion)


@mpl.rc_context(STYLE)
def draw(table: pd.DataFrame, suggestion: float | None, path: Path) -> None:
    """The loss against the rate, and the suggestion as a line."""
    figure = blank(6, 3.6)
    axes = figure.subplots()
    axes.plot(table["lr"], table["smoothed_loss"], color=COLOURS[0])
    if suggestion is not None:
        axes.axvline(suggestion, color=COLOURS[1], linestyle="--", label=f"suggested: {suggestion:.1e}")
        axes.legend()
    lowest, start = table["smoothed_loss"].min(), table["smoothed_loss"].iloc[0]
    if start > lowest:  # the loss at the last rates would flatten the rest
        axes.set_ylim(lowest - 0.2 * (start - lowest), start + 1.0 * (start - lowest))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss (smoothed)")
    axes.grid(color=FAINT)
    save(figure, path)
