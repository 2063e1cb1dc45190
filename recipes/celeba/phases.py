"""How the training runs: the optimizer, the learning rate of every step, and a first phase with frozen features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, Adam, Adamax, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from fusionconv import param_groups
from recipes.celeba.backbones import last_layer

OptimizerName = Literal["adam", "adamax", "adamw", "sgd"]
Schedule = Literal["constant", "one_cycle", "cosine"]

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "adamax": Adamax,
    "adamw": AdamW,
    "sgd": lambda groups: SGD(groups, momentum=0.9, lr=1e-3),  # each group brings its own lr
}


def make_optimizer(network: nn.Module, name: OptimizerName, lr: float, weight_decay: float) -> Optimizer:
    """An optimizer over whatever is not frozen; weight decay leaves out what the covariates multiply."""
    if weight_decay:
        return OPTIMIZERS[name](param_groups(network, lr, weight_decay))
    return OPTIMIZERS[name](
        [{"params": [p for p in network.parameters() if p.requires_grad], "lr": lr, "weight_decay": 0.0}]
    )


def rates(schedule: Schedule, steps: list[int], finetune_factor: float) -> list[float]:
    """The learning rate of each step, as a multiple of ``--model.lr``, over phases of so many steps.

    Each phase has the whole schedule; the last of several has ``finetune_factor`` of the rate. ``one_cycle`` and
    ``cosine`` are torch's OneCycleLR (momentum is not cycled) and CosineAnnealingLR, run once beforehand: so the steps
    of a resumed run have the rates that they would have had.

    >>> rates("constant", [2, 3], finetune_factor=0.1)
    [1.0, 1.0, 0.1, 0.1, 0.1]
    """
    found: list[float] = []
    for phase, count in enumerate(steps):
        peak = finetune_factor if phase and phase == len(steps) - 1 else 1.0
        if schedule == "constant" or count == 0:
            found += [peak] * count
            continue
        optimizer = SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
        scheduler: LRScheduler = (
            OneCycleLR(optimizer, max_lr=1.0, total_steps=max(count, 2), cycle_momentum=False)
            if schedule == "one_cycle"
            else CosineAnnealingLR(optimizer, T_max=count)
        )
        for step in range(count):
            found.append(peak * float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if step < count - 1:
                scheduler.step()
    return found


def make_scheduler(
    optimizer: Optimizer, schedule: Schedule, steps: int, epochs: int, freeze_epochs: int, finetune_factor: float
) -> LambdaLR:
    """A scheduler to be stepped after every optimizer step of a training of ``steps`` steps in ``epochs`` epochs."""
    first = round(steps * freeze_epochs / epochs)
    table = rates(schedule, [first, steps - first] if freeze_epochs else [steps], finetune_factor)
    return LambdaLR(optimizer, lambda step: table[min(step, len(table) - 1)])


class Features:
    """What is frozen in the first phase: everything but the head and what the covariates multiply.

    The head is the network's top-level part that holds its last layer: ``classifier`` of VGG, ``fc`` of a ResNet.
    """

    def __init__(self, network: nn.Module) -> None:
        self.head = last_layer(network).split(".")[0]
        groups = param_groups(network, 0.0, 0.0)
        kept = {id(p) for group in groups if group["name"] == "covariates" for p in group["params"]}
        kept |= {id(p) for p in network.get_submodule(self.head).parameters()}
        self.parameters = [p for p in network.parameters() if p.requires_grad and id(p) not in kept]
        self.norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm) and name.split(".")[0] != self.head
        ]
        self.frozen = False

    def freeze(self, frozen: bool) -> None:
        """Freeze, or thaw. The optimizer has the parameters all the time; without a gradient it leaves them alone."""
        self.frozen = frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)
            parameter.grad = None if frozen else parameter.grad
        for norm in self.norms:
            norm.train(not frozen)

    def hold_statistics(self) -> None:
        """To be called after the network was put into training mode: frozen batch norms keep their statistics."""
        if self.frozen:
            for norm in self.norms:
                norm.eval()
