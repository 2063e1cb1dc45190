"""Inside a network that is asked: what its answer rests on, and the kernels that the covariates make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fusionconv.errors import FusionError
from fusionconv.study.tasks import Segmentation
from fusionconv.study.what_if.answers import Said
from fusionconv.study.what_if.asking import WhatIf

__all__ = ["Rests", "kernels_of", "rests_on"]

_LARGE = 2**19  # numbers of an image: beyond, Grad-CAM (one pass) stands for integrated gradients (many)


@dataclass(frozen=True)
class Rests:
    """What an answer rests on.

    Attributes:
        maps: attributions of the image, (C, *size); None where the network cannot be looked at so.
        caption: what they are of.
        covariates: attributions of the encoded covariates, by name.
    """

    maps: Tensor | None
    caption: str = ""
    covariates: Mapping[str, float] = field(default_factory=dict)


def rests_on(what_if: WhatIf, said: Said, name: str, values: Mapping[str, Any], quantity: str) -> Rests:
    """What a network's answer rests on, by `fusionconv.explain.attributions`.

    Args:
        what_if: the study.
        said: whose.
        name: the row.
        values: of covariates.
        quantity: the answer: of ``p_CLASS`` and ``probability`` the log odds of the class are explained.
    """
    from fusionconv.explain import attributions

    network = said.network.predictor
    image = what_if.inputs(said.network, name)
    covariates = network.encode(what_if.changed(name, values))
    target, what = _explained(what_if, quantity)
    names = None if network.encoder is None else network.encoder.get_feature_names_out().tolist()
    large = image.numel() > _LARGE
    method = "grad_cam" if large else "integrated_gradients"
    try:
        found = attributions(network.network, image, covariates, method, target=target, names=names, steps=32)
    except FusionError:  # no convolution with positions, or no ReLU: nothing is shown then
        return Rests(None)
    told = "Grad-CAM" if large else "integrated gradients"
    own = {} if found.covariates is None else dict(zip(found.names, found.covariates[0].tolist(), strict=True))
    return Rests(found.maps[0].float(), f"What speaks for (red) and against (blue) {what}: {told}", own)


def _explained(what_if: WhatIf, quantity: str) -> tuple[Callable[[Tensor], Tensor] | int | None, str]:
    """What of a network's outputs is explained, and its name for people."""
    task = what_if.task
    names: list[str] = getattr(task, "names", [])
    if names:
        at = 1 if quantity == "probability" else names.index(quantity.removeprefix("p_"))
        return (lambda out: _log_odds(out, at)), names[at]
    if task.NAME == "multilabel":
        at = list(task.columns).index(quantity.removeprefix("p_"))
        return at, task.columns[at]
    if isinstance(task, Segmentation):
        return task.num_outputs - 1, task.shown[-1]
    if task.IMAGE_OUT:
        return 0, "a bright output"
    return None, "a higher answer"


def _log_odds(outputs: Tensor, at: int) -> Tensor:
    """Of class ``at``: its logit minus the logarithm of the sum of the others' exponentials."""
    others = [n for n in range(outputs.shape[1]) if n != at]
    return outputs[:, at] - outputs[:, others].logsumexp(1)


def kernels_of(what_if: WhatIf, said: Said, name: str, values: Mapping[str, Any]) -> tuple[str, Tensor, Tensor] | None:
    """Of the first layer that has kernels its name, W, and the kernel of these covariates, (C_out, C_in, *kernel).

    None where the network has no kernel for each covariate vector, such as one with FiLM.
    """
    from fusionconv.explain import kernels

    predictor = said.network.predictor
    covariates = predictor.encode(what_if.changed(name, values))
    if covariates is None:
        return None
    try:
        found = kernels(predictor.network, covariates=covariates[0])
    except FusionError:
        return None
    assert found.at is not None
    return found.layer, found.weight, found.at[0]
