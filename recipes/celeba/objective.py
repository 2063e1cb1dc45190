"""What is asked of the network: one attribute or several, and the loss that its outputs are trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fusionconv.errors import TableError
from fusionconv.tabular import CELEBA_ATTRIBUTES

Loss = Literal["auto", "cross_entropy", "bce", "mse"]


def target_names(target: list[str] | str) -> list[str]:
    """The attributes that ``--data.target`` names; ``"all"`` are CelebA's 40, in its own order.

    >>> target_names("Smiling"), len(target_names("all"))
    (['Smiling'], 40)
    """
    names = list(CELEBA_ATTRIBUTES) if target == "all" else [target] if isinstance(target, str) else list(target)
    if not names or len(set(names)) != len(names):
        raise TableError(f"--data.target: expected an attribute, several different ones, or 'all', came {target!r}.")
    return names


@dataclass(frozen=True)
class Objective:
    """A loss, and what its outputs mean.

    ``cross_entropy``: two outputs for one attribute, softmax. ``bce``: one logit an attribute, sigmoid, binary
    cross-entropy. ``mse``: one output an attribute, trained to be +1 or -1 by squared error, 1 above the threshold 0
    (what rgkannan676's 40-attribute network does). With several attributes the loss is their mean.

    >>> Objective("bce", 40).outputs, Objective("cross_entropy", 1).outputs
    (40, 2)
    """

    loss: Literal["cross_entropy", "bce", "mse"]
    targets: int

    @classmethod
    def choose(cls, loss: Loss, targets: int) -> Objective:
        """``"auto"``: cross-entropy for one attribute, as in the study; BCE for several."""
        if loss == "auto":
            loss = "cross_entropy" if targets == 1 else "bce"
        if loss == "cross_entropy" and targets > 1:
            raise TableError(
                f"--model.loss cross_entropy answers one attribute, and {targets} are the target. Give --model.loss "
                "bce (or mse), or one --data.target."
            )
        return cls(loss, targets)

    @property
    def outputs(self) -> int:
        """How many outputs the network has."""
        return 2 if self.loss == "cross_entropy" else self.targets

    def losses(self, outputs: Tensor, targets: Tensor, each: bool = False) -> Tensor:
        """The loss of outputs (N, O) for targets (N,) or (N, T) of 0 and 1: their mean, or (N,) with ``each``."""
        if self.loss == "cross_entropy":
            return F.cross_entropy(outputs, targets.view(-1), reduction="none" if each else "mean")
        wanted = targets.view(len(targets), self.targets).to(outputs.dtype)
        if self.loss == "bce":
            table = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
        else:
            table = (outputs - (2 * wanted - 1)).square()
        return table.mean(1) if each else table.mean()

    def probability(self, outputs: Tensor) -> Tensor:
        """Outputs (N, O) to the probability of 1, (N, T).

        For ``mse`` it is (output + 1) / 2, the least-squares estimate of the probability, which can leave 0 ... 1.
        """
        outputs = outputs.float()
        if self.loss == "cross_entropy":
            return outputs.softmax(1)[:, 1:]
        return outputs.sigmoid() if self.loss == "bce" else (outputs + 1) / 2

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1. where an answer is the target, (N, T)."""
        if self.loss == "cross_entropy":
            return (outputs.argmax(1) == targets.view(-1)).float()[:, None]
        return ((outputs > 0) == (targets.view(len(targets), self.targets) == 1)).to(torch.float32)
