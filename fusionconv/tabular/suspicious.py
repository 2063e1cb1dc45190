"""Numbers and dates that often mean "missing" and are never taken for it unasked: reported, with the reason."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fusionconv.tabular.labels import Label, plain_label
from fusionconv.tabular.namewords import names_measure, never_zero

__all__ = ["Suspicion", "has_code_shape", "suspicious_dates", "suspicious_numbers"]

_SENTINELS = frozenset({32767.0, 32768.0, 65535.0, 2147483647.0, 2147483648.0, 4294967295.0})
_DATES = """1600-01-01 1700-01-01 1753-01-01 1800-01-01 1850-01-01 1899-12-30 1899-12-31 1900-01-01 1900-01-02
    1901-01-01 1904-01-01 1911-11-11 1960-01-01 1970-01-01 2099-12-31 2100-01-01 2199-12-31 2200-01-01 9999-12-31"""
_FILLERS = np.array(_DATES.split(), dtype="datetime64[D]").astype(float)
_MOST = 6  # so many different codes on one side of the values, and no more


class Suspicion(NamedTuple):
    """``value`` is in ``rows`` rows, and ``reason`` says why that may not be a value."""

    value: Label
    rows: int
    reason: str

    def __str__(self) -> str:
        return f"{self.value!r} in {self.rows} row{'s' * (self.rows != 1)} {self.reason}"


def suspicious_numbers(numbers: npt.NDArray[np.float64], name: str = "") -> list[Suspicion]:
    """Numbers that do not look like values of their column (NaN: missing).

    A number is reported for its place, not for being in a list:

    * it has the shape of a code (-4; nines, eights or sevens such as 99, -9998 and 888.8; the ends of integer types)
      and is the only kind of negative number, or lies further outside the others than these spread;
    * it occurs more than once, and lies further outside than twice that spread;
    * nines, eights or sevens that end the column, occur far more often than other values, and lie apart;
    * 0, or a negative number, under a ``name`` for which that is impossible: height, weight, blood pressure, ...

    Codes on both sides, and several beside each other, do not hide each other. Not reported are -9 among handedness
    scores of -100 to 100, an age of 99 among others up to 98, -2 among z-scores, the zeros of a count and a single
    value in a long tail; -1 beside nothing but 1 (and 0) is a way to write no and yes.

    >>> [str(s) for s in suspicious_numbers(np.array([61.0, 70.0, 82.0, -4.0, 999.0]))]
    ['-4 in 1 row is apart from the others (61 to 82)', '999 in 1 row is apart from the others (61 to 82)']
    >>> [s.value for s in suspicious_numbers(np.array([20, 30, 10, -9998, 60, -9998.0]))]
    [-9998]
    >>> [str(s) for s in suspicious_numbers(np.array([0, 61.5, 80.0]), "weight")]
    ['0 in 1 row is impossible under this name']
    """
    known = numbers[np.isfinite(numbers)]
    values, counts = np.unique(known, return_counts=True)
    if len(values) < 2 or bool(np.isin(values, (-1, 0, 1)).all()):
        return []
    impossible = _impossible(values, counts, name)
    odd = impossible | _lone_negatives(values, counts)
    while True:  # what was found no longer hides what is left
        more = odd.copy()
        more[~odd] = _outside(values[~odd], counts[~odd], names_measure(name))
        if (more == odd).all() or more.all():
            break
        odd = more
    if odd.all():
        return []
    rest = values[~odd]
    apart = f"is apart from the others ({rest.min():g} to {rest.max():g})"
    return [
        Suspicion(plain_label(v), int(n), "is impossible under this name" if never and v == 0 else apart)
        for v, n, found, never in zip(values, counts, odd, impossible, strict=True)
        if found
    ]


def _digits(value: float) -> str:
    """The digits of a number that is not very long, without its sign and point."""
    return f"{abs(value):.10g}".replace(".", "") if abs(value) >= 1 else ""


def _is_run(value: float) -> bool:
    """99, -999, 88.8, 7777, and the ends of integer types."""
    digits = _digits(value)
    return (
        abs(value) in _SENTINELS
        or abs(value) >= 1e20
        or (len(digits) > 1 and digits in (d * len(digits) for d in "789"))
    )


def _is_near(value: float) -> bool:
    """97, 98, 9996, ...: what stands beside 99 and 9999 for another reason."""
    digits = _digits(value)
    return len(digits) > 1 and set(digits[:-1]) == {"9"} and digits[-1] in "5678"


def has_code_shape(value: float) -> bool:
    """Whether a number looks like a code, wherever it stands: -1 to -9, 99, -9998, 888.8, the ends of integer types.

    >>> [has_code_shape(v) for v in (-4.0, 99.0, -9998.0, 88.8, 32767.0, 12.0, -12.0, 9.0)]
    [True, True, True, True, True, False, False, False]
    """
    return _is_run(value) or _is_near(value) or (-10 < value < 0 and value.is_integer())


def _impossible(values: npt.NDArray[np.float64], counts: npt.NDArray[np.intp], name: str) -> npt.NDArray[np.bool_]:
    """0 and a few negative numbers, where the name says that all are above."""
    above = values > 0
    few = bool(counts[values < 0].sum() <= max(1, 0.1 * counts.sum()))
    if not above.any() or values[-1] <= 1 or not few or not never_zero(name, float(values[above].min())):
        return np.zeros(len(values), dtype=bool)
    return ~above


def _lone_negatives(values: npt.NDArray[np.float64], counts: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Negative numbers that all have the shape of a code, among others that are none."""
    none = np.zeros(len(values), dtype=bool)
    negative = values < 0
    below, above = values[negative], values[~negative]
    if not len(below) or not len(above) or len(below) > min(_MOST, len(above)):
        return none
    alone = len(below) == 1 and bool(counts[negative][0] > 1) and not bool((values % 1).any())
    if not (alone or all(has_code_shape(v) for v in below.tolist())):
        return none
    highest = max((v for v in above.tolist() if not _is_run(v)), default=float(above[-1]))
    signed = len(below) > 1 and below[0] > -10 and highest <= -3 * below[0]
    steps = len(below) > 1 and bool((below == np.arange(-len(below), 0)).all())  # -3, -2, -1, 0, 1, ...
    return none if signed or steps else negative


