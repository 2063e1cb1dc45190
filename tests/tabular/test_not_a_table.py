"""Every public function that takes a frame says so where it is given something else."""

from __future__ import annotations

import pandas as pd
import pytest

import fusionconv.tabular as tabular
from fusionconv.errors import TableError

GOOD = pd.DataFrame({"subject": ["a", "b"], "session": "", "image": ["x", "y"], "age": [61.5, 72.1]})
ENCODER = tabular.CovariateEncoder(["age"]).fit(GOOD)
CALLS = {
    "CovariateDataset": lambda f: tabular.CovariateDataset(f, ENCODER),
    "CovariateEncoder.fit": lambda f: tabular.CovariateEncoder(["age"]).fit(f),
    "CovariateEncoder.transform": lambda f: ENCODER.transform(f),
    "CovariateTable": lambda f: tabular.CovariateTable(f, ENCODER),
    "check_leakage": lambda f: tabular.check_leakage(f, GOOD),
    "check_leakage, test": lambda f: tabular.check_leakage(GOOD, f),
    "holdout": tabular.holdout,
    "inspect_table": tabular.inspect_table,
    "kfold": tabular.kfold,
    "leave_site_out": tabular.leave_site_out,
    "match_images": lambda f: tabular.match_images(f, GOOD),
    "match_images, files": lambda f: tabular.match_images(GOOD, f),
    "match_visits": lambda f: tabular.match_visits(f, GOOD, tolerance_days=3),
    "pair_by_id": lambda f: tabular.pair_by_id({"a": 1}, f, id="subject"),
    "require_columns": lambda f: tabular.require_columns(f, ["age"]),
}


@pytest.mark.parametrize(
    "value", [[1, 2], {"age": [1]}, pd.Series([1, 2]), None, pd.DataFrame()], ids=lambda v: type(v).__name__
)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_table_is_one_clear_error(name, value):
    with pytest.raises(TableError, match=r"(?i)expected"):
        CALLS[name](value)
