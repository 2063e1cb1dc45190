"""What a hostile reader found: each test is a silent wrong number that once was."""

import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv.errors import StudyError, TableError
from fusionconv.study import Study, load_predictor
from fusionconv.study.arms import parse_arm
from fusionconv.study.plain_models import fit_estimator
from fusionconv.study.predict import predict_table
from fusionconv.study.results import by_group
from fusionconv.study.rows import read_rows
from fusionconv.study.runs import _move
from fusionconv.study.settings import make_settings
from fusionconv.study.tasks import make_task
from fusionconv.study.written_tables import read_predictions
from tests.study.conftest import NETWORK, write_pictures


@pytest.mark.parametrize("name", ["id", "patient", "subject"])
def test_the_subject_column_may_have_any_name(small, tmp_path, name):
    table = pd.read_csv(small["table"]).rename(columns={"patient": name})
    table.to_csv(tmp_path / "t.csv", index=False)
    rows = read_rows(make_settings({**small, "table": str(tmp_path / "t.csv"), "subject": name}))
    assert rows.frame["subject"].tolist() == table[name].tolist()


@pytest.mark.parametrize("names", [["0", "1", "2"], ["-1", "0.5", "1e3"], ["nan", "inf", "x"], ["a", "b", "c"]])
def test_classes_named_by_numbers_are_read_back_as_written(tmp_path, names):
    task = make_task({"task": "multiclass", "columns": ["grade"], "classes": {n: [n] for n in names}})
    draw = np.random.default_rng(0)
    codes = draw.integers(0, 3, 60)
    outputs = draw.normal(size=(60, 3)) + 2 * np.eye(3)[codes]
    frame = pd.DataFrame({"id": [str(n) for n in range(60)], "control": "true", **task.truth(codes)})
    frame = task.decide(frame.assign(**task.answers(outputs), part="test"))
    frame.to_csv(tmp_path / "p.csv", index=False)
    back = read_predictions(tmp_path / "p.csv")
    assert task.measure(back) == task.measure(task.decide(back)) == task.measure(frame)
    assert task.measure(back)["accuracy"] > 0.5


def test_new_rows_without_an_image_are_prepared_as_in_training(small, tmp_path):
    table = pd.read_csv(small["table"])
    table["second"] = np.where(np.arange(len(table)) % 3 == 0, None, table["file"].to_numpy()[::-1])
    table.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "image_column": ["file", "second"], "folds": 1, "epochs": 1}
    found = Study(**given).compare(["image"], out=tmp_path / "out", progress=False, report=False).predictions
    there = predict_table(str(tmp_path / "out"), "image", given["table"], given["images"], str(tmp_path / "p.csv"))
    expected = found.set_index("id")["probability"]
    assert there.set_index("id")["probability"].reindex(expected.index).to_numpy() == pytest.approx(
        expected.to_numpy(), abs=1e-5
    )


def test_a_run_that_was_killed_does_not_go_on_with_other_data(small, tmp_path, monkeypatch):
    table = pd.read_csv(small["table"])
    table.assign(score=-table["score"]).to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "target": "score", "folds": 1}

    def stop(self):
        raise KeyboardInterrupt

    from fusionconv.study.module import StudyModule

    with monkeypatch.context() as patch:
        patch.setattr(StudyModule, "on_test_epoch_start", stop)
        with pytest.raises(BaseException):  # noqa: B017 (Lightning turns it into an exit)
            Study(**given).compare(["image"], out=tmp_path / "out", progress=False, report=False)
    assert (tmp_path / "out/runs/image/holdout/last.ckpt").is_file()
    table.to_csv(tmp_path / "t.csv", index=False)  # the table is mended
    again, fresh = (
        Study(**given).compare(["image"], out=tmp_path / name, progress=False, report=False).predictions
        for name in ("out", "fresh")
    )
    assert again["prediction"].tolist() == fresh["prediction"].tolist()


@pytest.mark.parametrize(
    "name", ["image_size", "covariates", "missing", "loss", "val_size", "select", "seed", "normalize"]
)
def test_tune_refuses_what_it_could_not_change(name):
    with pytest.raises(StudyError, match=f"tune: .*{name}"):
        parse_arm("image").trials({name: [1, 2]})


def test_fewer_seeds_and_repeats_leave_the_others_out(small, tmp_path):
    given = {**small, "epochs": 1}
    Study(**given, seeds=2, repeats=2).compare(["image", "concat"], out=tmp_path / "out", progress=False, report=False)
    less = Study(**given).compare(["image", "concat"], out=tmp_path / "out", progress=False, report=False)
    fresh = Study(**given).compare(["image", "concat"], out=tmp_path / "fresh", progress=False, report=False)
    pd.testing.assert_frame_equal(less.predictions, fresh.predictions)


def test_all_networks_of_a_control_get_the_same_rows(small, tmp_path, monkeypatch):
    import fusionconv.study.runs as runs

    seen, own = {}, runs.control_rows_of

    def look(data, settings, seed):
        rows = own(data, settings, seed)
        seen.setdefault(data.fold, []).append({k: [v.tolist() for v in r.values()] for k, r in rows.items()})
        return rows

    monkeypatch.setattr(runs, "control_rows_of", look)
    Study(**{**small, "epochs": 1, "seeds": 2}).compare(
        ["concat", "covariates"], out=tmp_path / "out", progress=False, report=False
    )
    for given in seen.values():
        assert len(given) == 3
        assert given[0] == given[1] == given[2]


