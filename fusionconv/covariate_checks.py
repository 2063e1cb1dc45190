"""Covariates, checked: a finite floating-point (N, K) tensor, one row per sample, or an error that says what to do."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fx import Proxy

from fusionconv.errors import CovariateError, CovariateTypeError, FusionError
from fusionconv.strategies.rows import tie_rows
from fusionconv.strategies.running import can_read, carries_more, is_recorded

__all__ = ["check_covariates", "check_range", "is_finite", "largest_magnitude", "ready_covariates", "refuse_fx"]


def ready_covariates(
    covariates: Tensor, num_covariates: int, x: Tensor, dtype: torch.dtype, check_finite: bool = True
) -> Tensor:
    """``covariates``, checked against ``x``, in ``dtype``, and in a recorded model tied to the rows of ``x``.

    Raises:
        CovariateError, CovariateTypeError, FusionError: as `check_covariates`; a value beyond ``dtype``.
    """
    s = check_covariates(covariates, num_covariates, x, check_finite=False)
    if check_finite:
        check_range(s, largest_magnitude(s), dtype)
    if carries_more(s):  # its metadata are not the image's
        s = s.as_subclass(Tensor)
    s = s.to(dtype)
    return tie_rows(s, x) if is_recorded() else s


def check_covariates(
    covariates: Tensor, num_covariates: int, x: Tensor | None = None, check_finite: bool = True
) -> Tensor:
    """Return ``covariates`` unchanged if they are a finite floating-point (N, K) tensor that fits ``x``; raise if not.

    Never broadcasts, repeats or casts an integer: a wrong row is a wrong patient. Values that cannot be read
    (compiling, exporting, capturing a CUDA graph, meta tensors, vmap) are not checked for NaN, nor are any with
    ``check_finite=False``.

    Raises:
        CovariateError, CovariateTypeError: what was expected, what it got, what to do.
        FusionError: torch.fx is tracing, where a tensor has neither shape nor values.
    """
    refuse_fx(covariates, x)
    if not isinstance(covariates, Tensor):
        raise CovariateTypeError(
            f"covariates must be a floating-point torch.Tensor of shape (N, {num_covariates}), got "
            f"{type(covariates).__name__}; use torch.as_tensor(covariates, dtype=torch.float32)"
        )
    if covariates.is_nested or covariates.layout is not torch.strided:
        got = "a nested one" if covariates.is_nested else f"one of layout {covariates.layout}"
        do = "torch.stack(list(covariates))" if covariates.is_nested else "covariates.to_dense()"
        raise CovariateTypeError(
            f"covariates must be a dense tensor of shape (N, {num_covariates}), got {got}; use {do}"
        )
    if not covariates.is_floating_point():
        raise CovariateTypeError(
            f"covariates must be floating point, got {covariates.dtype}; integers and booleans are often codes, so "
            "they are not converted for you: encode them (fusionconv.tabular.CovariateEncoder) or call .float()"
        )
    if covariates.ndim != 2 or covariates.shape[1] != num_covariates:
        raise CovariateError(
            f"covariates must have shape (N, {num_covariates}), one row per sample and one column per covariate, got "
            f"{tuple(covariates.shape)}" + ("; for a single covariate use s[:, None]" if covariates.ndim == 1 else "")
        )
    if x is not None:
        if covariates.shape[0] != x.shape[0]:
            raise CovariateError(
                f"covariates must have one row per sample: the batch has {x.shape[0]}, the covariates have "
                f"{covariates.shape[0]}; rows are never repeated for you. If the model makes several patches or "
                "windows of an image, repeat each image's row as often (torch.repeat_interleave)"
            )
        if covariates.device != x.device:
            raise CovariateError(
                f"covariates must be on the device of the input, {x.device}, got {covariates.device}; "
                f"use covariates.to({str(x.device)!r})"
            )
    if check_finite:
        largest_magnitude(covariates)
    return covariates


def largest_magnitude(covariates: Tensor) -> float | None:
    """The largest absolute value of finite ``covariates`` (N, K), None where they cannot be read. Waits for a GPU once.

    Raises:
        CovariateError: NaN or infinity among them; which rows.
    """
    if not can_read(covariates):
        return None
    largest = float(covariates.detach().abs().amax()) if covariates.numel() else 0.0
    if not math.isfinite(largest):
        bad = (~torch.isfinite(covariates)).nonzero()
        rows = ", ".join(str(int(r)) for r in bad[:, 0].unique()[:5])  # tolist: not inside torch.func before torch 2.9
        raise CovariateError(
            f"covariates must be finite, got NaN or infinity in {len(bad)} value(s), first in row(s) {rows}; "
            "missing values must be imputed before they reach the network"
        )
    return largest


def check_range(covariates: Tensor, largest: float | None, dtype: torch.dtype) -> None:
    """Raise a CovariateError where ``dtype`` would make infinity of a number; ``largest`` as of `largest_magnitude`."""
    end = torch.finfo(dtype).max
    if largest is None or largest <= end:
        return
    rows = covariates.detach().to(dtype).isinf().any(1).nonzero()[:, 0]
    if len(rows):  # a little above the end is rounded to it
        first = ", ".join(str(int(r)) for r in rows[:5])
        raise CovariateError(
            f"covariates must be within {dtype}, got up to {largest:g} in row(s) {first}, where it ends at {end:g}; "
            "standardise them (fusionconv.tabular.CovariateEncoder does)"
        )


def refuse_fx(*values: object) -> None:
    """Raise where torch.fx traces: a `Proxy` has neither shape nor values, so nothing can be checked."""
    if any(isinstance(value, Proxy) for value in values):
        raise FusionError(
            "torch.fx cannot trace a hybrid layer, or another that takes covariates (symbolic_trace, prepare_fx, "
            "create_feature_extractor), since they cannot be checked against the batch there; use torch.export or "
            "forward hooks, make the feature extractor first and fuse torch.nn.Sequential(extractor), or for a layer "
            "that your forward hands its covariates to name its class a leaf: "
            "tracer_kwargs={'leaf_modules': [fusionconv.HybridConv2d]}"
        )


def is_finite(covariates: Tensor) -> bool:
    """Whether all values are finite, as far as they can be read."""
    return not can_read(covariates) or bool(torch.isfinite(covariates.detach()).all())
