"""CovariateEncoder against scikit-learn's StandardScaler, and what it must refuse."""

import copy
import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import StandardScaler

from fusionconv.errors import CheckpointError, TableError
from fusionconv.tabular import CovariateEncoder


@pytest.fixture
def train():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(70, 9, 50),
            "Male": rng.integers(0, 2, 50),
            "visits": rng.integers(1, 9, 50),
            "smoker": rng.integers(0, 2, 50).astype(bool),
            "site": "A",
        },
        index=[f"s{i:02d}" for i in range(50)],
    )


COLUMNS = ["Male", "age", "smoker", "visits"]


def test_numeric_columns_agree_with_standard_scaler_and_binary_ones_stay(train):
    new = pd.DataFrame({"visits": [2, 90], "age": [50.5, 99], "smoker": [True, False], "Male": [0.0, 1.0]})
    encoded = CovariateEncoder(COLUMNS).fit(train).transform(new)
    numeric = StandardScaler().fit(train[["age", "visits"]].to_numpy()).transform(new[["age", "visits"]].to_numpy())
    assert encoded.dtype == np.float32
    assert encoded.shape == (2, 4)
    np.testing.assert_allclose(encoded[:, [1, 3]], numeric, rtol=1e-6)
    np.testing.assert_array_equal(encoded[:, [0, 2]], [[0, 1], [1, 0]])  # exactly


def test_fit_transform_is_fit_then_transform_and_standardises(train):
    encoded = CovariateEncoder(COLUMNS).fit_transform(train)
    np.testing.assert_array_equal(encoded, CovariateEncoder(COLUMNS).fit(train).transform(train))
    np.testing.assert_allclose(encoded[:, 1].astype(float).mean(), 0, atol=1e-6)
    np.testing.assert_allclose(encoded[:, 1].astype(float).std(ddof=0), 1, atol=1e-6)


def test_a_row_is_encoded_alike_whatever_rows_stand_beside_it(train):
    encoder = CovariateEncoder(COLUMNS).fit(train.iloc[:30])
    together = encoder.transform(train)
    alone = np.concatenate([encoder.transform(train.iloc[[i]]) for i in range(len(train))])
    np.testing.assert_array_equal(together, alone)
    order = np.random.default_rng(2).permutation(len(train))
    np.testing.assert_array_equal(encoder.transform(train.iloc[order]), together[order])
    before = encoder.to_dict()
    encoder.transform(train.iloc[30:])
    assert encoder.to_dict() == before


def test_neither_fit_nor_transform_changes_the_table(train):
    kept = train.copy()
    CovariateEncoder(COLUMNS).fit_transform(train)
    pd.testing.assert_frame_equal(train, kept)


def test_names_count_and_repr_say_what_was_inferred(train):
    encoder = CovariateEncoder(COLUMNS)
    assert repr(encoder) == "CovariateEncoder(Male, age, smoker, visits; not fitted)"
    encoder.fit(train)
    assert list(encoder.get_feature_names_out()) == COLUMNS
    assert encoder.num_covariates == 4
    mean, std = train["visits"].mean(), train["visits"].std(ddof=0)
    assert f"Male: binary, age: numeric (mean {train['age'].mean():g}, " in repr(encoder)
    assert repr(encoder).endswith(f"visits: numeric (mean {mean:g}, scale {std:g}); fitted on 50 rows)")


def test_kinds_override_the_inference(train):
    encoded = CovariateEncoder(["Male"], kinds={"Male": "numeric"}).fit_transform(train)
    np.testing.assert_allclose(encoded, StandardScaler().fit_transform(train[["Male"]]), rtol=1e-6)
    with pytest.raises(TableError, match=r"column 'age': expected 0 or 1 .* in 50 of 50 rows"):
        CovariateEncoder(["age"], kinds={"age": "binary"}).fit(train)


def test_a_constant_binary_column_is_allowed_as_a_control_but_a_constant_numeric_one_is_not(train):
    ones = train.assign(Male=1)
    assert CovariateEncoder(["Male"]).fit_transform(ones).tolist() == [[1.0]] * 50
    for value in (3, 0.1, -1):
        with pytest.raises(TableError, match=r"numeric column 'age' to vary .* leave it out"):
            CovariateEncoder(["Male", "age"]).fit(train.assign(age=value))
    with pytest.raises(TableError, match="to vary"):
        CovariateEncoder(["Male"], kinds={"Male": "numeric"}).fit(ones)


