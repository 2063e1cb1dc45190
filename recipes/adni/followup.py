"""Time to dementia from a table of visits: for each visit the years until the first later one with the diagnosis."""

from __future__ import annotations

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular import require_columns

TIME, EVENT = "years_to_dementia", "dementia_seen"
DAYS_PER_YEAR = 365.25


def add_follow_up(
    visits: pd.DataFrame, diagnosis: str = "DX", date: str = "EXAMDATE", event: str = "Dementia"
) -> pd.DataFrame:
    """The visits with two more columns: ``years_to_dementia`` and ``dementia_seen``.

    For a visit at date t whose diagnosis is known and is not ``event``: with a later visit of the same subject that has
    it, the first at t', the time is (t' - t) / 365.25 years and ``dementia_seen`` is 1; without one, the time runs to
    the subject's last visit with a known diagnosis, and ``dementia_seen`` is 0. Both are missing where the diagnosis is
    ``event`` already or unknown, and where nothing comes later. The onset lies between two visits; as is usual, the
    visit of the diagnosis is taken for it. A diagnosis that is taken back later is counted at its first time.

    Args:
        visits: all visits of every subject, those without an image too.
        diagnosis: the column of the diagnosis at each visit.
        date: the column of the visit's date.
        event: the diagnosis that is waited for.

    Raises:
        TableError: an absent column, dates that cannot be read, or no visit has the diagnosis.

    >>> visits = pd.DataFrame({"subject": ["a", "a", "b", "b"], "DX": ["MCI", "Dementia", "MCI", "MCI"],
    ...                        "EXAMDATE": ["2010-01-01", "2012-01-01", "2010-01-01", "2011-01-01"]})
    >>> add_follow_up(visits)[["years_to_dementia", "dementia_seen"]].round(3).values.tolist()
    [[1.999, 1.0], [nan, nan], [0.999, 0.0], [nan, nan]]
    """
    require_columns(visits, ["subject", diagnosis, date], "visits")
    try:
        when = pd.to_datetime(visits[date])
    except (ValueError, TypeError) as error:
        raise TableError(f"column {date!r}: expected dates such as 2010-01-31, got others ({error})") from error
    known = pd.DataFrame({"subject": visits["subject"], "when": when, "has": visits[diagnosis] == event})
    known = known[visits[diagnosis].notna() & when.notna()]
    if not known["has"].any():
        found = ", ".join(map(repr, visits[diagnosis].dropna().unique()[:5]))
        raise TableError(f"column {diagnosis!r}: expected {event!r} at some visit, got {found}")
    last = known.groupby("subject")["when"].max()
    first = known[known["has"]].groupby("subject")["when"].min()
    subjects = visits["subject"]
    onset = subjects.map(first)
    # what was seen before the first diagnosis counts; a visit after it has had the event, whatever it says
    before = visits[diagnosis].notna() & (visits[diagnosis] != event) & when.notna() & ~(onset <= when)
    end = onset.fillna(subjects.map(last))
    years = (end - when).dt.days / DAYS_PER_YEAR
    counts = before & (years > 0)
    return visits.assign(**{TIME: years.where(counts), EVENT: onset.notna().astype(float).where(counts)})
