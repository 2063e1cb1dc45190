"""What if: each network's answer is that of load_predictor for the changed row; who has seen the row; what to doubt."""

import re
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image

from fusionconv.errors import StudyError
from fusionconv.study import Study, load_predictor
from fusionconv.study.predict import predict_table
from fusionconv.study.what_if import MISSING, WhatIf, doubts
from fusionconv.study.what_if.controls import make_control
from fusionconv.study.what_if.inside import kernels_of, rests_on
from fusionconv.study.what_if.pictures import kernel_figure
from fusionconv.study.what_if.quantities import quantities
from fusionconv.tabular import CovariateEncoder
from tests.study.pictures_out import ball_volumes, disc_pictures

ARMS = ["image", "hybrid@first", "film@last"]


@pytest.fixture(scope="module")
def out(small, tmp_path_factory):
    """Two folds; smoker lacks a value in a training row of each, side has none missing."""
    folder = tmp_path_factory.mktemp("what-if")
    frame = pd.read_csv(small["table"])
    frame["smoker"] = np.where(np.arange(len(frame)) % 10 == 3, np.nan, np.arange(len(frame)) // 2 % 2)
    frame.to_csv(folder / "t.csv", index=False)
    study = Study(**{**small, "table": str(folder / "t.csv"), "covariates": ["age", "site", "smoker"], "lr": 0.02})
    study.compare(ARMS, out=folder / "out", progress=False, report=False)
    return folder / "out"


@pytest.fixture(scope="module")
def what_if(out):
    return WhatIf.open(out)


def by_hand(out, run, arm, row, images):
    """The answer of one network by what is documented: load_predictor, the picture as Pillow reads it, transform."""
    predictor = load_predictor(out / "runs" / arm / run / "model")
    pixels = torch.from_numpy(np.array(Image.open(Path(images) / row["file"].iloc[0]), dtype=np.float32) / 255)
    covariates = None if predictor.encoder is None else torch.from_numpy(predictor.encoder.transform(row))
    return predictor(pixels[None, None], covariates)["probability"][0]


@pytest.mark.parametrize("arm", ["hybrid-first", "film-last", "image"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"age": 75.0}, {"age": 12.5}, {"site": "B"}, {"site": "C"}, {"smoker": True}, {"smoker": False}, {"age": MISSING},
     {"site": MISSING}, {"smoker": MISSING}, {"age": 40.0, "site": "A", "smoker": True}],
    ids=str,
)  # fmt: skip
def test_every_answer_is_that_of_the_network_for_the_changed_row(out, what_if, small, arm, changes):
    frame = pd.read_csv(out.parent / "t.csv")
    for place in (0, 7, 23):
        row = frame.iloc[[place]].astype({"site": object})
        for column, value in changes.items():
            row[column] = np.nan if value == MISSING else value
        answer = what_if.ask(arm, row["file"].iloc[0], changes)
        assert len(answer.able) == 2
        for said in answer.said:
            assert said.numbers["probability"] == by_hand(out, said.network.name, arm, row, small["images"])


def test_the_mean_over_folds_is_that_of_predict(out, what_if, small, tmp_path):
    row = pd.read_csv(out.parent / "t.csv").iloc[[5]].assign(age=81.5, site="A")
    row.to_csv(tmp_path / "new.csv", index=False)
    said = predict_table(str(out), "hybrid-first", str(tmp_path / "new.csv"), small["images"], str(tmp_path / "p.csv"))
    mean, low, high = what_if.ask("hybrid-first", "p05.png", {"age": 81.5, "site": "A"}).over_folds("probability")
    assert mean == pytest.approx(said["probability"].iloc[0], abs=1e-12)
    assert high - low == pytest.approx(2 * said["probability sd"].iloc[0], abs=1e-12)  # of two networks


def test_the_covariates_change_the_answer_of_a_fused_arm_and_not_of_the_image_arm(what_if):
    for arm, moves in (("hybrid-first", True), ("image", False)):
        answers = [what_if.ask(arm, "p00.png", {"age": age}).value("probability") for age in (40.0, 80.0)]
        assert (answers[0] != answers[1]) is moves


