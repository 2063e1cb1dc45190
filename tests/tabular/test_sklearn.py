"""CovariateEncoder inside scikit-learn: Pipeline, ColumnTransformer, clone, grid search."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from fusionconv.errors import TableError
from fusionconv.tabular import CovariateEncoder, Numeric


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(70, 9, 120), "site": rng.choice(["A", "B", "C"], 120)})
    frame["dx"] = (frame["age"] + rng.normal(0, 3, 120) > 70).astype(int)
    frame.loc[::17, "age"] = np.nan
    return frame


def test_a_pipeline_fits_scores_and_names(rows):
    pipeline = make_pipeline(CovariateEncoder(["age", "site"], missing="mean"), LogisticRegression())
    pipeline.fit(rows, rows["dx"])
    assert pipeline.score(rows, rows["dx"]) > 0.75
    encoder = CovariateEncoder(["age", "site"], missing="mean")
    by_hand = LogisticRegression().fit(encoder.fit_transform(rows), rows["dx"])
    np.testing.assert_allclose(pipeline.predict_proba(rows), by_hand.predict_proba(encoder.transform(rows)))
    assert list(pipeline[:-1].get_feature_names_out()) == list(encoder.get_feature_names_out())
    assert "CovariateEncoder" in repr(pipeline)
    assert cross_val_score(pipeline, rows, rows["dx"], cv=3).mean() > 0.7


def test_a_column_transformer_takes_it(rows):
    both = ColumnTransformer(
        [
            ("cov", CovariateEncoder(["age", "site"], missing="mean"), ["age", "site"]),
            ("same", FunctionTransformer(feature_names_out="one-to-one"), ["dx"]),
        ]
    )
    out = both.fit_transform(rows)
    assert list(both.get_feature_names_out()) == [
        "cov__age",
        "cov__age_missing",
        "cov__site_A",
        "cov__site_B",
        "cov__site_C",
        "same__dx",
    ]
    np.testing.assert_array_equal(out[:, -1], rows["dx"])
    np.testing.assert_allclose(out[:, :5], CovariateEncoder(["age", "site"], missing="mean").fit_transform(rows))


def test_clone_is_not_fitted_and_independent(rows):
    encoder = CovariateEncoder(["age"], {"age": Numeric("robust")}, missing="mean", missing_codes=[-4]).fit(rows)
    copied = clone(encoder)
    assert copied.get_params() == encoder.get_params()
    assert copied is not encoder
    with pytest.raises(TableError, match="fitted encoder"):
        copied.transform(rows)
    with pytest.raises(NotFittedError):
        check_is_fitted(copied)
    check_is_fitted(encoder)
    assert copied.fit(rows) == encoder


def test_a_grid_search_sets_parameters(rows):
    pipeline = make_pipeline(CovariateEncoder(["age", "site"], missing="mean"), LogisticRegression())
    search = GridSearchCV(
        pipeline, {"covariateencoder__missing": ["mean", "zero", 200.0], "covariateencoder__columns": [["age"]]}, cv=2
    )
    search.fit(rows, rows["dx"])
    assert set(search.cv_results_["param_covariateencoder__missing"]) == {"mean", "zero", 200.0}


def test_set_params_makes_it_unfitted_and_checks(rows):
    encoder = CovariateEncoder(["age"], missing="mean").fit(rows)
    with pytest.raises(TableError, match=r"unknown parameter 'missin'; did you mean 'missing'"):
        encoder.set_params(missin="mean")
    with pytest.raises(TableError, match="indicator"):
        encoder.set_params(indicator="sometimes")
    assert encoder.num_covariates == 2  # a refused change changes nothing
    assert encoder.set_params(missing="zero") is encoder
    assert encoder.get_params()["missing"] == "zero"
    with pytest.raises(TableError, match="fitted encoder"):
        encoder.transform(rows)


def test_the_target_is_refused_among_the_covariates(rows):
    encoder = CovariateEncoder(["age", "dx"], missing="mean")
    for fit in (
        lambda: encoder.fit(rows, target="dx"),
        lambda: encoder.fit(rows, target=["y", "dx"]),
        lambda: encoder.fit(rows, rows["dx"]),
        lambda: encoder.fit(rows, rows[["dx"]]),
        lambda: encoder.fit_transform(rows, target="dx"),
        lambda: make_pipeline(encoder, LogisticRegression()).fit(rows, rows["dx"]),
    ):
        with pytest.raises(TableError, match=r"without the target, got \['dx'\] among \['age', 'dx'\]"):
            fit()
    encoder.fit(rows, rows["dx"].rename("other"), target="another")


def test_neither_target_nor_y_changes_what_is_learnt(rows):
    encoder = CovariateEncoder(["age", "site"], missing="mean")
    assert clone(encoder).fit(rows, rows["dx"], target="dx") == clone(encoder).fit(rows)


def test_arrays_are_refused_with_the_way_out(rows):
    with pytest.raises(TableError, match=r"pandas.DataFrame\(values, columns="):
        make_pipeline(CovariateEncoder(["age"]), LogisticRegression()).fit(rows[["age"]].to_numpy(), rows["dx"])


def test_the_tabular_package_does_not_load_scikit_learn():
    code = "import sys, fusionconv.tabular; print([m for m in ('sklearn', 'scipy', 'openpyxl') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_set_output_pandas_alone_in_a_pipeline_and_in_a_column_transformer(rows):
    plain = CovariateEncoder(["age", "site"], missing="mean").fit(rows)
    framed = clone(CovariateEncoder(["age", "site"], missing="mean").set_output(transform="pandas")).fit(rows)
    some = rows.iloc[5:9]
    expected = pd.DataFrame(plain.transform(some), index=some.index, columns=plain.get_feature_names_out())
    pd.testing.assert_frame_equal(framed.transform(some), expected)
    named = framed.transform(some, ids=["a", "b", "c", "d"])
    assert named.index.equals(some.index)
    pipeline = make_pipeline(CovariateEncoder(["age", "site"], missing="mean")).set_output(transform="pandas")
    pd.testing.assert_frame_equal(pipeline.fit(rows).transform(some), expected)
    both = ColumnTransformer([("cov", CovariateEncoder(["age", "site"], missing="mean"), ["age", "site"])])
    out = both.set_output(transform="pandas").fit(rows).transform(some)
    pd.testing.assert_frame_equal(out, expected.add_prefix("cov__"))
    assert isinstance(framed.set_output(transform="default").transform(some), np.ndarray)
    with pytest.raises(TableError, match="polars"):
        framed.set_output(transform="polars")


def test_equal_encoders_have_equal_hashes_and_stay_in_a_set_when_they_are_fitted(rows):
    one, two = CovariateEncoder(["age"], missing="mean"), CovariateEncoder(["age"], missing="mean")
    assert one == two
    assert len({one, two}) == 1
    held = {one}
    one.fit(rows)
    assert one in held
