"""How pages and figures call the arms of a study."""

from __future__ import annotations

__all__ = ["name_of"]

NAMES = {
    "image": "image alone", "image-wide": "image alone, wider network", "covariates": "covariates alone (linear)",
    "covariates-boosting": "covariates alone (boosting)", "stacked": "stacked: regression on top",
    "concat-linear": "concat, last layer",
}  # fmt: skip
METHODS = {"film": "FiLM", "daft": "DAFT"}
HEADS = {"linear": "last layer", "mlp": "hidden layer"}  # where concat and the place `head` are, by --head
PLACES = {"first": "first convolution", "last": "last convolution", "all": "all layers"}


def name_of(arm: str, head: str) -> str:
    """How a figure and a page call an arm of a study with this ``--head``.

    >>> name_of("film-all", "linear"), name_of("concat", "linear"), name_of("concat", "mlp")
    ('FiLM, all layers', 'concat, last layer', 'concat, hidden layer')
    """
    method, _, place = arm.partition("-")
    places = {**PLACES, "head": HEADS[head]}
    if method == "concat" and not place:
        place = "head"
    return NAMES.get(arm) or f"{METHODS.get(method, method)}, {places.get(place, place)}"
