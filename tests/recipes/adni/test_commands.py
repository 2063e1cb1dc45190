"""Each command once on a tiny BIDS folder; errors in one line; YAML files that the recipe and the engine read alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fusionconv.study.command_line import parse
from fusionconv.study.settings import make_settings
from recipes.adni.__main__ import COMMANDS, CONFIGS, main, options_of
from recipes.adni.commands import brain_age

NAMES = {"control": str, "id": str, "subject": str}


def test_inspect_tells_what_is_there_and_what_would_stop(arguments, tmp_path, capsys):
    assert main(["inspect", *arguments, "--out", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert "24 rows have an image" in out
    assert "12 CN, 12 AD" in out
    left = {p.name for p in (tmp_path / "o/table").iterdir()}
    assert {"inspect.txt", "volumes.csv", "unmatched.csv", "slices.png", "study.csv", "study.flow.csv"} == left
    assert main(["inspect", *arguments, "--missing", "error", "--covariates", "age", "--classes", "CN", "MCI",
                 "--out", str(tmp_path / "p")]) == 2  # fmt: skip
    assert "--classes" in capsys.readouterr().err


def test_prepare_fills_the_cache_and_lists_what_cannot_be_used(arguments, bids, tmp_path, capsys):
    shutil.copytree(bids, tmp_path / "bids")
    (tmp_path / "bids/sub-002/anat/sub-002_T1w.nii.gz").write_bytes(b"")
    more = ["--images", str(tmp_path / "bids"), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "o")]
    assert main(["prepare", *arguments, *more]) == 2
    said = capsys.readouterr()
    assert "23 volumes prepared now, 23 of 24" in said.out
    assert "expected 24 volumes that can be used, got 1 that cannot" in said.err
    assert pd.read_csv(tmp_path / "o/table/skipped.csv")["image"].str.contains("sub-002").tolist() == [True]
    assert main(["prepare", *arguments, *more, "--on-error", "skip"]) == 0  # asked for: no error
    assert "0 volumes prepared now, 23 of 24" in capsys.readouterr().out


def test_crossval_judges_every_arm_on_the_same_rows(finished, bids):
    predictions = pd.read_csv(finished / "predictions.csv", dtype=NAMES)
    table = pd.read_csv(bids / "participants.tsv", sep="\t").set_index("participant_id")
    for arm in ("image", "covariates", "hybrid-first"):
        own = predictions[(predictions["arm"] == arm) & (predictions["control"] == "true")]
        assert sorted(own["subject"]) == sorted(table.index)
        assert (own["target"] == (table.loc[own["subject"], "diagnosis"] == "AD").to_numpy()).all()
    assert len(pd.read_csv(finished / "rows.csv")) == 24
    flow = (finished / "report.md").read_text()
    assert "rows of the source" in flow


def test_the_covariates_arm_is_logistic_regression_on_the_training_rows(finished, bids):
    table = pd.read_csv(bids / "participants.tsv", sep="\t").set_index("participant_id")
    folds = pd.read_csv(finished / "folds.csv").set_index("subject")["repeat0-fold0"]
    train, test = folds.index[folds == "train"], folds.index[folds == "test"]
    x = pd.DataFrame({"age": table["age"], "sex": (table["sex"] == "M").astype(float)})
    x = (x - x.loc[train].mean()) / x.loc[train].std(ddof=0).where([True, False], 1.0)
    model = LogisticRegression(max_iter=5000).fit(x.loc[train], table.loc[train, "diagnosis"] == "AD")
    own = pd.read_csv(finished / "runs/covariates/repeat0-fold0/predictions.csv", dtype=NAMES)
    own = own[(own["control"] == "true") & (own["part"] == "test")]
    own = own.set_index(own["id"].str.split("/").str[0])["probability"].loc[test]
    np.testing.assert_allclose(own, model.predict_proba(x.loc[test])[:, 1], atol=0.02)  # sex is centred by its share


def test_test_opens_the_networks_and_finds_the_same_figures(finished, capsys):
    assert main(["test", str(finished)]) == 0
    found = pd.read_csv(finished / "test.csv")
    assert found.groupby("arm").size().to_dict() == {"image": 2, "hybrid-first": 2}
    np.testing.assert_allclose(found["auc"], found["auc in training"], atol=1e-9)
    for _, line in found.iterrows():
        rows = pd.read_csv(finished / "runs" / line["arm"] / line["fold"] / "predictions.csv", dtype=NAMES)
        rows = rows[(rows["control"] == "true") & (rows["part"] == "test")]
        assert line["auc"] == pytest.approx(roc_auc_score(rows["target"], rows["probability"]))
    assert main(["test", str(finished), "--arm", "image"]) == 0
    assert main(["test", str(finished), "--arm", "concat"]) == 2


def test_report_writes_the_page_and_attributions_on_the_files_voxels(finished, bids, capsys):
    assert main(["report", str(finished), "--volumes", "2"]) == 0
    said = capsys.readouterr().out
    assert str(finished / "report.html") in said
    for arm in ("image", "hybrid-first"):
        maps = sorted((finished / "explain" / arm).glob("attribution-*.nii.gz"))
        assert len(maps) == 2
        for path in maps:
            subject = next(part for part in path.name.split("_") if part.startswith(("attribution", "sub")))[-7:]
            own = nib.load(bids / subject / "anat" / f"{subject}_T1w.nii.gz")
            assert nib.load(path).shape == own.shape
            np.testing.assert_allclose(nib.load(path).affine, own.affine)
            assert np.abs(nib.load(path).get_fdata()).max() > 0


def test_predict_gives_each_volume_its_own_answer(finished, bids, tmp_path, capsys):
    """The mean of both folds' networks, by a table in another order with one row that cannot be used."""
    table = pd.read_csv(bids / "participants.tsv", sep="\t").iloc[[5, 2, 9]]
    table["file"] = [f"{name}/anat/{name}_T1w.nii.gz" for name in table["participant_id"]]
    table.loc[9, "age"] = np.nan
    table.to_csv(tmp_path / "new.csv", index=False)
    words = ["predict", "--study", str(finished), "--arm", "hybrid@first", "--table", str(tmp_path / "new.csv"), "--images",
             str(bids), "--source-options", "image_column=file", "subject=participant_id", "--out", str(tmp_path / "a.csv")]  # fmt: skip
    assert main(words) == 0
    found = pd.read_csv(tmp_path / "a.csv").set_index("subject")
    assert found.index.tolist() == ["sub-005", "sub-002", "sub-009"]
    of_bids = ["predict", "--study", str(finished), "--arm", "hybrid@first", "--source", "bids", "--images", str(bids)]
    assert main([*of_bids, "--out", str(tmp_path / "b.csv")]) == 0
    all_of_them = pd.read_csv(tmp_path / "b.csv").set_index("subject")
    assert len(all_of_them) == 24
    same = ["sub-005", "sub-002"]  # sub-009 has another age there
    np.testing.assert_allclose(found.loc[same, "probability"], all_of_them.loc[same, "probability"], atol=1e-6)
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_arm_image_needs_no_table(finished, bids, tmp_path, capsys):
    files = [str(bids / f"sub-00{n}/anat/sub-00{n}_T1w.nii.gz") for n in (1, 4)]
    words = ["predict", "--study", str(finished), "--out", str(tmp_path / "a.csv"), "--images", files[0], *files]
    assert main([*words, "--arm", "image"]) == 0
    assert pd.read_csv(tmp_path / "a.csv")["subject"].tolist() == ["sub-001_T1w", "sub-004_T1w"]
    assert main([*words, "--arm", "hybrid-first", "--overwrite"]) == 2
    assert "expected a table with age, sex" in capsys.readouterr().err
    assert main([*words[:-2], str(tmp_path), "--arm", "image", "--overwrite"]) == 2
    assert "expected volumes" in capsys.readouterr().err