def test_unseen_is_the_network_whose_test_part_has_the_row(out, what_if):
    folds = pd.read_csv(out / "folds.csv", dtype=str).set_index("id")
    for name in what_if.frame.index:
        answer = what_if.ask("hybrid-first", name, {})
        assert [s.network.name for s in answer.unseen] == [
            f for f in folds if f != "subject" and folds.at[name, f] == "test"
        ]
        assert {s.network.fold: s.part for s in answer.said} == folds.loc[name].drop("subject").to_dict()
        assert answer.value("probability") == answer.unseen[0].numbers["probability"]
        assert answer.first is answer.unseen[0]


def test_the_answer_to_a_row_s_own_values_is_its_out_of_fold_prediction(out, what_if):
    known = pd.read_csv(out / "predictions.csv").query("arm == 'hybrid-first' and control == 'true'").set_index("id")
    for name in ("p01.png", "p07.png", "p30.png"):
        value = what_if.ask("hybrid-first", name, what_if.own(name)).value("probability")
        assert value == pytest.approx(known.at[name, "probability"], abs=1e-6)  # there in a batch, here alone


def test_an_effect_runs_through_the_answers(what_if):
    effect = what_if.effect("hybrid-first", "p03.png", {"site": "B"}, "age", "probability", points=5)
    control = what_if.controls["age"]
    assert (effect.values[0], effect.values[-1]) == (control.low, control.high)
    for at in (0, 2, 4):
        answer = what_if.ask("hybrid-first", "p03.png", {"site": "B", "age": effect.values[at]})
        for said in answer.said:
            assert effect.curves[said.network.name][at] == said.numbers["probability"]
    along = what_if.effect("hybrid-first", "p03.png", {}, "site", "probability")
    assert along.values == ("A", "B", "C", MISSING)


# ---- controls ----

BORN = ["1950-03-01", "1961-07-15", "1948-12-31", "1970-01-02", "1955-05-05", "1966-06-06"]
COLUMNS = {
    "floats": ([60.5, 71.25, 80.0, 55.5, 62.0, 66.6], "numeric", "number", 64.2),
    "whole numbers": ([3, 9, 27, 14, 5, 11], "numeric", "number", 8),
    "numbers as text": (["61.5", "70", "82.25", "55", "60", "64"], "numeric", "number", 58.5),
    "ages of DICOM": (["045Y", "061Y", "070Y", "006M", "033Y", "050Y"], "numeric", "number", 40.0),
    "with a code": ([60.5, -9.0, 80.0, 55.5, 62.0, 66.6], {"kind": "numeric", "missing_codes": [-9]}, "number", 57.0),
    "robust": ([60.5, 71.25, 80.0, 55.5, 62.0, 66.6], {"kind": "numeric", "scaling": "robust"}, "number", 57.0),
    "censored": (["<8", "12.5", "900", ">1700", "44", "60"], "censored", "number", 30.0),
    "dates": (BORN, {"kind": "age", "at": "2020-06-01"}, "number", 61.0),
    "zero and one": ([0, 1, 1, 0, 1, 0], "binary", "tick", True),
    "two texts": (["F", "M", "M", "F", "F", "M"], "binary", "choice", "M"),
    "texts": (["A", "B", "C", "A", "B", "C"], "categorical", "choice", "C"),
    "codes": ([1, 2, 3, 1, 2, 3], "categorical", "choice", 2),
    "levels": (["low", "mid", "high", "mid", "low", "high"], {"kind": "ordinal", "levels": ["low", "mid", "high"]},
               "choice", "high"),
    "with gaps": ([60.5, None, 80.0, 55.5, None, 66.6], {"kind": "numeric", "missing": "mean"}, "number", 59.0),
    "texts with gaps": (["A", None, "C", "A", "B", "C"], {"kind": "categorical", "missing": "zero"}, "choice", "B"),
}  # fmt: skip


def made(values, kind):
    frame = pd.DataFrame({"id": [f"r{n}" for n in range(len(values))], "c": values})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        missing = "error" if None not in values and "missing_codes" not in str(kind) else "mean"
        encoder = CovariateEncoder(["c"], {"c": kind}, missing=missing).fit(frame)
    return frame, encoder, make_control("c", frame, [encoder])


