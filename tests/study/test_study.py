"""A comparison from the table to the report: the same folds and weights, resuming, refusing, predicting."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import fusionconv
from fusionconv.errors import StudyError, SurgeryError, TableError
from fusionconv.study import Study, load_predictor
from fusionconv.study.command import main
from fusionconv.study.folds import FoldData
from fusionconv.study.predict import predict_table
from fusionconv.study.runs import do_run
from fusionconv.study.written_tables import read_predictions
from tests.study.conftest import write_pictures
from tests.study.tiny import network as network_of_tests

ARMS = ["image", "covariates", "stacked", "concat", "hybrid@first"]


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    return Study(**small).compare(ARMS, out=out, progress=False), out, small


def test_everything_promised_is_there(finished):
    comparison, out, _ = finished
    for name in ("study.yaml", "rows.csv", "folds.csv", "results.csv", "comparisons.csv", "controls.csv", "subgroups.csv",
                 "predictions.csv", "report.html", "report.md", "log.txt"):  # fmt: skip
        assert (out / name).is_file(), name
    names = ["image", "covariates", "stacked", "concat", "hybrid-first"]
    assert list(dict.fromkeys(comparison.table["arm"])) == names
    assert sorted(p.name for p in (out / "runs").iterdir()) == sorted(names)
    assert comparison.comparisons["arm"].unique().tolist() == names[1:]
    assert set(comparison.controls["arm"]) == set(names) - {"image"}
    assert "<img" in (out / "report.html").read_text()
    assert "http" not in (out / "report.html").read_text().replace("http-equiv", "")


def test_every_row_is_predicted_once_by_every_arm_with_its_own_target(finished):
    comparison, out, small = finished
    rows = pd.read_csv(small["table"]).set_index("file")
    true = comparison.predictions[comparison.predictions["control"] == "true"]
    for _, own in true.groupby("arm"):
        assert sorted(own["id"]) == sorted(rows.index)
        expected = (rows["dx"] == "well").astype(int)  # the second in sorted order is the positive class
        assert (own.set_index("id")["target"].reindex(rows.index).to_numpy() == expected.to_numpy()).all()
        assert own["subject"].tolist() == rows["patient"].reindex(own["id"]).tolist()
    folds = pd.read_csv(out / "folds.csv")
    for fold in ("repeat0-fold0", "repeat0-fold1"):
        assert folds.groupby("subject")[fold].nunique().max() == 1
        tested = set(folds.loc[folds[fold] == "test", "id"])
        assert set(true.loc[true["fold"] == fold, "id"]) == tested


def test_tables_are_what_scikit_learn_says_of_the_predictions(finished):
    from sklearn.metrics import accuracy_score, roc_auc_score

    comparison, _, _ = finished
    true = comparison.predictions[comparison.predictions["control"] == "true"]
    table = comparison.table.set_index(["arm", "metric"])
    for arm, own in true.groupby("arm"):
        each = [roc_auc_score(f["target"], f["probability"]) for _, f in own.groupby("fold")]
        assert table.loc[(arm, "auc"), "mean"] == pytest.approx(np.mean(each))
        rows = own.groupby("fold").size()
        assert table.loc[(arm, "auc"), "pooled"] == pytest.approx(np.average(each, weights=rows))
        assert table.loc[(arm, "accuracy"), "pooled"] == pytest.approx(accuracy_score(own["target"], own["decision"]))
        assert ((own["probability"] >= 0.5) == own["decision"]).all()


def test_all_arms_start_from_the_same_weights_and_answers(small):
    from fusionconv.study.arms import parse_arm
    from fusionconv.study.runs import make_network

    study = Study(**small)
    images, found = torch.rand(3, 1, 16, 16), {}
    for word in ("image", "concat", "hybrid@first", "film@last", "daft@last", "hyper@first"):
        arm = parse_arm(word)
        data = study.data(arm, "repeat0-fold0")
        torch.manual_seed(3)
        network = make_network(arm, data, study.settings).eval()
        covariates = (torch.randn(3, data.num_covariates),) if arm.takes_covariates else ()
        found[word] = network(images, *covariates).detach()
    for word, answer in found.items():
        torch.testing.assert_close(answer, found["image"], msg=word)


def test_a_finished_study_trains_nothing_again_and_arms_can_be_added(finished, monkeypatch, tmp_path):
    _, out, small = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    done = []
    monkeypatch.setattr(
        "fusionconv.study.study.do_run", lambda run, *a, **k: done.append(run.name) or do_run(run, *a, **k)
    )
    Study(**small).compare(ARMS, out=copy, progress=False, report=False)
    assert done == []
    comparison = Study(**small).compare([*ARMS, "film@last"], out=copy, progress=False, report=False)
    assert done == ["film-last repeat0-fold0", "film-last repeat0-fold1"]
    assert "film-last" in set(comparison.table["arm"])


def test_a_study_that_was_stopped_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch):
    comparison, _, small = finished
    count = 0

    def stops(run, *args, **kwargs):
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return do_run(run, *args, **kwargs)

    monkeypatch.setattr("fusionconv.study.study.do_run", stops)
    with pytest.raises(KeyboardInterrupt):
        Study(**small).compare(ARMS, out=tmp_path / "out", progress=False, report=False)
    again = Study(**small).compare(ARMS, out=tmp_path / "out", progress=False, report=False)
    assert count == 4 + 5  # of eight runs three were done; the fourth, which was stopped, is done again
    pd.testing.assert_frame_equal(again.predictions, comparison.predictions)


def test_a_run_that_is_killed_between_epochs_goes_on_bit_by_bit(small, tmp_path, monkeypatch):
    from fusionconv.study.module import StudyModule

    given = {**small, "epochs": 4, "folds": 1}
    whole = Study(**given).compare(["hybrid@first"], out=tmp_path / "whole", progress=False, report=False)
    original = StudyModule.on_train_epoch_start

    def dies(self):
        if self.current_epoch == 2:
            raise RuntimeError("killed")
        original(self)

    with monkeypatch.context() as patched:
        patched.setattr(StudyModule, "on_train_epoch_start", dies)
        with pytest.raises(RuntimeError, match="killed"):
            Study(**given).compare(["hybrid@first"], out=tmp_path / "killed", progress=False, report=False)
    assert (tmp_path / "killed/runs/hybrid-first/holdout/last.ckpt").is_file()
    epochs = []
    monkeypatch.setattr(
        StudyModule, "on_train_epoch_start", lambda self: epochs.append(self.current_epoch) or original(self)
    )
    again = Study(**given).compare(["hybrid@first"], out=tmp_path / "killed", progress=False, report=False)
    assert epochs == [2, 3]
    pd.testing.assert_frame_equal(again.predictions, whole.predictions)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 3}, "epochs: 2 before, 3 now"),
        ({"lr": 0.01}, "lr: 0.001 before, 0.01 now"),
        ({"seed": 1}, "seed: 0 before"),
    ],
)
def test_other_settings_are_refused_by_name(finished, change, says):
    _, out, small = finished
    with pytest.raises(StudyError, match=says):
        Study(**{**small, **change}).compare(ARMS, out=out, progress=False)


def test_an_option_that_came_after_a_study_had_its_default(finished, tmp_path, monkeypatch):
    _, out, small = finished
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    saved = yaml.safe_load((copy / "study.yaml").read_text())
    del saved["settings"]["decimal"], saved["settings"]["head"]
    (copy / "study.yaml").write_text(yaml.safe_dump(saved, sort_keys=False))
    monkeypatch.setattr("fusionconv.study.study.do_run", lambda *a, **k: pytest.fail("trained"))
    Study(**small).compare(ARMS, out=copy, progress=False, report=False)
    with pytest.raises(StudyError, match=r"got others \(head: linear before, mlp now\)"):
        Study(**small, head="mlp").compare(ARMS, out=copy, progress=False)


def test_a_changed_table_is_refused_and_overwrite_begins_anew(small, tmp_path):
    frame = write_pictures(tmp_path / "images")
    given = {**small, "table": str(tmp_path / "t.csv"), "images": str(tmp_path / "images"), "epochs": 1}
    Study(**given).compare(["covariates"], out=tmp_path / "out", progress=False, report=False)
    frame.assign(age=frame["age"] + 1).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(StudyError, match="rows"):
        Study(**given).compare(["covariates"], out=tmp_path / "out", progress=False, report=False)
    Study(**given).compare(["covariates"], out=tmp_path / "out", overwrite=True, progress=False, report=False)


def test_a_row_that_is_shifted_raises(small, tmp_path, monkeypatch):
    """The wrong mechanism: covariates by their place in another order."""
    import fusionconv.study.folds as folds

    original = folds._Rows.__init__

    def shifted(self, *given):
        original(self, *given)
        self.covariates = self.covariates.roll(1, 0)

    monkeypatch.setattr(folds._Rows, "__init__", shifted)
    with pytest.raises(TableError, match="expected each id's own covariates"):
        Study(**small).compare(["hybrid@first"], out=tmp_path / "out", progress=False)


def test_an_image_of_another_row_raises(small):
    study = Study(**small)
    first, second = list(study.store.sources)[:2]
    study.store.sources[first], study.store.sources[second] = study.store.sources[second], study.store.sources[first]
    from fusionconv.study.arms import parse_arm

    with pytest.raises(TableError, match="mixed up"):
        study.data(parse_arm("image"), "repeat0-fold0")


def test_the_encoder_and_the_normalisation_see_training_rows_only(small):
    from fusionconv.study.arms import parse_arm

    study = Study(**small)
    data = study.data(parse_arm("concat"), "repeat0-fold0")
    assert isinstance(data, FoldData)
    train = data.frames["train"]
    covariates = data.tables["train"].covariates.numpy()
    names = data.encoder.get_feature_names_out().tolist()
    np.testing.assert_allclose(covariates[:, names.index("age")].mean(), 0, atol=1e-6)
    pixels = study.store.read(list(train["id"])).numpy()
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)), rtol=1e-5)


def test_a_hole_and_a_rare_category_stop_no_fold_and_are_counted(finished):
    _, out, _ = finished
    counted = [json.loads(p.read_text())["unknown"] for p in (out / "runs/concat").glob("*/result.json")]
    assert {"site": 1} in counted  # site C is in one row: unknown where that row is not in training
    assert "site: a category that training does not have" in (out / "log.txt").read_text()


def test_strictness_is_an_option_and_refuses_before_training(small, tmp_path, monkeypatch):
    monkeypatch.setattr("fusionconv.study.study.do_run", lambda *a, **k: pytest.fail("trained"))
    for strict, says in ({"missing": "error"}, "age"), ({"unknown": "error"}, "site"):
        with pytest.raises(TableError, match=says):
            Study(**{**small, **strict}).compare(ARMS, out=tmp_path / says, progress=False)


def test_looking_says_what_comparing_would(small, tmp_path, capsys):
    """The command inspect: warnings of the folds as compare logs them, and a leak as its error."""
    words = ["inspect", "--table", small["table"], "--images", small["images"], "--image-column", "file", "--subject",
             "patient", "--target", "dx", "--folds", "2", "--covariates"]  # fmt: skip
    assert main([*words, "age", "site"]) == 0
    said = [line.removeprefix("warning: ") for line in capsys.readouterr().out.splitlines() if line[:8] == "warning:"]
    assert said
    Study(**small).compare(["covariates"], out=tmp_path / "out", progress=False, report=False)
    assert said == json.loads((tmp_path / "out/notes.json").read_text())["warnings"]
    assert main([*words, "age", "score"]) == 2
    told = capsys.readouterr()
    assert "covariates: expected columns that do not give the target away, got score" in told.err
    assert "rows of the table" in told.out


@pytest.mark.parametrize(
    ("change", "arms", "error", "says"),
    [
        ({}, ["imge"], StudyError, "did you mean image"),
        ({}, ["hybrid@layer9"], SurgeryError, "layer9"),
        ({"covariates": []}, ["concat"], StudyError, "covariates for concat"),
        ({}, ["stacked"], StudyError, "image beside stacked"),
        ({}, ["image", "image"], StudyError, "different names"),
        ({"reference": "film@last"}, ["image"], StudyError, "reference"),
        ({"image_size": 4}, ["image"], SurgeryError, "16|4"),
        ({"covariates": ["age", "score"], "target": "dx"}, ["concat"], TableError, "allow-leaks"),
        ({"folds": 30}, ["image"], TableError, "folds"),
        ({"split_column": "site"}, ["image"], StudyError, "train, val and test"),
        ({"task": "regression"}, ["image"], TableError, "finite numbers"),
        ({"network": "torchvision:resnet81"}, ["image"], StudyError, "resnet18"),
    ],
)
def test_bad_input_is_refused_before_training(small, tmp_path, monkeypatch, change, arms, error, says):
    monkeypatch.setattr("fusionconv.study.study.do_run", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(error, match=says):
        Study(**{**small, **change}).compare(arms, out=tmp_path / "out", progress=False)


def test_a_folder_with_other_files_and_one_that_cannot_be_made(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(StudyError, match="holds other files"):
        Study(**small).compare(ARMS, out=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine/thesis.txt").is_file()
    with pytest.raises(StudyError, match="got the file"):
        Study(**small).compare(ARMS, out=tmp_path / "mine/thesis.txt")


def test_a_given_split(small, tmp_path):
    frame = pd.read_csv(small["table"])
    subject = frame["patient"].str[1:].astype(int)
    frame["split"] = np.where(subject % 4 == 0, "test", np.where(subject % 4 == 1, "val", "train"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "split_column": "split", "epochs": 1}
    comparison = Study(**given).compare(["image", "stacked"], out=tmp_path / "out", progress=False)
    assert set(comparison.predictions["id"]) == set(frame.loc[frame["split"] == "test", "file"])
    assert comparison.comparisons.query("test == 'corrected t-test'")["p"].isna().all()  # one fold has no spread
    frame.loc[0, "split"] = "train" if frame.loc[1, "split"] != "train" else "test"
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(TableError, match="each subject on one side"):
        Study(**given).compare(["image"], out=tmp_path / "other", progress=False)


@pytest.mark.parametrize(
    ("task", "change", "main"),
    [
        ("regression", {"target": "score", "allow_leaks": ["age"]}, "mae"),
        ("survival", {"target": ["months", "event"], "task": "survival"}, "c_index"),
        (
            "multiclass",
            {"target": "site", "covariates": ["age"], "task": "multiclass", "drop": "C", "loss": "balanced"},
            "auc",
        ),
        ("multilabel", {"target": ["event", "bright"], "loss": "mse"}, "auc"),
    ],
)
def test_every_task_from_the_table_to_the_report(small, tmp_path, task, change, main):
    frame = pd.read_csv(small["table"])
    frame["bright"] = (frame["dx"] == "ill").astype(int)
    frame.to_csv(tmp_path / "t.csv", index=False)
    given = {**small, "table": str(tmp_path / "t.csv"), "epochs": 1, "controls": 1, **change}
    comparison = Study(**given).compare(
        ["image", "covariates", "stacked", "hybrid@first"], out=tmp_path / "out", progress=False
    )
    assert comparison.table["metric"].iloc[0] == main
    assert comparison.table.query("metric == @main")["mean"].notna().all()
    true = comparison.predictions.query("control == 'true' and arm == 'hybrid-first'")
    assert len(true) == len(frame) - (task == "multiclass")
    if task == "regression":
        truth = true.set_index("id")["target"].reindex(frame["file"])
        assert (truth.to_numpy() == frame["score"].to_numpy()).all()  # float64, as the table has them
        assert true["prediction"].between(-30, 60).all()  # in the target's unit, not standardised


def test_seeds_are_averaged_and_tuning_tries_as_many_for_each_arm(small, tmp_path):
    given = {**small, "folds": 1, "epochs": 1, "seeds": 2, "tune": {"lr": [1e-3, 1e-2], "rank": [1, 2]}}
    comparison = Study(**given).compare(["image", "hybrid@first"], out=tmp_path / "out", progress=False)
    for arm in ("image", "hybrid-first"):
        runs = [
            json.loads((tmp_path / f"out/runs/{arm}/{fold}/result.json").read_text())
            for fold in ("holdout", "holdout-seed1")
        ]
        assert [len(run["tuned"]) for run in runs] == [4, 4]
        for run in runs:
            best = min(run["tuned"], key=lambda t: t["loss"])
            assert run["chosen"] == {k: v for k, v in best.items() if k != "loss"}
        parts = [
            read_predictions(tmp_path / f"out/runs/{arm}/{f}/predictions.csv") for f in ("holdout", "holdout-seed1")
        ]
        each = [p.query("control == 'true' and part == 'test'").set_index("id")["probability"] for p in parts]
        mean = comparison.predictions.query("control == 'true' and arm == @arm").set_index("id")["probability"]
        np.testing.assert_allclose(mean, ((each[0] + each[1]) / 2).reindex(mean.index))
        assert not np.allclose(each[0], each[1].reindex(each[0].index))


def test_saved_networks_load_and_predict_new_rows(finished, tmp_path):
    comparison, out, small = finished
    for arm, fused in (("image", False), ("hybrid-first", True)):
        folder = out / "runs" / arm / "repeat0-fold0/model"
        with pytest.raises(StudyError, match="a function of one's own is not run"):
            fusionconv.load(folder)  # nothing is run because a file names it
        torch.manual_seed(0)
        _network, encoder = fusionconv.load(folder, network_of_tests(2, 1, (16, 16)))
        assert (encoder is not None) == fused
        predictor = load_predictor(folder)
        rows = pd.read_csv(small["table"])
        rows = rows[rows["file"].isin(pd.read_csv(out / "folds.csv").query("`repeat0-fold0` == 'test'")["id"])]
        store = Study(**small).store
        covariates = None if encoder is None else torch.from_numpy(encoder.transform(rows))
        said = predictor(store.read(rows["file"].tolist()), covariates)["probability"]
        own = comparison.predictions.query("arm == @arm and control == 'true' and fold == 'repeat0-fold0'").set_index(
            "id"
        )
        np.testing.assert_allclose(said, own["probability"].reindex(rows["file"]), atol=1e-5)
    frame = pd.read_csv(small["table"]).drop(columns=["dx", "patient"]).head(5)
    frame.loc[1, "age"] = -1e39
    frame.loc[2, "file"] = "absent.png"
    frame.to_csv(tmp_path / "new.csv", index=False)
    result = predict_table(
        str(out), "hybrid@first", str(tmp_path / "new.csv"), small["images"], str(tmp_path / "p.csv")
    )
    assert result["networks"].dropna().eq(2).all()
    good = result[result["problem"] == ""]
    assert "p00.png" in set(good["id"])
    assert "p02.png" not in set(good["id"])
    assert good["probability"].between(0, 1).all()


def test_the_yaml_of_a_study_runs_it_again(finished, tmp_path):
    _, out, _ = finished
    from fusionconv.study.command import main

    saved = yaml.safe_load((out / "study.yaml").read_text())
    assert saved["arms"] == ARMS
    assert (
        main(["compare", "--config", str(out / "study.yaml"), "--out", str(tmp_path / "again"), "--arms", "covariates"])
        == 0
    )
    again = pd.read_csv(tmp_path / "again/predictions.csv")
    first = pd.read_csv(out / "predictions.csv").query("arm == 'covariates'")
    np.testing.assert_allclose(again["probability"], first["probability"])


def test_the_best_network(finished):
    comparison, _out, _ = finished
    network, encoder = comparison.best("hybrid@first")
    assert encoder.columns == ("age", "site")
    assert type(network).__name__ == "FusedSequential"
    with pytest.raises(StudyError, match="expected one of image, covariates, stacked, concat, hybrid-first"):
        comparison.best("film@last")


def test_a_network_of_a_library_loads_by_its_folder_alone(small, tmp_path):
    given = {**small, "network": "timm:test_resnet", "folds": 1, "epochs": 1, "image_size": 32, "controls": 0}
    comparison = Study(**given).compare(["image", "film@last"], out=tmp_path / "out", progress=False, report=False)
    for arm, fused in (("image", False), ("film-last", True)):
        folder = tmp_path / "out/runs" / arm / "holdout/model"
        network, encoder = fusionconv.load(folder)
        assert (encoder is not None) == fused
        assert sorted(p.name for p in folder.iterdir()) == ["fusion.json", "model.safetensors"]
        own, _ = comparison.best(arm)
        for name, value in own.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


def test_the_rate_of_covariate_parameters_is_that_of_one_over_their_size(small, tmp_path):
    """scaled is lr / mean(sum |s|) over the fold's training rows (age as a z-score, site as 0 and 1)."""
    settings = {**small, "folds": 1, "repeats": 1, "controls": 0, "lr": 0.01}
    study = Study(**settings)
    rows = pd.read_csv(small["table"])[(study.folds.iloc[:, 0] == "train").to_numpy()]
    assert rows["file"].tolist() == study.rows.frame["id"][(study.folds.iloc[:, 0] == "train").to_numpy()].tolist()
    z = (rows["age"] - rows["age"].mean()) / rows["age"].std(ddof=0)
    assert set(rows["site"]) == {"A", "B"}  # in the order of the alphabet
    size = float((z.abs().fillna(0) + rows["age"].isna() + (rows["site"] == "B")).mean())
    assert size > 1.2
    found = {}
    for rate in ("scaled", "same", 0.01 / size, 0.01):
        out = tmp_path / str(rate)
        Study(**{**settings, "covariate_lr": rate}).compare(["hybrid@first"], out=out, progress=False)
        found[rate] = read_predictions(next(out.glob("runs/*/*/predictions.csv")))["probability"].to_numpy()
    scaled, same, by_hand, number = found.values()
    np.testing.assert_allclose(scaled, by_hand, rtol=1e-5)
    assert (same == number).all()
    assert np.abs(scaled - same).max() > 1e-4
