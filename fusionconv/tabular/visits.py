"""match_visits: which visit an image belongs to, by session or by the nearest date, never by a guess."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.images import Line, make_report, require_subjects
from fusionconv.tabular.textcolumn import require_dates

__all__ = ["match_visits"]


def match_visits(
    images: pd.DataFrame, visits: pd.DataFrame, *, tolerance_days: float, date: str = "date"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find for each image the visit that it belongs to.

    An image that names a session goes to the visit of that subject and session. Otherwise (the image, or the visit,
    names none) it goes to the subject's visit with the nearest date, at most ``tolerance_days`` away. An image without
    a visit has ``visit`` -1 and a line in the report, of the kind

    - ``"no visit of this subject"``, ``"no visit of this session"``,
    - ``"no visit within the tolerance"``: the reason names the nearest,
    - ``"tie between visits"``: two visits are equally near, before and after or on one day,
    - ``"image without date"``: neither session nor date can tell.

    Two kinds are of images that *have* a visit: ``"several images for a visit"`` (each has it) and
    ``"session far from date"`` (the session is the visit's, but the dates are further apart than the tolerance).

    Args:
        images: columns ``subject``, ``session`` ("" or missing where unknown), ``date`` (datetimes, or text as
            2005-09-08; text in another order is refused), ``image`` if there is one, and any others.
        visits: columns ``subject``, ``session`` and ``date``, one row for each visit.
        tolerance_days: how many days a visit may be away, 0 for the same day only.
        date: the name of the date in both tables.

    Returns:
        ``(matched, report)``: the images in their order with the columns ``visit``, the position of the visit's row in
        ``visits`` (-1 if none), and ``days_apart``, the days from the visit to the image (negative: the image
        came first; missing where a date is).

    Raises:
        TableError: a column is absent, a date cannot be read, a negative tolerance, or a subject and session twice in
            ``visits``.

    >>> visits = pd.DataFrame({"subject": "a", "session": ["bl", "m06"], "date": ["2006-01-10", "2006-07-12"]})
    >>> images = pd.DataFrame({"subject": "a", "session": "", "date": ["2006-01-24", "2006-07-01", "2007-01-01"]})
    >>> matched, report = match_visits(images, visits, tolerance_days=90)
    >>> matched[["visit", "days_apart"]].to_dict("list")
    {'visit': [0, 1, -1], 'days_apart': [14.0, -11.0, nan]}
    >>> report["reason"].tolist()
    ['the nearest visit, m06, is 173 days away, more than 90']
    """
    if not 0 <= tolerance_days < math.inf:
        raise TableError(f"tolerance_days: expected a number of days from 0 on, got {tolerance_days!r}; give one")
    require_columns(images, ["subject", "session", date], "images")
    require_columns(visits, ["subject", "session", date], "visits")
    require_subjects(images, "images")
    require_subjects(visits, "visits")
    left = _keys(images, date, "images")
    right = _keys(visits, date, "visits")
    by_session: dict[tuple[str, str], int] = {}
    by_date: dict[str, list[tuple[int, int]]] = {}  # of each subject, (day, position) sorted
    unnamed: dict[str, list[tuple[int, int]]] = {}  # the same of visits that name no session
    for at, (subject, session, day) in enumerate(right):
        by_date.setdefault(subject, [])
        if session and (subject, session) in by_session:
            first = by_session[subject, session]
            raise TableError(
                f"visits: expected one row for each subject and session, got {subject} {session} in rows {first} and "
                f"{at}; which one is right is not guessed: remove the others"
            )
        if session:
            by_session[subject, session] = at
        if day is not None:
            by_date[subject].append((day, at))
            if not session:
                unnamed.setdefault(subject, []).append((day, at))
    for days_of in (by_date, unnamed):
        for visit_days in days_of.values():
            visit_days.sort()

    def name(at: int) -> str:
        return right[at][1] or f"of {visits[date].iloc[at]}"

    found: list[int] = []
    apart: list[float] = []
    lines: list[Line] = []
    paths = images["image"].tolist() if "image" in images.columns else [None] * len(left)
    for (subject, session, day), path in zip(left, paths, strict=True):
        at, kind, reason = by_session.get((subject, session), -1) if session else -1, "", ""
        if subject not in by_date:
            kind, reason = "no visit of this subject", "the visits have no row of this subject"
        elif at < 0 and session and subject not in unnamed:
            kind, reason = "no visit of this session", "the subject's visits have no such session"
        elif at < 0 and day is None:
            kind, reason = "image without date", "neither a session nor a date tells its visit"
        elif at < 0 and day is not None:
            at, kind, reason = _nearest(day, (unnamed if session else by_date)[subject], tolerance_days, name)
        visit_day = right[at][2] if at >= 0 else None
        days = math.nan if day is None or visit_day is None else float(day - visit_day)
        if at >= 0 and abs(days) > tolerance_days:
            kind = "session far from date"
            reason = f"image and visit are {abs(days):.0f} days apart, more than {tolerance_days:g}"
        if kind:
            lines.append((kind, subject, session, path, reason))
        found.append(at)
        apart.append(days)
    counts = Counter(found)
    for (subject, session, _), path, at in zip(left, paths, found, strict=True):
        if at >= 0 and counts[at] > 1:
            why = f"one of {counts[at]} images of visit {name(at)}"
            lines.append(("several images for a visit", subject, session, path, why))
    matched = images.reset_index(drop=True)
    return matched.assign(visit=np.array(found, np.int64), days_apart=np.array(apart, np.float64)), make_report(lines)


def _keys(frame: pd.DataFrame, date: str, where: str) -> list[tuple[str, str, int | None]]:
    """Subject, session ("" for none) and the day as a number (None for none) of each row."""
    days = require_dates(frame[date], where)
    numbers = [
        None if missing else int(d)
        for d, missing in zip(days.to_numpy("M8[D]").view(np.int64), days.isna(), strict=True)
    ]
    text = [["" if pd.isna(v) else str(v) for v in frame[n].tolist()] for n in ("subject", "session")]
    return list(zip(*text, numbers, strict=True))


def _nearest(
    day: int, visits: list[tuple[int, int]], tolerance: float, name: Callable[[int], str]
) -> tuple[int, str, str]:
    """The position of the visit nearest to ``day``, or -1, a kind and a reason.

    Not ``pandas.merge_asof``: it settles a tie without a word.
    """
    if not visits:
        return -1, "no visit within the tolerance", "no visit of the subject has a date"
    near = min(abs(day - d) for d, _ in visits)
    equal = [at for d, at in visits if abs(day - d) == near]
    if near > tolerance:
        reason = f"the nearest visit, {name(equal[0])}, is {near} days away, more than {tolerance:g}"
        return -1, "no visit within the tolerance", reason
    if len(equal) > 1:
        return -1, "tie between visits", f"{' and '.join(map(name, equal))} are both {near} days away"
    return equal[0], "", ""
