"""Whole numbers that may name something: one rule in fit, summary and inspect, with the line that settles it."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

from fusionconv.tabular import Binary, Categorical, CovariateEncoder, Numeric, inspect_table

CODED = {
    "gender": [1, 2],
    "PTGENDER": [1, 2],
    "sex": [0, 1, 2],
    "laterality": [1, 2, 3],
    "tumor_location": [1, 2, 3, 4, 5, 6],
    "race": [1, 2, 3, 4, 5, 6, 7],
    "raceCode": [1, 2, 5, 7],
    "site": [101, 102, 107, 110, 131],
    "eye": [0, 1, 2],
    "handedness": [1, 2, 3],
    "marital.status": [0, 1, 2, 3],
    "scanner": [2, 5, 7],
    "smoking_status": [0, 1, 2],
    "q17": [1, 2, 3, 4],
    "marker": [10, 20],
    "Male": [-1, 1],
    "month": list(range(1, 13)),
    "age_group": [1, 2, 3, 4],
    "PTRACCAT": [1, 2, 4, 5],
    "hospital": list(range(3, 63)),
}
MEASURED = {
    "age": [61, 62, 63, 70],
    "Age_years": [1, 2, 3, 4, 5],
    "lesions": [1, 2, 3, 4],
    "n_lesions": [1, 2, 3],
    "number_of_nodules": [1, 2],
    "tumorCount": [1, 2, 3],
    "APOE4": [0, 1, 2],
    "education": [8, 12, 16, 18],
    "PTEDUCAT": [12, 16, 18, 20],
    "edu_years": [1, 2, 3, 4, 5, 6],
    "MMSE": [26, 27, 28, 29, 30],
    "pain_score": [1, 2, 3, 4, 5],
    "slice_thickness": [1, 2, 3, 5],
    "dose_mg": [50, 100],
    "children": [1, 2, 3],
    "visits": [1, 2, 3, 4, 5, 6, 7, 8],
    "x3": [0, 1, 2, 3],
    "weeks": [1, 2, 3, 4],
    "x": [1.5, 3.0],
    "year": [2010, 2011, 2012],
}


def table(name, values, rows=120):
    return pd.DataFrame({name: np.resize(values, rows)})


@pytest.mark.parametrize("dtype", [None, "float64", "Int64", "object"])
@pytest.mark.parametrize("name", CODED)
def test_fit_summary_and_inspect_name_the_column(name, dtype):
    frame = table(name, CODED[name])
    frame = frame if dtype is None else frame.astype(dtype)
    with pytest.warns(UserWarning, match=rf"whole numbers may hold codes\. {re.escape(name)}: only the whole numbers"):
        encoder = CovariateEncoder([name]).fit(frame)
    assert "if they are codes, write kinds=" in encoder.summary()
    report = inspect_table(frame)
    assert any("whole numbers" in note for note in report.columns[0].notes)
    proposed = eval(
        report.suggestion, {"CovariateEncoder": CovariateEncoder, "Binary": Binary, "Categorical": Categorical}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = proposed.fit_transform(frame)
    assert set(np.unique(out)) <= {0.0, 1.0}  # declared as codes, not z-scored


@pytest.mark.parametrize("name", MEASURED)
def test_counts_and_measures_are_no_nuisance(name):
    frame = table(name, MEASURED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = CovariateEncoder([name]).fit(frame)
    assert "look at" not in encoder.summary()
    assert inspect_table(frame).columns[0].notes == []


@pytest.mark.parametrize("name", CODED)
def test_the_lines_that_it_gives_work_in_python_and_in_yaml_and_end_the_warning(name):
    frame = table(name, CODED[name])
    with pytest.warns(UserWarning, match="whole numbers may hold codes") as caught:
        CovariateEncoder([name]).fit(frame)
    said = str(caught[0].message)
    lines = re.findall(r"kinds=(\{.*?\}) \(YAML: (kinds: .*?)\)(?:;|$)", said)
    assert len(lines) == 2
    classes = {"Binary": Binary, "Categorical": Categorical, "Numeric": Numeric}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for python, plain in lines:
            one = CovariateEncoder([name], eval(python, classes)).fit(frame)
            other = CovariateEncoder([name], yaml.safe_load(plain)["kinds"]).fit(frame)
            assert one == other


def test_a_code_for_missing_goes_along():
    frame = table("gender", [1, 2, 1, 2, 9])
    with pytest.warns(UserWarning, match=r"Binary\(\{1: 0, 2: 1\}, missing_codes=\[9\]\)"):
        CovariateEncoder(["gender"]).fit(frame)


@pytest.mark.parametrize("values", [[1, 2, 3], [5, 3, 1, 2, 4]])
def test_a_few_rows_that_are_all_different_are_measures(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CovariateEncoder(["x"]).fit(pd.DataFrame({"x": values}))
