"""The arms: one small network, and every way in which it can be given the covariates, by ``fuse_into`` alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

import fusionconv

__all__ = ["ARMS", "POSITIONS", "Arm", "CovariatesOnly", "build", "network"]

POSITIONS = {
    "first": "0",
    "last": "2",
    "head": "6",
    "all": "all",
}  # first convolution, last one, first linear layer behind the pooling, both convolutions
HIDDEN = 16  # hidden units of the head
LAST_LINEAR = "8"


@dataclass(frozen=True)
class Arm:
    """One way to use the covariates: a method at a position; ``method`` None: no covariates in the network."""

    name: str
    method: str | None = None
    position: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


# hybrid, lowrank, hyper shift the bias too, as FiLM and DAFT do (beta); "hybrid, kernel only" is the layer's default
BIAS: dict[str, Any] = {"covariate_bias": True}
_METHODS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "hybrid": (("first", "last", "head"), BIAS),
    "lowrank": (("first", "last", "all"), BIAS | {"rank": 4}),
    "hyper": (("first", "last", "head"), BIAS | {"hidden": 8}),
    "film": (("first", "last", "head"), {}),
    "daft": (("first", "last", "head"), {}),
    "scale": (("first", "last", "head"), {"hidden": 8}),
    "attention": (("first", "last", "head"), {"hidden": 8}),
    "condconv": (("first", "last"), {"ignore_covariates": True}),
}
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("image only"),
        Arm("covariates only"),
        Arm("concat linear", "concat", LAST_LINEAR),
        Arm("concat MLP", "concat", POSITIONS["head"]),
        Arm("hybrid, kernel only, first", "hybrid", POSITIONS["first"]),
        *(
            Arm(f"{method}, {position}", method, POSITIONS[position], options)
            for method, (positions, options) in _METHODS.items()
            for position in positions
        ),
    )
}


class CovariatesOnly(nn.Module):
    """An MLP of the covariates, called as the others are: ``model(images, covariates)``."""

    def __init__(self, num_covariates: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(num_covariates, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """The logits (N, 2)."""
        logits: Tensor = self.head(covariates)
        return logits


class WithoutCovariates(nn.Module):
    """A plain network, called as the others are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, covariates: Tensor) -> Tensor:
        """The logits (N, 2)."""
        logits: Tensor = self.network(images)
        return logits


def network(dims: int, width: int) -> nn.Sequential:
    """Two convolutions of ``width`` channels, the mean over all positions, a head with one hidden layer.

    2-D: 24 x 24 -> 9 x 9 (7 x 7, stride 2) -> 7 x 7 (3 x 3). 3-D: 12^3 -> 4^3 (5^3, stride 2) -> 3^3 (2^3).
    """
    conv, pool = {2: (nn.Conv2d, nn.AdaptiveAvgPool2d), 3: (nn.Conv3d, nn.AdaptiveAvgPool3d)}[dims]
    first, last = {2: (7, 3), 3: (5, 2)}[dims]
    return nn.Sequential(
        conv(1, width, first, stride=2),
        nn.ReLU(),
        conv(width, width, last),
        nn.ReLU(),
        pool(1),
        nn.Flatten(),
        nn.Linear(width, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, 2),
    )


def build(arm: Arm, dims: int, width: int, num_covariates: int, head: bool = False, grouped: bool = False) -> nn.Module:
    """The arm's network, called as ``model(images, covariates)``.

    Args:
        head: also append the covariates (concat) at the first linear layer that the arm leaves free.
        grouped: compute hybrid kernels by the strategy "grouped", whatever the shapes: the one that
            ``torch.func.vmap`` can batch. All strategies give the same numbers.
    """
    if arm.name == "covariates only":
        return CovariatesOnly(num_covariates)
    model = network(dims, width)
    if arm.method is None or arm.position is None:
        return WithoutCovariates(model)
    options = dict(arm.options)
    if grouped and arm.method in ("hybrid", "hyper", "condconv"):
        options["strategy"] = "grouped"
    if grouped and arm.method == "lowrank":
        options["strategy"] = "features"
    fusionconv.fuse_into(model, arm.position, num_covariates, method=arm.method, **options)
    if head and arm.method != "concat":
        free = LAST_LINEAR if arm.position == POSITIONS["head"] else POSITIONS["head"]
        fusionconv.fuse_into(model, [free], num_covariates, method="concat")
    return model
