"""Each kind of column against scikit-learn's transformers or a result worked out by hand, and what it refuses."""

from __future__ import annotations

import datetime
import decimal
import json

import numpy as np
import pandas as pd
import pyarrow
import pytest
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from fusionconv.errors import TableError
from fusionconv.tabular import Age, Binary, Categorical, Censored, CovariateEncoder, Numeric, Ordinal


def one(values, kind=None, **options):
    """An encoder of one column "x" fitted on ``values``."""
    kinds = {} if kind is None else {"x": kind}
    return CovariateEncoder(["x"], kinds, **options).fit(pd.DataFrame({"x": values}))


def encoded(encoder, values):
    return encoder.transform(pd.DataFrame({"x": values}))


# numeric


@pytest.mark.parametrize(
    ("scaling", "theirs"), [("zscore", StandardScaler()), ("robust", RobustScaler()), ("minmax", MinMaxScaler())]
)
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_scalings_agree_with_scikit_learn(scaling, theirs, offset):
    rng = np.random.default_rng(1)
    train, new = rng.gamma(2, 30, 101) + offset, rng.gamma(2, 60, 40) + offset
    ours = encoded(one(train, Numeric(scaling)), new)
    np.testing.assert_allclose(ours, theirs.fit(train[:, None]).transform(new[:, None]), rtol=1e-5, atol=1e-6)


def test_scaling_none_leaves_numbers_and_takes_a_constant_column():
    encoder = one([3.0, 3.0], Numeric("none"))
    np.testing.assert_array_equal(encoded(encoder, [1.5, -2]), [[1.5], [-2]])


@pytest.mark.parametrize("scaling", ["zscore", "robust", "minmax"])
def test_a_constant_column_cannot_be_scaled(scaling):
    with pytest.raises(TableError, match=r"numeric column 'x' to vary .* leave it out"):
        one([3.0, 3.0, np.nan], Numeric(scaling, missing="mean"))


def test_robust_needs_an_interquartile_range():
    with pytest.raises(TableError, match="use another scaling than 'robust'"):
        one([0, 0, 0, 0, 0, 0, 0, 5], Numeric("robust"))


def test_an_unknown_scaling_is_named():
    with pytest.raises(TableError, match=r"unknown scaling 'zscor'; did you mean 'zscore'"):
        Numeric("zscor")


@pytest.mark.parametrize("dtype", ["int64", "object", "Int64", "uint64"])
def test_whole_numbers_beyond_float64_are_refused(dtype):
    with pytest.raises(TableError, match=r"whole numbers below 2\*\*53"):
        one(pd.Series([1, 2**53 + 1, 5], dtype=dtype))
    with pytest.raises(TableError, match=r"whole numbers below 2\*\*53|finite"):
        one(pd.Series([1, 10**400, 5], dtype=object))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["61", "62", "70"], r"numbers stored as text: declare kinds=\{'x': 'numeric'\}"),
        (["61,5", "62,1", "70"], "decimal comma: read the table again with decimal=','"),
        (["1.743.000", "1.5", "2"], r"spreadsheet rewrote \(1.743 to 1.743.000\)"),
        (["61", "NA", "70"], r"beside 'NA' \(missing_codes=\['NA'\] if they mean a missing value\)"),
        (["2011-03-05", "2012-01-01", "2013-01-01"], r"Age\(at="),
        (["F", "F", "F"], "'F' in every training row"),
        ([f"name {i}" for i in range(12)], "names or free text"),
        ([f"name {i}" for i in range(60)] * 2, "names or free text"),
        (["A", "B", "C", 3], "text, as in most rows, got others in 1 of 4 rows, first at 3: 3"),
        ([1, 2, 3, "A"], "finite numbers, got others in 1 of 4 rows, first at 3: 'A'"),
        ([datetime.date(2011, 3, 5)] * 2, "dates or times"),
        (pd.to_datetime(["2011-03-05", "2012-03-05"]).tz_localize("Europe/Berlin"), "dates or times"),
        (pd.to_timedelta([1, 2], "D"), "numbers"),
        ([[1], [2]], "finite numbers"),
        (["A", "A ", "B"], r"expected different values, got 'A', 'A '.*str\.strip"),
        (["f", "F", "M"], "expected different values, got 'f', 'F'"),
        ([None, None], "a value in some training rows, got none in 2"),
        ([1.0, np.inf, 2.0], "finite numbers"),
        ([1.0, -np.inf, 2.0], "finite numbers"),
    ],
)
def test_what_cannot_be_inferred_is_asked_and_not_guessed(texts, says):
    with pytest.raises(TableError, match=rf"column 'x': .*{says}"):
        one(texts, missing="mean")


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        ([0, 1, 1], "binary", ["x"]),
        ([False, True, True], "binary", ["x"]),
        (pd.Series([0, 1, 1], dtype="category"), "binary", ["x"]),
        ([1, 2, 1], "numeric", ["x"]),
        (["M", "F", "M"], "binary", ["x_M"]),
        (pd.Series(["M", "F", "M"], dtype="category"), "binary", ["x_M"]),
        (pd.Series(["M", "F", "M"], dtype="string"), "binary", ["x_M"]),
        (["C", "A", "B", "A"], "categorical", ["x_A", "x_B", "x_C"]),
        (pd.Series([30, 10, 20], dtype="category"), "categorical", ["x_10", "x_20", "x_30"]),
        ([">1700", "200.5", "<8", "300"], "censored", ["x", "x_below", "x_above"]),
        (pd.Categorical(["lo", "hi", "hi"], ["lo", "mid", "hi"], ordered=True), "ordinal", ["x"]),
    ],
)
def test_kinds_are_inferred(values, kind, names):
    encoder = one(values)
    assert list(encoder.get_feature_names_out()) == names
    assert f"x: {kind}" in repr(encoder)
    assert "inferred" in encoder.summary()