def test_fit_trains_one_arm_of_the_configuration(arguments, tmp_path, capsys):
    out = tmp_path / "one"
    assert main(["fit", *arguments, "--arm", "concat", "--out", str(out)]) == 0
    assert f"python -m recipes.adni test {out}" in capsys.readouterr().out
    assert (out / "runs/concat/holdout/model").is_dir()
    assert main(["test", str(out)]) == 0


@pytest.mark.parametrize(
    ("options", "column", "metric"),
    [
        (["--target", "age", "--task", "regression", "--covariates", "sex"], "prediction", "mae"),
        (["--target", "age", "education", "--task", "survival", "--covariates", "sex", "--rows", "education < 2", "--folds", "1"], "log_hazard", "c_index"),
    ],
)  # fmt: skip
def test_regression_and_survival_run_from_end_to_end(bids, arguments, tmp_path, options, column, metric):
    shutil.copytree(bids, tmp_path / "bids")
    table = pd.read_csv(bids / "participants.tsv", sep="\t")
    table["education"] = [0, 1, 1] * 8  # the event
    table.to_csv(tmp_path / "bids/participants.tsv", sep="\t", index=False)
    config = tmp_path / "c.yaml"
    text = Path("recipes/adni/configs/bids-ad-cn.yaml").read_text().splitlines()
    config.write_text("\n".join(line for line in text if not line.strip().startswith(("define", "classes", "task"))))
    words = [str(config) if word.endswith("bids-ad-cn.yaml") else word for word in arguments]
    words += ["--images", str(tmp_path / "bids"), *options, "--arms", "image", "concat", "--out", str(tmp_path / "o")]
    assert main(["crossval", *words]) == 0
    predictions = pd.read_csv(tmp_path / "o/predictions.csv", dtype=NAMES)
    assert predictions[column].notna().all()
    results = pd.read_csv(tmp_path / "o/results.csv").query("arm == 'image'").set_index("metric")["mean"]
    assert (tmp_path / "o/brain_age.csv").is_file() == (metric == "mae")
    if metric == "mae":  # in years, not standardised
        own = predictions.query("arm == 'image' and control == 'true'")
        folds = (own["prediction"] - own["target"]).abs().groupby(own["fold"]).mean()
        assert results["mae"] == pytest.approx(folds.mean())
        assert 40 < own["prediction"].mean() < 110


