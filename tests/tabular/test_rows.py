"""Kinds as plain data, categories that training did not have, and rows that are refused: counted, named, left to the caller."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionconv.errors import TableError
from fusionconv.tabular import Age, Binary, Categorical, Censored, CovariateEncoder, CovariateTable, Numeric, Ordinal

few = settings(max_examples=40, deadline=None, derandomize=True)

SAME = [
    ("laterality: {kind: categorical, unknown: ignore}", Categorical(unknown="ignore")),
    ("site: {kind: categorical, categories: [A, B, C], missing: A}", Categorical(["A", "B", "C"], missing="A")),
    ("gender: {kind: binary, codes: {1: 0, 2: 1}}", Binary({1: 0, 2: 1})),
    ("sex: {kind: binary, codes: {F: 0, M: 1}, missing_codes: [NA, -9]}", Binary({"F": 0, "M": 1}, missing_codes=["NA", -9])),
    ("age: {kind: numeric, scaling: robust, missing: mean}", Numeric("robust", missing="mean")),
    ("age: {kind: numeric, missing: 70, indicator: always, missing_codes: [999]}", Numeric(missing=70, indicator="always", missing_codes=[999])),
    ("stage: {kind: ordinal, levels: [CN, MCI, AD], scaling: none}", Ordinal(["CN", "MCI", "AD"], "none")),
    ("tau: {kind: censored, flags: above, upper: 1300}", Censored(flags="above", upper=1300)),
    ("born: {kind: age, at: exam, format: '%d.%m.%Y'}", Age("exam", format="%d.%m.%Y")),
    ("born: {kind: age, at: 2020-01-31}", Age(datetime.date(2020, 1, 31))),
    ("age: numeric", Numeric()),
    ("age: {kind: numeric}", Numeric()),
]  # fmt: skip


@pytest.mark.parametrize(("plain", "kind"), SAME)
def test_a_kind_from_yaml_is_the_kind(plain, kind):
    ((name, said),) = yaml.safe_load(plain).items()
    encoder = CovariateEncoder([name], {name: said})
    assert encoder == CovariateEncoder([name], {name: kind})
    assert encoder.kinds == {name: kind}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kind": "categorial"}, r"unknown kind for column 'x': 'categorial'; did you mean 'categorical'"),
        ({"kind": "categorical", "unkown": "ignore"}, r"unknown option of kind 'categorical' for column 'x': 'unkown'; did you mean 'unknown'"),
        ({"kind": "categorical", "codes": {1: 0}}, "unknown option of kind 'categorical' for column 'x': 'codes'"),
        ({"unknown": "ignore"}, r"column 'x': expected a kind .* name the kind: numeric, binary"),
        ({"kind": "categorical", "unknown": "drop"}, r"column 'x', kind 'categorical': expected unknown='error' or 'ignore'"),
        ({"kind": "binary", "codes": {1: 0}}, "column 'x', kind 'binary': expected codes such as"),
        ({"kind": "numeric", "scaling": "zscor"}, "column 'x', kind 'numeric': unknown scaling"),
        ({"kind": "age"}, r"column 'x': expected Age\(at=...\)"),
        ({"kind": ["numeric"]}, "column 'x': expected a kind"),
        (3, "column 'x': expected a kind"),
        ({}, "column 'x': expected a kind"),
    ],
)  # fmt: skip
def test_a_wrong_kind_in_plain_data_names_column_option_and_the_near_one(said, message):
    with pytest.raises(TableError, match=message):
        CovariateEncoder(["x"], {"x": said})


def test_codes_of_a_command_line_are_text_and_meet_a_column_of_numbers():
    frame = pd.DataFrame({"gender": [1, 2, 2.0]})
    said = json.loads('{"kind": "binary", "codes": {"1": 0, "2": 1}}')
    encoder = CovariateEncoder(["gender"], {"gender": said}).fit(frame)
    assert encoder.transform(frame)[:, 0].tolist() == [0, 1, 1]
    with pytest.raises(TableError, match="YAML reads an unquoted yes and no as True and False"):
        CovariateEncoder(["x"], {"x": yaml.safe_load("{kind: binary, codes: {no: 0, yes: 1}}")}).fit(
            pd.DataFrame({"x": ["no", "yes"]})
        )


# unknown categories

TRAIN = pd.DataFrame(
    {"age": [60, 70, 80, 75], "site": ["A", "B", "C", "A"], "sex": ["F", "M", "M", "M"], "code": [1, 2, 2, 1]}
)
NEW = pd.DataFrame({"age": [61, 62, 63, 64], "site": ["D", "A", None, "E"], "sex": ["F", "x", None, "M"], "code": [3, 1, 2, None]},
                   index=["s1", "s2", "s3", "s4"])  # fmt: skip
CODE = {"code": Binary({1: 0, 2: 1})}


def test_unknown_categories_are_zeros_or_the_share_and_are_counted():
    encoder = CovariateEncoder(list(TRAIN), CODE, missing="mean", indicator="always", unknown="ignore").fit(TRAIN)
    out = pd.DataFrame(encoder.transform(NEW), columns=encoder.get_feature_names_out())
    assert out[["site_A", "site_B", "site_C", "site_missing"]].to_numpy().tolist() == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [0.5, 0.25, 0.25, 1],
        [0, 0, 0, 0],
    ]
    assert out["sex_M"].tolist() == [0, 0.75, 0.75, 1]
    assert out["sex_missing"].tolist() == [0, 0, 1, 0]
    assert out["code_2"].tolist() == [0.5, 0, 1, 0.5]
    assert encoder.unknown_counts(NEW) == {"site": 2, "sex": 1, "code": 1}
    assert encoder.unknown_counts(TRAIN) == {"site": 0, "sex": 0, "code": 0}
    assert CovariateEncoder.from_dict(json.loads(json.dumps(encoder.to_dict()))) == encoder
    assert "others: zeros" in encoder.summary()
    assert pd.isna(encoder.inverse_transform(encoder.transform(NEW)).loc[1, "sex"])


def test_a_column_s_own_option_goes_before_the_encoder_s():
    kinds = {"site": {"kind": "categorical", "unknown": "error"}, **CODE}
    encoder = CovariateEncoder(["site", "code"], kinds, missing="mean", indicator="always", unknown="ignore").fit(TRAIN)
    with pytest.raises(
        TableError, match=r"column 'site': expected one of 'A', 'B', 'C', got others in 2 of 4 rows, first at 's1': 'D'"
    ):
        encoder.transform(NEW)
    assert encoder.unknown_counts(NEW) == {"site": 2, "code": 1}  # counted in any case
    with pytest.raises(TableError, match="unknown='error' or 'ignore'"):
        CovariateEncoder(["site"], unknown="zeros")


STORED = {  # the training rows, the same rows as another program stored them
    "text, then whole numbers": (["1", "2", "3A"], [1, 2, 1], ["1", "2", "1"]),
    "text, then numbers with gaps": (["1", "2", "3A"], [1.0, np.nan, 2.0], ["1", None, "2"]),
    "text of such numbers": (["1.0", "2.0", "3A"], [1, 2, 2], ["1.0", "2.0", "2.0"]),
    "whole numbers, then text": ([1, 2, 3], ["1", "3", "2"], [1, 3, 2]),
    "whole numbers, then text of floats": ([1, 2, 3], ["1.0", "3.0", "2.0"], [1, 3, 2]),
    "fractions, then text": ([1.5, 3.0, 7.0], ["3", "1.5", "7.0"], [3, 1.5, 7]),
    "fractions, then float32": ([0.55, 1.5, 3.0], np.array([0.55, 3, 1.5], "float32"), [0.55, 3, 1.5]),
    "fractions as float32, then text": (np.array([0.55, 1.5, 3], "float32"), ["0.55", "3", "1.50"], [0.55, 3, 1.5]),
    "outer spaces": (["A", "B", "C"], ["A ", " C", "\N{NO-BREAK SPACE}B"], ["A", "C", "B"]),
    "accents of macOS": (["Zürich", "Köln", "Bern"], ["Zu\u0308rich", "Ko\u0308ln", "Bern"], ["Zürich", "Köln", "Bern"]),
    "truth values": (["True", "False", "unclear"], [True, False, True], ["True", "False", "True"]),
    "truth values of a spreadsheet": (["True", "False", "unclear"], ["TRUE", "false", "TRUE"], ["True", "False", "True"]),
    "wide digits": (["１", "２", "A"], [1, 2, 1], ["１", "２", "１"]),
}  # fmt: skip


@pytest.mark.parametrize(("learnt", "new", "meant"), STORED.values(), ids=list(STORED))
@pytest.mark.parametrize("dtype", [None, object, "category"])
@pytest.mark.parametrize("unknown", ["error", "ignore"])
def test_a_category_is_known_however_its_column_is_stored(learnt, new, meant, dtype, unknown):
    kinds = {"x": "categorical"}
    encoder = CovariateEncoder(["x"], kinds, missing="zero", indicator="always", unknown=unknown)
    encoder.fit(pd.DataFrame({"x": learnt}))
    expected = encoder.transform(pd.DataFrame({"x": pd.Series(meant, dtype=object)}))
    assert (expected.sum(axis=1) == 1).all()
    frame = pd.DataFrame({"x": pd.Series(new, dtype=dtype)})
    for one in (encoder, CovariateEncoder.from_dict(encoder.to_dict())):  # a saved one too
        np.testing.assert_array_equal(one.transform(frame), expected)
        assert one.unknown_counts(frame) == {"x": 0}
    levels = Ordinal(list(dict.fromkeys(pd.Series(learnt).tolist())), missing="zero", indicator="always")
    ranks = CovariateEncoder(["x"], {"x": levels}).fit(pd.DataFrame({"x": learnt}))
    np.testing.assert_array_equal(
        ranks.transform(frame), ranks.transform(pd.DataFrame({"x": pd.Series(meant, dtype=object)}))
    )


@pytest.mark.parametrize("stored", [[1, 2, 2], ["1", "2", "2"], [1.0, 2.0, 2.0], ["1.0", " 2", "2"]])
@pytest.mark.parametrize("codes", [{1: 0, 2: 1}, {"1": 0, "2": 1}, {1.0: 0, "2.0": 1}])
def test_codes_are_found_however_they_and_the_column_are_stored(stored, codes):
    train = pd.DataFrame({"x": [1, 2, 2, 1]})
    for learnt in (train, train.astype(str), train.astype(float)):
        encoder = CovariateEncoder(["x"], {"x": Binary(codes)}, unknown="ignore").fit(learnt)
        assert encoder.transform(pd.DataFrame({"x": stored}))[:, 0].tolist() == [0, 1, 1]


def test_what_could_be_two_categories_stays_unknown():
    encoder = CovariateEncoder(["x"], {"x": "categorical"}).fit(pd.DataFrame({"x": ["1", "1.0", "01", "a"]}))
    for value in (1, 1.0, "1.00"):  # "1", or "1.0"?
        with pytest.raises(TableError, match=r"expected one of '01', '1', '1\.0', 'a', got others in 1 of 1 rows"):
            encoder.transform(pd.DataFrame({"x": [value]}))
    assert encoder.transform(pd.DataFrame({"x": ["1"]})).tolist() == [[0, 1, 0, 0]]
    names = CovariateEncoder(["x"], {"x": "categorical"}).fit(pd.DataFrame({"x": ["007", "A", "B"]}))
    for value in (7, "7", "a", 7.5, True):  # leading zeros are part of a name, and so are capitals
        with pytest.raises(TableError, match="expected one of '007', 'A', 'B'"):
            names.transform(pd.DataFrame({"x": [value]}))
    with pytest.raises(
        TableError, match="text or numbers, not both in one column, got others in 1 of 3 rows, first at 2"
    ):
        CovariateEncoder(["x"], {"x": "categorical"}).fit(pd.DataFrame({"x": pd.Series([1, 2, "1"], dtype=object)}))


def test_a_number_that_may_count_is_never_an_unknown_category():
    encoder = CovariateEncoder(["n"], unknown="ignore").fit(pd.DataFrame({"n": [0, 1, 1]}))
    with pytest.raises(TableError, match="expected 0 or 1"):
        encoder.transform(pd.DataFrame({"n": [2]}))
    assert encoder.unknown_counts(pd.DataFrame({"n": [2]})) == {}


def test_a_rare_category_stops_no_fold():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"site": rng.choice(["A", "B"], 40), "sex": rng.choice(["F", "M"], 40)})
    frame.loc[7, "site"], frame.loc[11, "sex"] = "rare", "other"
    counts = {"site": 0, "sex": 0}
    for fold in range(5):
        test = np.arange(40) % 5 == fold
        encoder = CovariateEncoder(["site", "sex"], unknown="ignore").fit(frame[~test])
        assert np.isfinite(encoder.transform(frame[test])).all()
        for name, count in encoder.unknown_counts(frame[test]).items():
            counts[name] += count
    assert counts == {"site": 1, "sex": 1}


# rows that are refused


def test_the_bad_rows_are_told_with_their_reasons_and_the_others_can_be_encoded():
    encoder = CovariateEncoder(list(TRAIN), CODE).fit(TRAIN)
    new = NEW.assign(age=[61, "sixty", np.inf, 64])
    bad = encoder.check(new)
    assert [(row, column) for row, column, _ in bad] == [
        ("s1", "site"), ("s1", "code"), ("s2", "age"), ("s2", "sex"), ("s3", "age"), ("s3", "site"), ("s3", "sex"), ("s4", "site"), ("s4", "code")
    ]  # fmt: skip
    said = {(row, column): reason for row, column, reason in bad}
    assert said["s1", "site"].startswith("expected one of 'A', 'B', 'C', got 'D'; correct these rows")
    assert "got 'sixty'" in said["s2", "age"]
    assert "got missing values" in said["s4", "code"]
    by_id = encoder.check(new.assign(subject=list("abcd")), ids="subject")
    assert [row for row, _, _ in by_id] == list("aabbcccdd")
    assert encoder.check(TRAIN) == []


@few
@given(st.lists(st.tuples(st.sampled_from([60, 65.5, None, np.inf]), st.sampled_from(["A", "B", "D", None]),
                          st.sampled_from(["F", "M", "x"]), st.sampled_from([">8", "9", "high", None])), min_size=1, max_size=12))  # fmt: skip
def test_check_finds_exactly_the_rows_that_transform_refuses(rows):
    train = pd.DataFrame(
        {"age": [60, 70, 80], "site": ["A", "B", "C"], "sex": ["F", "M", "M"], "tau": [">8", "4", "5"]}
    )
    encoder = CovariateEncoder(list(train)).fit(train)
    new = pd.DataFrame(rows, columns=list(train)).astype(object)
    expected = set()
    for place in range(len(new)):
        for name in train:
            one = CovariateEncoder([name]).fit(train)
            try:
                one.transform(new.iloc[[place]])
            except TableError:
                expected.add((place, name))
    assert {(row, column) for row, column, _ in encoder.check(new)} == expected
    good = new.drop(index=list({row for row, _ in expected}))
    if len(good):
        np.testing.assert_array_equal(encoder.transform(good).shape[0], len(good))


def test_both_dates_of_an_age_are_checked():
    train = pd.DataFrame({"born": ["1950-01-01", "1960-01-01"], "exam": ["2010-01-01", "2011-01-01"]})
    encoder = CovariateEncoder(["born"], {"born": Age("exam")}).fit(train)
    new = pd.DataFrame({"born": ["1950-01-01", "?", "2030-01-01", "1950-01-01"], "exam": ["2010-01-01"] * 3 + ["soon"]})
    assert [(row, column) for row, column, _ in encoder.check(new)] == [(1, "born"), (2, "born"), (3, "exam")]


@pytest.mark.parametrize("method", ["fit", "transform"])
def test_a_message_names_the_subject(method):
    encoder = CovariateEncoder(["age", "site"]).fit(TRAIN)
    frame = TRAIN.assign(subject=["sub-7", "sub-8", "sub-9", "sub-9"], age=[60, None, 70, None])
    call = getattr(encoder, method)
    with pytest.raises(TableError, match="first at subject 'sub-8': nan, subject 'sub-9': nan"):
        call(frame, ids="subject")
    with pytest.raises(TableError, match="first at subject 'sub-8': nan"):
        call(frame.set_index("subject"))
    with pytest.raises(TableError, match="first at 'b': nan"):
        call(frame, ids=list("abcd"))
    with pytest.raises(TableError, match=r"expected ids for 4 rows, got 2"):
        call(frame, ids=["a", "b"])
    with pytest.raises(TableError, match="unknown column 'subjct'; did you mean 'subject'"):
        call(frame, ids="subjct")


def test_a_table_names_its_rows_by_id():
    frame = NEW.assign(subject=["p1", "p2", "p3", "p4"], session="m06")
    encoder = CovariateEncoder(["site"]).fit(TRAIN)
    with pytest.raises(TableError, match="first at id 'p3_m06': "):
        CovariateTable(frame.assign(site=["A", "B", None, "C"]), encoder)