@pytest.mark.parametrize("name", COLUMNS)
def test_a_control_speaks_the_table_s_own_values(name):
    values, kind, shown, other = COLUMNS[name]
    frame, encoder, control = made(values, kind)
    assert control.kind == shown
    own = [control.values[i] for i in frame["id"]]
    assert control.changed(frame, own) is frame  # not a cell is touched
    assert control.missing is (encoder.check(frame.iloc[:1].assign(c=[None])) == [])
    for at in range(len(frame)):
        row = frame.iloc[[at]]
        changed = encoder.transform(control.changed(row, [other]))
        if name == "dates":
            days = float(encoder.inverse_transform(changed)["c_age"].iloc[0])
            assert days == pytest.approx(other, abs=1e-4)
            continue
        by_hand = row.assign(c=pd.Series([int(other) if other is True else other], index=row.index, dtype=object))
        assert (changed == encoder.transform(by_hand)).all()
        if control.missing:
            gone = encoder.transform(control.changed(row, [MISSING]))
            assert (gone[0] == encoder.missing_vector()).all()


@pytest.mark.parametrize(("value", "expected"), [("<8", 8.0), (">1700", 1700.0)])
def test_a_bound_keeps_its_flag_until_it_is_moved(value, expected):
    frame, encoder, control = made(["<8", "12.5", "900", ">1700", "44", "60"], "censored")
    row = frame[frame["c"] == value]
    assert control.values[row["id"].iloc[0]] == expected
    assert control.changed(row, [expected])["c"].iloc[0] == value
    moved = encoder.transform(control.changed(row, [expected + 2 * control.step]))
    assert moved[0, 1:].tolist() == [0, 0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.floats(-1e6, 1e6, width=32).filter(lambda v: v == 0 or abs(v) > 1e-30), min_size=3, max_size=12, unique=True
    )
)
def test_a_slider_holds_every_value_and_moves_by_less_than_a_fiftieth(values):
    spread = max(values) - min(values)
    if spread < 1e-3 * max(map(abs, values)):
        return
    _, _, control = made(values, "numeric")
    assert list(control.values.values()) == values
    assert control.low <= min(values) + control.step
    assert control.high >= max(values)
    assert (
        control.low < min(values) or min(values) < control.step
    )  # room to leave the range, but none below zero for counts
    assert 0 < control.step <= max(spread / 50, 1)
    assert control.low >= 0 or min(values) < 0


# ---- doubts ----


def said(what_if, name, changes, arm="hybrid-first"):
    answer = what_if.ask(arm, name, changes)
    return doubts(what_if, arm, name, changes, answer.first.network)


def train_rows(out, fold):
    rows, folds = pd.read_csv(out / "rows.csv"), pd.read_csv(out / "folds.csv")
    return rows[(folds[fold] == "train").to_numpy()]


def test_a_value_outside_of_the_training_rows_is_doubted_for_the_networks_that_have_not_seen_it(out, what_if):
    ends = {f: train_rows(out, f)["age"].agg(["min", "max"]).tolist() for f in ("repeat0-fold0", "repeat0-fold1")}
    low, high = max(e[0] for e in ends.values()), min(e[1] for e in ends.values())
    assert what_if.trained("hybrid-first", "age") == pytest.approx((low, high))
    assert not [text for text in said(what_if, "p00.png", {"age": low}) if text.startswith("age")]
    for age in (what_if.controls["age"].low, high + 0.1, low - 0.1, what_if.controls["age"].high):
        beyond = [not (e[0] <= age <= e[1]) for e in ends.values()]
        found = said(what_if, "p00.png", {"age": age})
        assert len(found) >= 1
        assert f"age = {age:.6g}" in found[0]
        assert ("1 of the 2 networks" in found[0]) == (sum(beyond) == 1)


def test_a_category_and_a_gap_that_training_does_not_have_are_doubted(out, what_if):
    for fold, network in zip(("repeat0-fold0", "repeat0-fold1"), what_if.networks("hybrid-first"), strict=True):
        assert network.fold == fold
    without = [f for f in ("repeat0-fold0", "repeat0-fold1") if "C" not in set(train_rows(out, f)["site"])]
    found = [text for text in said(what_if, "p02.png", {"site": "C"}) if text.startswith("site")]
    assert len(found) == (1 if without else 0)
    lacking = [f for f in ("repeat0-fold0", "repeat0-fold1") if train_rows(out, f)["site"].notna().all()]
    assert len(lacking) == 2
    assert any(
        "site is missing: no training row of the networks" in t for t in said(what_if, "p02.png", {"site": MISSING})
    )
    assert not any(text.startswith("smoker") for text in said(what_if, "p02.png", {"smoker": MISSING}))


