"""One setting trained: all seeds and learning rates of an arm at once, as one stack of networks (torch.func.vmap)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.phantoms.arms import ARMS, build
from benchmarks.phantoms.tasks import TASKS, Batch, Task, make_task
from fusionconv import param_groups
from fusionconv.evaluation import control_rows

__all__ = ["RATES", "Budget", "Setting", "train"]

RATES = (1e-2, 3e-2)
RATES_LONG = (3e-3, 1e-2, 3e-2)  # of a setting with steps of its own
CHUNK = 250


@dataclass(frozen=True)
class Setting:
    """What is trained: an arm on a task.

    Attributes:
        count: K of the selection task; None: its default.
        samples: the size of the training set; None: every step draws new samples.
        steps: Adam steps; None: the budget's. With steps of its own a setting also tries one more learning rate, .003.
    """

    task: str
    dims: int
    arm: str
    width: int = 2
    count: int | None = None
    samples: int | None = None
    steps: int | None = None

    @property
    def key(self) -> str:
        """Its name in the store."""
        extra = {"K": self.count, "samples": self.samples, "steps": self.steps}
        more = "".join(f", {name} {value}" for name, value in extra.items() if value is not None)
        return f"{self.task} {self.dims}-D, {self.arm}, width {self.width}{more}"


@dataclass(frozen=True)
class Budget:
    """How much: seeds, samples a step, validation and test samples, and Adam steps by task and dimensions.

    Attributes:
        covariate_lr: rate of the covariate parameters: "scaled" and "rows" as `fusionconv.param_groups` has it without
            and with rows of the covariates, "same": the rate of all others.
        covariate_decay: weight decay of the covariate parameters; all others have none.
    """

    seeds: int = 5
    batch: int = 64
    validation: int = 1000
    test: int = 2000
    steps: int = 300
    steps_selection: int = 1000
    covariate_lr: str = "scaled"
    covariate_decay: float = 0.0

    def steps_of(self, setting: Setting) -> int:
        """Adam steps of a setting; two thirds in 3-D, where a step costs twice as much."""
        if setting.steps is not None:
            return setting.steps
        steps = self.steps_selection if setting.task == "selection" else self.steps
        return steps if setting.dims == 2 else 2 * steps // 3


def train(setting: Setting, budget: Budget) -> dict[str, Any]:
    """Train the setting with every seed and rate, choose the rate on validation data, and judge that on test data.

    Seed i has its own initial weights, training stream, validation and test set; the same for every arm, so that arms
    can be compared seed by seed. Each step draws new samples (or some of the ``samples`` of a training set). Adam, the
    rate falling to 0 along a cosine. Chosen is one rate for the arm: the one with the best mean accuracy over the seeds
    on validation data.

    Returns:
        A record for the store: for each control ("true", "permuted", "constant" on test data, "validation" and
        "validation permuted" on data as in training) the accuracy of each seed, and what the network costs.
    """
    started = time.process_time()
    task = make_task(setting.task, setting.dims, setting.count)
    head = setting.task == "selection"  # there every arm's head is told which grating is asked for
    models = []
    for seed in range(budget.seeds):
        torch.manual_seed(seed)
        models.append(build(ARMS[setting.arm], setting.dims, setting.width, task.num_covariates, head, grouped=True))
    steps = budget.steps_of(setting)
    rates = RATES if setting.steps is None else RATES_LONG
    rows = task.sample(2000, _generator(setting, 0, "train")).covariates
    stack = Stack(models, steps, rates, budget, rows)
    draws = [_training_data(setting, task, seed) for seed in range(budget.seeds)]
    for _ in range(steps):
        stack.step(_stacked([draw(budget.batch) for draw in draws]))
    accuracy = {
        name: stack.accuracy(batch) for name, batch in _judged(setting, task, budget).items()
    }  # (rates, seeds) each
    best = int(accuracy["validation"].mean(1).argmax())
    return {
        "key": setting.key,
        **asdict(setting),
        "seeds": budget.seeds,
        "batch": budget.batch,
        "test": budget.test,
        "steps": steps,
        "extended": setting.steps is not None,
        "covariates": task.num_covariates,
        "bayes": task.bayes,
        "covariate_lr": budget.covariate_lr,
        "covariate_decay": budget.covariate_decay,
        "rate": rates[best],
        "accuracy": {name: [round(float(v), 5) for v in values[best]] for name, values in accuracy.items()},
        "rates": {
            f"{rate:g}": round(float(v), 5) for rate, v in zip(rates, accuracy["validation"].mean(1), strict=True)
        },
        "cost": cost(setting, task, head),
        "seconds": round(time.process_time() - started, 1),
    }


class Stack:
    """Networks of one form, one for each rate and seed, that are trained in one go and know nothing of each other."""

    def __init__(
        self, models: list[nn.Module], steps: int, rates: tuple[float, ...] = RATES, budget: Budget | None = None,
        rows: Tensor | None = None,
    ) -> None:  # fmt: skip
        budget = budget or Budget()
        self.model = models[0]
        start, _ = stack_module_state(models)  # (seeds, ...) each
        self.leaves = [{k: v.detach().clone().requires_grad_() for k, v in start.items()} for _ in rates]
        groups = [
            {**group, "params": [leaves[name] for name in group["params"]]}
            for leaves, rate in zip(self.leaves, rates, strict=True)
            for group in _groups(models[0], rate, budget, rows)
        ]
        self.optimizer = torch.optim.AdamW(groups, fused=True)  # Adam, where nothing decays
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, max(steps, 1))
        seeds = vmap(self._logits, in_dims=(0, 0, 0))
        self.logits = vmap(seeds, in_dims=(0, None, None))  # (rates, seeds, N, 2)

    def _logits(self, parameters: dict[str, Tensor], images: Tensor, covariates: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, parameters, (images, covariates))
        return logits

    def _parameters(self) -> dict[str, Tensor]:
        return {name: torch.stack([leaves[name] for leaves in self.leaves]) for name in self.leaves[0]}

    def step(self, batch: Batch) -> None:
        """One Adam step of every network; ``batch`` is (seeds, N, ...)."""
        logits = self.logits(self._parameters(), batch.images, batch.covariates)
        target = batch.target.expand(len(self.leaves), -1, -1)
        loss = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="sum") / batch.target.shape[1]
        self.optimizer.zero_grad()
        loss.backward()  # a sum over networks: each gets the gradient of its own mean loss
        self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def accuracy(self, batch: Batch) -> Tensor:
        """The share of right answers, (rates, seeds)."""
        parameters = self._parameters()
        right = []
        for images, covariates, target in zip(*(part.split(CHUNK, dim=1) for part in batch), strict=True):
            right.append(self.logits(parameters, images, covariates).argmax(-1) == target)
        return torch.cat(right, -1).double().mean(-1)


def _groups(model: nn.Module, rate: float, budget: Budget, rows: Tensor | None) -> list[dict[str, Any]]:
    """`fusionconv.param_groups`, with the names of the parameters in place of them."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = param_groups(
        model, rate, 0.0, rate if budget.covariate_lr == "same" else None, budget.covariate_decay,
        covariates=rows if budget.covariate_lr == "rows" else None,
    )  # fmt: skip
    return [{**group, "params": [names[id(p)] for p in group["params"]]} for group in groups]