def test_categories_of_other_folds_are_not_taken_from_the_dtype():
    whole = pd.DataFrame({"x": pd.Categorical(["A", "B", "C", "D"])})
    encoder = CovariateEncoder(["x"], {"x": "categorical"}).fit(whole.iloc[:2])
    assert list(encoder.get_feature_names_out()) == ["x_A", "x_B"]
    assert list(CovariateEncoder(["x"]).fit(whole.iloc[:2]).get_feature_names_out()) == ["x_B"]  # inferred: two values


# binary


def test_binary_codes_say_which_value_is_one():
    encoder = one(["F", "M", "F"], Binary({"M": 0, "F": 1}))
    np.testing.assert_array_equal(encoded(encoder, ["F", "M"]), [[1], [0]])
    assert list(encoder.get_feature_names_out()) == ["x_F"]
    assert "x: binary (M = 0, F = 1)" in repr(encoder)
    assert "binary (F = 0, M = 1)" in one(["M", "F"]).summary()
    back = encoder.inverse_transform([[1.0], [0.0], [0.5]])["x"]
    assert list(back[:2]) == ["F", "M"]
    assert pd.isna(back[2])


def test_binary_takes_other_numbers_and_several_spellings():
    np.testing.assert_array_equal(encoded(one([1, 2, 2], Binary({1: 0, 2: 1})), [2.0, 1.0]), [[1], [0]])
    encoder = one(["F", "male"], Binary({"F": 0, "female": 0, "M": 1, "male": 1}))
    np.testing.assert_array_equal(encoded(encoder, ["female", "M", "F"]), [[0], [1], [0]])
    assert one(["F", "F"], Binary({"F": 0, "M": 1})).num_covariates == 1  # one value only, but declared


def test_a_value_that_is_no_code_is_refused():
    encoder = one(["F", "M"])
    with pytest.raises(TableError, match=r"expected one of 'F' \(0\), 'M' \(1\), got others in 2 of 3 rows.*'f'"):
        encoded(encoder, ["f", "M", "F F"])
    with pytest.raises(TableError, match="two values, got 'a', 'b', 'c'"):
        one(["a", "b", "c"], "binary")
    with pytest.raises(TableError, match=r"expected 0 or 1 .*Binary\({1: 0, 2: 1}\)"):
        one([1, 2, 2], "binary")


@pytest.mark.parametrize("codes", [{}, {"F": 0}, {"F": 0, "M": 2}, {"F": 0, "M": 0}, "FM", [("F", 0), ("F", 1)], 3])
def test_bad_codes_are_refused(codes):
    with pytest.raises(TableError, match="expected codes such as"):
        Binary(codes)


# categorical


