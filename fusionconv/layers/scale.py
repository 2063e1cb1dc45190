"""scale: every feature map times a number that a small network makes from the covariates."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fusionconv.layers.base import EVERY_LAYER, Option, variants
from fusionconv.layers.modulated import Modulated

__all__ = ["Scale"]


class Scale(Modulated):
    r"""``y_i = (1 + m(s_i)) * conv(x_i)``, one number for each output channel, ``m(s) = C2 relu(C1 s + c1)``.

    Source: Duanmu, Huang, Brahmavar et al., "Prediction of Pathological Complete Response to Neoadjuvant Chemotherapy
    in Breast Cancer Using Deep Learning with Integrative Imaging, Molecular and Demographic Data", MICCAI 2020: the
    channel-wise product of feature maps with a vector that a network makes from the non-imaging data. There the
    product is ``m(s) * maps`` with m from its ordinary start, which changes a pretrained network from the first step
    on. Here, by default, 1 is added and C2 = 0 at the start, so that the layer is the one that it was.
    ``identity=False`` gives the published product with torch's usual start of C2. In the form in which DAFT's authors
    compare with it, the vector of each level is made from that of the level before; here each layer has its own.

    Options:
        hidden: H hidden units.
        identity: True: ``1 + m`` and C2 = 0; False: ``m``, as published.

    Cost, for K covariates, C output channels, P output positions:
        parameters: H (K + 1) + C H.
        FLOPs a sample: 2 H K + 2 C H, and C P for the product.

    Attributes:
        covariate_hidden_weight, covariate_hidden_bias: C1 (H, K), c1 (H).
        covariate_out_weight: C2, (C, H).

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="scale", hidden=8)
        >>> model(torch.randn(4, 1, 8, 8, 8), torch.randn(4, 2)).shape
        torch.Size([4, 8, 6, 6, 6])
    """

    METHOD = "scale"
    OPTIONS: ClassVar[dict[str, Option]] = {"hidden": Option(16, (int,)), "identity": Option(True, (bool,))}

    def starts_as_plain(self) -> bool:
        """As the option ``identity`` says."""
        return bool(self.covariate_options["identity"])

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """A scale only."""
        return (1 + values if self.covariate_options["identity"] else values), None


variants(Scale, EVERY_LAYER)
