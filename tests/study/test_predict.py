"""`fusionconv predict`: one row of the answers for each row of the table, in its order, each bad one with its reason."""

import shutil

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import StudyError, TableError
from fusionconv.study import Study
from fusionconv.study.command import main
from fusionconv.study.predict import predict_table
from fusionconv.study.rows import read_rows
from fusionconv.study.settings import make_settings

ANSWERS = ["probability", "probability sd"]


@pytest.fixture(scope="module")
def study(small, tmp_path_factory):
    """A finished study with decimal points; images beside those of the others, one of them damaged."""
    out = tmp_path_factory.mktemp("predict")
    given = {**small, "epochs": 1, "controls": 0, "covariates": ["age", "site"]}
    Study(**given).compare(["image", "hybrid@first"], out=out / "out", progress=False, report=False)
    images = out / "images"
    shutil.copytree(small["images"], images)
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return out, images


@pytest.fixture
def rows(small):
    return pd.read_csv(small["table"])[["file", "age", "site", "patient"]].iloc[8:14].reset_index(drop=True)


def answers(study, frame, tmp_path, name="new", arm="hybrid@first", **more):
    out, images = study
    frame.to_csv(tmp_path / f"{name}.csv", index=False)
    target = tmp_path / f"{name}-answers.csv"
    said = predict_table(str(out / "out"), arm, str(tmp_path / f"{name}.csv"), str(images), str(target), **more)
    read = pd.read_csv(target, keep_default_na=False)
    assert read["id"].tolist() == said["id"].tolist()
    assert read["problem"].tolist() == said["problem"].tolist()
    return said