def test_minus_one_and_one_are_not_taken_for_binary(train):
    encoder = CovariateEncoder(["Male"]).fit(train.assign(Male=train["Male"] * 2 - 1))
    assert "Male: numeric" in repr(encoder)
    assert "only the whole numbers -1, 1, encoded as a measure; if they are codes, write kinds=" in encoder.summary()


@pytest.mark.parametrize("dtype", ["int8", "float32", "Int64", "boolean", "object"])
def test_the_storage_of_a_column_does_not_matter(train, dtype):
    encoder = CovariateEncoder(["Male", "age"]).fit(train)
    other = train.assign(Male=train["Male"].astype(dtype))
    np.testing.assert_array_equal(encoder.transform(other), encoder.transform(train))
    assert CovariateEncoder(["Male", "age"]).fit(other) == encoder


def test_saved_as_json_it_comes_back_exactly(train):
    train["tenth"] = np.linspace(0.1, 1 / 3, 50)
    encoder = CovariateEncoder([*COLUMNS, "tenth"], kinds={"smoker": "numeric"}).fit(train)
    back = CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert back == encoder
    assert back.to_dict() == encoder.to_dict()
    np.testing.assert_array_equal(back.transform(train), encoder.transform(train))
    assert back.fit(train) == encoder  # the kinds that were asked for come back too


def test_equality(train):
    encoder = CovariateEncoder(COLUMNS).fit(train)
    assert encoder == copy.deepcopy(encoder) == CovariateEncoder(COLUMNS).fit(train)
    assert encoder != CovariateEncoder(COLUMNS)
    assert encoder != CovariateEncoder(COLUMNS[::-1]).fit(train)
    assert encoder != CovariateEncoder(COLUMNS).fit(train.iloc[:49])
    assert CovariateEncoder(["a"]) == CovariateEncoder(("a",)) != CovariateEncoder(["a"], {"a": "numeric"})
    assert encoder != "encoder"
    assert hash(encoder) == hash(copy.deepcopy(encoder))


DAMAGES = [
    (lambda d: d.pop("format"), "expected an encoder as"),
    (lambda d: d.update(version=2), "install the fusionconv that wrote it"),
    (lambda d: d.pop("columns"), "damaged encoder"),
    (lambda d: d.pop("num_rows"), "damaged encoder"),
    (lambda d: d.update(num_rows="50"), "damaged encoder"),
    (lambda d: d.update(columns=[]), "damaged encoder"),
    (lambda d: d.update(columns=None), "damaged encoder"),
    (lambda d: d["columns"].append(d["columns"][0]), "damaged encoder"),
    (lambda d: d["columns"].reverse(), "damaged encoder"),
    (lambda d: d["columns"][0].update(kind="categorical"), "damaged encoder"),
    (lambda d: d["columns"][0].update(surprise=1), "damaged encoder"),
    (lambda d: d.update(kinds={"other": "binary"}), "damaged encoder"),
    (lambda d: d.pop("params"), "damaged encoder"),
    (lambda d: d["params"].update(missing=None), "damaged encoder"),
    (lambda d: d["params"]["kinds"].update(other={"kind": "binary"}), "damaged encoder"),
    (lambda d: d["columns"][0]["kind"].update(kind="surprise"), "damaged encoder"),
    (lambda d: d["columns"][0].update(fill=[0.0, 0.0]), "damaged encoder"),
    (lambda d: d["columns"][0].update(indicator=True), "damaged encoder"),
    (lambda d: d["columns"][0]["learnt"].update(codes=[[0, 0]]), "damaged encoder"),
    (lambda d: d["columns"][1]["learnt"]["scale"].update(scale=0.0), "damaged encoder"),
    (lambda d: d["columns"][1]["learnt"]["scale"].update(center=math.nan), "damaged encoder"),
    (lambda d: d["columns"][1]["learnt"]["scale"].update(mean="70"), "damaged encoder"),
]


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_a_damaged_or_newer_dict_is_refused(train, damage, says):
    saved = CovariateEncoder(COLUMNS).fit(train).to_dict()
    damage(saved)
    with pytest.raises(CheckpointError, match=says):
        CovariateEncoder.from_dict(saved)


