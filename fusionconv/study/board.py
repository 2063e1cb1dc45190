"""TensorBoard of a run: what is logged each epoch, and the graph. --tensorboard"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError
from fusionconv.study.forked import forked_rng

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.pytorch.loggers.logger import Logger
    from torch import nn

__all__ = ["board_logger", "draw_graph", "require_tensorboard"]

log = logging.getLogger("fusionconv.study")


def require_tensorboard() -> None:
    """Raise where it is not installed.

    Raises:
        StudyError: pip install tensorboard.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise StudyError("tensorboard: expected the package, got none; pip install tensorboard, or leave the option "
                         "out")  # fmt: skip


def board_logger(folder: Path) -> Logger:
    """Lightning's logger of losses, metrics, rate and momentum; ``tensorboard --logdir OUT/runs`` shows all runs."""
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder / "tensorboard", name="", version="", default_hp_metric=False)


def draw_graph(logger: Any, network: nn.Module, batch: Mapping[str, Any], takes_covariates: bool) -> None:
    """Write the network's graph; one that cannot be traced trains all the same, with a line in the log."""
    from fusionconv.surgery.eval_mode import in_eval_mode

    inputs = (batch["image"], batch["covariates"]) if takes_covariates else (batch["image"],)
    try:
        with warnings.catch_warnings(), forked_rng(), in_eval_mode(network):  # no running statistics
            warnings.simplefilter("ignore")  # of the tracer: shapes become constants, which a picture may have
            logger.experiment.add_graph(network, inputs)
    except Exception as error:  # the tracer raises many kinds
        log.warning("tensorboard: no graph (%s)", next(iter(str(error).splitlines()), type(error).__name__))
