"""film: feature-wise linear modulation, a scale and a shift of every feature map, both from the covariates."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fusionconv.layers.base import EVERY_LAYER, Option, variants
from fusionconv.layers.modulated import Modulated

__all__ = ["Film"]


class Film(Modulated):
    r"""``y_i = (1 + gamma(s_i)) * conv(x_i) + beta(s_i)``, one gamma and one beta for each output channel.

    Source: Perez, Strub, de Vries, Dumoulin, Courville, "FiLM: Visual Reasoning with a General Conditioning Layer",
    AAAI 2018, eq. 1 and 2, with the scale written as 1 + gamma, as its authors do too, so that it does not start by
    erasing the maps. There a FiLM layer follows a batch norm; here it is the convolution's own output, before what
    follows.

    gamma and beta are linear in s, ``[gamma; beta] = C2 s``, without constants: those would be a scale of W and b and
    a shift of b, which are learned anyway. With ``hidden`` they are ``C2 relu(C1 s + c1)``. C2 = 0 at the start: the
    layer is the one that it was.

    Options:
        hidden: H hidden units between the covariates and gamma and beta; None: linear.

    Cost, for K covariates, C output channels, P output positions:
        parameters: 2 C K; with ``hidden`` H (K + 1) + 2 C H.
        FLOPs a sample: 4 C K (or 2 H K + 4 C H), and 2 C P for the scale and the shift.

    Attributes:
        covariate_out_weight: C2, (2 C, K) or (2 C, H), the rows of gamma first.
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), c1 (H), or None.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="film")
        >>> model(torch.randn(4, 3, 8, 8), torch.randn(4, 2)).shape
        torch.Size([4, 8, 6, 6])
    """

    METHOD = "film"
    OPTIONS: ClassVar[dict[str, Option]] = {"hidden": Option(None, (int, type(None)))}

    @classmethod
    def values_per_channel(cls, options: dict[str, Any]) -> int:
        """gamma and beta."""
        return 2

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(1 + gamma, beta)."""
        gamma, beta = values.chunk(2, dim=1)
        return 1 + gamma, beta


variants(Film, EVERY_LAYER)
