"""Deal subjects into parts, stratum by stratum, in whole numbers only: the same on every machine and version.

``numpy.random.RandomState`` is frozen (NEP 19: its streams do not change between numpy versions), and nothing here
is rounded, so a seed means the same split everywhere. scikit-learn's ``StratifiedGroupKFold(shuffle=True)`` was no way
to this: before 1.8 it does not stratify (its issue 32478), and it has no stratified hold-out by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

__all__ = ["Codes", "deal_equal", "deal_sizes", "whole_numbers"]

Codes = npt.NDArray[np.intp]


def deal_equal(strata: Codes, parts: int, random: np.random.RandomState) -> Codes:
    """The part (0 .. parts-1) of each subject; parts differ by one subject at most, in all and in every stratum.

    The subjects are shuffled, ordered by stratum (strata in random order) and dealt in turn like cards.

    Args:
        strata: shape (subjects, levels). Subjects alike in the first 0, 1, 2, ... levels are a stratum.
        parts: how many.
        random: where chance comes from.

    >>> deal_equal(np.array([[0], [0], [0], [0], [1], [1]]), 2, np.random.RandomState(0)).tolist()
    [1, 1, 0, 0, 1, 0]
    """
    dealt = np.empty(len(strata), dtype=np.intp)
    dealt[_shuffled(strata, random)] = np.arange(len(strata)) % parts
    return dealt


def deal_sizes(strata: Codes, sizes: Sequence[int], random: np.random.RandomState) -> Codes:
    """The part of each subject, part p with ``sizes[p]`` subjects, every stratum in proportion.

    Part by part, the smallest first, evenly spaced subjects are taken from those left, in the order of
    :func:`deal_equal`, from a random start (systematic sampling): every subject has the same chance. The smallest part
    misses no stratum's quota by a whole subject; of three parts none misses one by two.

    >>> deal_sizes(np.array([[0], [0], [0], [0], [1], [1], [1], [1]]), [4, 2, 2], np.random.RandomState(0)).tolist()
    [2, 0, 0, 1, 0, 1, 2, 0]
    """
    if sum(sizes) != len(strata):
        raise ValueError(f"sizes {list(sizes)} do not add up to {len(strata)}")
    *small, largest = sorted(range(len(sizes)), key=lambda p: (sizes[p], p))
    dealt = np.full(len(strata), largest, dtype=np.intp)
    left = np.arange(len(strata))
    for part in small:
        order = left[_shuffled(strata[left], random)]
        start = random.randint(max(len(order), 1), dtype=np.int64)  # the default is 32 bits wide on some systems
        steps = (np.arange(len(order) + 1) * sizes[part] + start) // max(len(order), 1)
        taken = steps[1:] > steps[:-1]
        dealt[order[taken]] = part
        left = order[~taken]
        left.sort()
    return dealt


def whole_numbers(total: int, fractions: Sequence[float]) -> list[int]:
    """``total`` shared out by ``fractions`` in whole numbers, the largest remainders rounded up, ties the first.

    >>> whole_numbers(10, [0.7, 0.15, 0.15])
    [7, 2, 1]
    """
    exact = [Fraction(str(float(f))) for f in fractions]  # 0.7 is 7/10 and not 0.6999999999999999555...
    quotas = [f * total / sum(exact) for f in exact]
    sizes = [int(q) for q in quotas]
    by_remainder = sorted(range(len(sizes)), key=lambda p: (sizes[p] - quotas[p], p))
    for part in by_remainder[: total - sum(sizes)]:
        sizes[part] += 1
    return sizes


def _shuffled(strata: Codes, random: np.random.RandomState) -> Codes:
    """All positions in random order, then stratum by stratum, the strata in random order, the first level outermost."""
    order = random.permutation(len(strata)).astype(np.intp)
    for level in strata.T[::-1]:
        rank = random.permutation(int(level.max(initial=-1)) + 1)
        order = order[np.argsort(rank[level[order]], kind="stable")]
    return order