def test_one_hot_agrees_with_scikit_learn():
    rng = np.random.default_rng(2)
    train, new = rng.choice(["B", "A", "C d"], 60), rng.choice(["A", "C d", "B", "E"], 30)
    theirs = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train[:, None])
    encoder = one(train, Categorical(unknown="ignore"))
    np.testing.assert_array_equal(encoded(encoder, new), theirs.transform(new[:, None]))
    assert list(encoder.get_feature_names_out()) == list(theirs.get_feature_names_out(["x"]))
    assert (encoded(encoder, ["E"]) == 0).all()


def test_an_unknown_category_is_an_error_with_the_nearest_named():
    encoder = one(["Siemens", "Philips", "GE"] * 2)
    message = r"one of 'GE', 'Philips', 'Siemens', .* first at 0: 'Simens'.*did you mean 'Siemens'.*unknown='ignore'"
    with pytest.raises(TableError, match=message):
        encoded(encoder, ["Simens"])


@pytest.mark.parametrize("pair", [["Z\u00fcrich", "Zu\u0308rich"], ["P1", "\uff30\uff11"], ["A", "A "]])
def test_categories_of_one_visible_name_are_refused(pair):
    for values in (pair * 3, [*pair, "Bern"] * 3):
        with pytest.raises(TableError, match=r"expected different values, got .*str.normalize\('NFC'\) for accents"):
            one(values)


def test_given_categories_keep_their_order_and_need_not_occur():
    encoder = one(["B", "A"], Categorical(["C", "B", "A"]))
    assert list(encoder.get_feature_names_out()) == ["x_C", "x_B", "x_A"]
    np.testing.assert_array_equal(encoded(encoder, ["C", "A"]), [[1, 0, 0], [0, 0, 1]])


def test_categories_of_numbers_are_alike_in_every_storage():
    encoder = one([30, 10, 20, 10], "categorical")
    assert list(encoder.get_feature_names_out()) == ["x_10", "x_20", "x_30"]
    expected = encoded(encoder, [20, 30])
    for other in (pd.Series([20.0, 30.0]), pd.Series([20, 30], dtype="Int64"), pd.Series([20, 30.0], dtype=object)):
        np.testing.assert_array_equal(encoded(encoder, other), expected)
        refitted = one(pd.concat([other, pd.Series([10], dtype=other.dtype)], ignore_index=True), "categorical")
        assert list(refitted.get_feature_names_out()) == ["x_10", "x_20", "x_30"]
    np.testing.assert_array_equal(encoded(encoder, ["20", "30.0"]), expected)
    with pytest.raises(TableError, match="one of 10, 20, 30"):
        encoded(encoder, ["020"])


def test_long_identifiers_stay_exact_as_categories():
    ids = [2**53, 2**53 + 1, 2**53 + 2]
    encoder = one(ids, "categorical")
    np.testing.assert_array_equal(encoded(encoder, ids), np.eye(3))
    saved = CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(encoded(saved, ids), np.eye(3))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["A", "A"], "several categories, got 'A' in every training row"),
        (["A", 1, "B"], "text or numbers, not both in one column, got others in 1 of 3 rows, first at 1: 1"),
        (["A", datetime.date(2020, 1, 1)], "text or finite numbers, .* first at 1"),
        ([["A"], ["B"]], "text or finite numbers"),
    ],
)
def test_bad_categories_are_refused(values, says):
    with pytest.raises(TableError, match=says):
        one(values, "categorical")


@pytest.mark.parametrize("categories", ["AB", ["A"], ["A", "A"], [1, 1.0], ["A", None], 3])
def test_categories_must_be_a_list_of_different_labels(categories):
    with pytest.raises(TableError):
        Categorical(categories)
    with pytest.raises(TableError, match="unknown='error' or 'ignore'"):
        Categorical(unknown="drop")


def test_two_covariates_of_one_name_are_refused():
    frame = pd.DataFrame({"a": ["b_c", "d", "e"], "a_b": ["c", "d", "e"]})
    with pytest.raises(TableError, match=r"different names of covariates, got several of \['a_b_c'\]"):
        CovariateEncoder(["a", "a_b"]).fit(frame)


# ordinal


