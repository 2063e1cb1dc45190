"""The figure of `kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fusionconv.errors import ExplainError
from fusionconv.explain.kernel_numbers import Kernels, changed_most
from fusionconv.explain.pictures import draw_signed, size_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_kernels"]


def draw_kernels(found: Kernels, filters: int | Sequence[int], channel: int, at: int | None) -> Figure:
    """A row for W, each V and each kernel that was asked for; a column for each filter."""
    from matplotlib.figure import Figure

    rows = [("W", found.weight), *((f"V {name}", v) for name, v in zip(found.names, found.changes, strict=True))]
    if found.at is not None and found.covariates is not None:
        rows += [(_at(found, m), kernel) for m, kernel in enumerate(found.at)]
    linear_layer = found.weight.ndim == 2
    chosen = [0] if linear_layer else _chosen(found, filters)
    width = max(1.1, min(4.0, found.weight.shape[1] / 16)) if linear_layer else 1.1
    figure = Figure(figsize=(width * len(chosen) + 2.4, 1.1 * len(rows) + 0.6), layout="constrained")
    panels: Any = figure.subplots(len(rows), len(chosen), squeeze=False)
    for number, ((title, values), line) in enumerate(zip(rows, panels, strict=True)):
        shown = [values] if linear_layer else [_one(values, filter_, channel, at) for filter_ in chosen]
        bound = max(float(kernel.abs().max()) for kernel in shown)
        for axes, kernel, filter_ in zip(line, shown, chosen, strict=True):
            draw_signed(axes, kernel, bound)
            axes.set(xticks=[], yticks=[])
            if number == 0 and not linear_layer:
                axes.set_title(f"filter {filter_}", fontsize=7)
        line[0].set_ylabel(f"{title}\nmax {bound:.2g}", rotation=0, ha="right", va="center", fontsize=8)
    formula = "W + sum of s_j V_j" if found.linear else "W + sum of h_r(s) V_r"
    name = f"{found.layer or 'the layer'} ({found.method}, {size_of(found.weight.shape[2:]) or 'linear'})"
    figure.suptitle(f"Kernels of {name}: kernel = {formula}", fontsize=9)
    return figure


def _at(found: Kernels, m: int) -> str:
    assert found.covariates is not None
    values = ", ".join(f"{v:.3g}" for v in found.covariates[m].tolist()[:6])
    return f"at ({values}{', ...' if found.covariates.shape[1] > 6 else ''})"


def _chosen(found: Kernels, filters: int | Sequence[int]) -> list[int]:
    """Output channels."""
    count = len(found.weight)
    if isinstance(filters, int):
        if filters < 1:
            raise ExplainError(f"filters: expected at least 1, or a list of output channels, got {filters}")
        return changed_most(found, filters)
    chosen = list(filters)
    wrong = [n for n in chosen if not isinstance(n, int) or not 0 <= n < count]
    if wrong or not chosen:
        raise ExplainError(f"filters: expected output channels from 0 to {count - 1}, got {wrong or 'none'}")
    return chosen


def _one(values: Tensor, filter_: int, channel: int, at: int | None) -> Tensor:
    """One filter's kernel (L,) or (height, width)."""
    if not 0 <= channel < values.shape[1]:
        raise ExplainError(f"channel: expected an input channel from 0 to {values.shape[1] - 1}, got {channel}")
    kernel = values[filter_, channel]
    if kernel.ndim < 3:
        return kernel
    depth = kernel.shape[-1]
    where = depth // 2 if at is None else at
    if not 0 <= where < depth:
        raise ExplainError(f"at: expected a slice from 0 to {depth - 1}, got {at}")
    return kernel[..., where]
