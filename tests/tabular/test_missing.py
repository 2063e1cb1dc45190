"""Missing values: what counts as missing, what it becomes, and when it is refused."""

from __future__ import annotations

import datetime
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from fusionconv.errors import TableError
from fusionconv.tabular import Age, Binary, Categorical, Censored, CovariateEncoder, Numeric, Ordinal


@pytest.fixture
def train():
    return pd.DataFrame(
        {
            "age": [60.0, None, 80.0, 70.0, 65.0],
            "educ": [12.0, 16.0, 9.0, 20.0, 16.0],
            "sex": ["F", "M", None, "M", "M"],
            "site": ["A", "B", "B", "C", None],
        }
    )


@pytest.mark.parametrize(
    ("scaling", "theirs"), [("zscore", StandardScaler()), ("robust", RobustScaler()), ("minmax", MinMaxScaler())]
)
def test_mean_and_indicator_agree_with_scikit_learn(scaling, theirs):
    rng = np.random.default_rng(0)
    train, new = rng.gamma(2, 30, (80, 3)), rng.gamma(2, 30, (40, 3))
    train[rng.random(train.shape) < 0.2] = np.nan
    new[rng.random(new.shape) < 0.3] = np.nan
    pipeline = make_pipeline(theirs, SimpleImputer(add_indicator=True)).fit(train)  # scalers leave NaN out and in
    names = ["a", "b", "c"]
    kinds = dict.fromkeys(names, Numeric(scaling))
    encoder = CovariateEncoder(names, kinds, missing="mean").fit(pd.DataFrame(train, columns=names))
    out = pd.DataFrame(encoder.transform(pd.DataFrame(new, columns=names)), columns=encoder.get_feature_names_out())
    np.testing.assert_allclose(
        out[[*names, *(f"{n}_missing" for n in names)]], pipeline.transform(new), rtol=1e-4, atol=1e-6
    )


def test_a_constant_is_in_the_column_s_own_unit_as_scikit_learn_fills_it(train):
    encoder = CovariateEncoder(["age"], missing=75).fit(train)
    filled = SimpleImputer(strategy="constant", fill_value=75).fit_transform(train[["age"]].to_numpy())
    expected = StandardScaler().fit(train[["age"]].to_numpy()).transform(filled)
    np.testing.assert_allclose(encoder.transform(train)[:, :1], expected, rtol=1e-6)


def test_mean_of_labels_is_their_share_among_the_rows_that_have_one(train):
    encoder = CovariateEncoder(["sex", "site"], missing="mean").fit(train)
    names = ["sex_M", "sex_missing", "site_A", "site_B", "site_C", "site_missing"]
    assert list(encoder.get_feature_names_out()) == names
    np.testing.assert_allclose(encoder.transform(train)[2], [0.75, 1, 0, 1, 0, 0])
    np.testing.assert_allclose(encoder.transform(train)[4], [1, 0, 0.25, 0.5, 0.25, 1])
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(train[["site"]].dropna())
    np.testing.assert_allclose(encoder.transform(train)[4, 2:5], one_hot.mean(axis=0))


def test_zero_gives_covariates_that_are_zero_so_that_nothing_is_added_to_the_kernel(train):
    kinds = {"age": Numeric("minmax"), "site": "categorical"}
    out = CovariateEncoder(["age", "sex", "site"], kinds, missing="zero").fit_transform(train)
    names = ["age", "age_missing", "sex_M", "sex_missing", "site_A", "site_B", "site_C", "site_missing"]
    out = pd.DataFrame(out, columns=names)
    assert list(out.loc[1, ["age", "age_missing"]]) == [0, 1]
    assert list(out.loc[2, ["sex_M", "sex_missing"]]) == [0, 1]
    assert list(out.loc[4, "site_A":]) == [0, 0, 0, 1]


def test_constants_of_labels_and_levels(train):
    kinds = {
        "sex": Binary({"F": 0, "M": 1}, missing="F"),
        "site": Categorical(["A", "B", "C"], missing="C"),
        "stage": Ordinal(["lo", "hi"], scaling="none", missing="hi"),
    }
    frame = train.assign(stage=["lo", "hi", None, "lo", "lo"])
    encoder = CovariateEncoder(list(kinds), kinds, indicator="never").fit(frame)
    row = encoder.transform(pd.DataFrame({"sex": [None], "site": [None], "stage": [None]}))
    np.testing.assert_array_equal(row, [[0, 0, 0, 1, 1]])
    for name, kind in {
        "sex": Binary(missing="X"),
        "site": Categorical(missing="maen"),
        "age": Numeric(missing="maen"),
    }.items():
        with pytest.raises(
            TableError, match=rf"column '{name}': expected .* a value of the column, got missing='(X|maen)'"
        ):
            CovariateEncoder([name], {name: kind}).fit(frame)


