"""Doubts: values of covariates outside of what training has seen, and combinations far from any training row."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusionconv.study.what_if.answers import Network
from fusionconv.study.what_if.asking import WhatIf
from fusionconv.study.what_if.controls import MISSING, Control, Seen, common

__all__ = ["doubts"]

_FAR = 0.99  # of the training rows' own distances to their nearest neighbour


def doubts(what_if: WhatIf, arm: str, name: str, values: Mapping[str, Any], network: Network | None) -> list[str]:
    """What to be careful of with these values, a sentence each.

    Args:
        what_if: the study.
        arm: whose networks are asked.
        name: the row.
        values: of covariates; those not given are the row's.
        network: the one that is shown; its training rows say whether a combination is rare. None: not looked at.
    """
    whole = {**what_if.own(name), **values}
    networks, columns, found = what_if.networks(arm), what_if.columns(arm), []
    for column in columns:
        control, value = what_if.controls[column], whole[column]
        if value == MISSING:
            train = [what_if.ids(n.fold, "train") for n in networks]
            never = [ids for ids in train if all(control.values[row] != MISSING for row in ids)]
            if never:
                found.append(f"{column} is missing: no training row of {_who(never, networks)} lacked it, so what a "
                             "missing value does was never learnt.")  # fmt: skip
            continue
        beyond = [seen for n in networks if not _inside(value, seen := what_if.seen(n.fold, column))]
        if beyond:
            who, told = _who(beyond, networks), _told(control, common(beyond))
            found.append(f"{column} = {control.show(value)} is outside of what {who} saw in training ({told}).")
    if not found and columns and network is not None:
        found += _rare(what_if, arm, name, values, network)
    return found


def _who(some: Sequence[Any], networks: Sequence[Network]) -> str:
    return "the networks" if len(some) == len(networks) else f"{len(some)} of the {len(networks)} networks"


def _inside(value: Any, seen: Seen) -> bool:
    return value in seen if isinstance(seen, frozenset) else bool(seen[0] <= value <= seen[1])


def _told(control: Control, seen: Seen) -> str:
    if isinstance(seen, frozenset):
        return ", ".join(sorted(map(str, seen))) or "no value that all have"
    return f"{seen[0]:.6g} to {control.show(seen[1])}"


def _rare(what_if: WhatIf, arm: str, name: str, values: Mapping[str, Any], network: Network) -> list[str]:
    """A sentence where the nearest training row, in encoded covariates, is farther than nearly all rows' neighbours."""
    encoder = network.predictor.encoder
    row = what_if.changed(name, values)
    if encoder is None or encoder.check(row):
        return []
    tree, limit, ids = _neighbours(what_if, arm, network.name)
    distance, place = tree.query(encoder.transform(row).astype(np.float64)[0])
    if distance <= limit * (1 + 1e-6) + 1e-6:
        return []
    near = what_if.own(ids[place])
    told = ", ".join(f"{column} {what_if.controls[column].show(near[column])}" for column in what_if.columns(arm))
    return [
        f"Few training rows have covariates like these together. The nearest one has {told}; it is farther away than "
        f"{_FAR:.0%} of the training rows are from their own nearest."
    ]


@functools.lru_cache(maxsize=64)
def _neighbours(what_if: WhatIf, arm: str, run: str) -> tuple[Any, float, tuple[str, ...]]:
    """The encoded training rows as a tree, and how far a row's nearest other row is, for 99 % of them."""
    from scipy.spatial import cKDTree

    network = next(n for n in what_if.networks(arm) if n.name == run)
    assert network.predictor.encoder is not None
    ids = what_if.ids(network.fold, "train")
    points = network.predictor.encoder.transform(what_if.frame.loc[list(ids)]).astype(np.float64)
    tree = cKDTree(points)
    nearest = tree.query(points, k=2)[0][:, 1]
    return tree, float(np.quantile(nearest, _FAR)), ids
