"""What a model has to choose from: its convolutions in order, with their roles and what fusing them would add."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.layers import METHODS, CovariateLayer
from fusionconv.surgery.fused_layers import FusedLayer
from fusionconv.surgery.parts import parts_of
from fusionconv.surgery.roles import MAIN, roles_of
from fusionconv.surgery.select import why_not

__all__ = ["ConvInfo", "kind_of", "list_convs"]


@dataclass(frozen=True)
class ConvInfo:
    """One convolution of a model, as `list_convs` gives it.

    ``role`` is "main", or what keeps it out of "first", "last" and "all": "shortcut" (a projection beside a residual
    branch), "gate" (squeeze-and-excitation), "auxiliary" (a head for training), "head" (1x1, on pooled features).
    ``part`` is "encoder", "bottleneck" or "decoder" in a U-shaped network, and "" in others.
    ``hybrid_parameters`` and ``lowrank_parameters`` are what these methods would add, where `list_convs` was told for
    how many covariates, and None where the layer cannot be fused.

    Example:
        >>> import torch, fusionconv
        >>> conv = fusionconv.list_convs(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), num_covariates=2)[0]
        >>> conv.name, conv.kind, conv.weight_shape, conv.role, conv.fused
        ('0', 'Conv2d', (8, 3, 3, 3), 'main', False)
        >>> conv.hybrid_parameters  # 2 times the weight
        432
    """

    index: int
    name: str
    kind: str
    weight_shape: tuple[int, ...]
    fused: bool
    refused: str | None = None
    role: str = MAIN
    hybrid_parameters: int | None = None
    lowrank_parameters: int | None = None
    part: str = ""

    def __str__(self) -> str:
        state = "  fused" if self.fused else f"  cannot be fused: {self.refused}" if self.refused else ""
        role = "" if self.role == MAIN else f"  {self.role}"
        shape = "x".join(map(str, self.weight_shape))
        added = ""
        if self.hybrid_parameters is not None:
            added = f"  hybrid +{self.hybrid_parameters:,}  lowrank +{self.lowrank_parameters:,}"
        part = f"  {self.part}" if self.part else ""
        return f"{self.index:>4}  {self.name:<40} {self.kind:<18} {shape}{part}{role}{state}{added}"


def list_convs(model: nn.Module, num_covariates: int | None = None, rank: int = 8) -> list[ConvInfo]:
    """The convolutions of ``model`` in registration order, which is the order that ``layer_idx`` counts.

    Every convolution counts, also one that cannot be fused (then ``refused`` says why), so that an index never
    slides to another layer. A convolution registered under two names counts once, under the first. ``role`` says
    which are shortcuts, gates or heads, ``part`` which are the encoder's, the bottleneck's or the decoder's of a
    U-shaped network; both are read from names, shapes and order, without running the network.

    Args:
        model: any module.
        num_covariates: K: also count the parameters that the methods "hybrid" (K C_out C_in/groups kernel volume) and
            "lowrank" (rank (C_in/groups kernel volume + C_out + K)) would add to each.
        rank: of "lowrank".

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3))
        >>> for conv in fusionconv.list_convs(model):
        ...     print(conv.index, conv.name, conv.kind, conv.weight_shape)
        0 0 Conv2d (8, 3, 3, 3)
        1 2 Conv2d (16, 8, 3, 3)
        >>> conv = fusionconv.list_convs(model, num_covariates=10)[1]
        >>> conv.hybrid_parameters, conv.lowrank_parameters
        (11520, 784)
    """
    roles = roles_of(model)
    parts = parts_of(model, roles)
    convs = [(name, m) for name, m in model.named_modules() if isinstance(m, _ConvNd)]
    counts = [(None, None) if num_covariates is None else _would_add(m, num_covariates, rank) for _, m in convs]
    return [
        ConvInfo(
            i,
            name,
            kind_of(m),
            _shape(m),
            isinstance(m, FusedLayer),
            why_not(m),
            roles[name],
            *count,
            parts.get(name, ""),
        )
        for i, ((name, m), count) in enumerate(zip(convs, counts, strict=True))
    ]


def _would_add(module: Any, num_covariates: int, rank: int) -> tuple[int | None, int | None]:
    """Parameters that hybrid and lowrank add to a layer; None where they cannot, or its shape is not known yet."""
    numbers: list[int | None] = []
    for method, options in (("hybrid", {}), ("lowrank", {"rank": rank})):
        kind = METHODS[method]
        complete = kind.check_options(num_covariates, options)
        known = isinstance(module, FusedLayer) or why_not(module, method) is None
        known = known and not nn.parameter.is_lazy(module.weight)
        shapes = kind.added_shapes(module, num_covariates, complete).values() if known else ()
        numbers.append(sum(map(math.prod, shapes)) if known else None)
    return numbers[0], numbers[1]


def kind_of(module: nn.Module) -> str:
    """The name of torch's class that a layer has, or had before it was fused."""
    return module.plain_class().__name__ if isinstance(module, CovariateLayer) else type(module).__name__


def _shape(module: _ConvNd) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return () if weight is None or nn.parameter.is_lazy(weight) else tuple(weight.shape)