def test_policies_differ_by_column(train):
    kinds = {"age": Numeric(missing="mean", indicator="never"), "educ": Numeric(missing="mean", indicator="always")}
    encoder = CovariateEncoder(["age", "educ", "sex"], kinds, missing="zero").fit(train)
    assert list(encoder.get_feature_names_out()) == ["age", "educ", "educ_missing", "sex_M", "sex_missing"]


def test_error_is_the_default_and_names_the_way_out(train):
    with pytest.raises(
        TableError,
        match=r"'age': expected finite numbers in every row .*in 1 of 5 rows, first at 1: nan.*missing='mean'",
    ):
        CovariateEncoder(["age"]).fit(train)
    with pytest.raises(TableError, match=r"'sex': expected a value in every row .* first at 2: .*missing='mean'"):
        CovariateEncoder(["sex"]).fit(train)
    encoder = CovariateEncoder(["age"]).fit(train.dropna())
    with pytest.raises(TableError, match=r"'age': expected finite numbers in every row"):
        encoder.transform(train)


def test_a_column_that_missed_nothing_in_training_refuses_a_missing_value_unless_told(train):
    new = pd.DataFrame({"educ": [None, 12.0]})
    with pytest.raises(
        TableError, match=r"'educ': .* as in the training rows .*indicator='always' for 'educ'.*'never'"
    ):
        CovariateEncoder(["educ"], missing="mean").fit(train).transform(new)
    always = CovariateEncoder(["educ"], missing="mean", indicator="always").fit(train)
    np.testing.assert_array_equal(always.transform(new)[0], [0, 1])
    never = CovariateEncoder(["educ"], missing="mean", indicator="never").fit(train)
    np.testing.assert_array_equal(never.transform(new)[0], [0])


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA, pd.NaT, float("nan")])
@pytest.mark.parametrize("dtype", [object, "str", "string", "category", "Int64", "Float64", "float32", "boolean"])
def test_every_way_to_store_nothing_is_missing(nothing, dtype):
    if dtype == "str" and pd.__version__ < "3":
        dtype = object  # before pandas 3, astype("str") made the text "None" of None
    texts = dtype in (object, "str", "string", "category")
    present = ["A", "B", "C"] if texts else [True, False, True] if dtype == "boolean" else [1, 2, 3]
    column = pd.Series([*present, nothing], dtype=object)
    if dtype in ("Int64", "Float64", "boolean"):
        column = column.where(column.notna(), pd.NA)
    elif dtype == "float32":
        column = column.where(column.notna(), np.nan)
    encoder = CovariateEncoder(["x"], missing="zero").fit(pd.DataFrame({"x": column.astype(dtype)}))
    out = encoder.transform(pd.DataFrame({"x": column.astype(dtype)}))
    np.testing.assert_array_equal(out[:, -1], [0, 0, 0, 1])
    np.testing.assert_array_equal(out[3, :-1], 0)


