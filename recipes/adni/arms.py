"""The arms of a study: the image alone, covariates joined at the end (concat), or inside a convolution (hybrid)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import nn

from fusionconv import fuse_into
from fusionconv.errors import SurgeryError
from fusionconv.layers import CovariateLayer
from recipes.adni.networks import build_backbone

Arm = Literal["image", "covariates", "concat", "hybrid"]
ARMS: tuple[Arm, ...] = get_args(Arm)  # what crossval compares unless --arms says otherwise


def build_network(
    arm: Arm,
    network: str,
    num_outputs: int,
    num_covariates: int,
    layer_idx: int | str | list[int | str] = 0,
    network_options: dict[str, Any] | None = None,
    fusion_options: dict[str, Any] | None = None,
) -> nn.Module:
    """The network of one arm; all arms with an image start from the same weights and, at first, give the same outputs.

    Args:
        arm: ``"image"``: call ``network(images)``. ``"concat"``: the covariates are appended to the features before the
            last linear layer, one weight per output and covariate, from zero. ``"hybrid"``: the convolutions of
            ``layer_idx`` get one kernel per sample. Call both as ``network(images, covariates)``. The arm
            ``"covariates"`` has no network (covariates_only.py).
        network: see `recipes.adni.networks.build_backbone`.
        num_outputs: outputs of the task.
        num_covariates: K, after encoding.
        layer_idx: hybrid: as `fusionconv.fuse_into` takes it: first, last, a name, ...
        network_options: of the network.
        fusion_options: hybrid: what else `fuse_into` takes, such as ``{"rank": 2}``.
    """
    model = build_backbone(network, num_outputs, network_options)
    if arm == "image":
        return model
    if num_covariates == 0:
        raise SurgeryError(f"the arm {arm!r} needs covariates: give --data.covariates '[age, sex]'.")
    if arm == "hybrid":
        return fuse_into(model, layer_idx, num_covariates, **(fusion_options or {}))
    if arm == "concat":
        return concatenate(model, num_covariates)
    raise SurgeryError(f"the arm {arm!r} has no network.")


def concatenate(model: nn.Module, num_covariates: int) -> nn.Module:
    """Append covariates to the features before the last linear layer: ``y = U f + b + C s``, from C = 0 on."""
    if not any(isinstance(module, nn.Linear) for module in model.modules()):
        raise SurgeryError(
            f"the arm 'concat' appends covariates before the last linear layer, and {type(model).__name__} has no "
            "nn.Linear. Choose another network or the arm 'hybrid'."
        )
    return fuse_into(model, "last", num_covariates, method="concat")  # the last linear layer


def count_parameters(model: nn.Module) -> dict[str, int]:
    """All trainable parameters, and those among them that only the covariates use."""
    layers = [module for module in model.modules() if isinstance(module, CovariateLayer)]
    of_covariates = {id(p): p.numel() for layer in layers for _, p in layer.covariate_parameters() if p.requires_grad}
    every = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"parameters": every, "covariate_parameters": sum(of_covariates.values())}
