"""How pages and figures call the arms of a study."""

from __future__ import annotations

__all__ = ["name_of"]

NAMES = {
    "image": "image alone", "covariates": "covariates alone (linear)",
    "covariates-boosting": "covariates alone (boosting)", "stacked": "stacked: regression on top",
    "concat-linear": "concat, last layer",
}  # fmt: skip
METHODS = {"film": "FiLM", "daft": "DAFT"}
HEADS = {"linear": "last layer", "mlp": "hidden layer"}  # where concat and the place `head` are, by --head
PLACES = {"first": "first convolution", "last": "last convolution", "all": "all layers"}
WIDTHS = {"narrow": "narrower network", "wide": "wider network"}


def name_of(arm: str, head: str) -> str:
    """How a figure and a page call an arm of a study with this ``--head``.

    >>> name_of("film-all", "linear"), name_of("concat", "linear"), name_of("concat", "mlp")
    ('FiLM, all layers', 'concat, last layer', 'concat, hidden layer')
    >>> name_of("image-wide", "linear")
    'image alone, wider network'
    """
    arm, _, width = arm.rpartition("-") if arm.endswith(tuple(WIDTHS)) else (arm, "", "")
    method, _, place = arm.partition("-")
    places = {**PLACES, "head": HEADS[head]}
    if method == "concat" and not place:
        place = "head"
    name = NAMES.get(arm) or f"{METHODS.get(method, method)}, {places.get(place, place)}"
    return f"{name}, {WIDTHS[width]}" if width else name