def test_a_thing_that_is_no_dict_is_refused():
    with pytest.raises(CheckpointError, match="got list"):
        CovariateEncoder.from_dict([])


def test_a_checkpoint_of_other_covariates_is_refused(train):
    encoder = CovariateEncoder(["Male", "age"]).fit(train)
    encoder.require_same(["Male", "age"])
    encoder.require_same(("Male", "age"))
    with pytest.raises(CheckpointError, match="the order differs"):
        encoder.require_same(["age", "Male"])
    with pytest.raises(CheckpointError, match=r"\(without age\)"):
        encoder.require_same(["Male"])
    with pytest.raises(CheckpointError, match=r"\(with visits too\)"):
        encoder.require_same(["Male", "age", "visits"])
    with pytest.raises(CheckpointError, match=r"\(without age, with visits too\)"):
        encoder.require_same(["Male", "visits"])


@pytest.mark.parametrize("columns", ["age", [], ["age", "age"], ["age", 3]])
def test_no_list_of_names_is_refused(columns):
    with pytest.raises(TableError, match="expected a list of different column names"):
        CovariateEncoder(columns)


def test_wrong_kinds_are_refused():
    with pytest.raises(TableError, match=r"unknown column in kinds 'agee'; did you mean 'age'\?"):
        CovariateEncoder(["age"], kinds={"agee": "numeric"})
    with pytest.raises(TableError, match=r"unknown kind for column 'age': 'numerical'; did you mean 'numeric'\?"):
        CovariateEncoder(["age"], kinds={"age": "numerical"})


def test_an_encoder_that_was_not_fitted_says_so(train):
    encoder = CovariateEncoder(["age"])
    for use in (
        lambda: encoder.transform(train),
        lambda: encoder.num_covariates,
        encoder.to_dict,
        encoder.get_feature_names_out,
    ):
        with pytest.raises(TableError, match=r"expected a fitted encoder.*call \.fit\(training_rows\)"):
            use()


def test_a_failed_fit_leaves_the_encoder_as_it_was(train):
    encoder = CovariateEncoder(COLUMNS).fit(train)
    kept = encoder.to_dict()
    with pytest.raises(TableError):
        encoder.fit(train.assign(visits=np.nan))
    assert encoder.to_dict() == kept


@pytest.mark.parametrize("method", ["fit", "transform"])
@pytest.mark.parametrize(
    "bad", [np.nan, np.inf, -np.inf, None, pd.NA, "sixty", "60 kg", 1 + 2j, pd.Timestamp("2020-01-01")]
)
def test_a_value_that_is_no_finite_number_names_column_rows_and_count(train, method, bad):
    encoder = CovariateEncoder(COLUMNS).fit(train)
    train["age"] = train["age"].astype(object)
    train.loc[["s07", "s31"], "age"] = bad
    with pytest.raises(
        TableError, match=r"column 'age': expected finite numbers.* in 2 of 50 rows, first at 's07': .*'s31'"
    ):
        getattr(encoder, method)(train)


@pytest.mark.parametrize("bad", [2, -1, 0.5])
def test_another_value_in_a_binary_column_names_the_row(train, bad):
    encoder = CovariateEncoder(COLUMNS).fit(train)
    train["Male"] = train["Male"].astype(float)
    train.loc["s03", "Male"] = bad
    with pytest.raises(TableError, match=r"column 'Male': expected 0 or 1 .* in 1 of 50 rows, first at 's03'"):
        encoder.transform(train)


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_tables_that_do_not_fit_are_refused(train, method):
    encoder = CovariateEncoder(COLUMNS).fit(train)
    call = getattr(encoder, method)
    with pytest.raises(TableError, match=r"unknown column 'age'; did you mean 'Age'\?"):
        call(train.rename(columns={"age": "Age"}))
    with pytest.raises(TableError, match="at least one row"):
        call(train.iloc[:0])
    with pytest.raises(TableError, match="got several of the name 'age'"):
        call(pd.concat([train, train[["age"]]], axis=1))
    with pytest.raises(TableError, match=r"expected a pandas DataFrame .* got ndarray"):
        call(train[["age"]].to_numpy())


def test_a_value_too_large_for_float32_is_refused(train):
    encoder = CovariateEncoder(["age"]).fit(train)
    with pytest.raises(TableError, match="fit float32"):
        encoder.transform(pd.DataFrame({"age": [1e300]}))