def _outside(values: npt.NDArray[np.float64], counts: npt.NDArray[np.intp], counted: bool) -> npt.NDArray[np.bool_]:
    """What lies outside the others on either side, for every cut of a few different values from the two ends."""
    found = np.zeros(len(values), dtype=bool)
    most = min(_MOST, len(values) // 2)
    for low in range(most + 1):
        for high in range(most - low + 1):
            core = slice(low, len(values) - high)
            ends = [side for side in (slice(0, low), slice(len(values) - high, len(values))) if len(values[side])]
            odd = [_apart(values, counts, core, side, counted) for side in ends]
            if all(o.any() for o in odd):
                for side, o in zip(ends, odd, strict=True):
                    found[side] |= o
    return found


def _apart(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.intp], core: slice, side: slice, counted: bool
) -> npt.NDArray[np.bool_]:
    """Which values of ``side``, one end of the sorted values, lie apart from ``core`` and look like codes."""
    inner, there, often = values[core], values[side], counts[side]
    spread = max(float(inner[-1] - inner[0]), 1.0)
    gap = float(there[0] - inner[-1] if side.start >= core.stop else inner[0] - there[-1])
    runs = np.array([_is_run(v) for v in there.tolist()])
    forms = runs | np.array([_is_near(v) for v in there.tolist()])
    if gap > spread:
        codes = bool(
            not counted and inner[0] >= 0 and inner[-1] <= 5 and not (inner % 1).any()
        )  # 0, 1 and 9: answers and no answer
        digit = (
            codes
            and set(there.tolist()) <= {7.0, 8.0, 9.0}
            and (there[-1] == 9 or (there[-1] == 8 and len(inner) <= 3))
        )
        signed = np.array([-10 < v < 0 and v.is_integer() for v in there.tolist()])
        odd = runs | signed | bool(digit)
        far = gap > 2 * spread and bool((np.abs(there[forms]) >= 100).all())  # one 9998 among scores, but no 98
        if len(inner) > 2 and (runs.any() or often[forms].sum() > 1 or far):
            odd |= forms
        if gap > 2 * spread and len(inner) >= 5:
            odd |= (often > 1) & (often.sum() <= counts[core].sum())
        return np.asarray(odd) if len(inner) > 2 or odd.all() else odd & False
    if not forms.all():
        return np.zeros(len(there), dtype=bool)
    ends = len(inner) >= 8 and gap >= 5 * float(np.median(np.diff(inner))) and runs.all()
    frequent = often.sum() >= 3 * max(1.0, float(np.median(counts[core])))
    found = (2 * gap >= spread and often.sum() > 1) or (ends and frequent)
    return np.asarray(forms & bool(found))


def suspicious_dates(days: npt.NDArray[np.float64]) -> list[Suspicion]:
    """Dates with which programs fill a hole, such as 1900-01-01: alone at one end, or far more often than others.

    Args:
        days: since 1970-01-01, NaN where missing.

    >>> born = np.array(["1931-03-05", "1944-07-08", "1900-01-01", "1950-01-01"], dtype="datetime64[D]")
    >>> [str(s) for s in suspicious_dates(born.astype(float))]
    ["'1900-01-01' in 1 row is a date that stands for no date"]
    """
    known = np.floor(days[np.isfinite(days)])
    values, counts = np.unique(known, return_counts=True)
    found = []
    for value, count in zip(values, counts, strict=True):
        name = str(np.datetime64(int(value), "D"))
        others = values[(values != value) & ~np.isin(values, _FILLERS)]  # one does not hide another
        if name not in _DATES or not len(others):
            continue
        gap, end = np.min(np.abs(others - value)), not others[0] < value < others[-1]
        ever = name < "1900-02" or name > "2099"  # nobody's date beside those of today
        alone = end and gap > 5 * 365 and (ever or (len(others) > 2 and gap > others[-1] - others[0]))
        often = count >= 3 and count >= 3 * np.median(counts[np.isin(values, others)])
        if alone or often:
            found.append(Suspicion(name, int(count), "is a date that stands for no date"))
    return found
