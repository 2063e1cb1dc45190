"""concat: the covariates joined to the features in front of a linear layer, the usual late fusion."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from fusionconv.layers.base import Option, variants
from fusionconv.layers.modulated import Modulated

__all__ = ["Concat"]


class Concat(Modulated):
    r"""``y_i = U f_i + b + C s_i``: the linear layer of the features with the covariates appended to them.

    ``U f + C s = [U C] [f; s]``. Source: none in particular; it is the baseline of most papers on the matter, among
    them Poelsterl et al., MICCAI 2021. With ``hidden`` the covariates pass a hidden layer of their own first,
    ``C2 relu(C1 s + c1)``. C (or C2) is 0 at the start: the layer is the one that it was.

    For linear layers only. In ``fuse_into(..., method="concat")`` ints and predicates therefore see the linear layers
    of the network: -1 is the last one. Of an input (N, \*, features) every position gets the covariates of its sample.

    Options:
        hidden: H hidden units between the covariates and the layer; None: linear.

    Cost, for K covariates, C output features, P positions (1 for (N, features)):
        parameters: C K; with ``hidden`` H (K + 1) + C H.
        FLOPs a sample: 2 C K (or 2 H K + 2 C H), and C P for the sum.

    Attributes:
        covariate_out_weight: C, (out_features, K), or C2, (out_features, H).
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), c1 (H), or None.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8), torch.nn.Flatten(), torch.nn.Linear(8, 2))
        >>> model = fusionconv.fuse_into(model, -1, num_covariates=3, method="concat")  # its last linear layer
        >>> model(torch.randn(4, 3, 8, 8), torch.randn(4, 3)).shape
        torch.Size([4, 2])
    """

    METHOD = "concat"
    OPTIONS: ClassVar[dict[str, Option]] = {"hidden": Option(None, (int, type(None)))}

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """A shift only."""
        return None, values

    def multipliers(self, s: Tensor | None = None) -> dict[str, int | Tensor]:
        """None: C is part of an ordinary linear layer with more inputs, and is trained as such."""
        return {}


variants(Concat, (nn.Linear,))
