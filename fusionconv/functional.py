"""hybrid_conv: a convolution with one kernel per sample, linear in that sample's covariates.

    kernel_i = W + sum_j s_ij V_j          bias_i = b + sum_j s_ij c_j

Checks the arguments, picks a strategy, calls it. The layers are thin modules on these functions.
"""

from __future__ import annotations

from torch import Tensor
from torch.overrides import handle_torch_function

from fusionconv.covariate_checks import ready_covariates, refuse_fx
from fusionconv.strategies import STRATEGIES, Geometry, choose
from fusionconv.strategies.geometry import IntOrInts
from fusionconv.strategies.layout import keep_layout, own
from fusionconv.strategies.running import carries_more

__all__ = ["hybrid_conv", "hybrid_conv_transpose", "hybrid_linear"]


def hybrid_conv(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None = None,
    covariate_bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts | str = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    strategy: str = "auto",
    *,
    check_finite: bool = True,
) -> Tensor:
    r"""Convolve sample i of ``x`` with the kernel ``W + sum_j s_ij V_j``, in 1-D, 2-D or 3-D.

    Source: the hybrid convolution of ShortFuse (Fiterau et al., MLHC 2017), here for any number of covariates,
    any spatial rank and every option of ``torch.nn.functional.convNd``.

    Args:
        x: (N, C_in, \*spatial), one to three spatial dimensions.
        covariates: s, (N, K), floating point, finite; row i belongs to sample i. s_i = 0 is the ordinary convolution.
        weight: W, (C_out, C_in/groups, \*kernel).
        covariate_weight: V, (K, C_out, C_in/groups, \*kernel).
        bias: b, (C_out), or None.
        covariate_bias: c, (K, C_out), or None.
        stride, padding, dilation, groups: as in ``torch.nn.functional.conv2d``, "same" and "valid" included.
        strategy: how to compute it: "auto", "loop", "grouped", "chunked", "tiled", "stacked", "scaled" or "distinct";
            same result.
        check_finite: False: do not look for NaN, which on a GPU waits for the device. For covariates that were looked
            at before, and for numbers that the network itself has made from the image (a routing): NaN among them
            then goes on to the output, as NaN in an image does, and is no error.

    Returns:
        (N, C_out, \*spatial_out).

    Raises:
        CovariateError: covariates of another row count, column count, device, or not finite.
        CovariateTypeError: covariates that are not a floating-point tensor.
        ValueError: shapes of x or of the weights that do not fit together; an unknown strategy.

    Example:
        >>> import torch
        >>> from fusionconv.functional import hybrid_conv
        >>> x, s = torch.randn(4, 3, 16, 16), torch.tensor([[0.0], [0.0], [1.0], [2.0]])
        >>> W, V = torch.randn(8, 3, 3, 3), torch.randn(1, 8, 3, 3, 3)
        >>> y = hybrid_conv(x, s, W, V, padding="same")
        >>> y.shape
        torch.Size([4, 8, 16, 16])
        >>> plain = torch.nn.functional.conv2d(x[3:], W + 2 * V[0], padding="same")
        >>> torch.allclose(y[3:], plain, atol=1e-5)
        True
    """
    geometry = Geometry(weight.ndim - 2, stride, padding, dilation, groups)
    return _run(x, covariates, weight, covariate_weight, bias, covariate_bias, geometry, strategy, check_finite)


def hybrid_conv_transpose(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None = None,
    covariate_bias: Tensor | None = None,
    stride: IntOrInts = 1,
    padding: IntOrInts = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    strategy: str = "auto",
    *,
    check_finite: bool = True,
) -> Tensor:
    r"""The transposed form of `hybrid_conv`, with the arguments of ``torch.nn.functional.conv_transposeNd``.

    ``weight`` is (C_in, C_out/groups, \*kernel) and ``covariate_weight`` (K, C_in, C_out/groups, \*kernel), the
    layout of ``nn.ConvTransposeNd``; ``output_padding`` is torch's; everything else is as in `hybrid_conv`.

    Example:
        >>> import torch
        >>> from fusionconv.functional import hybrid_conv_transpose
        >>> x, s = torch.randn(2, 4, 8), torch.randn(2, 3)
        >>> hybrid_conv_transpose(x, s, torch.randn(4, 6, 2), torch.randn(3, 4, 6, 2), stride=2).shape
        torch.Size([2, 6, 16])
    """
    geometry = Geometry(weight.ndim - 2, stride, padding, dilation, groups, True, output_padding)
    return _run(x, covariates, weight, covariate_weight, bias, covariate_bias, geometry, strategy, check_finite)


