"""What all hybrid layers share: the covariate parameters on top of torch's own modules.

A hybrid layer *is* torch's layer (same attributes, same parameter names, same state-dict keys) plus
``covariate_weight`` and, on request, ``covariate_bias`` and ``covariate_map``.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from fusionconv.functional import check_covariates, check_strategy
from fusionconv.strategies.kernels import full_precision

__all__ = ["COVARIATE_PARAMETERS", "HybridLayer", "check_options"]

COVARIATE_PARAMETERS = ("covariate_weight", "covariate_bias", "covariate_map")
INITS = ("zeros", "kaiming")

Layer = TypeVar("Layer", bound="HybridLayer")


def check_options(
    num_covariates: int,
    covariate_bias: bool = False,
    rank: int | None = None,
    init: str = "zeros",
    strategy: str = "auto",
) -> None:
    """Raise unless these are options that a hybrid layer can take."""
    if not isinstance(num_covariates, int) or isinstance(num_covariates, bool) or num_covariates < 1:
        raise ValueError(
            f"num_covariates must be an integer of at least 1, got {num_covariates!r}; without covariates use the "
            "plain layer"
        )
    if rank is not None and (not isinstance(rank, int) or not 1 <= rank <= num_covariates):
        raise ValueError(f"rank must be None or an integer from 1 to num_covariates = {num_covariates}, got {rank!r}")
    if init not in INITS:
        raise ValueError(f"init must be one of {list(INITS)}, got {init!r}")
    check_strategy(strategy)


class HybridLayer(nn.Module):
    """Base of the hybrid layers; the subclasses say which torch layer they extend and how to run it."""

    weight: Tensor
    bias: Tensor | None
    covariate_weight: nn.Parameter
    covariate_bias: nn.Parameter | None
    covariate_map: nn.Parameter | None
    num_covariates: int
    strategy: str

    def attach_covariates(
        self,
        num_covariates: int,
        covariate_bias: bool = False,
        rank: int | None = None,
        init: str = "zeros",
        strategy: str = "auto",
    ) -> None:
        """Add the covariate parameters, on the device and in the dtype of ``weight``."""
        check_options(num_covariates, covariate_bias, rank, init, strategy)
        kernels = num_covariates if rank is None else rank
        self.num_covariates, self.init, self.strategy = num_covariates, init, strategy
        like, shape = self.weight.detach(), self.weight.shape
        self.covariate_weight = nn.Parameter(like.new_empty(kernels, *shape))
        bias = nn.Parameter(like.new_empty(kernels, self.num_outputs())) if covariate_bias else None
        self.register_parameter("covariate_bias", bias)
        mapping = nn.Parameter(like.new_empty(rank, num_covariates)) if rank is not None else None
        self.register_parameter("covariate_map", mapping)
        self.reset_covariate_parameters()

    def num_outputs(self) -> int:
        """The length of a bias: C_out of a convolution, the output features of a linear layer."""
        raise NotImplementedError

    def detach_covariates(self) -> None:
        """Remove what `attach_covariates` added; the module's class is the caller's to restore."""
        for name in COVARIATE_PARAMETERS:
            self._parameters.pop(name, None)
        for name in ("num_covariates", "init", "strategy"):
            self.__dict__.pop(name, None)

    @torch.no_grad()
    def reset_covariate_parameters(self) -> None:
        """V by ``init`` ("zeros", or "kaiming": each V_j as He-normal, fan_out, as large as a new W); c = 0.

        With ``rank`` the K -> R map starts with orthonormal rows, so that V = 0 still gets a gradient.
        """
        if self.init == "zeros":
            nn.init.zeros_(self.covariate_weight)
        else:
            for kernel in self.covariate_weight:
                nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
        if self.covariate_bias is not None:
            nn.init.zeros_(self.covariate_bias)
        if self.covariate_map is not None:
            values = torch.empty(self.covariate_map.shape, dtype=torch.float32, device=self.covariate_map.device)
            self.covariate_map.copy_(nn.init.orthogonal_(values))  # no half-precision QR: made in float32

    def reset_parameters(self) -> None:
        """Reset W and b as torch does and the covariate parameters by ``init``."""
        super().reset_parameters()  # type: ignore[misc]  # torch's layer comes next in the order of classes
        if "covariate_weight" in self._parameters:  # not yet while torch's constructor runs
            self.reset_covariate_parameters()

    @classmethod
    def from_plain(
        cls: type[Layer],
        plain: nn.Module,
        num_covariates: int,
        init: str = "zeros",
        *,
        covariate_bias: bool = False,
        rank: int | None = None,
        strategy: str = "auto",
    ) -> Layer:
        """A hybrid layer that shares ``plain``'s own Parameter objects, options, hooks and mode.

        With ``init="zeros"`` its output equals ``plain``'s for every covariate vector until V is trained.
        ``plain`` itself is not changed. Convolutions call it ``from_conv``, the linear layer ``from_linear``.

        Raises:
            TypeError: ``plain`` is not exactly the torch class that this layer extends.
        """
        expected = cls.plain_class()
        if type(plain) is not expected:
            raise TypeError(
                f"{cls.__name__} can be made from exactly a torch.nn.{expected.__name__}, got {type(plain).__name__}"
            )
        layer = cls.__new__(cls)
        layer.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in plain.__dict__.items()}
        layer.attach_covariates(num_covariates, covariate_bias, rank, init, strategy)
        return layer

    @classmethod
    def plain_class(cls) -> type[nn.Module]:
        """The torch class that this layer extends."""
        return next(base for base in cls.__mro__ if base.__module__.startswith("torch.nn."))

    def kernel_covariates(self, covariates: Tensor, x: Tensor) -> Tensor:
        """The numbers that multiply the V_j: the covariates, or with ``rank`` their image under the learned map."""
        if self.covariate_map is None:
            return covariates  # the function under the layer checks them
        check_covariates(covariates, self.num_covariates, x)
        with full_precision(covariates):
            return nn.functional.linear(covariates.to(self.covariate_map.dtype), self.covariate_map)

    def extra_repr(self) -> str:
        """Torch's own text plus the covariate options."""
        text: str = super().extra_repr()
        text += f", num_covariates={self.num_covariates}"
        if self.covariate_map is not None:
            text += f", rank={self.covariate_map.shape[0]}"
        if self.covariate_bias is not None:
            text += ", covariate_bias=True"
        return text + (f", strategy={self.strategy}" if self.strategy != "auto" else "")
