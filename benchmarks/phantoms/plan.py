"""What is trained in the full and in the quick form, in the order in which it is trained."""

from __future__ import annotations

from benchmarks.phantoms.arms import ARMS
from benchmarks.phantoms.tasks import TASKS
from benchmarks.phantoms.training import Budget, Setting

__all__ = ["FULL", "QUICK", "full", "quick", "work"]

FULL = Budget()
QUICK = Budget(seeds=2, test=1000, validation=500, steps=150, steps_selection=300)

# behind the pooling: the usual late fusions everywhere; the other methods there only where it is the question
HEAD_ONLY_IN_SELECTION = ("hyper, head", "daft, head", "scale, head", "attention, head")
CORE = (
    "image only",
    "covariates only",
    "concat linear",
    "concat MLP",
    "film, first",
    "film, head",
    "hybrid, first",
    "hybrid, kernel only, first",
    "hybrid, last",
    "hybrid, head",
)
ARMS_3D = (
    "image only",
    "concat linear",
    "concat MLP",
    "film, first",
    "film, head",
    "hybrid, first",
    "hybrid, last",
    "hybrid, head",
)
EASY = ("null", "additive", "xor", "shortcut", "atrophy")
TASKS_3D = ("selection", "xor", "additive", "null")
SWEPT = ("concat MLP", "hybrid, first")
ARMS_SMALL = ("image only", "concat MLP", "film, first", "hybrid, first", "hybrid, last", "hyper, first")
ARMS_QUICK = ("image only", "covariates only", "concat linear", "concat MLP", "film, first", "hybrid, first")


def full() -> list[Setting]:
    """Every arm on every task in 2-D, most of both in 3-D, and the sweeps of the selection and the null task.

    First what carries the page, so that a run that is stopped early has it.
    """
    late = (*CORE, *HEAD_ONLY_IN_SELECTION)
    others = [arm for arm in ARMS if arm not in late]
    settings = [Setting("selection", 2, arm) for arm in late]
    settings += [Setting(task, 2, arm) for task in EASY for arm in CORE]
    settings += [Setting(task, 3, arm) for task in TASKS_3D for arm in ARMS_3D]
    settings += [Setting("selection", 2, arm, count=K) for K in (4, 2, 16) for arm in SWEPT]
    settings += [Setting("selection", 2, arm, width=width) for width in (1, 4, 8, 16) for arm in SWEPT]
    settings += [Setting("selection", 2, "concat MLP", steps=4 * FULL.steps_selection)]
    settings += [Setting("null", 2, arm, samples=250) for arm in ARMS_SMALL]
    settings += [Setting(task, 2, arm) for task in ("selection", *EASY) for arm in others]
    return settings


def quick() -> list[Setting]:
    """A few arms on all tasks in 2-D, and the selection task in 3-D."""
    settings = [Setting(task, 2, arm) for task in TASKS for arm in ARMS_QUICK]
    settings += [Setting("selection", 3, arm) for arm in ("concat MLP", "hybrid, first")]
    settings += [Setting("selection", 2, arm, width=8) for arm in ("concat MLP", "hybrid, first")]
    return settings


def work(setting: Setting, budget: Budget) -> float:
    """About how long a setting takes, for the progress bar: milliseconds a step grow with the width and with 3-D."""
    a_step = (
        (12 + 4 * setting.width) * (2 if setting.dims == 3 else 1) * (0.2 if setting.arm == "covariates only" else 1)
    )
    return a_step * (budget.steps_of(setting) + budget.test / 40)