def hybrid_linear(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None = None,
    covariate_bias: Tensor | None = None,
    strategy: str = "auto",
    *,
    check_finite: bool = True,
) -> Tensor:
    r"""Apply ``W + sum_j s_ij V_j`` to sample i: ``torch.nn.functional.linear`` with one weight matrix per sample.

    It is `hybrid_conv` with a kernel of one along the middle dimensions, and is computed so.

    Args:
        x: (N, \*, in_features), the batch first.
        covariates: s, (N, K), floating point, finite; row i belongs to sample i.
        weight: W, (out_features, in_features).
        covariate_weight: V, (K, out_features, in_features).
        bias: b, (out_features), or None.
        covariate_bias: c, (K, out_features), or None.
        strategy, check_finite: as in `hybrid_conv`.

    Returns:
        (N, \*, out_features).

    Raises:
        CovariateError, CovariateTypeError, ValueError: as `hybrid_conv`.

    Example:
        >>> import torch
        >>> from fusionconv.functional import hybrid_linear
        >>> x, s = torch.randn(2, 10, 4), torch.tensor([[0.0], [3.0]])
        >>> W, V = torch.randn(6, 4), torch.randn(1, 6, 4)
        >>> y = hybrid_linear(x, s, W, V)
        >>> torch.allclose(y[1], torch.nn.functional.linear(x[1], W + 3 * V[0]), atol=1e-5)
        True
    """
    if carries_more(x):
        arguments = (x, covariates, weight, covariate_weight, bias, covariate_bias, strategy)
        return handle_torch_function(hybrid_linear, (x,), *arguments, check_finite=check_finite)
    refuse_fx(covariates, x)
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (out_features, in_features), got {tuple(weight.shape)}")
    if x.ndim < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x must have shape (N, *, {weight.shape[1]}) for this weight, got {tuple(x.shape)}"
            + ("; a single sample needs x[None]" if x.ndim == 1 else "")
        )
    if covariate_weight.shape[1:] != weight.shape or covariate_weight.shape[0] < 1:
        raise ValueError(
            f"covariate_weight must have shape (K, {weight.shape[0]}, {weight.shape[1]}) with K >= 1, got "
            f"{tuple(covariate_weight.shape)}; without covariates use the plain layer"
        )
    positions = x[:, None] if x.ndim == 2 else x.flatten(1, -2)  # (N, L, in_features)
    y = hybrid_conv(
        positions.transpose(1, 2), covariates, weight[..., None], covariate_weight[..., None], bias, covariate_bias,
        strategy=strategy, check_finite=check_finite,
    )  # fmt: skip
    return own(y.transpose(1, 2).reshape(*x.shape[:-1], weight.shape[0]))


def _run(
    x: Tensor,
    covariates: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
    strategy: str,
    check_finite: bool,
) -> Tensor:
    _check_strategy(strategy)
    refuse_fx(covariates, x)
    if carries_more(x):
        arguments = (x, covariates, weight, covariate_weight, bias, covariate_bias, geometry, strategy, check_finite)
        return handle_torch_function(_run, (x,), *arguments)
    _check_shapes(x, weight, covariate_weight, bias, covariate_bias, geometry)
    if not weight.is_floating_point():
        raise ValueError(f"weight must be real and floating point, got {weight.dtype}; covariates act on no other")
    covariates = ready_covariates(covariates, covariate_weight.shape[0], x, weight.dtype, check_finite)
    if x.shape[0] == 0:
        # no sample, no kernel; the empty sum keeps every parameter in the graph (DDP waits for their gradients)
        nothing = sum((s.sum() for s in (covariate_weight, covariate_bias) if s is not None), covariates.sum()) * 0
        return geometry.conv(x, weight, bias) + nothing.to(x.dtype)
    if strategy == "auto":
        strategy = choose(x, covariates, covariate_weight, geometry)
    y = STRATEGIES[strategy](x, covariates, weight, covariate_weight, bias, covariate_bias, geometry)
    return keep_layout(y, x)


def _check_strategy(strategy: str) -> None:
    """Raise a ValueError that names the strategies unless ``strategy`` is one of them."""
    if strategy != "auto" and strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {['auto', *STRATEGIES]}, got {strategy!r}")


def _check_shapes(
    x: Tensor,
    weight: Tensor,
    covariate_weight: Tensor,
    bias: Tensor | None,
    covariate_bias: Tensor | None,
    geometry: Geometry,
) -> None:
    dims = geometry.spatial_dims
    if dims not in (1, 2, 3):
        raise ValueError(
            f"weight must have 3, 4 or 5 dimensions (two of channels, 1 to 3 of space), got {tuple(weight.shape)}"
        )
    if x.ndim != dims + 2:
        raise ValueError(
            f"x must be a batch (N, C, *spatial) with {dims} spatial dimension(s) for a kernel of shape "
            f"{tuple(weight.shape)}, got {tuple(x.shape)}; a single image needs x[None]"
        )
    in_channels = weight.shape[0] if geometry.transposed else weight.shape[1] * geometry.groups
    out_channels = weight.shape[1] * geometry.groups if geometry.transposed else weight.shape[0]
    if x.shape[1] != in_channels:
        raise ValueError(f"x must have {in_channels} channels for this kernel, got {x.shape[1]} in {tuple(x.shape)}")
    if covariate_weight.shape[1:] != weight.shape or covariate_weight.shape[0] < 1:
        raise ValueError(
            f"covariate_weight must have shape (K, {', '.join(map(str, weight.shape))}) with K >= 1, got "
            f"{tuple(covariate_weight.shape)}; without covariates use the plain convolution"
        )
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"bias must have shape ({out_channels},), got {tuple(bias.shape)}")
    if covariate_bias is not None and covariate_bias.shape != (covariate_weight.shape[0], out_channels):
        raise ValueError(
            f"covariate_bias must have shape ({covariate_weight.shape[0]}, {out_channels}), got "
            f"{tuple(covariate_bias.shape)}"
        )
