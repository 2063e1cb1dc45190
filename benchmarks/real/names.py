"""How pages and figures call the arms of a study."""

from __future__ import annotations

__all__ = ["name_of"]

NAMES = {
    "image": "image alone", "image-wide": "image alone, wider network", "covariates": "covariates alone (linear)",
    "covariates-boosting": "covariates alone (boosting)", "stacked": "stacked: regression on top",
    "concat": "concat, hidden layer", "concat-linear": "concat, last layer",
}  # fmt: skip
METHODS = {"film": "FiLM", "daft": "DAFT"}
PLACES = {"head": "hidden layer", "first": "first convolution", "last": "last convolution", "all": "all layers"}


def name_of(arm: str) -> str:
    """How a figure and a page call an arm.

    >>> name_of("film-all"), name_of("concat")
    ('FiLM, all layers', 'concat, hidden layer')
    """
    method, _, place = arm.partition("-")
    return NAMES.get(arm) or f"{METHODS.get(method, method)}, {PLACES.get(place, place)}"
