"""How many epochs fit into ``--minutes``, from a few training steps of every arm."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm

if TYPE_CHECKING:
    from fusionconv.study.folds import FoldData
    from fusionconv.study.settings import Settings
    from fusionconv.study.study import Study

__all__ = ["epochs_within"]

log = logging.getLogger("fusionconv.study")

_STEPS = 4


def epochs_within(study: Study, arms: Sequence[Arm], minutes: float) -> int:
    """So many epochs as fit into the time for all arms, folds, seeds and values of ``tune``; at most those asked for.

    Raises:
        StudyError: not even one fits; ``tune`` tries numbers of epochs itself.
    """
    if "epochs" in study.settings.tune:
        raise StudyError("minutes: expected one number of epochs to choose, got tune=epochs=...; leave one of them out")
    epoch = other = 0.0
    fold = study.folds.columns[0]
    for arm in (arm for arm in arms if arm.has_network):
        settings, data = study.of_arm(arm), study.data(arm, fold)
        networks = len(study.folds.columns) * settings.seeds * len(arm.trials(settings.tune))
        step = _seconds_of_a_step(arm, data, settings)
        steps = {part: -(-len(frame) // settings.batch_size) for part, frame in data.frames.items()}
        forward = step / 3
        judged = 1 + (settings.controls + 1 if arm.takes_covariates and settings.controls else 0)
        epoch += networks * 1.1 * (steps["train"] * step + steps["val"] * forward)
        other += networks * ((steps["val"] + steps["test"] * judged) * forward + 2.0)
    epochs = int((60 * minutes - other) / max(epoch, 1e-9))
    if epochs < 1:
        raise StudyError(
            "minutes: expected room for one epoch of every network (arms, folds, seeds, values of tune), which takes "
            f"about {(epoch + other) / 60:.0f} minutes, got {minutes:g}; give fewer --folds, --arms or a smaller "
            "--image-size or --limit"
        )
    epochs = min(epochs, study.settings.epochs)
    log.info("%d epochs for each network fit into %g minutes (%.1f s an epoch of all)", epochs, minutes, epoch)
    return epochs


def _seconds_of_a_step(arm: Arm, data: FoldData, settings: Settings) -> float:
    """The median of a few training steps, without the first, which warms up."""
    import torch

    from fusionconv.study.module import StudyModule
    from fusionconv.study.runs import make_network

    with torch.random.fork_rng():
        network = make_network(arm, data, settings)
    module = StudyModule(network, data, settings, arm.takes_covariates, 0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module.to(device).train()
    loader = data.loader("train", settings.batch_size, train=True, patch=settings.part)
    steps: list[float] = []
    while len(steps) <= _STEPS:
        for batch in loader:
            started = time.perf_counter()
            moved = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}
            module.training_step(moved, 0).backward()
            network.zero_grad(set_to_none=True)
            steps.append(time.perf_counter() - started)
            if len(steps) > _STEPS:
                break
    return sorted(steps[1:])[_STEPS // 2]