def test_a_combination_that_no_training_row_is_near_to_is_doubted(tmp_path, small):
    """Old in A, young in B: an old one in B is within each column's range and near to nobody."""
    frame = pd.read_csv(small["table"])
    old = np.arange(len(frame)) % 4 < 2
    frame["age"] = np.where(old, 80.0, 30.0) + np.linspace(0, 3, len(frame)).round(1)
    frame["site"] = np.where(old, "A", "B")
    frame.to_csv(tmp_path / "t.csv", index=False)
    study = Study(**{**small, "table": str(tmp_path / "t.csv"), "folds": 1, "epochs": 1})
    study.compare(["hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    asked = WhatIf.open(tmp_path / "out")
    young = asked.frame.index[(asked.frame["site"] == "B").to_numpy()][0]
    assert said(asked, young, {}) == []
    found = said(asked, young, {"site": "A"})
    assert len(found) == 1
    assert "Few training rows" in found[0]
    own = float(asked.own(young)["age"])
    ages = asked.frame.loc[list(asked.ids("holdout", "train"))]
    ages = ages.loc[ages["site"] == "B", "age"]
    assert f"age {ages.loc[(ages - own).abs().idxmin()]:.6g}, site B" in found[0]  # the nearest is the same age


# ---- what cannot be asked ----


def test_a_row_or_covariate_that_is_not_there_is_refused(what_if):
    with pytest.raises(StudyError, match=r"expected the id of a row.*got 'nobody'"):
        what_if.ask("hybrid-first", "nobody", {})
    with pytest.raises(StudyError, match="expected covariates age, site, smoker, got 'weight'"):
        what_if.ask("hybrid-first", "p00.png", {"weight": 3.0})
    with pytest.raises(StudyError, match="arm: expected one of image, hybrid-first, film-last, got 'hybrid-frist'"):
        what_if.arm("hybrid-frist")
    assert what_if.arm(None) == "hybrid-first"
    assert what_if.arm("film@last") == "film-last"


def test_a_value_that_a_network_refuses_is_a_problem_of_that_network(small, tmp_path):
    study = Study(
        **{**small, "covariates": ["site"], "folds": 2, "epochs": 1, "unknown": "error", "rows": "site != 'C'"}
    )
    study.compare(["concat"], out=tmp_path / "out", progress=False, report=False)
    asked = WhatIf.open(tmp_path / "out")
    frame = asked.frame.assign(site=["D" if n == "p01.png" else s for n, s in asked.frame["site"].items()])
    asked.frame = frame  # as if the table had a category that no training row has
    answer = asked.ask("concat", "p01.png", {})
    assert not answer.able
    assert answer.first is None
    assert all("site" in s.problem and "'D'" in s.problem for s in answer.said)
    assert np.isnan(answer.value("probability"))


def change(out, tmp_path, edit):
    """A copy of the study whose table was edited."""
    import shutil

    shutil.copytree(out, tmp_path / "out")
    frame = pd.read_csv(out.parent / "t.csv")
    edit(frame).to_csv(tmp_path / "t.csv", index=False)
    path = tmp_path / "out/study.yaml"
    path.write_text(re.sub(r"table: .*", f"table: {tmp_path / 't.csv'}", path.read_text(), count=1))
    return tmp_path / "out"


@pytest.mark.parametrize(
    "edit",
    [lambda f: f.iloc[:-1], lambda f: f.assign(age=f["age"] + 1), lambda f: f.iloc[::-1],
     lambda f: f.assign(dx=np.where(f.index == 0, "ill", np.where(f.index == 1, "well", f["dx"])))],
    ids=["a row less", "another age", "another order", "other targets"],
)  # fmt: skip
def test_a_table_that_changed_since_is_refused(out, tmp_path, edit):
    with pytest.raises(StudyError, match="expected the table as it was"):
        WhatIf.open(change(out, tmp_path, edit))


def test_a_table_that_is_as_it_was_elsewhere_is_taken(out, what_if, tmp_path):
    asked = WhatIf.open(change(out, tmp_path, lambda f: f.assign(note="a column that is not used")))
    assert asked.ask("hybrid-first", "p00.png", {}).value("probability") == what_if.ask(
        "hybrid-first", "p00.png", {}).value("probability")  # fmt: skip


def test_a_study_without_networks_or_table_is_refused(small, tmp_path):
    with pytest.raises(StudyError, match="expected the folder of a study"):
        WhatIf.open(tmp_path)
    study = Study(**{**small, "keep": "none", "folds": 1, "epochs": 1})
    study.compare(["covariates", "hybrid@first"], out=tmp_path / "none", progress=False, report=False)
    with pytest.raises(
        StudyError, match=r"expected at least one arm with finished networks, got none of covariates, hyb"
    ):
        WhatIf.open(tmp_path / "none")
    path = tmp_path / "none/study.yaml"
    path.write_text(re.sub(r"table: .*", "table: gone.csv", path.read_text(), count=1))
    with pytest.raises(StudyError, match=r"expected the study's table gone\.csv, got no such file"):
        WhatIf.open(tmp_path / "none")


# ---- every task, and its page without a browser ----


def task_settings(name, small, folder):
    own = {**small, "folds": 1, "epochs": 1, "controls": 0, "test_size": 0.4}
    if name == "volumes":
        ball_volumes(folder / "v")
        return {**own, "table": str(folder / "v/t.csv"), "images": None, "image_column": "scan", "subject": None,
                "target": "mask", "task": "segmentation", "classes": {"rest": 0, "ball": 1, "core": 2}, "dims": 3,
                "image_size": [18, 16, 14], "covariates": ["age"], "network": "tests.study.tiny:image_network"}  # fmt: skip
    if name in ("segmentation", "restoration"):
        disc_pictures(folder / "d")
        return {**own, "table": str(folder / "d/t.csv"), "images": str(folder / "d/images"), "target": "mask",
                "task": name, "image_size": [20, 24], "covariates": ["z", "age"],
                "target_folder": str(folder / "d/masks"),
                "network": "tests.study.tiny:image_network"}  # fmt: skip
    frame = pd.read_csv(small["table"])
    frame["grade"] = np.array(["low", "mid", "high"])[np.arange(len(frame)) // 2 % 3]
    frame["one"], frame["two"] = np.arange(len(frame)) // 2 % 2, np.arange(len(frame)) // 4 % 2
    frame.to_csv(folder / "t.csv", index=False)
    target = {"binary": "dx", "multiclass": "grade", "multilabel": ["one", "two"], "regression": "score",
              "survival": ["months", "event"]}[name]  # fmt: skip
    return {**own, "table": str(folder / "t.csv"), "target": target, "task": name}


TASKS = ["binary", "multiclass", "multilabel", "regression", "survival", "segmentation", "restoration", "volumes"]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_asked_and_drawn(name, small, tmp_path):
    gradio_page = pytest.importorskip("fusionconv.study.what_if.page", reason="gradio is not installed")
    study = Study(**task_settings(name, small, tmp_path))
    study.compare(["image", "hybrid@first"], out=tmp_path / "out", progress=False, report=False)
    asked = WhatIf.open(tmp_path / "out")
    shown = quantities(asked.rows)
    row = asked.ids("holdout", "test")[0]
    answer = asked.ask("hybrid-first", row, {"age": 77.0})
    assert {q.name for q in shown} == set(answer.first.numbers)
    page = gradio_page.Page(asked, "hybrid-first")
    given = [77.0 if c == "age" else gradio_page._shown(asked.controls[c], asked.own(row)[c]) for c in page.columns]
    given += [False] * len(page.columns)
    at = page.restore(row)[-1]
    card, _, pale = page.say(row, "hybrid-first", *given, at)
    value = float(re.search(r'data-value="([^"]+)"', card)[1])
    expected = [answer.value(q.name) for q in shown]
    assert value == (max(expected) if name in ("multiclass", "multilabel") else expected[0])
    effect, kernels = page.draw(row, "hybrid-first", *given, "age", shown[0].name, at)
    pictures = page.draw_pictures(row, "hybrid-first", *given, at)
    assert pale.count("<img") == pictures.count("<img") == {"restoration": 4}.get(name, 2)
    assert "integrated gradients" in pictures
    assert "The same of the encoded covariates" in pictures
    assert "<svg" in effect
    assert "<svg" in kernels
    assert "<style" not in effect + kernels  # it would hold for the whole page
    seen = asked.ids("holdout", "train")[0]
    assert "has seen this subject in training" in page.say(seen, "hybrid-first", *given, at)[0]
    card, _, _ = page.say(row, "image", *given, at)
    assert "image arm" not in card


@pytest.mark.parametrize("first", ["hybrid-first", "image"])
def test_the_range_under_a_slider_is_that_of_the_arm_that_is_chosen(out, what_if, first):
    """Also where the page was opened on an arm that takes no covariates."""
    gradio_page = pytest.importorskip("fusionconv.study.what_if.page", reason="gradio is not installed")
    ends = [train_rows(out, f)["age"].agg(["min", "max"]) for f in ("repeat0-fold0", "repeat0-fold1")]
    low, high = max(e["min"] for e in ends), min(e["max"] for e in ends)
    control = what_if.controls["age"]
    start, end = (100 * (v - control.low) / (control.high - control.low) for v in (low, high))
    page = gradio_page.Page(what_if, first)
    at = page.columns.index("age")
    opened, band = page.inputs[at].info, page.bands.value
    chosen = page.choose("hybrid-first")
    for info, style in [(chosen[at]["info"], chosen[-1])] + [(opened, band)] * (first == "hybrid-first"):
        assert info == f"trained on {low:.6g} to {high:.6g}"
        assert re.search(rf"#covariate-{at} .*var\(--fc-band\) {start:.2f}%, var\(--fc-band\) {end:.2f}%", style)
    image = page.choose("image")
    assert (image[at]["info"], "#covariate" in image[-1]) == ("", False)


# ---- inside the network that is shown ----


def test_what_an_answer_rests_on_sums_to_its_log_odds(what_if):
    """Integrated gradients are complete: from the mean image with covariates of 0 to this image with these."""
    answer = what_if.ask("hybrid-first", "p04.png", {"age": 70.0})
    found = rests_on(what_if, answer.first, "p04.png", {"age": 70.0}, "probability")
    predictor = answer.first.network.predictor
    nothing = predictor.answer(torch.zeros(1, 1, 16, 16), torch.zeros(1, predictor.encoder.num_covariates))
    odds = [np.log(p / (1 - p)) for p in (answer.first.numbers["probability"], nothing["probability"][0])]
    assert float(found.maps.sum()) + sum(found.covariates.values()) == pytest.approx(
        odds[0] - odds[1], rel=0.02, abs=1e-3
    )
    assert abs(odds[0] - odds[1]) > 0.01
    assert list(found.covariates) == predictor.encoder.get_feature_names_out().tolist()


def test_the_kernels_are_those_of_the_layer_at_these_covariates(what_if):
    said = what_if.ask("hybrid-first", "p04.png", {"age": 70.0}).first
    name, plain, now = kernels_of(what_if, said, "p04.png", {"age": 70.0})
    layer = said.network.predictor.network.get_submodule(name)
    row = said.network.predictor.encoder.transform(what_if.frame.loc[["p04.png"]].assign(age=70.0))[0]
    by_hand = layer.weight + sum(float(s) * v for s, v in zip(row, layer.covariate_weight, strict=True))
    assert torch.allclose(plain.float(), layer.weight)
    assert torch.allclose(now.float(), by_hand, atol=1e-6)
    film = what_if.ask("film-last", "p04.png", {}).first
    assert kernels_of(what_if, film, "p04.png", {}) is None
    assert kernel_figure(None) == ""


def test_a_hazard_is_compared_with_the_median_test_subject(small, tmp_path):
    study = Study(**task_settings("survival", small, tmp_path))
    study.compare(["image"], out=tmp_path / "out", progress=False, report=False)
    known = pd.read_csv(tmp_path / "out/predictions.csv").query("control == 'true'").set_index("id")["log_hazard"]
    asked = WhatIf.open(tmp_path / "out")
    for name in known.index[:3]:
        answer = asked.ask("image", name, {})
        assert answer.value("log_hazard") == pytest.approx(known[name], abs=1e-6)
        assert answer.value("hazard_ratio") == pytest.approx(np.exp(known[name] - known.median()), abs=1e-5)
