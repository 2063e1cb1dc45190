"""What a hospital's table does to a study: each of these gave a wrong number, or none, without a word."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fusionconv.errors import ImageWarning, StudyError, TableError
from fusionconv.study import Comparison, Study
from fusionconv.study.arms import parse_arm
from fusionconv.study.explain import explain_arm
from fusionconv.study.predict import predict_table
from fusionconv.study.robustness import check_robustness
from fusionconv.study.words import with_underscores
from fusionconv.study.written_tables import read_rows_in_use


def changed(small, tmp_path, **columns):
    """The small study with a table of its own."""
    frame = pd.read_csv(small["table"]).assign(**columns)
    frame.to_csv(tmp_path / "own.csv", index=False)
    return {**small, "table": str(tmp_path / "own.csv")}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A finished study with a table of its own, to be copied by tests that change that."""
    folder = tmp_path_factory.mktemp("trained")
    given = changed({**small, "epochs": 1, "controls": 0}, folder)
    Study(**given).compare(["image", "hybrid@first"], out=folder / "out", progress=False)
    return folder, given


# ---- what a run depends on ----


@pytest.mark.parametrize("column", ["exam", "mm"])
def test_columns_that_are_read_beside_the_covariates_are_in_a_runs_key(small, tmp_path, column):
    """The date of an exam makes the age, the pixel size the distances in mm; neither was in the key."""
    exam = pd.Series(pd.date_range("2020-01-01", periods=40)).dt.strftime("%Y-%m-%d")
    born = pd.Series(pd.date_range("1950-01-01", periods=40, freq="200D")).dt.strftime("%Y-%m-%d")
    more = {
        "exam": {"covariates": ["born"], "kinds": {"born": {"kind": "age", "at": "exam"}}},
        "mm": {"pixel_size": "mm"},
    }
    keys = []
    for number in (0, 1):
        own = {"born": born, "exam": exam, "mm": 0.5}
        if number:
            own[column] = 0.25 if column == "mm" else exam[::-1].to_numpy()
        study = Study(**{**changed(small, tmp_path, **own), **more[column]})
        keys.append(study.plan([parse_arm("covariates")], tmp_path)[0].key)
    assert keys[0] != keys[1]


