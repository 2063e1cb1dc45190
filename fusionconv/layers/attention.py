"""attention: a gate for every feature map, as in squeeze-and-excitation, from the covariates."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from fusionconv.layers.base import EVERY_LAYER, Option, variants
from fusionconv.layers.modulated import Modulated

__all__ = ["Attention"]


class Attention(Modulated):
    r"""``y_i = 2 sigmoid(C2 relu(C1 v_i + c1)) * conv(x_i)``, one gate between 0 and 2 for each output channel.

    v_i is the covariate vector s_i; with ``pooled=True`` the mean of each output map of sample i, followed by s_i.

    Source: the gate of Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, eq. 2 to 4 (squeeze: the mean of
    each map; excitation: two linear layers with a ReLU in between, then a sigmoid; scale), given covariates instead of
    the pooled maps, or beside them. Two differences: the factor 2, and C2 = 0 at the start. Together they make every
    gate 1, so that the layer is the one that it was; published gates start near 1/2. There is no constant in the last
    step: where the gates should not be 1 for s = 0, W is what learns it.

    Options:
        hidden: H hidden units.
        pooled: also look at the convolution's own output. Then the gate depends on the image, and `merge` refuses.

    Cost, for K covariates, C output channels, P output positions; with ``pooled`` K + C takes the place of K:
        parameters: H (K + 1) + C H.
        FLOPs a sample: 2 H K + 2 C H, and C P for the product; with ``pooled`` another C P for the means.

    Attributes:
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), or (H, C + K) with ``pooled``; c1 (H).
        covariate_out_weight: C2, (C, H).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="attention", pooled=True)
        >>> model(torch.randn(4, 3, 8, 8), torch.randn(4, 2)).shape
        torch.Size([4, 8, 6, 6])
    """

    METHOD = "attention"
    OPTIONS: ClassVar[dict[str, Option]] = {"hidden": Option(16, (int,)), "pooled": Option(False, (bool,))}

    @classmethod
    def sees_image(cls, options: dict[str, Any]) -> bool:
        """As the option ``pooled`` says."""
        return bool(options["pooled"])

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """A scale only."""
        return 2 * values.sigmoid(), None


variants(Attention, EVERY_LAYER)
