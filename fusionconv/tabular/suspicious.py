"""Values that often mean "missing" or "mistake" and are never taken for it unasked: reported, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusionconv.tabular.labels import Label, plain_label

__all__ = ["MISSING_WORDS", "Suspicion", "suspicious_numbers", "suspicious_texts"]

_CODES = (
    -1,
    -4,
    -7,
    -8,
    -9,
    -77,
    -88,
    -99,
    -777,
    -888,
    -999,
    -9999,
    9,
    77,
    88,
    99,
    777,
    888,
    999,
    7777,
    8888,
    9999,
    99999,
)

#: Words for "missing", in lower case.
MISSING_WORDS = frozenset(
    [
        "",
        "na",
        "n/a",
        "n.a.",
        "nan",
        "null",
        "none",
        "nil",
        "nd",
        "n.d.",
        "not done",
        "not known",
        "not available",
        "missing",
        "unknown",
        "unk",
        "undefined",
        "unavailable",
        "?",
        "-",
        "--",
        ".",
        "..",
        "#n/a",
        "#na",
        "#null!",
        "#value!",
        "#div/0!",
        "#ref!",
        "-4",
        "-9",
        "-99",
        "-999",
        "999",
        "9999",
    ]
)


@dataclass(frozen=True)
class Suspicion:
    """``value`` stands in ``count`` rows, and ``reason`` says why that may not be a value."""

    value: Label
    count: int
    reason: str

    def __str__(self) -> str:
        return f"{self.value!r} in {self.count} row{'s' * (self.count != 1)} {self.reason}"


def suspicious_numbers(numbers: npt.NDArray[np.float64]) -> list[Suspicion]:
    """Codes such as -4 and 999 that lie apart from all other values (NaN: missing).

    A code is reported where it is negative and no other value is, or where it lies further outside the other values
    than these spread. So -9 among handedness scores of -100 to 100 is not reported, nor is an age of 99 among others up
    to 98; -1 beside nothing but 1 is a way to write no and yes.

    >>> [str(s) for s in suspicious_numbers(np.array([61.0, 70.0, 82.0, -4.0, 999.0]))]
    ['-4 in 1 row is apart from the others (61 to 82)', '999 in 1 row is apart from the others (61 to 82)']
    """
    known = numbers[np.isfinite(numbers)]
    codes = known[np.isin(known, _CODES)]
    if not len(codes):
        return []
    rest = known[~np.isin(known, _CODES)]
    found, counts = np.unique(codes, return_counts=True)
    suspects = []
    for value, count in zip(found, counts, strict=True):
        # a smaller positive code counts as a value too: 9 is apart from 0 and 1, 99 is not apart from 0 to 98 and 77
        inner = found[(found >= 0) & (found < abs(value))]
        others = np.concatenate([rest, inner])
        if not len(others):
            continue
        low, high = float(others.min()), float(others.max())
        if (value, low, high) == (-1, 1, 1):
            continue
        spread = max(high - low, 1.0)
        if (value < 0 <= low) or value < low - spread or value > high + spread:
            suspects.append(
                Suspicion(plain_label(value), int(count), f"is apart from the others ({low:g} to {high:g})")
            )
    return suspects


def suspicious_texts(texts: Iterable[tuple[str, int]]) -> list[Suspicion]:
    """Words for "missing" among (text, number of rows).

    >>> [str(s) for s in suspicious_texts([("F", 10), ("n/a", 2), ("", 1)])]
    ["'n/a' in 2 rows often means a missing value", "'' in 1 row often means a missing value"]
    """
    reason = "often means a missing value"
    return [Suspicion(text, count, reason) for text, count in texts if text.strip().casefold() in MISSING_WORDS]