def test_ordinal_is_rank_then_z_score():
    levels = ["CN", "MCI", "AD"]
    train, new = ["CN", "MCI", "MCI", "AD", "CN", "AD", "AD"], ["AD", "CN"]
    ranks = OrdinalEncoder(categories=[levels])
    scaler = StandardScaler().fit(ranks.fit_transform(np.array(train, dtype=object)[:, None]))
    theirs = scaler.transform(ranks.transform(np.array(new, dtype=object)[:, None]))
    encoder = one(train, Ordinal(levels))
    np.testing.assert_allclose(encoded(encoder, new), theirs, rtol=1e-6)
    np.testing.assert_array_equal(encoded(one(train, Ordinal(levels, scaling="none")), new), [[2], [0]])
    assert "CN < MCI < AD" in repr(encoder)
    assert list(encoder.inverse_transform(encoded(encoder, levels))["x"]) == levels


def test_ordinal_needs_its_order_and_refuses_other_levels():
    with pytest.raises(TableError, match=r"the order of the levels, got none; declare .*Ordinal\("):
        one(["lo", "hi"], "ordinal")
    encoder = one(["lo", "hi"], Ordinal(["lo", "hi"]))
    with pytest.raises(TableError, match=r"one of 'lo', 'hi', .*'low'.*did you mean 'lo'"):
        encoded(encoder, ["low"])
    by_dtype = pd.Categorical(["hi", "lo"], ["lo", "hi"], ordered=True)
    np.testing.assert_array_equal(encoded(one(by_dtype, "ordinal"), ["hi"]), encoded(encoder, ["hi"]))


# age


def ages(birth, exam, **options):
    frame = pd.DataFrame({"birth": birth, "exam": exam})
    return CovariateEncoder(["birth"], {"birth": Age("exam", scaling="none", **options)}).fit(frame), frame


def test_age_is_days_over_365_25_in_every_storage():
    expected = [(datetime.date(2011, 3, 5) - datetime.date(1940, 2, 29)).days / 365.25, 1461 / 365.25]
    texts = (["1940-02-29", "2000-01-01"], ["2011-03-05", "2004-01-01"])
    stored = [
        texts,
        tuple(pd.to_datetime(t) for t in texts),
        tuple(pd.to_datetime(t).tz_localize("UTC") for t in texts),
        tuple([datetime.date.fromisoformat(v) for v in t] for t in texts),
        (pd.to_datetime(texts[0]), texts[1]),
        (pd.Series(texts[0], dtype="string"), pd.to_datetime(texts[1]).astype("datetime64[s]")),
    ]
    for birth, exam in stored:
        encoder, frame = ages(birth, exam)
        np.testing.assert_allclose(encoder.transform(frame)[:, 0], expected, rtol=1e-6)
        assert list(encoder.get_feature_names_out()) == ["birth_age"]
    american = [["02/29/1940", "01/01/2000"], ["03/05/2011", "01/01/2004"]]
    encoder, frame = ages(*american, format="%m/%d/%Y")
    np.testing.assert_allclose(encoder.transform(frame)[:, 0], expected, rtol=1e-6)


def test_age_at_one_date_and_time_zones():
    frame = pd.DataFrame({"birth": ["1950-06-01", "1960-06-01"]})
    encoder = CovariateEncoder(["birth"], {"birth": Age("2010-06-01", scaling="none")}).fit(frame)
    np.testing.assert_allclose(encoder.transform(frame)[:, 0], [60, 50], atol=0.01)
    by_date = CovariateEncoder(["birth"], {"birth": Age(datetime.date(2010, 6, 1), scaling="none")}).fit(frame)
    np.testing.assert_array_equal(by_date.transform(frame), encoder.transform(frame))
    berlin = pd.to_datetime(["2000-01-01", "2001-01-01"]).tz_localize("Europe/Berlin")
    york = pd.to_datetime(["2000-01-01", "2002-01-01"]).tz_localize("America/New_York")
    encoder, frame = ages(berlin, york)
    np.testing.assert_allclose(encoder.transform(frame)[0, 0], 0.25 / 365.25, rtol=1e-5)  # six hours
    with pytest.raises(TableError, match=r"both dates with a time zone .*'birth' with and 'exam' without"):
        ages(berlin, ["2005-01-01", "2006-01-01"])


@pytest.mark.parametrize(
    ("birth", "says"),
    [
        (["03/04/1950", "1951-01-01"], "expected dates such as 2011-03-05 .*'03/04/1950'"),
        (["1950", "1951-01-01"], "expected dates such as"),
        (["1950-13-01", "1951-01-01"], "expected dates such as"),
        ([1950, 1951], "expected dates such as"),
        (["2030-01-01", "1951-01-01"], "dates that are not after 'exam', got later ones in 1 of 2 rows"),
        (["1950-01-01T00:00+01:00", "1951-01-01T00:00+02:00"], "time zone"),
    ],
)
def test_dates_that_could_mean_two_things_are_refused(birth, says):
    with pytest.raises(TableError, match=says):
        ages(birth, ["2011-03-05", "2012-03-05"])