BAD = {  # the bad rows that are put in, the ids that they have in the answers, and what their reason says
    "missing image": ([{"file": "gone.png", "age": 50.0}], ["gone.png"], "got none: there is no file"),
    "missing in a folder": ([{"file": "a\\gone.png", "age": 50.0}], ["a/gone.png"], "there is no file"),
    "folder": ([{"file": "folder", "age": 50.0}], ["folder"], "is a folder"),
    "no path": ([{"file": None, "age": 50.0}], [""], "expected a path in file, got an empty cell; fill it in"),
    "damaged image": ([{"file": "broken.png", "age": 50.0}], ["broken.png"], "broken.png"),
    "endless number": ([{"file": "p30.png", "age": "inf"}], ["p30.png"], "age: "),
    "a word for a number": ([{"file": "p30.png", "age": "sixty"}], ["p30.png"], "age: "),
    "two rows for an image": (
        [{"file": "p30.png", "age": 50.0}, {"file": "./p30.png", "age": 70.0}], ["p30.png"] * 2,
        "expected one row per image, got 2 of this one; leave the one that is right",
    ),
    "three equal rows": ([{"file": "p30.png", "age": 50.0}] * 3, ["p30.png"] * 3, "got 3 of this one"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", [0, 3, 6], ids=["first", "middle", "last"])
def test_every_row_has_its_answer_or_its_problem_in_its_place(study, rows, tmp_path, capsys, kind, place):
    (study[1] / "folder").mkdir(exist_ok=True)
    put, ids, says = BAD[kind]
    bad = pd.DataFrame(put).assign(site="A", patient="x")
    frame = pd.concat([rows.iloc[:place], bad, rows.iloc[place:]], ignore_index=True)
    said = answers(study, frame, tmp_path)
    told = capsys.readouterr().out
    assert f"wrote {len(frame)} rows to" in told
    assert f"; {len(bad)} of them could not be predicted (column problem)" in told
    expected = rows["file"].tolist()
    assert said["id"].tolist() == expected[:place] + ids + expected[place:]
    failed = np.zeros(len(frame), bool)
    failed[place : place + len(bad)] = True
    assert (said["problem"] != "").tolist() == failed.tolist()
    assert all(says in reason for reason in said.loc[failed, "problem"])
    assert said.loc[failed, [*ANSWERS, "decision", "decided", "networks"]].isna().all(axis=None)
    alone = answers(study, rows, tmp_path, "alone")
    assert "could not" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(said[~failed].reset_index(drop=True), alone, rtol=1e-6, atol=1e-7)


def test_the_table_of_the_newcomer(study, small, tmp_path, capsys):
    """Images twice at both ends, one gone, one bad value: all kinds at once, in a table in no order."""
    frame = pd.read_csv(small["table"])[["file", "age", "site"]].iloc[::-1].reset_index(drop=True)
    frame = pd.concat([frame, frame.iloc[[0, 39]].assign(age=33.0)], ignore_index=True)
    frame.loc[5, "file"] = "gone.png"
    frame = frame.astype({"age": object})
    frame.loc[11, "age"] = "sixty"
    said = answers(study, frame, tmp_path)
    assert said["id"].tolist() == frame["file"].tolist()
    assert np.flatnonzero(said["problem"] != "").tolist() == [0, 5, 11, 39, 40, 41]
    assert "wrote 42 rows" in (told := capsys.readouterr().out)
    assert "6 of them" in told


def test_two_rows_and_one_image_missing(study, rows, tmp_path, capsys):
    frame = rows.iloc[:2].assign(file=["gone.png", rows["file"][1]])
    said = answers(study, frame, tmp_path)
    assert said["problem"].str.contains("gone.png").tolist() == [True, False]
    assert "wrote 2 rows" in (told := capsys.readouterr().out)
    assert "1 of them could not" in told


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda f: pd.concat([f, f.assign(age=20.0)]), TableError, "got several for every one"),
        (lambda f: f.assign(file="gone.png"), StudyError, "got none: there is no file"),
        (lambda f: f.assign(file="broken.png").iloc[:1], StudyError, "expected at least one usable image"),
        (
            lambda f: f.assign(age=["sixty", *f["age"][1:]]).iloc[:1],
            StudyError,
            "expected at least one row that can be predicted",
        ),
    ],
    ids=["only duplicates", "no image", "damaged", "covariates"],
)
def test_a_table_without_a_good_row_is_refused_as_a_whole(study, rows, tmp_path, change, error, says):
    with pytest.raises(error, match=says):
        answers(study, change(rows), tmp_path)
    assert not (tmp_path / "new-answers.csv").exists()


def test_rows_of_the_studys_own_choice_are_predicted_too(small, rows, tmp_path):
    """--rows and --drop chose the rows that were learnt from; the new table's rows are all answered."""
    given = {**small, "epochs": 1, "folds": 1, "controls": 0, "covariates": [], "rows": "age < 60"}
    Study(**given).compare(["image"], out=tmp_path / "out", progress=False, report=False)
    frame = rows.assign(age=np.r_[99.0, rows["age"][1:]])
    said = answers((tmp_path, small["images"]), frame, tmp_path, arm="image")
    assert said["id"].tolist() == frame["file"].tolist()
    assert (said["problem"] == "").all()


def test_the_flow_of_rows_to_predict_has_every_lost_row(study, rows, small, tmp_path):
    """The places are the table's, also where a query left rows out before."""
    frame = pd.concat([rows, rows.iloc[[4]]], ignore_index=True)
    frame.loc[2, "file"] = "gone.png"
    frame.assign(dx="ill").to_csv(tmp_path / "t.csv", index=False)
    given = make_settings({**small, "table": str(tmp_path / "t.csv"), "covariates": [], "on_error": "skip",
                           "rows": f"file != '{rows['file'][0]}'"})  # fmt: skip
    found = read_rows(given, Study(**small).rows.task, with_target=False)
    assert {place: name for place, (name, _) in found.flow.lost.items()} == {
        2: "gone.png", 4: rows["file"][4], 6: rows["file"][4],
    }  # fmt: skip
    assert found.places == {rows["file"][n]: n for n in (1, 3, 5)}
    assert found.frame["id"].tolist() == list(found.places)


