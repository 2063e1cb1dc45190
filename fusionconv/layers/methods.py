"""The fusion methods by the names that ``fuse_into(..., method=...)`` takes."""

from __future__ import annotations

from fusionconv.layers.attention import Attention
from fusionconv.layers.base import CovariateLayer
from fusionconv.layers.concat import Concat
from fusionconv.layers.condconv import CondConv
from fusionconv.layers.daft import Daft
from fusionconv.layers.film import Film
from fusionconv.layers.hybrid import HybridLayer
from fusionconv.layers.hybrid_layers import HYBRID_LAYERS
from fusionconv.layers.hyper import Hyper
from fusionconv.layers.lowrank import Lowrank
from fusionconv.layers.scale import Scale

__all__ = ["METHODS", "method_class"]

HybridLayer.VARIANTS = dict(HYBRID_LAYERS)

METHODS: dict[str, type[CovariateLayer]] = {
    kind.METHOD: kind for kind in (HybridLayer, Lowrank, Hyper, Film, Daft, Scale, Attention, Concat, CondConv)
}


def method_class(name: object) -> type[CovariateLayer]:
    """The class of a method.

    Args:
        name: as ``fuse_into(..., method=...)`` takes it.

    Raises:
        ValueError: no such method; the message lists them.

    Example:
        >>> from fusionconv.layers import method_class
        >>> method_class("film").__name__
        'Film'
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {name!r}")
    return METHODS[name]