def test_a_refused_rerun_leaves_every_file_as_it_was(trained, tmp_path):
    folder, given = trained
    shutil.copytree(folder / "out", tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.*") if p.suffix != ".txt"}
    other = changed(given, tmp_path, age=range(40))
    shutil.copy(other["table"], given["table"] + ".new")
    frame = pd.read_csv(given["table"])
    try:
        frame.assign(age=np.arange(40) + 30.5).to_csv(given["table"], index=False)
        with pytest.raises(StudyError, match=r"expected a result of these settings, got one of others \(rows:"):
            Study(**given).compare(["image", "hybrid@first"], out=tmp_path / "out", progress=False)
    finally:
        frame.to_csv(given["table"], index=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.*") if p.suffix != ".txt"} == before


@pytest.mark.parametrize("command", ["robustness", "explain"])
def test_networks_are_not_judged_on_rows_that_may_be_their_training_rows(trained, tmp_path, command):
    """With a row less, every fold is another one: what is called a test row was trained on."""
    folder, given = trained
    frame = pd.read_csv(given["table"])
    ask = check_robustness if command == "robustness" else explain_arm
    try:
        frame.iloc[1:].to_csv(given["table"], index=False)
        with pytest.raises(StudyError, match="expected the table as it was when hybrid-first was trained"):
            ask(str(folder / "out"), "hybrid@first", out=str(tmp_path / "new"))
    finally:
        frame.to_csv(given["table"], index=False)
    assert not (tmp_path / "new").exists()


# ---- tables are read back as they were ----


def test_texts_that_look_like_numbers_or_like_nothing_come_back_as_they_were(small, tmp_path):
    texts = ["1.1", "1.10", "None", "TRUE", "01", "1", "NA?", "nan "]
    own = changed(
        small,
        tmp_path,
        code=[texts[n % len(texts)] for n in range(40)],
        flag=np.arange(40) % 2 == 0,
        grade=np.arange(40),
    )
    study = Study(**{**own, "text": ["code"], "covariates": ["age"], "subgroups": ["code"]})
    study.compare(["covariates"], out=tmp_path / "out", progress=False)
    back, rows = read_rows_in_use(tmp_path / "out"), study.rows.frame
    pd.testing.assert_frame_equal(back, rows, check_dtype=False)
    assert back["age"].dtype == rows["age"].dtype
    assert back["grade"].dtype == rows["grade"].dtype
    groups = Comparison(tmp_path / "out")._read("subgroups.csv")
    assert {"1.1", "1.10", "01", "1"} <= set(groups["group"])
    assert "1.1" in (tmp_path / "out/report.md").read_text()


@pytest.mark.parametrize("name", ["None", "nan", "NaT"])
def test_what_pandas_writes_for_a_missing_id_is_no_person(small, tmp_path, name):
    """All its rows would be one subject's; the tables of the evaluation refused it, after the training."""
    own = changed(small, tmp_path, patient=[name, *[f"s{n}" for n in range(39)]])
    with pytest.raises(
        TableError, match=r"subject: expected a value of 'patient' in every row, got 1 without, such as p00"
    ):
        _ = Study(**{**own, "text": ["patient"]}).rows


# ---- leaks ----


def test_every_label_is_looked_at_for_leaks(small, tmp_path):
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 2, 40), draw.integers(0, 2, 40)
    own = changed(small, tmp_path, first=first, second=second, tells=second + 0.5)
    study = Study(**{**own, "target": ["first", "second"], "covariates": ["tells"], "task": "multilabel"})
    with pytest.raises(TableError, match=r"tells: alone tells '0' of the target second with AUC 1\.000"):
        study.check()
    allowed = {"target": ["first", "second"], "covariates": ["tells"], "task": "multilabel", "allow_leaks": ["tells"]}
    Study(**{**own, **allowed}).check()


def test_the_time_of_a_survival_is_looked_at_for_leaks(small, tmp_path):
    months = np.arange(1.0, 41)
    own = changed(small, tmp_path, months=months, event=np.arange(40) % 2, followed=months * 30)
    study = Study(**{**own, "target": ["months", "event"], "covariates": ["followed"], "task": "survival"})
    with pytest.raises(TableError, match=r"followed: \|Spearman\| with the target months is 1\.000"):
        study.check()


# ---- names of the engine's own columns ----


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("stratify", "subject"),
        ("target", "id"),
        ("covariates", "id"),
        ("subgroups", "subject"),
        ("covariates", "subject"),
    ],
)
def test_a_column_called_as_one_of_the_engines_is_refused_by_its_option(small, tmp_path, option, name):
    own = changed(small, tmp_path, id=np.arange(40) % 2, subject=np.arange(40) % 2)
    with pytest.raises(
        StudyError, match=rf"--{option}: expected a column with a name of its own, got '{name}'.*rename"
    ):
        _ = Study(**{**own, option: [name]}).rows


def test_a_column_subject_that_is_not_the_subject_is_kept_under_another_name(small, tmp_path):
    rows = Study(**changed(small, tmp_path, subject=[f"topic {n}" for n in range(40)])).rows.frame
    assert rows["subject"].tolist() == rows["patient"].tolist()
    assert rows["subject (table)"].tolist() == [f"topic {n}" for n in range(40)]


# ---- what cannot be done is said before the training ----


@pytest.mark.parametrize(
    ("more", "arms", "says"),
    [
        ({"threshold": "validation", "val_size": 0.0}, ["image"], "threshold: expected a validation part"),
        ({"tune": {"lr": [1e-3, 1e-2]}, "val_size": 0.0}, ["image"], "tune: expected a validation part"),
        ({"folds": 1, "val_size": 0.0}, ["image", "stacked"], "arm stacked: expected a validation part or several folds"),
        ({"folds": 20, "val_size": 0.0}, ["image", "concat"], "controls: expected at least two subjects in every test part"),
    ],
)  # fmt: skip
def test_a_part_that_is_needed_and_absent_is_missed_before_anything_is_trained(
    small, tmp_path, monkeypatch, more, arms, says
):
    monkeypatch.setattr("fusionconv.study.study.do_run", lambda *a, **k: pytest.fail("it was trained"))
    with pytest.raises(StudyError, match=says):
        Study(**{**small, **more}).compare(arms, out=tmp_path / "out", progress=False)