@pytest.mark.parametrize("threshold", [0.2, 0.8])
def test_stacked_decides_at_the_threshold_of_the_others(small, tmp_path, threshold):
    given = {**small, "epochs": 1, "threshold": threshold}
    found = Study(**given).compare(["image", "stacked"], out=tmp_path / "out", progress=False, report=False).predictions
    own = found[found["arm"] == "stacked"]
    assert (own["decision"] == (own["probability"] >= threshold)).all()
    assert (own["threshold"] == threshold).all()


def test_an_arms_own_covariates_are_in_its_key_and_looked_at_for_leaks(small, tmp_path):
    table = pd.read_csv(small["table"]).assign(bmi=np.random.default_rng(1).normal(25, 3, 40).round(2))
    table.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "covariates": ["age"]}
    arms = [{"arm": "covariates", "covariates": ["bmi"]}]
    Study(**given).compare(arms, out=tmp_path / "out", progress=False, report=False)
    table.assign(bmi=table["bmi"] + table["age"].fillna(0)).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(StudyError, match="rows"):
        Study(**given).compare(arms, out=tmp_path / "out", progress=False, report=False)
    table.assign(bmi=(table["dx"] == "ill") * 5.0).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(TableError, match="bmi"):
        Study(**given).compare(arms, out=tmp_path / "other", progress=False, report=False)


def test_balanced_loss_weighs_the_classes_of_every_arm():
    draw = np.random.default_rng(0)
    y = draw.choice(3, 600, p=[0.9, 0.05, 0.05])
    x = draw.normal(size=(600, 2)) + 0.3 * np.eye(3)[y][:, 1:]
    classes = {n: [n] for n in "abc"}
    p = {
        loss: fit_estimator(make_task({"task": "multiclass", "columns": ["y"], "loss": loss, "classes": classes}), None, x, y)(x)
        for loss in ("cross_entropy", "balanced")
    }  # fmt: skip
    assert p["cross_entropy"]["p_a"].mean() == pytest.approx(0.9, abs=0.02)
    assert p["balanced"]["p_a"].mean() < 0.6


def test_survival_without_an_event_is_refused_in_training_and_not_chosen_on():
    task = make_task({"task": "survival", "columns": ["months", "event"]})
    assert task.absent(np.array([[1.0, 0], [2, 0]]))
    assert not task.absent(np.array([[1.0, 0], [2, 1]]))


def test_a_covariate_with_the_name_of_a_column_of_predictions_keeps_its_groups():
    task = make_task({"task": "binary", "columns": ["y"], "classes": {"n": ["n"], "p": ["p"]}})
    ids = [f"i{n}" for n in range(40)]
    target = np.arange(40) % 2
    given = task.decide(pd.DataFrame({"arm": "image", "fold": "repeat0-fold0", "repeat": 0, "control": "true", "id": ids,
                                      "subject": ids, "target": target, "probability": 0.3 + 0.4 * target}))  # fmt: skip
    rows = pd.DataFrame({"id": ids, "subject": ids, "repeat": np.repeat(["first", "second"], 20)})
    settings = make_settings({"covariates": ["repeat"], "resamples": 100})
    table = by_group(given, rows, task, task.metric("accuracy"), settings)
    assert set(table["group"]) >= {"first", "second"}
    assert set(table["covariate"]) == {"all", "repeat"}


def test_a_folder_that_was_moved_before_the_kill_is_not_thrown_away(tmp_path):
    (tmp_path / "model").mkdir()
    _move(tmp_path / "trials/0/model", tmp_path / "model")
    assert (tmp_path / "model").is_dir()


def test_stacked_needs_the_image_arm_by_its_name(small, tmp_path):
    with pytest.raises(StudyError, match="stacked"):
        Study(**small).compare([{"arm": "image", "name": "plain"}, "stacked"], out=tmp_path / "out", progress=False)


@pytest.mark.parametrize("folds", [1, 2])
def test_stacked_chooses_its_threshold_on_validation_rows(small, tmp_path, folds):
    given = {**small, "epochs": 1, "threshold": "validation", "folds": folds}
    found = Study(**given).compare(["image", "stacked"], out=tmp_path / "out", progress=False, report=False).predictions
    own = found[found["arm"] == "stacked"]
    assert (own["decision"] == (own["probability"] >= own["threshold"])).all()
    assert (own["threshold"] != 0.5).all()


def test_explain_leaves_the_channels_of_a_missing_image_zero(tmp_path):
    from fusionconv.study.explain import attribute

    frame = write_pictures(tmp_path / "images")
    frame["second"] = np.where(np.arange(len(frame)) % 2, frame["file"], None)
    frame.to_csv(tmp_path / "t.csv", index=False)
    study = Study(
        table=str(tmp_path / "t.csv"), images=str(tmp_path / "images"), image_column=["file", "second"], subject="patient",
        target="dx", covariates=["age"], network=NETWORK, image_size=16, folds=1, epochs=1, controls=0,
        cache=str(tmp_path / "cache"),
    )  # fmt: skip
    study.compare(["image"], out=tmp_path / "out", progress=False, report=False)
    predictor = load_predictor(tmp_path / "out/runs/image/holdout/model")
    data = study.data(parse_arm("image"), "holdout")
    ids = list(data.tables["test"].ids)[:6]
    lacks = study.store.there(ids)[:, 1] == 0
    assert 0 < lacks.sum() < 6
    entered = []
    predictor.network[0].register_forward_pre_hook(lambda module, given: entered.append(given[0].detach()))
    attribute(predictor, data, ids)
    second = torch.cat(entered)[:, 1].flatten(1).abs().sum(1)  # of every step between the baseline and an image
    share = (second == 0).float().mean()
    assert share >= lacks.float().mean()
