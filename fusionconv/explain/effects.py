"""What the model answers as one covariate moves, the others held: curves of rows and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fusionconv.errors import CovariateError, ExplainError
from fusionconv.explain.calling import Call, Target, every_number, one_number, ready, unwrapped
from fusionconv.surgery.eval_mode import in_eval_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CovariateEffect", "covariate_effect", "plot_covariate_effect"]


@dataclass(frozen=True, eq=False)
class CovariateEffect:
    """What `covariate_effect` found for N rows, V values of one covariate and A answers; NumPy arrays.

    Attributes:
        name, index: of the covariate.
        values: that it was given, ascending, (V,).
        curves: the answers, (N, V, A).
        answers: their names.
        data: the covariate in the training data, (M,).
        low, high: its range there.
        held: "rows" where each row keeps its other covariates (the mean over rows is the partial dependence), or
            "reference".

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import covariate_effect
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 1))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> s = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [0.5, 0.0], [0.0, 1.0], [-0.5, 0.0]])
        >>> effect = covariate_effect(model, torch.rand(5, 1, 8, 8), s, 0, values=[-3.0, 0.0, 3.0])
        >>> effect.curves.shape, effect.mean.shape, effect.name
        ((5, 3, 1), (3, 1), 's_1')
        >>> effect.outside.tolist()  # training data end before
        [True, False, True]
    """

    name: str
    index: int
    values: np.ndarray[Any, Any]
    curves: np.ndarray[Any, Any]
    answers: tuple[str, ...]
    data: np.ndarray[Any, Any]
    low: float
    high: float
    held: str

    @property
    def mean(self) -> np.ndarray[Any, Any]:
        """Over rows, (V, A)."""
        found: np.ndarray[Any, Any] = self.curves.mean(0)
        return found

    @property
    def outside(self) -> np.ndarray[Any, Any]:
        """Which values lie outside the training data, (V,)."""
        found: np.ndarray[Any, Any] = (self.values < self.low) | (self.values > self.high)
        return found

    def figure(self) -> Figure:
        """The figure that `plot_covariate_effect` returns."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.8, 3.6), layout="constrained")
        self.draw(figure.subplots())
        return figure

    def draw(self, axes: Any, individual: bool = True) -> None:
        """Draw into matplotlib's axes; ``individual``: also a thin curve for each row."""
        from fusionconv.explain.effect_figure import draw_effect

        draw_effect(axes, self, individual)


def covariate_effect(
    model: nn.Module, x: Tensor, covariates: Tensor | None, which: int | str,
    values: Sequence[float] | Tensor | None = None, *,
    data: Any = None, reference: Tensor | Sequence[float] | None = None, target: Target = None,
    names: Sequence[str] | None = None, points: int = 25, batch_size: int = 64,
) -> CovariateEffect:  # fmt: skip
    r"""``f(x_i, s_i with s_ij = v)`` for each row i and each value v of covariate j.

    The mean over rows is the partial dependence (Friedman, Annals of Statistics 29, 2001); the rows' own curves are
    individual conditional expectations (Goldstein et al., 2015). Both move one covariate alone: where it goes with
    another in the data, as height goes with sex, some of the vectors are of nobody.

    Args:
        model: fused, or any module called as ``model(x, covariates)``; it runs in eval mode.
        x: images (N, C, \*size).
        covariates: (N, K), as the network takes them (encoded). None inside ``with fusionconv.covariates(model, s)``.
        which: the covariate, its number or its name.
        values: that it is given; default: all values of ``data`` where there are at most ten, else ``points`` from its
            smallest to its largest.
        data: the training data's covariates, (M, K), or this covariate's values alone, (M,); default: ``covariates``.
        reference: (K,): the other covariates of all rows; default: each row keeps its own.
        target: as in `attributions`; default: all outputs, of an image output the mean of each channel.
        names: of the covariates.
        points: how many values by default.
        batch_size: rows at once.

    Raises:
        ExplainError: no such covariate; a model without covariates; values that are not finite numbers.
        CovariateError: the covariates do not fit.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import covariate_effect
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 1))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> found = covariate_effect(model, torch.randn(3, 1, 8, 8), torch.randn(3, 2), "age", names=["age", "sex"])
        >>> type(found).__name__
        'CovariateEffect'
    """
    model = unwrapped(model)
    with in_eval_mode(model), torch.no_grad():
        call = ready(model, x, covariates, names)
        if call.s is None:
            raise ExplainError(
                f"model: expected one that takes covariates, got {type(model).__name__} without them; call "
                "fusionconv.fuse_into first, and give the covariates"
            )
        at = _index(which, call.names)
        seen = _data(data, call.s, at)
        chosen = _values(values, seen, points)
        rows = _held(reference, call.s)
        curves, answers = _curves(call, rows, at, chosen, target, batch_size)
    low, high = float(seen.min()), float(seen.max())
    held = "rows" if reference is None else "reference"
    return CovariateEffect(call.names[at], at, chosen, curves, answers, seen, low, high, held)