def test_a_missing_date_is_a_missing_age():
    frame = pd.DataFrame(
        {"birth": ["1950-01-01", None, "1960-01-01", "9999-01-01"], "exam": pd.to_datetime(["2010-01-01"] * 4)}
    )
    frame.loc[2, "exam"] = pd.NaT
    kind = Age("exam", "none", missing=65, missing_codes=["9999-01-01"])
    out = CovariateEncoder(["birth"], {"birth": kind}).fit(frame).transform(frame)
    np.testing.assert_allclose(out, [[60, 0], [65, 1], [65, 1], [65, 1]], rtol=1e-3)
    coded = frame.assign(exam=pd.to_datetime(["2010-01-01", "1900-01-01", "2010-01-01", "2010-01-01"]))
    kind = Age("exam", "none", missing="zero", missing_codes=["9999-01-01", "1900-01-01"])
    out = CovariateEncoder(["birth"], {"birth": kind}).fit(coded).transform(coded)
    np.testing.assert_array_equal(out[:, 1], [0, 1, 0, 1])


def test_age_needs_its_column():
    with pytest.raises(TableError, match="unknown column 'exma'; did you mean 'exam'"):
        CovariateEncoder(["birth"], {"birth": Age("exma")}).fit(
            pd.DataFrame({"birth": ["1950-01-01"], "exam": ["2000-01-01"]})
        )
    with pytest.raises(TableError, match=r"Age\(at=...\) with the column"):
        CovariateEncoder(["birth"], {"birth": "age"})


# censored