def _judged(setting: Setting, task: Task, budget: Budget) -> dict[str, Batch]:
    """The data that the networks are judged on, with true and with wrong covariates, (seeds, N, ...) each."""
    judged = {}
    for name, n, shifted in (("validation", budget.validation, False), ("test", budget.test, True)):
        seeds = range(budget.seeds)
        batch = _stacked([task.sample(n, _generator(setting, seed, name), test=shifted) for seed in seeds])
        permuted = torch.stack(
            [torch.from_numpy(control_rows(s, "permuted", seed=seed)) for seed, s in enumerate(batch.covariates)]
        )
        judged["true" if shifted else name] = batch
        judged["permuted" if shifted else f"{name} permuted"] = batch._replace(covariates=permuted)
        if shifted:
            judged["constant"] = batch._replace(covariates=task.constant.expand_as(batch.covariates).contiguous())
    return judged


def _training_data(setting: Setting, task: Task, seed: int) -> Callable[[int], Batch]:
    """``draw(n)``: new samples of the task, or some of a training set that was drawn once."""
    stream = _generator(setting, seed, "train")
    if setting.samples is None:
        return lambda n: task.sample(n, stream)
    pool = task.sample(setting.samples, stream)

    def draw(n: int) -> Batch:
        rows = torch.randint(len(pool.target), (n,), generator=stream)
        return Batch(*(part[rows] for part in pool))

    return draw


def _generator(setting: Setting, seed: int, use: str) -> torch.Generator:
    """A stream of samples for a task, a seed and a use; which arm asks makes no difference."""
    place = list(TASKS).index(setting.task) * 2 + setting.dims - 2
    number = (place * 100 + (setting.count or 0)) * 3 + ("train", "validation", "test").index(use)
    return torch.Generator().manual_seed(1_000_003 * (number + 1) + seed)


def _stacked(batches: list[Batch]) -> Batch:
    return Batch(*(torch.stack(parts) for parts in zip(*batches, strict=True)))


def cost(setting: Setting, task: Task, head: bool, batch: int = 64) -> dict[str, float]:
    """Parameters, FLOPs of a forward pass and numbers kept for the backward pass (both a sample), ms a training step.

    Counted and timed on one network with the library's own choice of strategy; parameters that need no gradient of an
    activation (the weights themselves) do not count as kept. Milliseconds of processor time, the median of 15 steps.
    """
    torch.manual_seed(0)
    model = build(ARMS[setting.arm], setting.dims, setting.width, task.num_covariates, head)
    images, covariates, target = task.sample(batch, torch.Generator().manual_seed(0))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images, covariates)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()} | {images.untyped_storage().data_ptr()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = F.cross_entropy(model(images, covariates), target)
    del loss
    optimizer = torch.optim.Adam(model.parameters())
    times = []
    for _ in range(18):
        begun = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(model(images, covariates), target).backward()
        optimizer.step()
        times.append(time.process_time() - begun)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": counter.get_total_flops() / batch,
        "kept": sum(kept.values()) / batch,
        "ms": round(1000 * sorted(times[3:])[7], 2),
    }
