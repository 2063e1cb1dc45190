"""What the report says where a test cannot be made."""

import math

import pandas as pd
import pytest

from fusionconv.study import Study
from fusionconv.study.report import _Page, told_apart

FOLDS, SUBJECTS, NONE = "corrected t-test", "bootstrap by subject", math.nan


@pytest.mark.parametrize(
    ("over_folds", "by_subject", "folds", "expected"),
    [
        (0.01, 0.04, 5, "yes"),
        (0.01, 0.05, 5, "no"),
        (0.06, 0.01, 5, "no"),
        (NONE, 0.04, 1, "one fold: by subject yes"),
        (NONE, 0.3, 1, "one fold: by subject no"),
        (NONE, 0.3, 3, "no test over folds: by subject no"),  # a metric that two of three folds do not have
        (0.2, NONE, 5, "no test by subject: over folds no"),
        (0.01, NONE, 5, "no test by subject: over folds yes"),
        (NONE, NONE, 1, None),
    ],
)
def test_told_apart_says_which_test_could_not_be_made(over_folds, by_subject, folds, expected):
    table = pd.DataFrame({
        "arm": ["concat"] * 4, "metric": ["auc", "auc", "accuracy", "accuracy"], "test": [FOLDS, SUBJECTS] * 2,
        "p_holm": [over_folds, by_subject, 0.9, 0.9], "difference": [0.1, 0.2, -0.1, 0.1],
    })  # fmt: skip
    assert told_apart(table, "auc", folds).get("concat") == expected


def test_two_tests_that_point_different_ways_do_not_agree():
    table = pd.DataFrame({
        "arm": "concat", "metric": "rmse", "test": [FOLDS, SUBJECTS], "p_holm": [0.01, 0.01], "difference": [0.1, -0.1],
    })  # fmt: skip
    assert told_apart(table, "rmse", 5) == {"concat": "no"}


def test_a_study_of_one_fold_does_not_say_no(small, tmp_path):
    """The t-test needs two folds: the table said no, as if it had been made."""
    arms = ["covariates", {"name": "none", "arm": "covariates", "covariates": ["site"]}]
    Study(**{**small, "folds": 1, "test_size": 0.4}).compare(arms, out=tmp_path / "out", progress=False)
    tests = pd.read_csv(tmp_path / "out/comparisons.csv").query("metric == 'auc'").set_index("test")["p_holm"]
    assert math.isnan(tests[FOLDS])
    assert tests[SUBJECTS] >= 0
    lines = (tmp_path / "out/report.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| none |"))
    assert f"| one fold: by subject {'yes' if tests[SUBJECTS] < 0.05 else 'no'} |" in row


def test_the_rounding_of_zero_is_zero_and_a_small_p_is_not(tmp_path):
    page = _Page(tmp_path)
    page.table(pd.DataFrame({"difference": [-3.7e-18, -3.7e-9], "p": [3.7e-18, 1.0], "n": [3, 4]}), "caption")
    rows = page.markdown[-1].splitlines()[-2:]
    assert rows == ["| 0 | 3.7e-18 | 3 |", "| -3.7e-09 | 1 | 4 |"]
