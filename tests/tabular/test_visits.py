"""match_visits against cases counted by hand, and against a plain search through all visits."""

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.tabular import REPORT_COLUMNS, match_visits


def table(*rows):
    return pd.DataFrame(rows, columns=["subject", "session", "date"])


VISITS = table(
    ("a", "bl", "2006-01-10"),
    ("a", "m06", "2006-07-12"),
    ("a", "m12", "2007-01-10"),
    ("b", "bl", "2006-01-10"),
    ("c", "", "2006-05-01"),
)


def test_by_session_even_where_another_visit_is_nearer():
    images = table(("a", "m12", "2006-12-20"), ("a", "m06", None), ("b", "bl", "2006-01-10"))
    matched, report = match_visits(images, VISITS, tolerance_days=30)
    assert matched["visit"].tolist() == [2, 1, 3]
    np.testing.assert_array_equal(matched["days_apart"], [-21, np.nan, 0])
    assert report.empty
    assert tuple(report.columns) == REPORT_COLUMNS


def test_a_session_whose_date_is_far_is_matched_and_reported():
    matched, report = match_visits(table(("a", "m12", "2006-01-11")), VISITS, tolerance_days=30)
    assert matched["visit"].tolist() == [2]
    assert matched["days_apart"].tolist() == [-364]
    assert report["kind"].tolist() == ["session far from date"]
    assert "364 days apart, more than 30" in report["reason"][0]


def test_by_date_within_the_tolerance_and_not_a_day_more():
    images = table(("a", "", "2006-01-24"), ("a", None, "2006-08-11"), ("a", "", "2006-08-12"), ("a", "", "2006-01-10"))
    matched, report = match_visits(images, VISITS, tolerance_days=30)
    assert matched["visit"].tolist() == [0, 1, -1, 0]
    np.testing.assert_array_equal(matched["days_apart"], [14, 30, np.nan, 0])
    far = report[report["kind"] == "no visit within the tolerance"]
    assert far["reason"].tolist() == ["the nearest visit, m06, is 31 days away, more than 30"]
    assert far["subject"].tolist() == ["a"]


def test_a_tie_is_told_and_not_settled():
    visits = table(
        ("a", "v1", "2006-01-01"), ("a", "v2", "2006-01-11"), ("b", "v1", "2006-01-01"), ("b", "v2", "2006-01-01")
    )
    images = table(("a", "", "2006-01-06"), ("a", "", "2006-01-07"), ("b", "", "2006-01-03"))
    matched, report = match_visits(images, visits, tolerance_days=90)
    assert matched["visit"].tolist() == [-1, 1, -1]
    assert report["kind"].tolist() == ["tie between visits"] * 2
    assert report["reason"].tolist() == ["v1 and v2 are both 5 days away", "v1 and v2 are both 2 days away"]


def test_a_tie_further_away_than_a_nearer_visit_is_none():
    visits = table(("a", "v1", "2006-01-01"), ("a", "v2", "2006-01-06"), ("a", "v3", "2006-01-11"))
    matched, report = match_visits(table(("a", "", "2006-01-06")), visits, tolerance_days=90)
    assert matched["visit"].tolist() == [1]
    assert report.empty


def test_what_cannot_be_matched_says_why():
    images = table(("x", "", "2006-01-10"), ("a", "m18", "2006-01-10"), ("a", "", None), ("c", "bl", "2006-05-02"))
    matched, report = match_visits(images, VISITS, tolerance_days=30)
    assert matched["visit"].tolist() == [-1, -1, -1, 4]  # c's visit names no session, so its date decides
    assert report["kind"].tolist() == ["no visit of this subject", "no visit of this session", "image without date"]


def test_several_images_of_a_visit_are_all_matched_and_reported():
    images = table(("a", "", "2006-01-12"), ("a", "", "2006-01-20"), ("b", "bl", None)).assign(image=["i1", "i2", "i3"])
    matched, report = match_visits(images, VISITS, tolerance_days=30)
    assert matched["visit"].tolist() == [0, 0, 3]
    assert report[["kind", "image", "reason"]].to_numpy().tolist() == [
        ["several images for a visit", name, "one of 2 images of visit bl"] for name in ("i1", "i2")
    ]


