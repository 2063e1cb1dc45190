"""Subgroup tables against pandas by hand: who is in a group, what is withheld, intervals by subject, gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import EvaluationError, TableError
from fusionconv.evaluation import bootstrap_interval, roc_auc, subgroup_gaps, subgroup_table


def accuracy(rows):
    return float((rows["dx"] == rows["said"]).mean())


@pytest.fixture
def visits():
    random = np.random.default_rng(0)
    subjects = pd.DataFrame(
        {
            "subject": [f"s{i:02d}" for i in range(60)],
            "sex": random.choice(["F", "M", None], 60, p=[0.5, 0.3, 0.2]),
            "age": np.round(random.uniform(50, 90, 60)),
            "dx": random.integers(0, 2, 60),
        }
    )
    subjects.loc[[3, 40], "age"] = np.nan
    frame = subjects.loc[subjects.index.repeat(2)].set_index(np.arange(120)[::-1] // 3)  # an index that is not unique
    return frame.assign(said=random.integers(0, 2, 120), score=random.random(120))


def test_groups_and_counts_are_those_of_pandas(visits):
    table = subgroup_table(
        visits, ["sex", "age"], {"accuracy": accuracy}, 5, edges={"age": [60, 75]}, target="dx", n_resamples=100
    )
    assert list(table["group"]) == ["all", "F", "M", "missing", "below 60", "60 to below 75", "75 and above", "missing"]
    masks = [
        visits["dx"].notna(),
        visits["sex"] == "F",
        visits["sex"] == "M",
        visits["sex"].isna(),
        visits["age"] < 60,
        (visits["age"] >= 60) & (visits["age"] < 75),
        visits["age"] >= 75,
        visits["age"].isna(),
    ]
    for mask, (_, row) in zip(masks, table.iterrows(), strict=True):
        rows = visits[mask.to_numpy()]
        assert (row["rows"], row["subjects"]) == (len(rows), rows["subject"].nunique())
        assert row["positives"] == rows["dx"].sum()
        if rows["subject"].nunique() >= 5:
            assert row["value"] == pytest.approx(accuracy(rows))
            assert row["low"] <= row["value"] <= row["high"]


def test_a_small_group_has_its_size_and_no_figure(visits):
    table = subgroup_table(visits, "age", {"accuracy": accuracy}, 5, edges={"age": [60]}, n_resamples=100)
    small = table[table["group"] == "missing"].iloc[0]
    assert (small["subjects"], small["rows"], small["note"]) == (2, 4, "fewer than 5 subjects")
    assert small[["value", "low", "high"]].isna().all()


def test_min_count_counts_subjects_not_images():
    frame = pd.DataFrame({"subject": ["a"] * 50 + ["b"] * 50, "dx": [0, 1] * 50, "said": [0, 1] * 50, "sex": "F"})
    by_subject = subgroup_table(frame, "sex", {"accuracy": accuracy}, 10)
    assert by_subject["value"].isna().all()
    assert subgroup_table(frame, "sex", {"accuracy": accuracy}, 10, subject=None, n_resamples=100)["value"].eq(1).all()


def test_the_interval_is_the_bootstrap_over_the_groups_subjects(visits):
    women = visits[visits["sex"] == "F"].reset_index(drop=True)
    right = (women["dx"] == women["said"]).to_numpy(float)
    expected = bootstrap_interval(lambda t, p: float(p.mean()), right, right, women["subject"], 500, seed=3)
    row = subgroup_table(visits, "sex", {"accuracy": accuracy}, n_resamples=500, seed=3).iloc[1]
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))


def test_a_group_of_one_class_has_no_auc_and_says_so():
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"subject": range(60), "site": ["A", "B", "C"] * 20, "score": random.random(60)})
    frame["dx"] = ((frame["site"] == "A") & (frame.index % 2 == 0)).astype(int)
    frame.loc[2, "dx"] = 1  # one positive at site C
    table = subgroup_table(frame, "site", {"AUC": lambda r: roc_auc(r["dx"], r["score"])}, n_resamples=400)
    notes = table.set_index("group")["note"]
    assert notes["A"] == ""
    assert notes["B"] == "not defined here"
    left_out = int(notes["C"].split()[2])
    assert left_out / 400 == pytest.approx(0.95**20, abs=0.08)


def test_a_metric_that_fails_on_all_rows_is_an_error(visits):
    def broken(rows):
        raise ValueError("a typo")

    with pytest.raises(ValueError, match="a typo"):
        subgroup_table(visits, "sex", {"broken": broken})


def test_gaps_are_the_largest_difference_between_groups():
    table = pd.DataFrame(
        {
            "by": ["all", "sex", "sex", "sex", "site"],
            "group": ["all", "F", "M", "missing", "A"],
            "metric": "AUC",
            "value": [0.99, 0.8, 0.7, np.nan, 0.5],
        }
    )
    gaps = subgroup_gaps(table).set_index("by")
    assert gaps.loc["sex", "gap"] == pytest.approx(0.1)
    assert (gaps.loc["sex", "lowest"], gaps.loc["sex", "highest"], gaps.loc["sex", "groups"]) == ("M", "F", 2)
    assert np.isnan(gaps.loc["site", "gap"])


def test_small_whole_numbers_booleans_and_nullable_columns_are_classes():
    frame = pd.DataFrame({"subject": range(40), "dx": [0, 1] * 20, "said": 1})
    frame["apoe4"] = pd.array([0, 1, 2, None] * 10, dtype="Int64")
    frame["smokes"] = pd.array([True, False, None, True] * 10, dtype="boolean")
    table = subgroup_table(frame, ["apoe4", "smokes"], {"accuracy": accuracy}, n_resamples=100)
    assert table["group"].tolist() == ["all", "0", "1", "2", "missing", "False", "True", "missing"]
    assert table["rows"].tolist() == [40, 10, 10, 10, 10, 10, 20, 10]


def test_text_classes_are_counted_as_the_positive_one():
    frame = pd.DataFrame({"subject": range(40), "dx": ["AD", "CN", "MCI", "CN"] * 10, "sex": ["F", "M"] * 20})
    table = subgroup_table(
        frame, "sex", {"share": lambda r: float((r["dx"] == "AD").mean())}, target="dx", positive="AD", n_resamples=100
    )
    assert table["positives"].tolist() == [10, 10, 0]


def test_no_positive_among_0_and_1_is_a_count_of_0():
    frame = pd.DataFrame({"subject": range(20), "dx": 0, "sex": "F"})
    table = subgroup_table(frame, "sex", {"n": lambda r: float(len(r))}, target="dx", n_resamples=100)
    assert table["positives"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("dx", "positive", "says"),
    [
        (["AD", "CN"], 1, r"positive=1, got none among 'AD', 'CN'; give the class that is counted, such as positive="),
        (["AD", "CN"], "ad", "positive='ad', got none"),
        (["0", "1"], 1, "positive=1, got none among '0', '1'"),
        ([1, 2], 0, "positive=0, got none"),
        ([0.0, 2.0], 1, "positive=1, got none"),
        (["AD", None], "AD", "dx: expected a value in every row, got 20 of 40"),
        ([1, float("nan")], 1, "dx: expected a value in every row"),
    ],
)
@pytest.mark.parametrize("dtype", [None, "category"])
def test_a_target_without_the_positive_class_is_refused(dx, positive, says, dtype):
    frame = pd.DataFrame({"subject": range(40), "dx": pd.Series(dx * 20, dtype=dtype), "sex": "F"})
    with pytest.raises(EvaluationError, match=says):
        subgroup_table(frame, "sex", {"n": len}, target="dx", positive=positive)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"n_resamples": 20}, EvaluationError, "n_resamples: expected a whole number from 100 on, got 20"),
        ({"n_resamples": 99.5}, EvaluationError, "n_resamples"),
        ({"by": "gender"}, TableError, "gender"),
        ({"subject": "id"}, TableError, "id"),
        ({"by": "age"}, EvaluationError, r"give edges=\{'age'"),
        ({"by": "age", "edges": {"age": [70, 60]}}, EvaluationError, "that rise"),
        ({"by": "age", "edges": {"age": []}}, EvaluationError, "that rise"),
        ({"by": "sex", "edges": {"sex": [1]}}, EvaluationError, "numbers to cut"),
        ({"edges": {"age": [60]}}, EvaluationError, "edges of these columns"),
        ({"metrics": {}}, EvaluationError, "metric"),
        ({"min_count": 1}, EvaluationError, "min_count"),
    ],
)
def test_it_refuses(visits, change, error, says):
    arguments = {"by": "sex", "metrics": {"accuracy": accuracy}, **change}
    with pytest.raises(error, match=says):
        subgroup_table(visits, **arguments)
