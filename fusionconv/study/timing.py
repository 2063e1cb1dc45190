"""How long an epoch of every arm takes here, from a few steps of each: for ``--minutes``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusionconv.study.arms import Arm

if TYPE_CHECKING:
    from fusionconv.study.study import Study

__all__ = ["seconds_of"]

_STEPS = 4


def seconds_of(study: Study, arms: Sequence[Arm]) -> tuple[float, float]:
    """Seconds of an epoch (training and validation) of all arms, and of the rest of a fold (test, controls)."""
    import torch

    from fusionconv.study.module import StudyModule
    from fusionconv.study.runs import make_network

    epoch = rest = 0.0
    fold = study.folds.columns[0]
    for arm in arms:
        settings, data = study.of_arm(arm), study.data(arm, fold)
        with torch.random.fork_rng():
            network = make_network(arm, data, settings)
        module = StudyModule(network, data, settings, arm.takes_covariates, 0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        module.to(device).train()
        loader, size = data.loader("train", settings.batch_size, train=True, patch=settings.part), settings.batch_size
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
        step = sorted(steps[1:])[_STEPS // 2]  # the first warms up
        counts = {part: -(-len(frame) // size) for part, frame in data.frames.items()}
        forward = step / 3
        epoch += settings.seeds * (counts["train"] * step + counts["val"] * forward)
        controls = settings.controls + 1 if arm.takes_covariates and settings.controls else 0
        rest += settings.seeds * (counts["val"] + counts["test"] * (1 + controls)) * forward + 2.0
    return epoch * 1.1, rest