def test_leaving_one_subject_out_works_without_controls(small, tmp_path):
    given = {**small, "folds": 20, "val_size": 0.0, "controls": 0, "target": "score", "covariates": ["site"]}
    out = Study(**given).compare(["covariates"], out=tmp_path / "out", progress=False, report=False)
    assert out.predictions.groupby("fold")["subject"].nunique().eq(1).all()


# ---- images ----


def test_what_is_odd_about_images_is_in_the_report(small, tmp_path):
    shutil.copytree(small["images"], tmp_path / "images")
    for n in range(3):
        pixels = np.asarray(Image.open(tmp_path / f"images/p{n:02d}.png")).astype(np.uint16) * 257
        Image.fromarray(pixels).save(tmp_path / f"images/p{n:02d}.png")
    given = {**small, "images": str(tmp_path / "images"), "epochs": 1, "cache": None}
    with pytest.warns(ImageWarning, match="37 of 40 images have 8 bits"):
        Study(**given).compare(["image"], out=tmp_path / "out", progress=False)
    told = json.loads((tmp_path / "out/notes.json").read_text())["warnings"]
    assert any("37 of 40 images have 8 bits" in line for line in told)
    assert "37 of 40 images have 8 bits" in (tmp_path / "out/report.html").read_text()


# ---- predicting ----


def test_predict_says_what_its_networks_were_not_told(trained, tmp_path, capsys):
    folder, given = trained
    new = pd.read_csv(given["table"])[["file", "age", "site"]].iloc[8:12].assign(
        age=[np.nan, 60.5, 61.0, 62.0], site=["Ward 1", "Ward 2", "A", "Ward 1"], price=["1,5", "2.5", "x", "1.743.000"]
    )  # fmt: skip
    new.to_csv(tmp_path / "new.csv", index=False, sep=";")
    said = predict_table(
        str(folder / "out"), "hybrid@first", str(tmp_path / "new.csv"), given["images"], str(tmp_path / "a.csv")
    )
    assert said["note"].tolist() == [
        "age: missing; site: 'Ward 1' is no category of the training rows",
        "site: 'Ward 2' is no category of the training rows", "",
        "site: 'Ward 1' is no category of the training rows",
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "look at age: missing in 1 of 4 rows (column note)\n" in told
    assert "look at site: no category of training ('Ward 1') in 3 of 4 rows (column note); is it coded as in" in told
    assert said["probability"].notna().all()


def test_predict_reads_no_numbers_where_nobody_needs_them(trained, tmp_path):
    """A column that the study does not use may hold what it likes."""
    folder, given = trained
    new = pd.read_csv(given["table"], dtype=str)[["file", "age", "site"]].iloc[8:12]
    new = new.assign(age=["61,5", "60,5", "61", "62,25"], price=["1,5", "2.5", "1,5", "1.5"])
    new.to_csv(tmp_path / "new.csv", index=False, sep=";")
    where = (str(folder / "out"), "hybrid@first", str(tmp_path / "new.csv"), given["images"])
    said = predict_table(*where, str(tmp_path / "a.csv"), decimal=",")
    new.assign(age=[61.5, 60.5, 61.0, 62.25]).drop(columns="price").to_csv(tmp_path / "new.csv", index=False)
    points = predict_table(*where, str(tmp_path / "b.csv"), decimal=".")
    assert said["probability"].tolist() == points["probability"].tolist()


def test_a_comma_alone_is_a_comma():
    words = with_underscores(["--source-options", "decimal=,", "sessions=a,b"], [], ["source_options"])
    assert words == ["--source_options", "{decimal: ',', sessions: [a, b]}"]
