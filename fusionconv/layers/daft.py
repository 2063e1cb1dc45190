"""daft: the dynamic affine feature map transform, a scale and a shift from covariates and pooled maps together."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionconv.layers.base import EVERY_LAYER, Option, Shapes, num_outputs, variants
from fusionconv.layers.covariate_net import net_shapes
from fusionconv.layers.modulated import Modulated

__all__ = ["Daft"]


class Daft(Modulated):
    r"""``y_i = alpha_i * F_i + beta_i`` with ``F_i = conv(x_i)`` and ``[alpha_i; beta_i]`` from s_i and F_i's means.

    The auxiliary network is ``[a_i; beta_i] = C2 relu(C1 [mean(F_i); s_i])``: a bottleneck of B units and no constants,
    as published. The means are those of the very maps that are transformed, over all positions.

    Source: Poelsterl, Wolf, Wachinger, "Combining 3D Image and Tabular Data via the Dynamic Affine Feature Map
    Transform", MICCAI 2021 (arXiv 2107.05990), section 2. There ``alpha = activation(a)`` with the activation linear
    (its authors' default), tanh or sigmoid, the shift has none, and C2 starts as any linear layer, which changes a
    pretrained network from the first step on. Here, by default, C2 = 0 at the start and ``alpha = 1 + a``,
    ``1 + tanh(a)`` or ``2 sigmoid(a)``, so that the layer is the one that it was; ``identity=False`` gives the
    published form and start. The published module is in the last residual block of a 3-D network (its authors
    tried several places there) and transforms the maps that it is given; here these are the convolution's own output.

    The scale and shift depend on the image: `merge` refuses.

    Options:
        bottleneck: B, 7 as published.
        scale, shift: whether to scale, whether to shift; at least one.
        activation: "linear", "tanh" or "sigmoid", of the scale only.
        identity: True: start as the plain layer; False: as published.

    Cost, for K covariates, C output channels, P output positions, M = 2 C (C with only one of ``scale``, ``shift``):
        parameters: B (C + K) + M B.
        FLOPs a sample: 2 B (C + K) + 2 M B, and C P for the means, 2 C P for the scale and the shift.

    Attributes:
        covariate_hidden_weight: C1, (B, C + K), the columns of the means first.
        covariate_out_weight: C2, (M, B), the rows of the scale first.

    Example:
        >>> import torch, fusionconv
        >>> model = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3))
        >>> model = fusionconv.fuse_into(model, 0, num_covariates=2, method="daft", shift=False)
        >>> model(torch.randn(4, 1, 8, 8, 8), torch.randn(4, 2)).shape
        torch.Size([4, 8, 6, 6, 6])
    """

    METHOD = "daft"
    OPTIONS: ClassVar[dict[str, Option]] = {
        "bottleneck": Option(7, (int,)),
        "scale": Option(True, (bool,)),
        "shift": Option(True, (bool,)),
        "activation": Option("linear", (str,), ("linear", "tanh", "sigmoid")),
        "identity": Option(True, (bool,)),
    }

    @classmethod
    def check_options(cls, num_covariates: int, options: dict[str, Any]) -> dict[str, Any]:
        """See `CovariateLayer.check_options`."""
        complete = super().check_options(num_covariates, options)
        if not complete["scale"] and not complete["shift"]:
            raise ValueError("method 'daft': at least one of scale and shift must be True, got False for both")
        return complete

    @classmethod
    def values_per_channel(cls, options: dict[str, Any]) -> int:
        """1 or 2."""
        return int(options["scale"]) + int(options["shift"])

    @classmethod
    def sees_image(cls, options: dict[str, Any]) -> bool:
        """Always."""
        return True

    @classmethod
    def added_shapes(cls, plain: nn.Module, num_covariates: int, options: dict[str, Any]) -> Shapes:
        """C1 and C2; no c1."""
        channels = num_outputs(plain)
        outputs = channels * cls.values_per_channel(options)
        return net_shapes(channels + num_covariates, outputs, options["bottleneck"], hidden_bias=False)

    def starts_as_plain(self) -> bool:
        """As the option ``identity`` says."""
        return bool(self.covariate_options["identity"])

    def modulation(self, values: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(alpha, beta), either of them None where it is switched off."""
        options = self.covariate_options
        if not options["scale"]:
            return None, values
        a, beta = values.chunk(2, dim=1) if options["shift"] else (values, None)
        if options["activation"] == "sigmoid":
            alpha = 2 * a.sigmoid() if options["identity"] else a.sigmoid()
        else:
            alpha = torch.tanh(a) if options["activation"] == "tanh" else a
            alpha = 1 + alpha if options["identity"] else alpha
        return alpha, beta


variants(Daft, EVERY_LAYER)
