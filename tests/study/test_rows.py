"""Rows: which are analysed, what becomes of the others, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import SplitWarning, StudyError, TableError
from fusionconv.study.checks import check_rows
from fusionconv.study.folds import fold_data, make_folds
from fusionconv.study.rows import read_rows
from fusionconv.study.settings import make_settings


@pytest.fixture
def study(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    frame = pd.DataFrame({
        "file": [f"i{n}" for n in range(12)],
        "lesion": [f"L{n // 2}" for n in range(12)],
        "dx": ["nv", "mel", "bcc", "nv", "nv", "akiec", "mel", "nv", "bkl", "bkl", "nv", "mel"],
        "age": [30.0, 40, 50, np.nan, 60, 70, 80, 20, 35, 45, 55, 65],
        "score": np.linspace(0.5, 3.1, 12),
    })  # fmt: skip
    for name in frame["file"]:
        (images / f"{name}.jpg").write_bytes(name.encode())

    def read(frame=frame, **options):
        frame.to_csv(tmp_path / "t.csv", index=False)
        given = {"table": tmp_path / "t.csv", "images": images, "image_column": "file", "suffix": ".jpg",
                 "subject": "lesion", "target": "dx", **options}  # fmt: skip
        return read_rows(make_settings(given))

    read.frame, read.images, read.tmp = frame, images, tmp_path
    return read


def test_positive_groups_classes(study):
    rows = study(positive=["mel", "bcc", "akiec"])
    assert rows.task.NAME == "binary"
    expected = study.frame["dx"].isin(["mel", "bcc", "akiec"]).astype(float)
    assert rows.targets.tolist() == expected.tolist()
    assert rows.frame["id"].tolist() == [f"{n}.jpg" for n in study.frame["file"]]
    assert rows.frame["subject"].tolist() == study.frame["lesion"].tolist()
    assert all(path == str(study.images / i) for i, path in rows.images["file"].items())


def test_all_texts_are_classes_and_drop_leaves_some_out(study):
    rows = study(drop=["akiec"])
    assert rows.task.NAME == "multiclass"
    assert rows.task.names == ["bcc", "bkl", "mel", "nv"]
    assert len(rows.frame) == 11
    assert ("target left out by --drop", -1, "akiec") in rows.flow.lines


def test_classes_in_order_and_others_are_counted(study):
    rows = study(classes={"benign": ["nv", "bkl"], "malignant": ["mel"]})
    assert rows.task.NAME == "binary"
    assert rows.task.names == ["benign", "malignant"]
    gone = next(line for line in rows.flow.lines if line[0] == "target of no class")
    assert gone[1] == -2
    assert "bcc (1)" in gone[2]


def test_numbers_are_a_regression_and_few_whole_numbers_ask(study):
    assert study(target="score").task.NAME == "regression"
    grades = study.frame.assign(grade=[1, 2, 3, 4] * 3)
    with pytest.raises(StudyError, match="classes or numbers"):
        study(grades, target="grade")
    assert study(grades, target="grade", task="multiclass").task.names == ["1", "2", "3", "4"]
    assert study(grades, target="grade", task="regression").task.NAME == "regression"
    assert study(grades, target="grade", positive=4).targets.sum() == 3


def test_the_flow_adds_up(study):
    (study.images / "i3.jpg").unlink()
    frame = study.frame.assign(dx=study.frame["dx"].where(study.frame.index != 5))
    rows = study(frame, rows="age < 79 or age != age", drop=["bkl"])
    *steps, (last, count, _) = rows.flow.lines
    assert last == "analysed"
    assert sum(n for _, n, _ in steps) == count == len(rows.frame)
    assert {what for what, _, _ in steps} >= {"target missing", "image not there", "not among --rows"}


def test_limit_is_by_subject_whatever_the_order(study):
    binary = {"positive": ["mel", "bcc", "akiec"], "limit": 4}
    rows, turned = study(**binary), study(study.frame.iloc[::-1], **binary)
    assert rows.frame["subject"].nunique() == 4
    assert set(rows.frame["subject"]) == set(turned.frame["subject"])
    assert study(**{**binary, "limit": 100}).frame["subject"].nunique() == 6


def test_missing_codes_of_the_target(study):
    frame = study.frame.assign(score=study.frame["score"].where(study.frame.index > 1, -9))
    assert len(study(frame, target="score", missing_codes=[-9]).frame) == 10


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "nope"}, "nope"),
        ({"image_column": "path"}, "--image-column: expected a column"),
        ({"subject": "person"}, "--subject: expected a column"),
        ({"covariates": ["dx"]}, "the answer"),
        ({"suffix": ".png"}, "check --images, --image-column and --suffix"),
        ({"positive": ["melanoma"]}, r"got \['melanoma'\]; there are nv \(5\)"),
        ({"positive": ["nv", "mel", "bcc", "akiec", "bkl"]}, "got all of"),
        ({"drop": ["xyz"]}, "drop: expected values"),
        ({"classes": ["nv", "xyz"]}, "classes: expected values"),
        ({"classes": {"a": ["nv", "mel"], "b": ["mel"]}}, "each value in one class"),
        ({"task": "binary"}, "expected two classes"),
        ({"rows": "agee > 3"}, "expected a query"),
        ({"rows": "age + 1"}, "says yes or no"),
        ({"rows": "age > 300"}, "got none of 12"),
        ({"target": ["dx", "score"]}, "give --task survival"),
        ({"images": "nowhere"}, "expected a folder"),
        ({"table": "nowhere.csv"}, "expected a file"),
    ],
)
def test_what_does_not_fit_is_refused(study, options, says):
    with pytest.raises((StudyError, TableError), match=says):
        study(**options)


def test_one_image_in_two_rows(study):
    frame = study.frame.assign(file=["i0", *study.frame["file"][:11]])
    with pytest.raises(TableError, match="2 rows that share 1 images"):
        study(frame)
    assert len(study(frame, on_error="skip").frame) == 10


@pytest.mark.parametrize("path", ["../t", "/etc/passwd", "sub/../../t"])
def test_a_path_outside_the_folder(study, path):
    (study.tmp / "t.jpg").write_bytes(b"")
    with pytest.raises(TableError, match="leaves it"):
        study(study.frame.assign(file=[path, *study.frame["file"][1:]]))


def test_a_link_out_of_the_folder(study):
    outside = study.tmp / "outside.jpg"
    outside.write_bytes(b"x")
    (study.images / "i0.jpg").unlink()
    (study.images / "i0.jpg").symlink_to(outside)
    with pytest.raises(TableError, match="leaves it"):
        study()


def test_rows_to_predict_need_no_target(study):
    made = study(positive=["mel", "bcc", "akiec"])
    frame = study.frame.drop(columns="dx")
    frame.to_csv(study.tmp / "new.csv", index=False)
    settings = make_settings({"table": study.tmp / "new.csv", "images": study.images, "image_column": "file",
                              "suffix": ".jpg", "target": "dx"})  # fmt: skip
    rows = read_rows(settings, made.task, with_target=False)
    assert len(rows.frame) == 12
    assert rows.targets.shape == (12, 0)


def test_the_flow_begins_with_what_became_of_rows_before_the_table(small, tmp_path):
    frame = pd.read_csv(small["table"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.flow.csv").write_text(
        'step,rows,detail\nrows of the source,50,\n"later visits",-10,"bl, then m06"\n'
    )
    rows = read_rows(make_settings(small | {"table": str(tmp_path / "t.csv")}))
    assert rows.flow.lines[:3] == [
        ("rows of the source", 50, ""),
        ("later visits", -10, "bl, then m06"),
        ("rows of the table", 40, ""),
    ]


@pytest.fixture
def few(study):
    """Rows of 12 people, of whom the last four differ in K, sex and site, and a fold that trains without them."""
    frame = study.frame.assign(
        lesion=[f"L{n}" for n in range(12)], K=[5] * 8 + [6, 7, 8, 9], sex=["m"] * 8 + ["f"] * 4,
        site=["A"] * 8 + ["B", "C", "B", "C"], label=["a", "b"] * 6,
    )  # fmt: skip
    parts = ["train"] * 8 + ["test"] * 4
    folds = pd.DataFrame({"fold0": parts[::-1], "fold1": parts})

    def read(covariates, **kinds):
        settings = {"table": study.tmp / "t.csv", "images": study.images, "image_column": "file", "suffix": ".jpg",
                    "subject": "lesion", "target": "label", "covariates": covariates, "kinds": kinds}  # fmt: skip
        rows = study(frame=frame, target="label", covariates=covariates)
        return rows, folds.set_axis(rows.frame.index), make_settings(settings)

    return read


def test_a_number_that_is_constant_in_the_training_rows_of_a_fold_names_the_fold(few):
    rows, folds, settings = few(["K"])
    with pytest.raises(
        TableError,
        match=r"fold fold1: expected numeric column 'K' to vary over the training rows, got 8 rows between 5 and 5 .*; in "
        r"the table 'K' varies: take fewer folds, another --seed, or leave it out",
    ):
        check_rows(rows, folds, settings, [["K"]])
    assert fold_data(rows, folds["fold0"], settings, None).num_covariates >= 1


def test_words_that_are_constant_in_the_training_rows_of_a_fold_name_the_fold(few):
    rows, folds, settings = few(["sex"])
    with pytest.raises(
        TableError, match=r"fold fold1: column 'sex': expected several values, .*'sex' varies: take fewer"
    ):
        check_rows(rows, folds, settings, [["sex"]])


KINDS = {
    "sex": {"kind": "binary", "codes": {"m": 0, "f": 1}},
    "site": {"kind": "categorical", "categories": ["A", "B", "C"]},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_category_that_is_constant_in_the_training_rows_of_a_fold_is_told_once(few, name):
    rows, folds, settings = few([name], **{name: KINDS[name]})
    said = [text for text in check_rows(rows, folds, settings, [[name], [name]]) if "cannot be learnt" in text]
    assert said == [
        f"{name}: one value in all training rows of fold1, so that its effect (V) cannot be learnt there; take fewer "
        "folds, another --seed, or leave it out"
    ]
    assert not [text for text in check_rows(rows, folds[["fold0"]], settings, [[name]]) if "cannot be learnt" in text]


# ---- columns that stay text ----


def with_points_and_commas(study):
    """Ages with decimal commas; and a column that no option names, whose points are no decimal marks."""
    frame = study.frame.assign(size=[f"{n},5" for n in range(12)], version=[f"1.{n}67" for n in range(12)])
    return frame.drop(columns=["age", "score"])


def test_a_column_that_nothing_asks_for_need_not_be_a_number(study):
    frame = with_points_and_commas(study)
    with pytest.raises(TableError, match=r"'version'.*as text="):
        study(frame, decimal=",", covariates=["size"])
    rows = study(frame, decimal=",", covariates=["size"], text=["version"])
    assert rows.frame["size"].tolist() == [n + 0.5 for n in range(12)]
    assert rows.frame["version"].tolist() == frame["version"].tolist()


def test_a_text_column_that_is_absent_is_named_by_its_option(study):
    with pytest.raises(StudyError, match=r"--text: expected a column of .*, got 'sight'; it has file, lesion"):
        study(text=["sight"])


def test_rows_to_predict_need_no_text_column_that_nothing_asks_for(study):
    frame = with_points_and_commas(study)
    options = {"decimal": ",", "covariates": ["size"], "text": ["version"]}
    task = study(frame, **options).task
    given = {"table": study.tmp / "t.csv", "images": study.images, "image_column": "file", "suffix": ".jpg",
             "subject": "lesion", **options}  # fmt: skip
    for new in (frame, frame.drop(columns="version")):
        new.drop(columns="dx").to_csv(study.tmp / "t.csv", index=False)
        assert read_rows(make_settings(given), task, with_target=False).frame["size"].tolist()[:2] == [0.5, 1.5]


def test_a_warning_of_the_split_names_the_target_by_its_columns(study):
    settings = make_settings({"target": "dx", "folds": 2, "val_size": 0.0})
    with pytest.warns(SplitWarning, match='column "the target\'s dx": expected one class per subject'):
        make_folds(study(drop=["akiec"]), settings)