def test_codes_are_missing_only_when_declared():
    frame = pd.DataFrame({"age": [61.0, 70.0, -4.0, 82.0], "sex": ["F", "NA", "M", "F"]})
    with pytest.warns(UserWarning, match=r"age: -4 in 1 row is apart from the others \(61 to 82\).*sex: 'NA' in 1 row"):
        plain = CovariateEncoder(["age", "sex"]).fit(frame)
    assert list(plain.get_feature_names_out()) == ["age", "sex_F", "sex_M", "sex_NA"]
    assert "age: -4 in 1 row is apart" in plain.summary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = CovariateEncoder(["age", "sex"], missing="mean", missing_codes=[-4, "NA"]).fit(frame)
        looked = CovariateEncoder(["age"], {"age": Numeric(missing_codes=[])}).fit(frame)
        CovariateEncoder(["sex"], {"sex": Categorical(["F", "M", "NA"])}).fit(frame)
    assert list(told.get_feature_names_out()) == ["age", "age_missing", "sex_M", "sex_missing"]
    np.testing.assert_array_equal(told.transform(frame)[:, 1], [0, 0, 1, 0])
    np.testing.assert_allclose(told.transform(frame)[0, 0], (61 - 71) / np.std([61, 70, 82]), rtol=1e-6)
    np.testing.assert_allclose(
        looked.transform(frame)[:, 0], StandardScaler().fit_transform(frame[["age"]])[:, 0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("values", "codes", "missing"),
    [
        (["1", "-4", "2", "-4.0"], [-4], [False, True, False, True]),
        ([1, -4, 2, 5], ["-4"], [False, True, False, False]),
        ([1.0, 999, 2, None], [999, -4], [False, True, False, True]),
        (["A", "", "B", "NA"], ["", "NA"], [False, True, False, True]),
        (["A", " ", "B", "na"], ["NA"], [False, True, False, False]),
        (pd.Series(["A", "?", "B", "A"], dtype="category"), ["?"], [False, True, False, False]),
        (pd.Series([1, 2, 0.5, 2], dtype=object), [0.5], [False, False, True, False]),
    ],
)
def test_a_code_is_found_in_text_and_in_numbers(values, codes, missing):
    kind = Categorical(missing="zero", indicator="always", missing_codes=codes)
    frame = pd.DataFrame({"x": values})
    if "na" in list(frame["x"]):
        kind = Categorical(["A", "B", "na"], missing="zero", indicator="always", missing_codes=codes)
    out = CovariateEncoder(["x"], {"x": kind}).fit_transform(frame)
    np.testing.assert_array_equal(out[:, -1], missing)
    np.testing.assert_array_equal(out[:, :-1].sum(axis=1), ~np.array(missing))


@pytest.mark.parametrize(
    ("born", "codes"),
    [
        (pd.to_datetime(["1950-01-01", "1900-01-01", "1940-01-01"]), ["1900-01-01"]),
        (["1950-01-01", "1900-01-01", "1940-01-01"], ["1900-01-01"]),
        (["1950-01-01", "1900-01-01 00:00:00", "1940-01-01"], ["1900-01-01"]),
        ([datetime.date(1950, 1, 1), datetime.date(1900, 1, 1), datetime.date(1940, 1, 1)], ["1900-01-01"]),
        ([pd.Timestamp("1950-01-01"), pd.Timestamp("1900-01-01"), pd.Timestamp("1940-01-01")], ["1900-01-01"]),
        (["01/01/1950", "01/01/1900", "01/01/1940"], ["01/01/1900"]),
    ],
)  # fmt: skip
def test_a_date_code_is_nobody_s_birthday_however_it_is_stored(born, codes):
    frame = pd.DataFrame({"born": pd.Series(born, dtype=None if hasattr(born, "dtype") else object)})
    form = "%m/%d/%Y" if "/" in str(born[0]) else None
    encoder = CovariateEncoder(
        ["born"], kinds={"born": Age("2020-01-01", scaling="none", format=form)}, missing="zero", missing_codes=codes
    )
    found = encoder.fit_transform(frame)
    assert found.shape == (3, 2)  # the age and its indicator
    assert found[1].tolist() == [0.0, 1.0]
    assert found[0].tolist() == pytest.approx([25567 / 365.25, 0.0])


@pytest.mark.parametrize(
    ("born", "code", "form"),
    [
        (["01/01/1950", "01/01/1900"], "1900-01-01", "%m/%d/%Y"),
        (pd.to_datetime(["1950-01-01", "1900-01-01"]), "01/01/1900", None),
    ],
)
def test_a_date_code_in_another_spelling_than_the_column_is_refused(born, code, form):
    encoder = CovariateEncoder(
        ["born"], kinds={"born": Age("2020-01-01", format=form)}, missing="zero", missing_codes=[code]
    )
    with pytest.raises(TableError, match="that date in another spelling in 1 of 2 rows"):
        encoder.fit(pd.DataFrame({"born": born}))


@pytest.mark.parametrize("dtype", ["float64", "float32", "Float32", "float32[pyarrow]"])
def test_a_code_with_a_fraction_is_found_in_every_precision(dtype):
    frame = pd.DataFrame({"x": pd.Series([1.5, 2.5, 3.5, -9.9]).astype(dtype)})
    encoder = CovariateEncoder(["x"], kinds={"x": Numeric(scaling="none")}, missing="zero", missing_codes=[-9.9])
    assert encoder.fit_transform(frame).tolist() == [[1.5, 0.0], [2.5, 0.0], [3.5, 0.0], [0.0, 1.0]]


def test_a_code_as_text_is_a_number_however_spelled_and_a_name_is_none():
    frame = pd.DataFrame({"x": ["-4.00", " -4", "-4", "+7.5"], "site": ["09", "9", "9.0", "10"]})
    kinds = {"x": Censored(scaling="none"), "site": Categorical()}
    encoder = CovariateEncoder(["x", "site"], kinds=kinds, missing="zero", missing_codes=[-4, 9])
    found = pd.DataFrame(encoder.fit_transform(frame), columns=encoder.get_feature_names_out())
    assert found["x_missing"].tolist() == [1.0, 1.0, 1.0, 0.0]
    assert found["site_missing"].tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([61, 70, 82, -4], [-4]),
        ([61, 70, 82, 999, 999], [999]),
        ([0, 1, 1, 9], [9]),
        ([29, -9, 47, -86, 100, 75], []),  # handedness: -9 is a value
        ([20, 45, 98, 99], []),
        ([7, 8, 9, 10], []),
        ([-4, -1, 3, 20, 999], [-4, -1, 999]),
        ([-1, 1, 1], []),
        ([999, 999], []),
    ],
)
def test_codes_are_suspected_where_they_lie_apart(values, found):
    from fusionconv.tabular.suspicious import suspicious_numbers

    assert [s.value for s in suspicious_numbers(np.array(values, dtype=float))] == found


