"""The methods that leave the kernel alone and scale or shift its output: film, scale, attention, daft, concat.

    y_i = a_i * (W x_i + b) + d_i         one number a and d for each sample and output channel

A method says how a and d come from the covariates. With one covariate vector for all samples a and d are constants,
and W and b can take them up: that is `merged`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from fusionconv.covariate_checks import ready_covariates, refuse_fx
from fusionconv.layers.base import CovariateLayer, Merged, Shapes, num_outputs, precise
from fusionconv.layers.covariate_net import NET, net_shapes, reset_linear, run_net, run_net_precisely

__all__ = ["Modulated"]


class Modulated(CovariateLayer):
    """Base of those methods; ``modulation`` turns the values of the covariates' network into a and d."""

    ADDED: ClassVar[tuple[str, ...]] = NET

    covariate_hidden_weight: nn.Parameter | None
    covariate_hidden_bias: nn.Parameter | None
    covariate_out_weight: nn.Parameter

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """``values`` (N, M) -> a (N, C_out) and d (N, C_out); None: no scaling, no shift."""
        raise NotImplementedError

    @classmethod
    def values_per_channel(cls, options: dict[str, Any]) -> int:
        """M / C_out: how many numbers the network gives for each output channel."""
        return 1

    @classmethod
    def sees_image(cls, options: dict[str, Any]) -> bool:
        """Whether the network is given the pooled output of the convolution too."""
        return False

    def starts_as_plain(self) -> bool:
        """Whether C2 = 0 at the start, so that the layer is the plain one; else C2 starts as torch's linear layers."""
        return True

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """C1, c1 and C2 of the network."""
        outputs = num_outputs(plain)
        inputs = num_covariates + (outputs if cls.sees_image(options) else 0)
        return net_shapes(inputs, outputs * cls.values_per_channel(options), options["hidden"])

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """The hidden units as torch starts linear layers; C2 = 0, unless an option says otherwise."""
        if self.covariate_hidden_weight is not None:
            reset_linear(self.covariate_hidden_weight, self.covariate_hidden_bias)
        if self.starts_as_plain():
            nn.init.zeros_(self.covariate_out_weight)
        else:
            reset_linear(self.covariate_out_weight)

    def forward(self, x: Tensor, covariates: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        r"""``x`` (N, C_in, \*spatial) or (N, \*, features), ``covariates`` (N, K) -> as the plain layer.

        A further argument, ``output_size``, is a transposed convolution's.
        """
        refuse_fx(covariates, x)
        self.check_batch(x)
        dtype = self.covariate_out_weight.dtype
        v = ready_covariates(covariates, self.num_covariates, x, dtype, self.looks_for_nan())
        y = self._plain(x, *args, **kwargs)
        if self.sees_image(self.covariate_options):
            v = torch.cat([self._pooled(y, v.dtype), v], dim=1)
        scale, shift = self.modulation(
            run_net(v, self.covariate_hidden_weight, self.covariate_hidden_bias, self.covariate_out_weight)
        )
        if scale is not None:
            y = y * self._over_positions(scale, y)
        if shift is not None:
            y = y + self._over_positions(shift, y)
        return y

    def _plain(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What torch's own layer gives."""
        plain: Any = self.PLAIN
        result: Tensor
        if issubclass(self.PLAIN, (nn.Linear, _ConvTransposeNd)):
            result = plain.forward(self, x, *args, **kwargs)
        else:
            result = plain._conv_forward(self, x, self.weight, self.bias, *args, **kwargs)
        return result

    def _pooled(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """The mean of each channel over all positions, (N, C_out)."""
        positions = y.ndim - 2
        if positions == 0:
            return y.to(dtype)
        return y.mean(tuple(range(1, 1 + positions) if self.PLAIN is nn.Linear else range(2, y.ndim)), dtype=dtype)

    def _over_positions(self, numbers: Tensor, y: Tensor) -> Tensor:
        """(N, C_out) in the shape and dtype in which it multiplies ``y``."""
        n, channels = numbers.shape
        ones = (1,) * (y.ndim - 2)
        return numbers.to(y.dtype).reshape((n, *ones, channels) if self.PLAIN is nn.Linear else (n, channels, *ones))

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """Of C2 where the covariates themselves multiply it; with hidden units it is a layer of an ordinary network."""
        if self.covariate_hidden_weight is not None:
            return {}
        return {NET[2]: self.num_covariates if s is None else s}

    def merged(self, s: Tensor) -> Merged:
        """a W and a b + d."""
        if self.sees_image(self.covariate_options):
            raise NotImplementedError("its scale and shift depend on the image, not on the covariates alone")
        scale, shift = self.modulation(run_net_precisely(self, s[None]))
        weight, bias = precise(self.weight), None if self.bias is None else precise(self.bias)
        if scale is not None:
            bias = None if bias is None else bias * scale[0]
        if shift is not None:
            bias = shift[0] if bias is None else bias + shift[0]
        if scale is None:
            return Merged(None, bias)
        if issubclass(
            self.PLAIN, _ConvTransposeNd
        ):  # (C_in, C_out/g, *k): the inputs of a group have that group's outputs
            groups: Any = self.groups
            factors = scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
            return Merged((weight.unflatten(0, (groups, -1)) * factors).flatten(0, 1), bias)
        return Merged(weight * scale.reshape(-1, *(1,) * (weight.ndim - 1)), bias)
