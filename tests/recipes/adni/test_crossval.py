"""crossval: every arm on the same folds, resumed after a kill, cut into parts, refused for other settings; its tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recipes.adni.__main__ import main
from recipes.adni.summary import brain_age, compared, interval_text, per_arm, read_predictions, read_results
from tests.helpers.brains import crossval_arguments, write_brains
from tests.recipes.adni.conftest import TINY

SETUP = ["--data.n_splits", "3", "--data.n_repeats", "1", "--data.val_size", "0", "--controls", "2"]
ARMS = ["--arms", "{image: {arm: image}, covariates: {arm: covariates}, hybrid: {arm: hybrid, layer_idx: 0}}"]


@pytest.fixture(scope="module")
def finished(bids, tmp_path_factory) -> tuple[Path, list[str]]:
    """A finished cross-validation, and the options that it was run with."""
    root = tmp_path_factory.mktemp("crossval")
    options = [
        "--config", "recipes/adni/configs/bids-ad-cn.yaml", "--data.source.images", str(bids),
        "--root_dir", str(root / "runs"), "--data.cache", str(root / "cache"), *TINY, *SETUP, *ARMS,
    ]  # fmt: skip
    main(["crossval", *options, "--experiment", "cv"])
    return root / "runs" / "cv", options


def copy(finished, tmp_path: Path) -> tuple[Path, list[str]]:
    folder, options = finished
    shutil.copytree(folder, tmp_path / "runs" / "cv")
    options = list(options)
    options[options.index("--root_dir") + 1] = str(tmp_path / "runs")
    return tmp_path / "runs" / "cv", options


def results(folder: Path) -> dict[str, dict]:
    return {f"{p.parts[-3]}/{p.parts[-2]}": json.loads(p.read_text()) for p in folder.glob("folds/*/*/result.json")}


def test_every_arm_is_judged_on_the_same_subjects_each_once(finished):
    folder, _ = finished
    assert len(results(folder)) == 9
    predictions = read_predictions(folder)
    true = predictions[predictions["control"] == "true"]
    folds = pd.read_csv(folder / "folds.csv").set_index("subject")
    for (arm, fold), rows in true.groupby(["arm", "fold"]):
        assert set(rows["subject"]) == set(folds.index[folds[fold] == "test"]), (arm, fold)
    assert (true.groupby("arm")["subject"].nunique() == 24).all()
    assert (true.groupby("arm").size() == 24).all()


def test_metrics_are_those_of_the_predictions(finished):
    folder, _ = finished
    for path in folder.glob("folds/*/*/predictions.csv"):
        rows = pd.read_csv(path, dtype={"control": str})
        rows = rows[rows["control"] == "true"]
        found = json.loads((path.parent / "result.json").read_text())["metrics"]["auc"]
        assert found == pytest.approx(roc_auc_score(rows["target"], rows["p_AD"]), abs=1e-6)


def test_the_covariates_arm_is_logistic_regression_on_the_training_rows_z_scores(finished, bids):
    folder, _ = finished
    table = pd.read_csv(bids / "participants.tsv", sep="\t").set_index("participant_id")
    folds = pd.read_csv(folder / "folds.csv").set_index("subject")
    for fold in ("repeat0-fold0", "repeat0-fold2"):
        train, test = (table.loc[folds.index[folds[fold] == part]] for part in ("train", "test"))

        def encode(rows, train=train):
            age = (rows["age"] - train["age"].mean()) / train["age"].std(ddof=0)
            return np.column_stack([age, rows["sex"] == "M"])

        model = LogisticRegression(max_iter=5000).fit(encode(train), train["diagnosis"] == "AD")
        expected = pd.Series(model.predict_proba(encode(test))[:, 1], index=test.index)
        rows = pd.read_csv(folder / "folds" / "covariates" / fold / "predictions.csv", dtype={"control": str})
        rows = rows[rows["control"] == "true"].set_index("subject")["p_AD"]
        np.testing.assert_allclose(rows, expected.loc[rows.index], atol=1e-5)


def test_controls_give_the_image_arm_nothing_and_the_others_wrong_rows(finished):
    folder, _ = finished
    found = results(folder)
    assert found["image/repeat0-fold0"]["controls"] == {}
    assert set(found["hybrid/repeat0-fold0"]["controls"]) == {"permuted-0", "permuted-1", "constant"}
    rows = pd.read_csv(folder / "folds/covariates/repeat0-fold0/predictions.csv", dtype={"control": str})
    constant = rows.loc[rows["control"] == "constant", "p_AD"]
    assert constant.nunique() == 1
    true = rows[rows["control"] == "true"].set_index("id")["p_AD"]
    permuted = rows[rows["control"] == "permuted-0"].set_index("id")["p_AD"]
    assert sorted(permuted.round(6)) == sorted(true.round(6))  # the same people's rows, of others
    assert not np.allclose(permuted.loc[true.index], true)


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_numbers(finished, tmp_path):
    folder, options = copy(finished, tmp_path)
    before = results(folder)
    kept = folder / "folds/image/repeat0-fold0/result.json"
    stamp = kept.stat().st_mtime_ns
    (folder / "folds/hybrid/repeat0-fold1/result.json").unlink()
    shutil.rmtree(folder / "folds/image/repeat0-fold2")
    main(["crossval", *options, "--experiment", "cv"])
    after = results(folder)
    assert kept.stat().st_mtime_ns == stamp  # finished folds are not run again
    assert {k: v["metrics"] for k, v in after.items()} == {k: v["metrics"] for k, v in before.items()}


def test_another_setting_is_not_mixed_in(finished, tmp_path, capsys):
    _, options = copy(finished, tmp_path)
    with pytest.raises(SystemExit):
        main(["crossval", *options, "--experiment", "cv", "--model.lr", "0.5"])
    said = capsys.readouterr().err
    assert "other settings" in said
    assert "config.model.lr: " in said
    assert "0.5 here" in said
    assert said.count(" there, ") == 1


def test_changed_covariates_in_the_table_are_not_mixed_in(finished, tmp_path, bids, capsys):
    folder, options = copy(finished, tmp_path)
    shutil.copytree(bids, tmp_path / "bids")
    table = pd.read_csv(tmp_path / "bids" / "participants.tsv", sep="\t")
    table.loc[0, "age"] += 1
    table.to_csv(tmp_path / "bids" / "participants.tsv", sep="\t", index=False)
    options[options.index("--data.source.images") + 1] = str(tmp_path / "bids")
    with pytest.raises(SystemExit):
        main(["crossval", *options, "--experiment", "cv"])
    assert "other settings than these (rows: " in capsys.readouterr().err
    assert folder.is_dir()


def test_two_parts_make_the_whole(finished, tmp_path):
    folder, options = finished
    options = list(options)
    options[options.index("--root_dir") + 1] = str(tmp_path)
    small = [*options, "--experiment", "parts", "--arms", "{covariates: {arm: covariates}}"]
    main(["crossval", *small, "--part", "1/2"])
    assert not (tmp_path / "parts" / "results.csv").exists()
    main(["crossval", *small, "--part", "2/2"])
    whole, parts = results(folder), results(tmp_path / "parts")
    assert {k: v["metrics"] for k, v in parts.items()} == {k: v["metrics"] for k, v in whole.items() if k in parts}
    assert (tmp_path / "parts" / "results.csv").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--part", "3/2"], "--part"),
        (["--arms", "{image: {arm: image, wdith: 3}}"], "wdith"),
        (["--arms", "{'a/b': {arm: image}}"], "folder name"),
        (["--reference", "nobody"], "--reference"),
    ],
)
def test_options_that_cannot_be_are_errors(arguments, options, says, capsys):
    with pytest.raises(SystemExit):
        main(["crossval", *arguments, *SETUP, *options])
    assert says in capsys.readouterr().err


def test_the_tables_follow_the_formulas(finished):
    folder, _ = finished
    table = read_results(folder)
    true = table[table["control"] == "true"].set_index(["arm", "fold"])["auc"].unstack(0)
    arms = per_arm(table, ["auc"]).set_index("arm")
    difference = (true["hybrid"] - true["image"]).to_numpy()
    row = compared(table, ["auc"], "image").set_index("arm").loc["hybrid"]
    assert arms.loc["hybrid", "auc"] == pytest.approx(true["hybrid"].mean())
    assert row["difference"] == pytest.approx(difference.mean())
    if difference.std() > 0:  # Nadeau & Bengio 2003
        t = difference.mean() / np.sqrt((1 / 3 + 8 / 16) * difference.var(ddof=1))
        assert row["p"] == pytest.approx(2 * stats.t.sf(abs(t), 2))


@pytest.mark.parametrize(
    ("metric", "values", "least", "greatest"),
    [
        ("auc", [0.92, 0.22], 0, 1),
        ("auc", [0.99, 0.6, 1.0], 0, 1),
        ("mae", [9.0, 0.1], 0, 1e99),
        ("r2", [0.9, -3.0], -1e99, 1),
    ],
)
def test_no_interval_leaves_what_the_metric_can_be(metric, values, least, greatest):
    """As a t interval: -3.9 to 5.0; 0.3 to 1.4; -56 to 65; -26 to 24."""
    rows = {"arm": "a", "control": "true", "n_train": 20, "n_test": 10, "parameters": 1, "covariate_parameters": 0}
    table = pd.DataFrame({"fold": range(len(values)), metric: values, "seconds": 1.0}).assign(**rows)
    found = per_arm(table, [metric]).iloc[0]
    assert least <= found[f"{metric} low"] < found[metric] < found[f"{metric} high"] <= greatest
    assert interval_text(found, metric).startswith(f"{np.mean(values):.3f} [")
    nothing = per_arm(table.assign(**{metric: 0.5}), [metric]).iloc[0]
    assert interval_text(nothing, metric) == "0.500"
    both = pd.concat([table, table.assign(arm="b", **{metric: values[::-1]})])
    difference = compared(both, [metric], "a").iloc[0]
    width = greatest - least
    assert -width <= difference["low"] <= difference["high"] <= width


def test_the_age_line_is_fitted_on_the_other_folds():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 40)
    rows = pd.DataFrame(
        {"arm": "a", "control": "true", "target": age, "prediction": 50 + 0.5 * (age - 50) + rng.normal(0, 2, 40)}
    )
    rows["fold"] = [f"repeat0-fold{i % 4}" for i in range(40)]
    corrected = np.empty(40)
    for fold in rows["fold"].unique():
        own, other = rows["fold"] == fold, rows["fold"] != fold
        slope, intercept = np.polyfit(
            rows.loc[other, "target"], rows.loc[other, "prediction"] - rows.loc[other, "target"], 1
        )
        corrected[own] = rows.loc[own, "prediction"] - (slope * rows.loc[own, "target"] + intercept)
    found = brain_age(rows).iloc[0]
    assert found["MAE (years)"] == pytest.approx(np.abs(rows["prediction"] - age).mean())
    assert found["MAE after the age line is taken away"] == pytest.approx(np.abs(corrected - age).mean())


# rows before training


def coded(root: Path, **changes) -> pd.DataFrame:
    """Volumes and a table with coded columns; of one subject alone something is missing or rare."""
    table = write_brains(root, 24)
    rng = np.random.default_rng(1)
    table["gender"] = rng.integers(1, 3, 24)
    table["laterality"] = np.arange(24) % 3 + 1
    for name, value in changes.items():
        table[name] = table[name].astype(object)
        table.loc[5, name] = value
    table.to_csv(root / "table.csv", index=False)
    return table


def command(images: Path, root: Path, *more: str) -> list[str]:
    options = [a for a in crossval_arguments(images, root, "run", folds=3) if not a.startswith("--data.covariates")]
    arms = "--arms={image: {arm: image}, covariates: {arm: covariates}, young: {arm: covariates, covariates: [age]}}"
    return ["crossval", *options, arms, "--data.covariates=[age, gender, laterality]", *more]


KINDS = (
    "--data.kinds={gender: {kind: binary, codes: {1: 0, 2: 1}, missing_codes: [9]}, "
    "laterality: {kind: categorical, unknown: ignore}}"
)


def test_one_hole_in_one_fold_stops_before_any_volume_is_prepared_and_names_the_subject(tmp_path, capsys):
    coded(tmp_path / "images", age="")
    with pytest.raises(SystemExit):
        main(command(tmp_path / "images", tmp_path, KINDS))
    said = capsys.readouterr().err
    assert "column 'age': expected a value in every row, as in the training rows" in said
    assert "sub-005" in said
    assert "indicator='always'" in said
    assert said.count("column 'age'") == 1  # once, with the fold
    assert "(in repeat0-fold" in said
    assert not list(tmp_path.rglob("*.npy")) + list((tmp_path / "cache").glob("*"))


def test_holes_codes_and_rare_categories_can_be_said_on_the_command_line(tmp_path, capsys):
    coded(tmp_path / "images", age="", laterality=7, gender=9)
    options = [KINDS, "--data.indicator=always", "--data.missing_codes=[-4, NA]", "--controls=0"]
    arms = "--arms={covariates: {arm: covariates}, young: {arm: covariates, covariates: [age]}}"
    main([*command(tmp_path / "images", tmp_path, *options), arms])
    found = results(tmp_path / "run")
    assert len(found) == 6
    columns = [[c["name"] for c in r["encoder"]["columns"]] for r in found.values() if r["arm"] == "covariates"]
    assert columns == [["age", "gender", "laterality"]] * 3
    assert sum(r["unknown_categories"].get("laterality", 0) for r in found.values()) == 1
    (encoder,) = [r["encoder"] for k, r in found.items() if k == "covariates/repeat0-fold0"]
    assert encoder["params"]["missing_codes"] == [-4, "NA"]
    assert encoder["params"]["kinds"]["gender"]["codes"] == [[1, 0], [2, 1]]
    saved = (tmp_path / "run" / "config.yaml").read_text()
    assert "unknown: ignore" in saved
    main(["report", "--experiment", "run", "--root_dir", str(tmp_path)])
    page = (tmp_path / "run" / "report.md").read_text()
    assert "test rows of unknown categories" in page
    assert "binary, declared" in page


def test_whole_numbers_that_may_be_codes_are_named_in_the_log_and_the_report(tmp_path, capsys):
    coded(tmp_path / "images")
    arms = "--arms={covariates: {arm: covariates}}"
    main([*command(tmp_path / "images", tmp_path, "--controls=0"), arms])
    log = (tmp_path / "run" / "log.txt").read_text()
    for name in ("gender", "laterality"):
        assert f"look at the covariate {name}: only the whole numbers" in log
    assert "YAML: kinds: {laterality: categorical}" in log
    main(["report", "--experiment", "run", "--root_dir", str(tmp_path)])
    assert "only the whole numbers 1, 2, 3" in (tmp_path / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ("{gendr: binary}", "did you mean 'gender'"),
        ("{gender: {kind: binary, code: {1: 0, 2: 1}}}", "did you mean 'codes'"),
        ("{gender: {kind: binry}}", "did you mean 'binary'"),
    ],
)
def test_a_wrong_kind_is_an_error_before_any_volume_is_prepared(tmp_path, capsys, kinds, says):
    coded(tmp_path / "images")
    with pytest.raises(SystemExit):
        main(command(tmp_path / "images", tmp_path, f"--data.kinds={kinds}"))
    assert says in capsys.readouterr().err


def test_prepare_and_inspect_warn_of_rows_that_fit_will_refuse(tmp_path):
    coded(tmp_path / "images", age="")
    for name in ("prepare", "inspect"):
        options = [
            a for a in command(tmp_path / "images", tmp_path, KINDS)[1:] if not a.startswith(("--arms", "--controls"))
        ]
        main([name, *options])
        log = (tmp_path / "run" / "log.txt").read_text()
        assert "will stop at this: column 'age': expected a value in every row" in log