def test_a_vector_for_a_patient_of_whom_nothing_is_known(train):
    encoder = CovariateEncoder(list(train), missing="mean", indicator="always").fit(train)
    nothing = pd.DataFrame({name: [None] for name in train})
    np.testing.assert_array_equal(encoder.missing_vector(), encoder.transform(nothing)[0])
    assert encoder.missing_vector().dtype == np.float32
    by_name = dict(zip(encoder.get_feature_names_out(), encoder.missing_vector().tolist(), strict=True))
    assert by_name["age"] == 0.0
    assert by_name["sex_M"] == 0.75
    assert all(by_name[f"{name}_missing"] == 1 for name in train)
    zero = CovariateEncoder(["age", "sex"], missing="zero", indicator="never").fit(train)
    np.testing.assert_array_equal(zero.missing_vector(), 0)
    with pytest.raises(TableError, match=r"'educ': expected an encoder that takes missing values.*indicator='always'"):
        CovariateEncoder(["age", "educ"], missing="mean").fit(train).missing_vector()
    with pytest.raises(TableError, match=r"'educ': expected an encoder that takes missing values.*missing='mean'"):
        CovariateEncoder(["educ"]).fit(train).missing_vector()


def test_groups_cover_the_covariates_in_order(train):
    encoder = CovariateEncoder(list(train), missing="mean").fit(train)
    names = encoder.get_feature_names_out()
    assert list(encoder.groups) == list(train)
    assert [n for place in encoder.groups.values() for n in names[place]] == list(names)
    assert all(n.startswith(column) for column, place in encoder.groups.items() for n in names[place])


def test_missing_values_come_back_missing(train):
    encoder = CovariateEncoder(list(train), missing="mean").fit(train)
    back = encoder.inverse_transform(encoder.transform(train))
    pd.testing.assert_frame_equal(back.isna(), train.isna())
    without = CovariateEncoder(["sex", "site"], missing="mean", indicator="never").fit(train)
    back = without.inverse_transform(without.transform(train))
    pd.testing.assert_frame_equal(back.isna(), train[["sex", "site"]].isna())


def test_policies_and_codes_come_back_from_json(train):
    kinds = {
        "age": Numeric("robust", missing=70, missing_codes=[-4, "NA"]),
        "sex": Binary({"F": 0, "M": 1}, indicator="always"),
    }
    encoder = CovariateEncoder(["age", "sex", "site"], kinds, missing="mean", missing_codes=["?", 9]).fit(train)
    back = CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict(), allow_nan=False)))
    assert back == encoder
    assert back.summary() == encoder.summary()
    assert back.kinds == kinds
    assert back.fit(train) == encoder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"missing": None}, "missing='error', 'mean', 'zero' or a constant"),
        ({"missing": np.nan}, "missing='error', 'mean', 'zero' or a constant"),
        ({"indicator": "sometimes"}, "indicator='auto'"),
        ({"indicator": "always"}, "refuses every missing value"),
        ({"missing_codes": "NA"}, r"write \['NA'\]"),
        ({"missing_codes": -4}, "expected a list for missing_codes"),
        ({"missing_codes": [None]}, "text or a finite number"),
    ],
)
def test_wrong_options_are_refused(options, says):
    with pytest.raises(TableError, match=says):
        CovariateEncoder(["age"], **options)
    if "always" not in options.values():
        with pytest.raises(TableError, match=says):
            Numeric(**{"missing": "mean", **options} if options.get("missing", 1) is not None else {"missing": [1]})