def test_censored_text_is_clipped_and_flagged():
    train = [">1700", "<8", "200.5", "700", None]
    encoder = one(train, Censored("none", missing="zero"))
    out = encoded(encoder, ["> 1700", ">=1700", "≤8", "<8", "203.1", 203.1, 8, None])
    rows = [[1700, 0, 1], [1700, 0, 1], [8, 1, 0], [8, 1, 0], [203.1, 0, 0], [203.1, 0, 0], [8, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(out[:, :3], rows, rtol=1e-6)
    np.testing.assert_array_equal(out[:, 3], [0] * 7 + [1])
    assert list(encoder.get_feature_names_out()) == ["x", "x_below", "x_above", "x_missing"]
    assert list(encoder.inverse_transform(out)["x"])[:3] == [">1700", ">1700", "<8"]


def test_censored_is_scaled_over_the_clipped_values():
    numbers = np.array([1700.0, 8.0, 200.5, 700.0])
    out = encoded(one([">1700", "<8", "200.5", "700"]), ["200.5"])
    np.testing.assert_allclose(out, [[(200.5 - numbers.mean()) / numbers.std(), 0, 0]], rtol=1e-6)


def test_censored_limits_clip_numbers_too():
    encoder = one([">1700", "1900", "2", "700"], Censored("none", lower=8, upper=1700))
    np.testing.assert_array_equal(encoded(encoder, ["1900", "2", "700"]), [[1700, 0, 1], [8, 1, 0], [700, 0, 0]])


def test_censored_sides_without_a_flag_are_refused_unless_asked_to_forget():
    encoder = one([">1700", "100", "200"], Censored(flags="above"))
    assert list(encoder.get_feature_names_out()) == ["x", "x_above"]
    with pytest.raises(TableError, match=r"no values cut off below \(flags='above'\), .*first at 0: '<8'"):
        encoded(encoder, ["<8"])
    forgetful = one([">1700", "100", "200"], Censored("none", flags="none"))
    np.testing.assert_array_equal(encoded(forgetful, ["<8", ">1700"]), [[8], [1700]])


@pytest.mark.parametrize("bad", ["1,5", "1.743.000", "AD", ">", "<8>", "inf", "nan", "45-50", "172 cm"])
def test_what_is_no_censored_number_is_refused(bad):
    with pytest.raises(TableError, match=r"numbers, or bounds as .*, got others in 1 of 3 rows"):
        one([">1700", "100", bad], "censored")


@pytest.mark.parametrize(
    "bad", [lambda: Censored(flags="all"), lambda: Censored(lower=3, upper=1), lambda: Censored(lower="3")]
)
def test_bad_limits_and_flags_are_refused(bad):
    with pytest.raises(TableError):
        bad()


# all kinds


def test_a_row_index_with_repeats_and_foreign_column_names_do_no_harm():
    frame = pd.DataFrame({"x": ["A", "B", "C"], 3: [1, 2, 3]}, index=[7, 7, 7])
    np.testing.assert_array_equal(CovariateEncoder(["x"]).fit_transform(frame), np.eye(3))
    with pytest.raises(TableError, match=r"first at 7: 'D'"):
        CovariateEncoder(["x"]).fit(frame).transform(frame.assign(x=["A", "D", "B"]))


def test_inverse_transform_gives_the_columns_back():
    frame = pd.DataFrame(
        {
            "age": [61.5, 70.25, 82.0, 75.0],
            "sex": ["F", "M", "M", "F"],
            "smoker": [0, 1, 1, 0],
            "site": ["A", "B", "C", "A"],
            "cdr": [0.5, 0, 1, 2],
        }
    )
    encoder = CovariateEncoder(list(frame), {"cdr": Ordinal([0, 0.5, 1, 2]), "age": "numeric"}, missing="mean")
    back = encoder.inverse_transform(encoder.fit_transform(frame))
    np.testing.assert_allclose(back["age"], frame["age"], rtol=1e-6)
    for name in ("sex", "smoker", "site", "cdr"):
        assert list(back[name]) == list(frame[name]), name
    assert list(back) == list(frame)
    with pytest.raises(TableError, match=r"shape \(N, 7\)"):
        encoder.inverse_transform(np.zeros((2, 3)))


ODD = {
    "complex": [1 + 2j, 2, 3],
    "bytes": [b"a", b"b", b"a"],
    "decimal": [decimal.Decimal("1.5"), decimal.Decimal(2), decimal.Decimal(3)],
    "period": pd.period_range("2000", periods=3, freq="Y"),
    "interval": pd.interval_range(0, 3),
    "list": [[1], [2], [3]],
    "dict": [{}, {}, {}],
    "set": [frozenset(), 1, 2],
    "object": [object(), object(), 1],
    "huge": pd.Series([10**400, 1, 2], dtype=object),
    "time": [datetime.time(1), datetime.time(2), datetime.time(3)],
    "arrow date": pd.array([datetime.date(2000, 1, 1)] * 3, dtype=pd.ArrowDtype(pyarrow.date32())),
    "arrow decimal": pd.array([decimal.Decimal("1.5")] * 3, dtype=pd.ArrowDtype(pyarrow.decimal128(5, 2))),
}


@pytest.mark.parametrize(
    "kind", [None, "numeric", "binary", "censored", Ordinal([1, 2, 3]), Binary({1: 0, 2: 1})], ids=str
)
@pytest.mark.parametrize("codes", [(), (-4, "NA", "2000-02-02")], ids=len)
@pytest.mark.parametrize("odd", ODD)
def test_what_is_neither_number_nor_text_nor_date_is_refused_in_plain_words(odd, kind, codes):
    with pytest.raises(TableError, match="column 'x': expected"):
        one(ODD[odd], kind, missing="mean", missing_codes=codes)


@pytest.mark.parametrize("kind", [None, "numeric", "binary", "categorical", "censored", Ordinal([1, 2, 3])], ids=str)
@pytest.mark.parametrize("odd", ["decimal", "arrow decimal"])
def test_decimals_are_refused_with_what_makes_numbers_of_them(odd, kind):
    with pytest.raises(TableError, match=r"make numbers of the decimals: frame\['x'\]\.astype\(float\)"):
        one(ODD[odd], kind)
    assert one(pd.Series(ODD["decimal"]).astype(float), "numeric").num_covariates == 1


@pytest.mark.parametrize(
    "column",
    [
        pd.array([60, 70, 80], dtype="int64[pyarrow]"),
        pd.array([60.0, 70, 80], dtype="double[pyarrow]"),
        pd.arrays.SparseArray([60, 70, 80]),
        np.array([60, 70, 80], dtype=np.float16),
        pd.Series([60, 70.0, np.int8(80)], dtype=object),
        pd.array([60, 70, 80], dtype="UInt8"),
    ],
)
def test_numbers_are_alike_in_every_storage(column):
    np.testing.assert_allclose(encoded(one(column), column)[:, 0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6)