def test_other_columns_come_through_and_the_tables_stay_as_they_are():
    images = table(("a", "", "2006-01-12")).assign(series="MPR").set_index(pd.Index([7]))
    before = images.copy()
    matched, _ = match_visits(images, VISITS.set_index(pd.Index(list("vwxyz"))), tolerance_days=30)
    assert matched["series"].tolist() == ["MPR"]
    assert isinstance(matched.index, pd.RangeIndex)
    pd.testing.assert_frame_equal(images, before)


def test_no_images_and_no_visits():
    none = table()
    matched, report = match_visits(none, VISITS, tolerance_days=1)
    assert len(matched) == len(report) == 0
    matched, report = match_visits(table(("a", "", "2006-01-12")), none, tolerance_days=1)
    assert report["kind"].tolist() == ["no visit of this subject"]


@pytest.mark.parametrize("written", ["10/07/2006", "10/29/2006", "29.10.2006", "29 Oct 2006", "2006/10/29"])
def test_dates_whose_order_is_not_known_are_refused(written):
    """10/07/2006: the 7th of October for some, and the 10th of July for most hospitals."""
    visits = table(("a", "", "2006-07-10"))
    with pytest.raises(
        TableError, match=r"images: column 'date': expected dates as 2005-09-08, got others in 1 of 2 rows"
    ):
        match_visits(table(("a", "", written), ("a", "", "2006-05-05")), visits, tolerance_days=90)


@pytest.mark.parametrize("nobody", [None, float("nan"), pd.NA])
def test_rows_of_nobody_are_not_one_person_s(nobody):
    with pytest.raises(TableError, match="images: expected a subject in every row"):
        match_visits(table((nobody, "", "2006-01-12")), VISITS, tolerance_days=9)
    with pytest.raises(TableError, match="visits: expected a subject in every row"):
        match_visits(table(("a", "", "2006-01-12")), table((nobody, "", "2006-01-10")), tolerance_days=9)


def test_a_visit_twice_a_wrong_tolerance_and_a_bad_date_are_refused():
    with pytest.raises(TableError, match="got a bl in rows 0 and 5"):
        match_visits(table(), pd.concat([VISITS, VISITS.iloc[:1]]), tolerance_days=1)
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(TableError, match="tolerance_days: expected a number of days from 0 on"):
            match_visits(table(), VISITS, tolerance_days=bad)
    with pytest.raises(TableError, match=r"images: column 'date': expected dates.* 'soon'"):
        match_visits(table(("a", "", "soon")), VISITS, tolerance_days=1)
    with pytest.raises(TableError, match=r"visits: unknown column 'date'; did you mean 'Date'"):
        match_visits(table(), VISITS.rename(columns={"date": "Date"}), tolerance_days=1)


def test_as_a_plain_search_through_all_visits():
    rng = np.random.default_rng(1)
    start = np.datetime64("2006-01-01")
    visits = pd.DataFrame({"subject": rng.integers(0, 40, 200).astype(str), "date": start + rng.integers(0, 800, 200)})
    visits["session"] = [f"v{i}" for i in range(200)]
    images = pd.DataFrame({"subject": rng.integers(0, 45, 300).astype(str), "date": start + rng.integers(0, 800, 300)})
    images["session"] = ""
    matched, report = match_visits(images, visits, tolerance_days=60)
    for i, image in images.iterrows():
        gaps = (image["date"] - visits["date"]).dt.days.abs().where(visits["subject"] == image["subject"])
        best = np.flatnonzero((gaps == gaps.min()) & (gaps <= 60))
        assert matched["visit"][i] == (best[0] if len(best) == 1 else -1)
        if len(best) == 1:
            assert matched["days_apart"][i] == (image["date"] - visits["date"][best[0]]).days
    told = report[report["kind"] != "several images for a visit"]
    assert len(told) == (matched["visit"] < 0).sum() > 50


def test_twenty_thousand_images_in_seconds():
    import time

    rng = np.random.default_rng(2)
    who = pd.Series(rng.integers(0, 3000, 20_000).astype(str))
    days = np.datetime64("2006-01-01") + rng.integers(0, 4000, 20_000)
    images = pd.DataFrame({"subject": who, "session": "", "date": days})
    start = time.process_time()
    match_visits(images, images.assign(session=[f"v{i}" for i in range(20_000)]), tolerance_days=90)
    assert time.process_time() - start < 10
