"""merge: one covariate vector baked into plain layers, for a network that serves one group from now on."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from fusionconv.covariate_checks import check_covariates
from fusionconv.errors import CovariateError, SurgeryError
from fusionconv.layers.base import precise
from fusionconv.surgery.frames import Owner
from fusionconv.surgery.fuse import ready_to_unfuse, unfuse
from fusionconv.surgery.fused_layers import FusedLayer
from fusionconv.surgery.root import owner_of

__all__ = ["merge"]

Model = TypeVar("Model", bound=nn.Module)


def merge(model: Model, covariates: Tensor) -> Model:
    """Bake one covariate vector into ``model``, in place: plain layers again, with ``W + sum_j s_j V_j``.

    Of other methods too, where for fixed covariates the layer is a plain one (film: ``(1 + gamma) W`` and so on).

    The result is the original class with the original keys, called as ``model(images)``, and gives what the fused
    model gives when every sample has these covariates. The sums are taken in float64 and rounded once to the
    weight's dtype. The merged weight and bias are new Parameters (W may be shared with other layers); an optimizer
    does not know them. To keep the fused model, or to merge for several groups, merge a ``copy.deepcopy``.

    Args:
        model: the root that `fuse_into` returned.
        covariates: s, (K,) or (1, K), floating point, finite.

    Returns:
        The same model object.

    Raises:
        SurgeryError: ``model`` is not fused (or merged already), a layer has a parametrization since, or is of a method
            whose effect depends on the image. Nothing was changed.
        CovariateError: several rows, another K, not finite; or a merged weight that its dtype cannot hold.

    Example:
        >>> import torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), 0, 2, init="kaiming")
        >>> images, s = torch.randn(4, 3, 8, 8), torch.tensor([0.3, 1.0])
        >>> expected = model(images, s.expand(4, 2))
        >>> torch.allclose(fusionconv.merge(model, s)(images), expected, atol=1e-5)
        True
    """
    owner, layers = owner_of(model), ready_to_unfuse(model)
    s = _one_vector(covariates, owner)
    merged = {name: _merged(name, layer, s) for name, layer in layers.items()}
    unfuse(model)
    for name, (weight, bias) in merged.items():
        layers[name].weight = weight
        layers[name].bias = bias
    return model


def _one_vector(covariates: Tensor, owner: Owner) -> Tensor:
    """``covariates`` as (K,) in float64."""
    rows = covariates[None] if isinstance(covariates, Tensor) and covariates.ndim == 1 else covariates
    check_covariates(rows, owner.num_covariates)
    if len(rows) != 1:
        raise CovariateError(
            f"merge bakes in one covariate vector, of shape ({owner.num_covariates},) or (1, {owner.num_covariates}), "
            f"got {len(rows)} rows; merge a copy.deepcopy of the model for each"
        )
    return precise(rows[0])


@torch.no_grad()
def _merged(name: str, layer: FusedLayer, s: Tensor) -> tuple[nn.Parameter, nn.Parameter | None]:
    """The plain layer's weight and bias."""
    if "weight" not in layer._parameters:
        raise SurgeryError(
            f"layer {name!r}: its weight is computed by a hook since it was fused (pruning, weight_norm); remove that "
            "first, such as by torch.nn.utils.prune.remove"
        )
    try:
        merged = layer.merged(s)
    except NotImplementedError as error:
        raise SurgeryError(
            f"layer {name!r} (method {layer.METHOD!r}) cannot be merged: {error}; no plain layer gives what it gives. "
            "Serve the fused model, with the same covariates in every row"
        ) from error
    results = []
    for base, total in ((layer.weight, merged.weight), (layer.bias, merged.bias)):
        if total is None:
            results.append(base)
            continue
        like = layer.weight.new_empty(total.shape) if base is None else base
        learns = any(p.requires_grad for _, p in layer.covariate_parameters()) if base is None else base.requires_grad
        result = torch.empty_like(like).copy_(total)
        if not result.is_meta and torch.isfinite(total).all() and not torch.isfinite(result).all():
            raise CovariateError(
                f"layer {name!r}: merged with these covariates its parameters reach {total.abs().max():g}, which "
                f"{result.dtype} cannot hold; check the covariates' units, or merge model.float()"
            )
        results.append(nn.Parameter(result, requires_grad=learns))
    return cast("tuple[nn.Parameter, nn.Parameter | None]", tuple(results))
