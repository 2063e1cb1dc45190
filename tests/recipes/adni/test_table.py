"""The study's table: classes by queries, what is refused, and that the engine reads what the source's reader gave."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import StudyError, TableError
from fusionconv.study import Study
from fusionconv.study.checks import check_rows
from recipes.adni.table import classify, make_table

PEOPLE = pd.DataFrame({
    "subject": list("abcdef"), "image": [f"{n}.nii" for n in "abcdef"],
    "DX": ["CN", "Dementia", "MCI", "CN", "Dementia", None],
    "age": [61.5, 72.0, 83.0, 64.0, None, 66.0], "code": ["007", "08", "9", "x", "y", "z"], "t": [1, 2, 3, 4, 5, 6], "e": [1, 0, 1, 0, 1, 1],
})  # fmt: skip
GROUP = {"group": {"CN": "DX == 'CN'", "AD": "DX == 'Dementia'"}}


@pytest.fixture
def make(tmp_path):
    """make_table on a table of PEOPLE, or of another frame, with some options."""

    def made(frame=PEOPLE, own=None, **settings):
        frame.to_csv(tmp_path / "t.csv", index=False)
        for name in frame["image"]:
            if not (tmp_path / name).exists():
                (tmp_path / name).write_bytes(b"0" * 2000)
        options = {"source": "table", "source_options": {}, "visits": "first", "define": {}, "out": str(tmp_path / "o")}
        return make_table(options | (own or {}), {"table": str(tmp_path / "t.csv"), **settings})

    return made


def test_a_row_has_the_class_whose_query_holds_and_the_others_are_counted(make, tmp_path):
    made = make(own={"define": GROUP})
    assert (made["target"], made["classes"]) == (["group"], ["CN", "AD"])
    rows = Study(**made).rows
    assert rows.frame["subject"].tolist() == list("abde")
    assert rows.targets.tolist() == [0, 1, 0, 1]  # AD is the positive class, whatever the alphabet says
    assert rows.flow.lines[:2] == [("rows of the source", 6, "6 subjects"), ("of no class", -2, "DX: MCI (1), nan (1)")]
    table = pd.read_csv(tmp_path / "o/table/study.csv")
    assert table["image"].tolist() == ["a.nii", "b.nii", "d.nii", "e.nii"]


def test_rows_are_chosen_before_the_first_visit(make, tmp_path):
    frame = PEOPLE.assign(subject=list("aabbcc"), session=["m06", "bl"] * 3)
    options = {"source_options": {"session": "session"}}
    first = Study(**make(frame, options, target="t"), task="regression").rows.frame
    assert first["t"].tolist() == [2, 4, 6]
    made = make(frame, options | {"out": str(tmp_path / "p")}, target="t", rows="t != 2")
    later = Study(**made, task="regression")
    assert later.rows.frame["t"].tolist() == [1, 4, 6]
    assert ("not among --rows", -1, "t != 2") in later.rows.flow.lines


def test_a_missing_value_is_never_a_class():
    frame = pd.DataFrame({"subject": list("abc"), "CDR": [0.0, 0.5, math.nan]})
    found = classify(frame, "g", {"impaired": "CDR > 0", "healthy": "not CDR > 0"})
    assert found.isna().tolist() == [False, False, True]
    assert found.tolist()[:2] == ["healthy", "impaired"]


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ({"young": "age < 70", "old": "age > 60"}, "in several"),
        ({"young": "age < 70", "old": "age > 600"}, "no row of old"),
        ({"young": "age < 70", "old": "aeg > 60"}, "'aeg'"),
        ({"young": "age <", "old": "age > 60"}, "expected a query"),
        ({"young": "age + 1", "old": "age > 60"}, "true or false"),
        ({"young": "age < 70"}, "at least two classes"),
        ({"young": 3, "old": "age > 60"}, "expected a query for each class"),
        ("age > 60", "expected a query for each class"),
        ({True: "age < 70", False: "age > 70"}, "put them in quotes"),
    ],
)
def test_classes_that_cannot_be_say_what_is_wrong(make, queries, says):
    with pytest.raises(TableError, match=says):
        make(own={"define": {"g": queries}}, target="g")


@pytest.mark.parametrize(
    ("own", "settings", "error", "says"),
    [
        ({"define": GROUP}, {"covariates": ["DX"]}, TableError, "answer is made of, got DX"),
        ({"define": GROUP}, {"covariates": "DX"}, TableError, "answer is made of, got DX"),
        ({"define": GROUP, "arms": ["image", {"arm": "covariates", "covariates": ["age", "DX"]}]}, {}, TableError, "got DX"),
        (
            {"define": GROUP | {"ill": {"y": "DX == 'Dementia'", "n": "DX != 'Dementia'"}}},
            {"target": "group", "covariates": ["ill"]}, TableError, "got ill",
        ),
        ({}, {"target": "age", "covariates": ["age"]}, TableError, "got age"),
        ({"define": {"age": GROUP["group"]}}, {}, TableError, "which the source has"),
        ({"define": GROUP}, {"classes": ["CN", "MCI"]}, TableError, "--classes: expected those of --define"),
        ({"source": "csv"}, {"target": "age"}, TableError, "--source: expected one of bids"),
        ({"source": "oasis1"}, {"target": "age"}, TableError, "expected --images"),
        ({"source_options": {"subjcet": "id"}}, {"target": "age"}, TableError, "source-options"),
        ({"visits": "last"}, {"target": "age"}, TableError, "first or all"),
        ({}, {"target": "age", "rows": "age > 600"}, TableError, "expected rows to study, got none"),
        ({}, {"target": "age", "rows": "aeg > 60"}, TableError, "got 'aeg'"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_written(make, tmp_path, own, settings, error, says):
    with pytest.raises(error, match=says):
        make(own=own, **settings)
    assert not (tmp_path / "o").exists()


def test_scores_that_define_the_diagnosis_are_refused_unless_they_are_meant(make):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"subject": [f"s{n}" for n in range(40)], "DX": ["CN", "AD"] * 20})
    frame = frame.assign(
        image=frame["subject"] + ".nii", MMSE=draw.normal(27, 2, 40).round(), age=draw.normal(70, 8, 40)
    )
    own = {"define": {"g": {"CN": "DX == 'CN'", "AD": "DX == 'AD'"}}}
    study = Study(**make(frame, own, covariates=["age", "MMSE"], folds=2))
    with pytest.raises(TableError, match=r"MMSE.*--allow-leaks MMSE"):
        check_rows(study.rows, study.folds, study.settings, [["age", "MMSE"]])
    study = Study(**make(frame, own, covariates=["age", "MMSE"], folds=2, allow_leaks=["MMSE"]))
    check_rows(study.rows, study.folds, study.settings, [["age", "MMSE"]])


def test_what_the_engine_reads_is_what_the_source_holds_or_is_refused(make, monkeypatch):
    made = make(target="t", covariates=["age", "code"])
    frame = Study(**made, task="regression").rows.frame
    assert frame["code"].tolist() == PEOPLE["code"].tolist()  # 007 stays 007
    assert frame["age"].equals(PEOPLE["age"])
    from recipes.adni import table as module

    def other(path, **options):
        return real(path, **options).assign(age=[61.5, 72.0, 83.0, 64.0, None, 67.0])

    real = module.read_table
    monkeypatch.setattr(module, "read_table", other)
    with pytest.raises(TableError, match=r"'age'.*got 67\.0 for 66\.0 of f"):
        make(target="t", covariates=["age"])
    make(target="t", covariates=["code"])  # a column that is not used may differ


def test_a_study_that_has_begun_keeps_its_table(make, tmp_path):
    make(target="t")
    (tmp_path / "o/study.yaml").write_text("settings: {}\n")
    make(target="t")
    before = (tmp_path / "o/table/study.csv").read_text()
    with pytest.raises(StudyError, match=r"began with \(6\), got others of the source \(5\)"):
        make(target="t", rows="t != 2")
    assert (tmp_path / "o/table/study.csv").read_text() == before
    make(own={"overwrite": True}, target="t", rows="t != 2")
    assert len(pd.read_csv(tmp_path / "o/table/study.csv")) == 5


def test_a_folder_of_something_else_is_left_alone(make, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o/thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="holds other files"):
        make(target="t")
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["thesis.txt"]


def test_every_visit_of_a_subject_is_on_one_side(make, tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"subject": [f"s{n // 3}" for n in range(36)], "session": ["m00", "m06", "m12"] * 12, "t": draw.normal(size=36)}
    )
    frame["image"] = frame["subject"] + frame["session"] + ".nii"
    for name in frame["image"]:
        nib.save(nib.Nifti1Image(draw.normal(size=(8, 8, 8)).astype("f4"), np.eye(4)), tmp_path / name)
    made = make(frame, {"visits": "all", "source_options": {"session": "session"}}, target="t", folds=3)
    study = Study(**made, task="regression")
    assert len(study.rows.frame) == 36
    for fold in study.folds:
        assert study.folds[fold].groupby(study.rows.frame["subject"]).nunique().max() == 1


@pytest.mark.parametrize("way", ["options", "source_options"])
def test_a_tables_own_names_of_columns(tmp_path, way):
    """A column 'subject' that is not meant, as beside --subject patient, must not be taken."""
    frame = PEOPLE.assign(patient=list("aabbcc"), file=[f"{n}.x" for n in "abcdef"], subject="nobody")
    frame.drop(columns="image").assign(file=list("abcdef")).to_csv(tmp_path / "t.csv", index=False)
    for name in frame["file"]:
        (tmp_path / name).write_bytes(b"0" * 2000)
    names = {"image_column": "file", "subject": "patient", "suffix": ".x"}
    own = {"source": "table", "source_options": names if way == "source_options" else {}, "visits": "all", "define": {}}
    given = {"image_column": ["file"], "subject": "patient", "suffix": ".x"} if way == "options" else {}
    with pytest.raises(TableError, match="subject"):  # the source has a column of that name: it would be two
        make_table(own | {"out": str(tmp_path / "o")}, {"table": str(tmp_path / "t.csv"), "target": "t", **given})
    frame.drop(columns=["image", "subject"]).assign(file=list("abcdef")).to_csv(tmp_path / "t.csv", index=False)
    made = make_table(own | {"out": str(tmp_path / "o")}, {"table": str(tmp_path / "t.csv"), "target": "t", **given})
    rows = Study(**made, task="regression").rows
    assert rows.frame["subject"].tolist() == list("aabbcc")
    assert rows.frame["id"].tolist() == frame["file"].tolist()


@pytest.mark.parametrize(
    ("own", "settings", "says"),
    [
        ({"source": "bids"}, {"subject": "patient"}, "--subject: expected none beside --source bids"),
        ({"source": "oasis1"}, {"image_column": ["file"]}, "--image-column: expected none"),
        ({"source": "ixi"}, {"sheet": "2"}, "--sheet: expected none"),
        ({"source_options": {"subject": "a"}}, {"subject": "b"}, "--subject: expected that of --source-options, 'a'"),
        ({}, {"image_column": ["t1", "t2"]}, "--image-column: expected one column"),
    ],
)
def test_names_that_would_not_be_used_are_refused(make, own, settings, says):
    with pytest.raises(TableError, match=says):
        make(own=own, target="t", **settings)


def test_classes_may_be_numbers(make):
    made = make(own={"define": {"g": {0: "DX == 'CN'", 1: "DX == 'Dementia'"}}}, classes=[0, 1])
    assert Study(**made).rows.targets.tolist() == [0, 1, 0, 1]