def test_the_age_line_is_fitted_on_the_other_folds():
    """Fold 1's gap is 3 - 0.1 age, fold 2's 5 - 0.2 age: each is corrected by the other's line."""
    age = np.array([60.0, 65, 70, 75, 80])
    gaps = {"repeat0-fold0": 3 - 0.1 * age, "repeat0-fold1": 5 - 0.2 * age}
    frame = pd.concat([
        pd.DataFrame({"arm": "a", "fold": fold, "control": "true", "target": age, "prediction": age + gap})
        for fold, gap in gaps.items()
    ])  # fmt: skip
    row = brain_age(frame.reset_index(drop=True)).iloc[0]
    left = np.abs(np.concatenate([gaps["repeat0-fold0"] - gaps["repeat0-fold1"]] * 2))
    assert row["error without the line"] == pytest.approx(left.mean())
    assert row["mean absolute error"] == pytest.approx(np.abs(np.concatenate(list(gaps.values()))).mean())


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nonsense"], "expected one of the commands demo, inspect"),
        (["crossval", "--covariates", "diagnosis"], "given the answer"),
        (["crossval", "--covariates", "height"], "height"),
        (["crossval", "--network", "monai:resnet11"], "resnet11"),
        (["crossval", "--arms", "hybrid@frist"], "frist"),
        (["crossval", "--data.root", "x"], "expected an option of crossval"),
        (["crossval", "--images", "/nowhere"], "nowhere"),
        (["crossval", "--define", "{dx: {CN: age}}"], "at least two classes"),
        (["fit", "--arm", "covariates:boostign"], "boostign"),
        (["test", "/nowhere"], "expected the folder of a study"),
        (["report", "/nowhere"], "expected the folder of a study"),
        (["predict", "--study", "/nowhere", "--arm", "image"], "expected the folder of a study"),
        (["predict", "--epochs", "3"], "expected an option of predict"),
        (["test"], "expected --out"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, argv, says, capsys, tmp_path):
    command, rest = argv[0], argv[1:]
    mine = [*arguments, "--out", str(tmp_path / "o")] if command in ("crossval", "fit") else []
    assert main([command, *mine, *rest]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_is_read_alike_by_the_recipe_and_the_engine(path):
    out = ["--out", "o"] if path.stem in ("default", "demo") else []
    ours = parse("crossval", ["--config", str(path), *out], options_of("crossval"), settings=True)
    theirs = parse("compare", ["--config", str(path), *out])
    settings = make_settings(ours.settings)
    assert settings == make_settings(theirs.settings)
    assert ours.own["arms"] == theirs.own["arms"]
    assert (settings.dims, settings.subject, settings.image_column) == (3, "subject", ["image"])
    for column, queries in ours.own["define"].items():
        assert settings.target == [column]
        assert settings.classes == list(queries)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_help_and_has_its_own(command, capsys):
    main([])
    assert command in capsys.readouterr().out
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: python -m recipes.adni {command}" in text
    for name in options_of(command):
        assert f"--{name.replace('_', '-')} " in text
    assert ("--epochs" in text) == (command not in ("test", "predict", "report"))


def test_the_sources_that_the_readme_names_are_those_that_are_read():
    from recipes.adni.sources import KINDS

    text = Path("recipes/adni/README.md").read_text()
    assert all(f"`{kind}`" in text for kind in KINDS)
