"""Values that may mean "missing": found by their shape and place, on either side, beside each other, in text; and not found."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import Age, CovariateEncoder, CovariateTable, Numeric, inspect_table
from fusionconv.tabular.missingwords import suspicious_texts
from fusionconv.tabular.suspicious import suspicious_numbers

few = settings(max_examples=60, deadline=None, derandomize=True)
SCORES = [20, 30, 10, 2, 60, 15, 40, 25, 5, 12]
PRESSURES = [72, 66, 64, 40, 80, 74, 90, 110]


def found(values, name="x"):
    return [s.value for s in suspicious_numbers(np.array(values, dtype=float), name)]


@pytest.mark.parametrize(
    "codes",
    [
        [-9998, -9998],
        [-9998, -9999],  # one hides the other no more
        [-9999, 999],  # nor on the other side
        [-9998, -9999, 999, 998, 997],
        [777, 888, 999],
        [997, 998],
        [9999],
        [888],
        [-4, -1],
        [-99.9],
        [999.9],
        [-5000, -5000],  # in no list; it occurs twice and is far away
        [555, 555, 555],
        [-5000, -5000, 999],
        [32767],
        [-32768],
        [2147483647],
        [1e20],
        [-3.4e38],
        [9998],
        [998],
    ],
)
def test_codes_are_found_by_their_shape_and_place(codes):
    assert set(found([*SCORES, *codes])) == set(codes)


@few
@given(
    st.lists(st.integers(0, 60), min_size=8, max_size=40, unique=True),
    st.lists(st.sampled_from([-9999, -9998, -999, -99, 888, 999, 9998, 9999]), min_size=1, max_size=4, unique=True),
)
def test_any_codes_among_any_scores_are_all_found(scores, codes):
    assert set(found(scores + codes)) == set(codes)


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([0, 1, 1, 0, 9], [9]),
        ([*range(0, 60, 3), 98], []),  # once, beside nothing, and a score may be 98
        ([*range(0, 60, 3), 97], []),
        ([1, 2, 1, 2, 1, 9], [9]),
        ([1, 2, 3, 1, 2, 3, 8, 9], [8, 9]),
        ([20, 25, 31, 40, 44, 52, 60, 99, 99, 99], [99]),
        (list(range(55, 90)) * 2 + [99] * 12, [99]),
        ([1.2, 3.3, 2.2, 0.7, 99.9], [99.9]),
        ([160, 171, 182, 168, 175, 0], []),  # a zero once, under a name that says nothing
        ([160, 171, 182, 168, 175, 0, 0], [0]),
    ],
)
def test_codes_of_answers_and_of_ages(values, codes):
    assert found(values) == codes


@pytest.mark.parametrize(
    "name",
    ["BloodPressure", "diastolic_bp", "weight", "Height (cm)", "BMI", "heart_rate", "sbp", "Glucose", "birthWeight"],
)
def test_zero_and_negative_values_are_impossible_under_some_names(name):
    assert found([*PRESSURES, 0], name) == [0]
    assert found([*PRESSURES, -62], name) == [-62]
    assert "impossible under this name" in str(suspicious_numbers(np.array([*PRESSURES, 0.0]), name)[0])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([0, 3, 5, 12], "weight_change"),
        ([0.0, 0.25, 1.0, 0.5], "weight"),  # scaled to 0 ... 1
        ([-1.2, 0.0, 0.7, 1.4, -0.3], "weight"),  # z-scores
        ([0, 1, 2, 5], "age"),  # children
        ([0, 1, 0, 2, 0, 7], "lesions"),
        ([0, 55, 60, 71], "memory"),
    ],
)
def test_zero_is_a_value_under_other_names(values, name):
    assert found(values, name) == []


NATURAL = {
    "normal": lambda rng: rng.normal(0, 1, 100),
    "rounded z-scores": lambda rng: np.round(rng.normal(0, 1, 100), 1),
    "whole z-scores": lambda rng: np.round(rng.normal(0, 2, 100)),
    "change": lambda rng: rng.integers(-6, 9, 100),
    "lab": lambda rng: rng.lognormal(1, 1.5, 200),
    "whole lab": lambda rng: np.round(rng.lognormal(2, 1.3, 200)),
    "count": lambda rng: rng.poisson(1, 100),
    "count with a tail": lambda rng: rng.negative_binomial(1, 0.2, 100),
    "many zeros": lambda rng: rng.poisson(3, 100) * (rng.random(100) < 0.3),
    "ages": lambda rng: rng.integers(18, 100, 80),
    "per cent": lambda rng: rng.integers(0, 101, 80),
    "few rows": lambda rng: rng.integers(0, 12, 9),
    "temperature": lambda rng: rng.integers(-12, 30, 60),
    "Likert": lambda rng: rng.integers(-3, 4, 40),
    "one of three": lambda rng: rng.integers(-1, 2, 20),
}


@pytest.mark.parametrize("kind", NATURAL)
def test_ordinary_columns_are_not_suspected(kind):
    suspected = [seed for seed in range(100) if found(NATURAL[kind](np.random.default_rng(seed)))]
    assert len(suspected) <= 1


@pytest.mark.parametrize(
    "values",
    [
        [29, -9, 47, -86, 100, 75],  # handedness
        [20, 45, 98, 99],
        [7, 8, 9, 10],
        [-1, 1, 1],
        [-1, 0, 1, 0],
        [-2, -1, 0, 1, 2],
        [999, 999],
        [0] * 20 + [1, 2, 3, 5, 8],
        [12, 15, 20, 5000],  # once, and no code's shape
        [5],
        [],
    ],
)
def test_what_is_a_value(values):
    assert found(values) == []


@pytest.mark.parametrize(
    "text",
    ["-9999", "-9", "999", "not reported", "Not Reported", "refused", "Refused to answer", "[Not Available]", "[Unknown]",
     "unknown", "UNK", "n/a", "N.A.", "#N/A", "not_applicable", "Not Evaluated", "prefer not to say", "don't know", "declined",
     "missing", "(missing)", "<NA>", "?", "--", "***", "unknown/not reported", "not recorded", "no data", "#REF!", "none",
     "Unbekannt", "keine Angabe", "Patient declined", "status unknown", "9: unknown", "test not done", "DK"],
)  # fmt: skip
def test_words_and_numbers_that_mean_missing_among_categories(text):
    frame = pd.DataFrame({"dx": ["ADHD", "ODD", "ADHD", "ODD", text]})
    with pytest.warns(UserWarning, match="columns hold what may be codes for missing values"):
        encoder = CovariateEncoder(["dx"]).fit(frame)
    assert repr(text) in encoder.summary()
    (column,) = inspect_table(frame).columns
    assert [c["value"] for c in column.codes] == [text]
    assert column.covariates == ["dx_ODD", "dx_missing"]


@pytest.mark.parametrize(
    "texts",
    [
        ["Hispanic", "Not Hispanic", "other"],
        ["AD", "CN", "MCI"],
        ["+", "-", "++"],
        ["missing teeth", "caries", "healthy"],
        ["unknown primary", "lung", "breast"],
        ["no", "yes", "never"],
        ["T1", "T2", "FLAIR"],
        ["None", "mild", "severe"],
        ["none", "one lesion", "two lesions"],
        ["patient", "control", "test"],
        ["name", "value", "error"],
        ["negative", "positive"],
    ],
)
def test_words_that_are_answers(texts):
    assert suspicious_texts((t, 3) for t in texts) == []


def test_fit_summary_and_inspect_say_it_and_a_declaration_ends_it():
    frame = pd.DataFrame({"score": [*SCORES, -9998, -9998]})
    with pytest.warns(UserWarning, match=r"score: -9998 in 2 rows is apart from the others \(2 to 60\)"):
        encoder = CovariateEncoder(["score"]).fit(frame)
    assert "score: -9998 in 2 rows" in encoder.summary()
    report = inspect_table(frame)
    assert report.suggestion == "CovariateEncoder(['score'], {'score': Numeric(missing_codes=[-9998])}, missing='mean')"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = CovariateEncoder(["score"], missing="mean", missing_codes=[-9998]).fit(frame)
        CovariateEncoder(["score"], {"score": Numeric(missing_codes=[])}).fit(frame)
    assert fitted.inverse_transform(fitted.transform(frame))["score"].mean() == pytest.approx(np.mean(SCORES))


@pytest.mark.parametrize("stored", ["text", "datetime"])
@pytest.mark.parametrize(
    ("dates", "codes"),
    [
        (["1931-03-05", "1944-07-08", "1900-01-01", "1950-01-01"], ["1900-01-01"]),
        (["1931-03-05", "1944-07-08", "1899-12-30"], ["1899-12-30"]),
        (["1951-03-05", "1984-07-08", "1990-02-03", *["1970-01-01"] * 4], ["1970-01-01"]),
        (["1951-03-05", "1970-01-01", "1990-02-03"], []),
        (["1950-01-01", "1960-01-01"], []),
        (["2001-03-05", "2004-01-01", "2005-02-03", "2009-02-03", "1970-01-01"], ["1970-01-01"]),
        (["1951-03-05", "1960-05-01", "1990-02-03"], []),
        (["1899-02-03", "1900-01-01", "1905-02-03"], []),
    ],
)
def test_dates_that_programs_fill_holes_with(dates, codes, stored):
    born = pd.Series(dates) if stored == "text" else pd.to_datetime(pd.Series(dates))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = CovariateEncoder(["born"], {"born": Age("2020-01-01")}).fit(pd.DataFrame({"born": born}))
    assert [s.value for s in encoder.suspects.get("born", ())] == codes
    assert len(caught) == bool(codes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CovariateEncoder(["born"], {"born": Age("2020-01-01")}, missing="mean", missing_codes=codes).fit(
            pd.DataFrame({"born": born})
        )


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, 3, 9, 1, 2, 3, -9], "categorical"),
        (pd.Categorical([1, 2, 1, 2, -9, 9]), None),
        ([101, 102, 103, 999, -9, 9], "categorical"),
    ],
)
def test_codes_among_categories_of_numbers(values, kind):
    frame = pd.DataFrame({"race": values})
    with pytest.warns(UserWarning, match="race: -9 in 1 row"):
        encoder = CovariateEncoder(["race"], {"race": kind} if kind else {}).fit(frame)
    assert {-9} < {s.value for s in encoder.suspects["race"]} <= {-9, 9, 999}


def test_a_code_among_censored_numbers_is_found():
    with pytest.warns(UserWarning, match="tau: -9999 in 2 rows"):
        CovariateEncoder(["tau"]).fit(pd.DataFrame({"tau": [">1700", "203", "-9999", "150", "-9999", "<80"]}))


# a declared code and the values that only look like it


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object", "bool[pyarrow]"])
@pytest.mark.parametrize(
    ("code", "lost"), [(0, None), (1, None), ("0", None), (0.0, None), (False, False), (True, True)]
)
def test_a_number_is_no_truth_value(dtype, code, lost):
    frame = pd.DataFrame({"x": pd.Series([False, True, False, True], dtype=dtype)})
    encoder = CovariateEncoder(["x"], missing="zero", indicator="always", missing_codes=[code]).fit(frame)
    expected = [float(v is lost) for v in (False, True, False, True)]
    assert encoder.transform(frame)[:, 1].tolist() == expected


@pytest.mark.parametrize("dtype", ["int64", "float64", "object", "Int8"])
@pytest.mark.parametrize(("codes", "lost"), [([False], []), ([True], []), ([0], [0]), ([0, False], [0]), (["1"], [1])])
def test_a_truth_value_is_no_number(dtype, codes, lost):
    frame = pd.DataFrame({"x": pd.Series([0, 1, 1, 0], dtype=dtype)})
    encoder = CovariateEncoder(["x"], missing="zero", indicator="always", missing_codes=codes).fit(frame)
    assert encoder.transform(frame)[:, 1].tolist() == [float(v in lost) for v in (0, 1, 1, 0)]


# a constant up to rounding


@pytest.mark.parametrize("scaling", ["zscore", "minmax", "robust"])
@pytest.mark.parametrize(
    "values",
    [
        [14.62] * 99 + [14.62 + 2e-15],
        [0.1 + 0.2, 0.3] * 20,
        [float(np.float32(14.62)), 14.62] * 10,
        [1e9 + 0.1, 1e9 + 0.1 + 1e-6] * 10,
        [0.0, 1e-17, -2e-17, 0.0] * 5,
        np.array([14.62] * 50 + [14.620002], dtype="float32"),
        [1e300, 1e300 * (1 + 1e-15)] * 5,
    ],
)
def test_a_column_that_is_constant_up_to_rounding_is_refused(values, scaling):
    with pytest.raises(TableError, match="to vary over the training rows"):
        CovariateEncoder(["x"], {"x": Numeric(scaling)}).fit(pd.DataFrame({"x": values}))


@pytest.mark.parametrize(
    "values",
    [[1600000000, 1600000010, 1600000020], [14.62, 14.63, 14.62], [1e-9, 2e-9, 3e-9], [1e12, 1e12 + 1e6, 1e12 + 3e6],
     [2455000.5, 2455010.5, 2455020.5]],
)  # fmt: skip
def test_a_column_that_varies_little_is_fitted(values):
    encoded = CovariateEncoder(["x"], {"x": "numeric"}).fit_transform(pd.DataFrame({"x": values}))
    assert np.abs(encoded).max() < 3


# the target


@pytest.mark.parametrize("target", [[1, -9, 0, 1], [0, 1, 9, 0], [1.0, -9.0, 0.0, 1.0], [0, 1, 2, 999], [1, 2, 1, -4]])
def test_a_target_with_a_code_is_refused_unless_it_is_a_class(target):
    frame = pd.DataFrame({"subject": list("abcd"), "sex": [0, 1, 1, 0], "y": target})
    encoder = CovariateEncoder(["sex"]).fit(frame)
    with pytest.raises(TableError, match="got what may be codes for missing values"):
        CovariateTable(frame, encoder, target="y")
    classes = sorted(set(target))
    assert CovariateTable(frame, encoder, target="y", classes=classes).targets.tolist() == [
        classes.index(v) for v in target
    ]


def test_a_measured_target_with_a_code_warns_and_an_ordinary_one_does_not():
    frame = pd.DataFrame({"subject": range(20), "sex": [0, 1] * 10, "y": [*np.linspace(40.5, 80, 19), 999.0]})
    encoder = CovariateEncoder(["sex"]).fit(frame)
    with pytest.warns(TableWarning, match="column 'y': the target holds what may be codes .*999 in 1 row"):
        CovariateTable(frame, encoder, target="y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (np.linspace(-2, 2, 20), [-1, 1] * 10, [0, 1, 2, 3] * 5, [False, True] * 10):
            CovariateTable(frame.assign(y=y), encoder, target="y")


@pytest.mark.parametrize("scaling", ["zscore", "robust", "minmax"])
@pytest.mark.parametrize("code", [-9998, 999, -99])
def test_a_code_that_only_new_rows_have_is_warned_of_by_transform(code, scaling):
    encoder = CovariateEncoder(["score"], {"score": Numeric(scaling)}).fit(pd.DataFrame({"score": range(20, 32)}))
    with pytest.warns(TableWarning, match=rf"column 'score': 2 rows hold what may be codes .*\({code}\)"):
        encoder.transform(pd.DataFrame({"score": [25, code, code]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.transform(pd.DataFrame({"score": [25, 40, 12, 5000]}))  # far, and no code's shape
        looked = CovariateEncoder(["score"], {"score": Numeric(scaling, missing_codes=[])})
        looked.fit(pd.DataFrame({"score": range(20, 32)})).transform(pd.DataFrame({"score": [code]}))


AGES = ["045Y", "060Y", "000Y", "050Y"] * 5


def test_a_code_is_found_in_ages_as_dicom_writes_them():
    frame = pd.DataFrame({"PatientAge": AGES})
    with pytest.warns(TableWarning, match="0 in 5 rows is impossible under this name"):
        CovariateEncoder(["PatientAge"]).fit(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for codes in ([0], ["000Y"], [0.0, 999], ["0"]):
            own = CovariateEncoder(["PatientAge"], {"PatientAge": Numeric("none", missing="mean", missing_codes=codes)})
            wide = CovariateEncoder(
                ["PatientAge"], {"PatientAge": Numeric("none")}, missing="mean", missing_codes=codes
            )
            for encoder in (own, wide):
                values = encoder.fit_transform(frame)
                np.testing.assert_allclose(values[:4], [[45, 0], [60, 0], [155 / 3, 1], [50, 0]], rtol=1e-6)
        words = pd.DataFrame({"visit": ["0M", "9M", "3M"] * 3})  # visits after so many months: names
        encoder = CovariateEncoder(["visit"], {"visit": "categorical"}, missing_codes=[0, 9, 0.25]).fit(words)
        assert encoder.num_covariates == 3


@pytest.mark.parametrize(
    ("values", "codes", "says"),
    [
        (AGES, [-4], r"0 in 5 rows is impossible under this name; none of the declared missing_codes \(-4\) is in"),
        (["45Y", "60Y", "0Y", "50Y"] * 5, [0], r"0 in 5 rows is impossible .* missing_codes \(0\) is in"),
        ([61.0, 70, 82, -4] * 5, ["NA"], r"-4 in 5 rows is apart from the others .* missing_codes \('NA'\) is in"),
        (["A", "B", "n/a", "C"] * 5, ["NA"], r"'n/a' in 5 rows often means a missing value; none of the declared"),
        (["A", "B", "n/a", "NA", "C"] * 5, ["NA", "N/A"], r"'n/a' in 5 rows .*; a declared code is spelled otherwise"),
    ],
)
def test_declared_codes_that_name_nothing_do_not_silence_the_doubt(values, codes, says):
    frame = pd.DataFrame({"age": values})
    kind = {"kind": "numeric" if values[0] != "A" else "categorical", "missing": "mean", "missing_codes": codes}
    with pytest.warns(TableWarning, match=says):
        encoder = CovariateEncoder(["age"], {"age": kind}).fit(frame)
    assert CovariateEncoder.from_dict(encoder.to_dict()) == encoder
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CovariateEncoder(["age"], {"age": {**kind, "missing_codes": []}}).fit(frame)  # looked at: values


def test_a_list_of_codes_of_which_some_occur_still_says_that_the_rest_are_values():
    frame = pd.DataFrame({"x": [61.0, 70, 82, -4, 999] * 5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CovariateEncoder(["x"], {"x": Numeric(missing="mean", missing_codes=[-4, -8])}).fit(frame)


BORN = [f"{1930 + n}-0{n % 9 + 1}-1{n % 9}" for n in range(30)]
EXAMS = [f"{2008 + n % 9}-0{n % 9 + 1}-2{n % 7}" for n in range(30)]


def ages(born=BORN, exams=EXAMS, **options):
    frame = pd.DataFrame({"born": born, "exam": exams})
    kind = Age(at="exam", scaling="none", missing="mean", indicator="always", **options)
    return CovariateEncoder(["born"], {"born": kind}).fit(frame)


@pytest.mark.parametrize("date", ["9999-12-31", "2099-12-31", "2100-01-01"])
@pytest.mark.parametrize("count", [1, 2, 5, 10])
def test_dates_of_measurement_that_stand_for_no_date_are_told(date, count):
    exams = [date] * count + EXAMS[count:]
    rows = f"in {count} row{'s' * (count > 1)}"
    with pytest.warns(TableWarning, match=rf"born: '{date}' {rows} is a date that stands for no date \(in 'exam'\)\)"):
        ages(exams=exams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ages(exams=exams, missing_codes=[])
        encoder = ages(exams=exams, missing_codes=[date])  # as the warning says
    assert encoder.transform(pd.DataFrame({"born": BORN, "exam": exams}))[:, 1].sum() == count
    with pytest.warns(
        TableWarning,
        match="'9999-12-31' in 1 row .*'2099-12-31' in 2 rows|'2099-12-31' in 2 rows .*'9999-12-31' in 1 row",
    ):
        ages(exams=["9999-12-31", "2099-12-31", "2099-12-31", *EXAMS[3:]])  # one does not hide the other


def test_the_first_day_of_unix_among_later_exams_is_told():
    born = ["1950-05-05"] * 10 + BORN[10:]
    for count in (1, 3, 10):
        with pytest.warns(TableWarning, match=r"'1970-01-01' in .* is a date that stands for no date \(in 'exam'\)"):
            ages(born, ["1970-01-01"] * count + EXAMS[count:])


@pytest.mark.parametrize(
    ("born", "years"), [("0195-01-01", "1813"), ("1195-01-01", "813.\\d"), ("1880-01-01", "128.\\d")]
)
def test_an_age_that_nobody_reaches_is_told_in_training_and_in_new_rows(born, years):
    with pytest.warns(TableWarning, match=rf"born: '{born}' in 1 row with an age above 123 \(here {years}\S* years\)"):
        ages([born, *BORN[1:]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = ages()
        encoder.transform(pd.DataFrame({"born": ["1895-01-01"], "exam": ["2014-01-01"]}))  # 119 years
    with pytest.warns(TableWarning, match=rf"column 'born': 1 rows have an age above 123, up to {years}\S* years"):
        encoder.transform(pd.DataFrame({"born": [born, "1950-01-01"], "exam": ["2008-01-21"] * 2}))
