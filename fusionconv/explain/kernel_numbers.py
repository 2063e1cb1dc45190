"""The kernels of a fused layer: W, what each covariate adds to it, and the kernel of a covariate vector."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from fusionconv.covariate_checks import check_covariates
from fusionconv.errors import ExplainError, SurgeryError
from fusionconv.explain.calling import name_covariates, some, unwrapped
from fusionconv.layers import CovariateLayer, Hyper, Lowrank
from fusionconv.layers.base import precise
from fusionconv.strategies.lowrank import lowrank_kernels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Kernels", "kernels", "plot_kernels"]

#: the methods whose layers have one kernel for each covariate vector
WITH_KERNELS = ("hybrid", "lowrank", "hyper")


@dataclass(frozen=True, eq=False)
class Kernels:
    r"""What `kernels` read from a layer; tensors are float64 on the CPU, output channels first.

    Attributes:
        layer: its name in the network.
        method: "hybrid", "lowrank" or "hyper".
        weight: W, (C_out, C_in/groups, \*kernel); of a linear layer (C_out, C_in).
        changes: V, (J, \*weight.shape). Where the kernel is linear in the covariates, J = K and V_j belongs to
            covariate j (of a layer with a rank: what its factors add up to). Else (hyper, and lowrank with ``hidden``)
            V_r belongs to number r that the layer makes of the covariates.
        names: of the changes.
        linear: whether kernel = W + sum_j s_j V_j in the covariates themselves.
        covariates: the vectors (M, K) that were asked for, or None.
        at: their kernels, (M, \*weight.shape), or None.

    Example:
        >>> import torch, fusionconv
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> found = kernels(model, covariates=torch.tensor([1.0, -2.0]), names=["age", "sex"])
        >>> found.weight.shape, found.changes.shape, found.names
        (torch.Size([8, 3, 5, 5]), torch.Size([2, 8, 3, 5, 5]), ('age', 'sex'))
        >>> torch.allclose(found.at[0], found.weight + found.changes[0] - 2 * found.changes[1])
        True
    """

    layer: str
    method: str
    weight: Tensor
    changes: Tensor
    names: tuple[str, ...]
    linear: bool
    covariates: Tensor | None = None
    at: Tensor | None = None

    def figure(self, filters: int | Sequence[int] = 8, channel: int = 0, at: int | None = None) -> Figure:
        """The figure that `plot_kernels` returns; its arguments are explained there."""
        from fusionconv.explain.kernel_figure import draw_kernels

        return draw_kernels(self, filters, channel, at)


def kernels(
    model: nn.Module, layer: str | None = None, covariates: Tensor | Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> Kernels:  # fmt: skip
    r"""W, V and the kernels of covariate vectors of a fused layer.

    Args:
        model: a fused network, or one hybrid, lowrank or hyper layer.
        layer: its name; default: the first fused layer that has kernels.
        covariates: s, (K,) or (M, K): also give ``W + sum_j s_j V_j`` of each.
        names: of the covariates; default: s_1 to s_K.

    Raises:
        ExplainError: no such layer, a plain one, or one of a method without kernels (film, daft, scale, attention,
            concat act on feature maps; condconv's kernels depend on the image).
        SurgeryError: a model without any fused layer.
        CovariateError: covariates of another K, or NaN.

    Example:
        >>> import torch, fusionconv
        >>> layer = fusionconv.HybridConv2d(3, 8, 5, num_covariates=2, init="kaiming")
        >>> found = kernels(layer, covariates=[0.5, 1.0])
        >>> type(found).__name__
        'Kernels'
    """
    name, found = _layer(unwrapped(model), layer)
    labels = name_covariates(names, found.num_covariates)
    rows = at = None
    if covariates is not None:
        given = torch.as_tensor(covariates)
        given = given if isinstance(covariates, Tensor) else given.double()
        rows = precise(check_covariates(given[None] if given.ndim == 1 else given, found.num_covariates))
        at = torch.stack([_outputs_first(_whole(found, s), found) for s in rows])
    base, changes, linear = _parts(found)
    if not linear:
        labels = tuple(f"h_{r + 1}" for r in range(len(changes)))
    weight, added = _outputs_first(base, found), torch.stack([_outputs_first(v, found) for v in changes])
    return Kernels(name, found.METHOD, weight, added, labels, linear, rows, at)


def plot_kernels(
    model: nn.Module, layer: str | None = None, covariates: Tensor | Sequence[float] | None = None, *,
    names: Sequence[str] | None = None, filters: int | Sequence[int] = 8, channel: int = 0, at: int | None = None,
) -> Figure:  # fmt: skip
    r"""Draw W, each V_j, and the kernel of each covariate vector that is given; see `kernels`.

    A row for each of them, a column for each filter. A row has one scale, symmetric about 0, which stands beside it, so
    that V can be compared with W. 2-D kernels are pictures, 1-D ones bars, of 3-D ones a slice is shown; of a linear
    layer the whole matrix.

    Args:
        model: a fused network, or one hybrid, lowrank or hyper layer.
        layer: its name; default: the first fused layer that has kernels.
        covariates: s, (K,) or (M, K); default: no kernel of a covariate vector is drawn.
        names: of the covariates; default: s_1 to s_K.
        filters: how many, those that the covariates change most, or which output channels.
        channel: which input channel of each filter.
        at: which slice along the last axis of 3-D kernels; default: the middle.

    Returns:
        A figure that belongs to no window: ``figure.savefig("kernels.png")``.

    Raises:
        ExplainError, SurgeryError, CovariateError: as `kernels`; no such filter, channel or slice.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import plot_kernels
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> figure = plot_kernels(model, covariates=[1.0, -2.0], names=["age", "sex"], filters=4)
        >>> len(figure.axes)  # W, V age, V sex, the kernel at (1, -2); of four filters
        16
    """
    return kernels(model, layer, covariates, names).figure(filters, channel, at)


def _layer(model: nn.Module, name: str | None) -> tuple[str, Any]:
    """The layer whose kernels are wanted."""
    layers = {n: m for n, m in model.named_modules() if isinstance(m, CovariateLayer)}
    if not layers:
        raise SurgeryError(
            f"expected a model with a fused layer, got {type(model).__name__} without one; call "
            "fusionconv.fuse_into(model, layer_idx, num_covariates) first"
        )
    have = [n for n, m in layers.items() if m.METHOD in WITH_KERNELS]
    kinds = ", ".join(f"{n!r} ({m.METHOD})" for n, m in layers.items())
    if name is None:
        if not have:
            raise ExplainError(
                f"layer: expected a layer of {', '.join(WITH_KERNELS)}, which have a kernel for each covariate vector, "
                f"got {kinds}; plot_covariate_effect shows what the covariates do there"
            )
        return have[0], layers[have[0]]
    if name not in layers:
        every = [n for n, _ in model.named_modules() if n]
        near = difflib.get_close_matches(str(name), list(layers), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"fused are {some(list(layers))}"
        plain = "a layer that is not fused: " if name in every else ""
        raise ExplainError(f"layer: expected a fused layer, got {plain}{name!r}; {hint}")
    method = layers[name].METHOD
    if method not in WITH_KERNELS:
        why = (
            "chooses its kernels by the image"
            if layers[name].METHOD == "condconv"
            else "acts on feature maps and has no V"
        )
        raise ExplainError(
            f"layer: expected one of {', '.join(WITH_KERNELS)}, got {name!r} of method {method!r}, "
            f"which {why}; plot_covariate_effect shows what the covariates do there"
        )
    return name, layers[name]


def _whole(layer: Any, s: Tensor) -> Tensor:
    """The kernel of one covariate vector, as `fusionconv.merge` makes it."""
    weight: Tensor = layer.merged(s).weight
    return weight


def _parts(layer: Any) -> tuple[Tensor, list[Tensor], bool]:
    """W, the V, and whether they belong to the covariates themselves."""
    base = precise(layer.weight)
    if isinstance(layer, Hyper):
        return base, list(precise(layer.covariate_weight)), False
    if isinstance(layer, Lowrank) and layer.covariate_hidden_weight is not None:
        filters, mixing = precise(layer.covariate_filters), precise(layer.covariate_mixing)
        if layer.PLAIN is nn.Linear:
            return base, [torch.outer(mixing[:, q], filters[q]) for q in range(len(filters))], False
        whole: Any = layer
        return base, list(lowrank_kernels(filters, mixing, whole.groups, isinstance(layer, _ConvTransposeNd))), False
    return base, [_whole(layer, one) - base for one in torch.eye(layer.num_covariates, dtype=torch.float64)], True


def _outputs_first(weight: Tensor, layer: Any) -> Tensor:
    """A transposed convolution has (C_in, C_out/groups, *kernel): the same numbers as (C_out, C_in/groups, *kernel)."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    groups: int = layer.groups
    parted: Tensor = weight.unflatten(0, (groups, -1))
    return parted.transpose(1, 2).flatten(0, 1)


def changed_most(found: Kernels, count: int) -> list[int]:
    """The output channels whose kernels the covariates change most, in order; the first ones where none changes."""
    sizes = found.changes.flatten(2).norm(dim=2).norm(dim=0).numpy()
    return sorted(np.argsort(-sizes, kind="stable")[:count].tolist())