def plot_covariate_effect(
    model: nn.Module, x: Tensor, covariates: Tensor | None, which: int | str,
    values: Sequence[float] | Tensor | None = None, *,
    data: Any = None, reference: Tensor | Sequence[float] | None = None, target: Target = None,
    names: Sequence[str] | None = None, points: int = 25, batch_size: int = 64,
) -> Figure:  # fmt: skip
    r"""Draw what the model answers against one covariate; see `covariate_effect`.

    The thick curve is the mean over rows, thin ones are the rows'. Below is the distribution of the training data;
    values outside its range have a hatched ground, and the mean is dashed there: nothing was learned about them.

    Args:
        model: fused, or any module called as ``model(x, covariates)``.
        x: images (N, C, \*size).
        covariates: (N, K).
        which: the covariate, its number or its name.
        values: that it is given; default: over the range of ``data``.
        data: the training data's covariates, (M, K), or this covariate's values alone, (M,); default: ``covariates``.
        reference: (K,): the other covariates of all rows; default: each row keeps its own.
        target: as in `attributions`; default: all outputs.
        names: of the covariates.
        points: how many values by default.
        batch_size: rows at once.

    Returns:
        A figure that belongs to no window: ``figure.savefig("effect.png")``.

    Raises:
        ExplainError, CovariateError: as `covariate_effect`.

    Example:
        >>> import torch, fusionconv
        >>> from fusionconv.explain import plot_covariate_effect
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 1))
        >>> model = fusionconv.fuse_into(net, 0, num_covariates=2, init="kaiming")
        >>> x, s = torch.randn(5, 1, 8, 8), torch.randn(5, 2)
        >>> figure = plot_covariate_effect(model, x, s, "age", data=torch.randn(100, 2), names=["age", "sex"])
        >>> figure.axes[0].get_xlabel()
        'age'
    """
    return covariate_effect(
        model, x, covariates, which, values, data=data, reference=reference, target=target, names=names, points=points,
        batch_size=batch_size,
    ).figure()  # fmt: skip


def _index(which: int | str, names: tuple[str, ...]) -> int:
    if isinstance(which, str):
        if which not in names:
            import difflib

            near = difflib.get_close_matches(which, names, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ExplainError(f"which: expected a covariate ({', '.join(names)}), got {which!r}{hint}")
        return names.index(which)
    if isinstance(which, bool) or not isinstance(which, int) or not -len(names) <= which < len(names):
        raise ExplainError(f"which: expected a name or a number from 0 to {len(names) - 1}, got {which!r}")
    return which % len(names)


def _data(data: Any, s: Tensor, at: int) -> np.ndarray[Any, Any]:
    """The covariate's values in the data, finite."""
    found = s if data is None else data
    found = found.detach().cpu().double().numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=np.float64)
    if found.ndim == 2:
        if found.shape[1] != s.shape[1]:
            raise ExplainError(f"data: expected (M, {s.shape[1]}) or (M,), got {found.shape}")
        found = found[:, at]
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ExplainError(
            f"data: expected finite numbers (M, {s.shape[1]}) or (M,), got {found.shape} or NaN among them"
        )
    return np.asarray(found)


def _values(values: Any, seen: np.ndarray[Any, Any], points: int) -> np.ndarray[Any, Any]:
    if values is None:
        few = np.unique(seen)
        return few if len(few) <= 10 else np.linspace(seen.min(), seen.max(), points)
    given = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    found = np.sort(np.asarray(given, dtype=np.float64).ravel())
    if not len(found) or not np.isfinite(found).all():
        raise ExplainError(f"values: expected finite numbers, got {values!r}")
    return found


def _held(reference: Any, s: Tensor) -> Tensor:
    if reference is None:
        return s
    row = torch.as_tensor(reference, dtype=s.dtype, device=s.device).reshape(-1)
    if len(row) != s.shape[1] or not torch.isfinite(row).all():
        raise CovariateError(f"reference: expected {s.shape[1]} finite numbers, a covariate vector, got {reference!r}")
    return row.expand_as(s)


def _curves(
    call: Call, rows: Tensor, at: int, values: np.ndarray[Any, Any], target: Target, batch_size: int
) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """(N, V, A) and the names of the answers; image rows and covariate rows are cut at the same places."""
    read = every_number if target is None else lambda out, n: one_number(out, target, n)[:, None]
    curves = []
    for value in values:
        parts = []
        for start in range(0, len(rows), batch_size):
            few = slice(start, start + batch_size)
            changed = rows[few].clone()
            changed[:, at] = float(value)
            parts.append(read(call(call.x[few], changed), len(changed)).cpu().double())
        curves.append(torch.cat(parts))
    found = torch.stack(curves, 1).numpy()
    names = ("answer",) if found.shape[2] == 1 else tuple(f"output {n}" for n in range(found.shape[2]))
    return found, names
