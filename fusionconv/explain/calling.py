"""A model as a function of images and covariates: checked once, in eval mode, one number for each row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import check_covariates
from fusionconv.errors import CovariateError, ExplainError
from fusionconv.surgery.frames import current_frame, missing_covariates
from fusionconv.surgery.one_call import call, takes_covariates
from fusionconv.surgery.root import is_fused_root, owner_of

__all__ = [
    "Call",
    "Target",
    "every_number",
    "find_layer",
    "name_covariates",
    "one_number",
    "ready",
    "some",
    "unwrapped",
]

Target = int | Callable[[Any], Tensor] | None


@dataclass(frozen=True)
class Call:
    """Images and covariates that fit a model, and how the model is called with any that have their shapes.

    Rows of ``x`` and ``s`` belong together: whoever repeats one repeats the other in the same order.
    """

    model: nn.Module
    x: Tensor
    s: Tensor | None
    names: tuple[str, ...]

    def __call__(self, x: Tensor, s: Tensor | None = None) -> Any:
        """What the model gives for images and covariates."""
        return call(self.model, x, s)


def ready(model: nn.Module, x: Tensor, covariates: Tensor | None, names: Sequence[str] | None = None) -> Call:
    """Check a model, images and covariates; inside ``with fusionconv.covariates(model, s)`` these are the default.

    Raises:
        CovariateError: none where the model needs them, other rows, another K, NaN.
        ExplainError: no batch of numbers, covariates that the model does not take.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or 0 in x.shape:
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ExplainError(f"x: expected a batch (N, C, *size) of floating-point numbers, got {got}")
    if not torch.isfinite(x).all():
        rows = (~torch.isfinite(x)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ExplainError(f"x: expected finite numbers, got NaN or infinity in row(s) {rows[:10]}; repair the images")
    s = covariates
    if is_fused_root(model):
        owner = owner_of(model)
        if s is None:
            frame = current_frame(owner)
            if frame is None:
                raise missing_covariates(owner)
            s = frame.covariates
        check_covariates(s, owner.num_covariates, x)
    elif s is not None:
        if not takes_covariates(model):
            raise ExplainError(
                f"covariates: expected none, since {type(model).__name__} has no fused layer and takes images only; "
                "call fusionconv.fuse_into first, or leave the covariates out"
            )
        if not isinstance(s, Tensor) or s.ndim != 2:  # K is whatever they have; the rest is checked as ever
            got = f"{s.dtype} of shape {tuple(s.shape)}" if isinstance(s, Tensor) else type(s).__name__
            raise CovariateError(f"covariates: expected a floating-point tensor (N, K), got {got}")
        check_covariates(s, s.shape[1], x)
    return Call(model, x, s, name_covariates(names, None if s is None else s.shape[1]))


def name_covariates(names: Sequence[str] | None, count: int | None) -> tuple[str, ...]:
    """``names``, or s_1 to s_K.

    Raises:
        ExplainError: not as many names as covariates, or one twice.
    """
    if count is None:
        return ()
    if names is None:
        return tuple(f"s_{j + 1}" for j in range(count))
    given = tuple(map(str, names))
    if len(given) != count or isinstance(names, str):
        got = repr(names) if isinstance(names, str) else f"{len(given)}: {', '.join(given)}"
        raise ExplainError(f"names: expected {count}, one for each covariate, got {got}")
    if len(set(given)) < len(given):
        raise ExplainError(f"names: expected each name once, got {', '.join(given)}")
    return given


def unwrapped(model: Any) -> nn.Module:
    """The model inside DistributedDataParallel, DataParallel or torch.compile.

    Raises:
        ExplainError: not a module.
    """
    if not isinstance(model, nn.Module):
        raise ExplainError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    kinds = {c.__name__ for c in type(model).__mro__}
    if "OptimizedModule" in kinds:
        return unwrapped(model._orig_mod)
    if kinds & {"DistributedDataParallel", "DataParallel"}:
        return unwrapped(model.module)
    found: nn.Module = model
    return found


def one_number(outputs: Any, target: Target, rows: int) -> Tensor:
    """The number of each row that is explained, (N,), from what a model gave for ``rows`` rows.

    Raises:
        ExplainError: several outputs and no target; no such output; outputs that are no tensor.
    """
    if callable(target):
        chosen = target(outputs)
        if not isinstance(chosen, Tensor) or tuple(chosen.shape) not in ((rows,), (rows, 1)):
            got = tuple(chosen.shape) if isinstance(chosen, Tensor) else type(chosen).__name__
            raise ExplainError(
                f"target: expected a function that gives a tensor ({rows},), one number a row, got {got}"
            )
        return chosen.reshape(rows)
    columns = _columns(outputs, target, rows)
    if not (target is None or (isinstance(target, int) and not isinstance(target, bool))):
        raise ExplainError(f"target: expected the number of an output, or a function, got {target!r}")
    count = columns.shape[1]
    if target is None and count > 1:
        raise ExplainError(
            f"target: expected which of the model's {count} outputs is explained, got none; give target=0 to "
            f"{count - 1}, or a function such as target=lambda out: out[:, 1] - out[:, 0]"
        )
    at = target or 0
    if not -count <= at < count:
        raise ExplainError(f"target: expected 0 to {count - 1} (the model has {count} outputs), got {target}")
    return columns[:, at].flatten(1).mean(1) if columns.ndim > 2 else columns[:, at]


def every_number(outputs: Any, rows: int) -> Tensor:
    """Every output of each row, (N, A); of an image output the mean of each channel.

    Raises:
        ExplainError: outputs that are no tensor, or of other rows.
    """
    columns = _columns(outputs, None, rows)
    return columns.flatten(2).mean(2) if columns.ndim > 2 else columns


def _columns(outputs: Any, target: Target, rows: int) -> Tensor:
    """Outputs (N, A, *size), of a model whose outputs are (N,) too."""
    if not isinstance(outputs, Tensor):
        raise ExplainError(
            f"target: expected a function of the model's outputs, which are a {type(outputs).__name__}, got "
            f"{target!r}; give one such as target=lambda out: out['logits'][:, 1]"
        )
    if outputs.ndim == 0 or len(outputs) != rows:
        raise ExplainError(f"model: expected outputs of {rows} row(s), as of the images, got {tuple(outputs.shape)}")
    return outputs[:, None] if outputs.ndim == 1 else outputs


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of a name.

    Raises:
        ExplainError: no such name; the nearest ones.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if isinstance(name, str) and name in modules and name:
        return modules[name]
    known = [other for other in modules if other]
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {some(known)}"
    raise ExplainError(f"layer: expected a layer of the network, got {name!r}; {hint}")


def some(names: Sequence[str]) -> str:
    """The first twenty names, for a message."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"
