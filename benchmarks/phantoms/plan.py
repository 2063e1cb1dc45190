"""What is trained in the full and in the quick form, in the order in which it is trained."""

from __future__ import annotations

from benchmarks.phantoms.arms import ARMS
from benchmarks.phantoms.tasks import TASKS
from benchmarks.phantoms.training import Budget, Setting

__all__ = ["FULL", "QUICK", "full", "quick", "work"]

FULL = Budget()
QUICK = Budget(seeds=2, test=1000, validation=500, steps=150, steps_selection=300)

EASY = tuple(task for task in TASKS if task != "selection")
TASKS_3D = ("selection", "xor", "additive", "null")
# Behind the pooling all methods are tried where that is the question (selection); elsewhere these:
LATE = ("hybrid, head", "film, head", "hyper, head", "daft, head", "scale, head", "attention, head")
HEAD_EVERYWHERE = ("hybrid, head", "film, head")
ARMS_3D = (
    "image only",
    "concat MLP",
    "hybrid, first",
    "film, first",
    "concat linear",
    "hybrid, last",
    "hybrid, head",
    "film, head",
)
CORE = ("image only", "covariates only", *ARMS_3D[1:], "hybrid, kernel only, first")
SWEPT = ("concat MLP", "hybrid, first")
LONG = 4 * FULL.steps_selection  # trained four times as long as the others
ARMS_SMALL = (
    "image only",
    "concat MLP",
    "hybrid, first",
    "film, first",
    "hybrid, last",
    "hyper, first",
    "lowrank, first",
)
ARMS_QUICK = ("image only", "covariates only", "concat linear", "concat MLP", "film, first", "hybrid, first")


def full() -> list[Setting]:
    """Every arm on every task in 2-D, most of both in 3-D, and the sweeps of the selection and the null task.

    First what carries the page, so that a run that is stopped early has it.
    """
    few = ("image only", "concat MLP", "hybrid, first", "concat linear", "film, first", "covariates only")
    settings = [Setting("selection", 2, arm) for arm in (*few, "hybrid, last", *LATE)]
    settings += [Setting(task, 2, arm) for task in ("null", "additive", "xor", "shortcut", "atrophy") for arm in few]
    settings += [Setting("selection", 3, arm) for arm in ("hybrid, first", "concat MLP")]
    settings += [Setting(task, 3, arm) for task in ("null", "additive", "xor") for arm in few[:3]]
    settings += [Setting("selection", 2, arm, width=width) for width in (1, 4, 8, 16) for arm in SWEPT]
    settings += [Setting("selection", 2, "concat MLP", width=width, steps=LONG) for width in (2, 16)]
    settings += [Setting("null", 3, arm, steps=LONG // 5) for arm in ("image only", "hybrid, first")]
    settings += [Setting("selection", 2, arm, count=K) for K in (4, 16) for arm in SWEPT]
    settings += [Setting(task, 2, arm) for task in EASY for arm in CORE]
    settings += [Setting("selection", 3, arm) for arm in ("film, head", "hybrid, head", "film, first", "concat linear")]
    settings += [Setting("null", 2, arm, samples=250) for arm in ARMS_SMALL]
    settings += [Setting(task, 3, arm) for task in TASKS_3D for arm in ARMS_3D]
    settings += [Setting("selection", 2, arm, count=2) for arm in SWEPT]
    everywhere = [arm for arm in ARMS if arm not in LATE or arm in HEAD_EVERYWHERE]
    settings += [Setting(task, 2, arm) for task in ("selection", *EASY) for arm in everywhere]
    return list(dict.fromkeys(settings))


def quick() -> list[Setting]:
    """A few arms on all tasks in 2-D, and the selection task in 3-D."""
    settings = [Setting(task, 2, arm) for task in TASKS for arm in ARMS_QUICK]
    settings += [Setting("selection", 3, arm) for arm in ("concat MLP", "hybrid, first")]
    settings += [Setting("selection", 2, arm, width=8) for arm in ("concat MLP", "hybrid, first")]
    return settings


def work(setting: Setting, budget: Budget) -> float:
    """About how long a setting takes, for the progress bar: a step takes longer with the width and in 3-D."""
    step = (12 + 4 * setting.width) * (2 if setting.dims == 3 else 1) * (0.2 if setting.arm == "covariates only" else 1)
    return step * (budget.steps_of(setting) + budget.test / 40)