@pytest.mark.parametrize("bad", [False, True])
def test_a_decision_is_a_whole_number_beside_a_bad_row_and_has_the_classs_name(study, rows, tmp_path, bad):
    frame = rows.assign(file=["gone.png", *rows["file"][1:]]) if bad else rows
    said = answers(study, frame, tmp_path)
    assert str(said["decision"].dtype) == str(said["networks"].dtype) == "Int64"
    good = said[said["problem"] == ""]
    assert good["decided"].tolist() == [["ill", "well"][n] for n in good["decision"]]
    text = pd.read_csv(tmp_path / "new-answers.csv", dtype=str, keep_default_na=False)
    assert set(text["decision"]) <= {"0", "1", ""}
    assert set(text["networks"]) <= {"2", ""}
    assert (text["decision"] == "").tolist() == [bad, *[False] * 5]


def test_several_classes_and_numbers(small, rows, tmp_path):
    table = pd.read_csv(small["table"])
    table["grade"] = np.arange(len(table)) % 3
    table.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "covariates": [], "epochs": 1, "folds": 1, "controls": 0}
    frame = rows.assign(file=["gone.png", *rows["file"][1:]])
    for target, task in (("grade", "multiclass"), ("score", "regression")):
        Study(**{**given, "target": target, "task": task}).compare(
            ["image"], out=tmp_path / target / "out", progress=False, report=False
        )
        said = answers((tmp_path / target, small["images"]), frame, tmp_path, arm="image")
        assert said["id"].tolist() == frame["file"].tolist()
        assert (said["problem"] != "").tolist() == [True, *[False] * 5]
        if task == "multiclass":
            best = said.iloc[1:][["p_0", "p_1", "p_2"]].to_numpy(dtype=float).argmax(1)
            assert said["decided"].iloc[1:].tolist() == said["decision"].iloc[1:].tolist() == list(map(str, best))
        else:
            assert "decided" not in said


# ---- decimal marks ----


def with_commas(frame, path):
    frame.to_csv(path, index=False, sep=";", decimal=",")


def test_the_new_table_may_have_another_decimal_mark(study, rows, tmp_path, capsys):
    out, images = study
    expected = answers(study, rows, tmp_path)
    with_commas(rows, tmp_path / "commas.csv")
    words = ["predict", "--study", str(out / "out"), "--arm", "hybrid@first", "--images", str(images), "--out",
             str(tmp_path / "a.csv"), "--table"]  # fmt: skip
    assert main([*words, str(tmp_path / "commas.csv")]) == 2
    assert "--decimal ," in capsys.readouterr().err
    assert main([*words, str(tmp_path / "commas.csv"), "--decimal", ","]) == 0
    found = pd.read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(found[ANSWERS], expected[ANSWERS], atol=1e-7)
    assert main([*words, str(tmp_path / "new.csv"), "--decimal", "."]) == 0
    assert main([*words, str(tmp_path / "new.csv"), "--decimal", "point"]) == 2
    assert "decimal: expected '.' or ',', got 'point'; give" in capsys.readouterr().err


def test_a_table_with_points_for_a_study_with_commas(small, study, rows, tmp_path):
    with_commas(pd.read_csv(small["table"]), tmp_path / "t.csv")
    given = {**small, "table": str(tmp_path / "t.csv"), "decimal": ",", "epochs": 1, "folds": 1, "controls": 0}
    Study(**given).compare(["hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    with_commas(rows, tmp_path / "new.csv")
    here, target = str(tmp_path / "out"), str(tmp_path / "a.csv")
    expected = predict_table(here, "hybrid@first", str(tmp_path / "new.csv"), small["images"], target)
    said = answers((tmp_path, small["images"]), rows, tmp_path, "points", decimal=".")
    np.testing.assert_allclose(said[ANSWERS].to_numpy(float), expected[ANSWERS].to_numpy(float), atol=1e-7)
