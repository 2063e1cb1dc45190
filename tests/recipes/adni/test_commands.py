"""fit, test, prepare and inspect from the command line on a tiny BIDS folder; errors in one line; YAML files that load."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recipes.adni.__main__ import COMMANDS, main
from recipes.adni.configuration import CONFIGS, BrainCLI
from recipes.adni.study import BrainStudy
from tests.recipes.adni.conftest import TINY


def test_fit_chooses_on_validation_and_test_judges_the_test_part(arguments, tmp_path, capsys):
    main(["fit", *arguments, "--experiment", "one", "--model.arm", "hybrid"])
    folder = tmp_path / "runs" / "one"
    left = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.csv", "curves.png", "checkpoints"} <= left
    curves = pd.read_csv(folder / "metrics.csv")
    assert curves["val/auc"].notna().sum() == 2
    main(["test", "--experiment", "one", "--root_dir", str(tmp_path / "runs")])
    result = json.loads((folder / "results-test.json").read_text())
    rows = pd.read_csv(folder / "predictions-test.csv", dtype={"control": str})
    assert result["metrics"]["auc"] == pytest.approx(roc_auc_score(rows["target"], rows["p_AD"]), abs=1e-6)
    assert (result["arm"], result["covariates"], result["counts"]["test"]) == ("hybrid", ["age", "sex"], len(rows))
    assert "test auc" in capsys.readouterr().out


def test_a_run_that_is_resumed_ends_as_one_that_was_not_interrupted(arguments, tmp_path):
    constant = ["--model.schedule", "constant"]  # its rate does not depend on how many epochs are to come
    main(["fit", *arguments, *constant, "--experiment", "whole", "--trainer.max_epochs", "3"])
    main(["fit", *arguments, *constant, "--experiment", "halves", "--trainer.max_epochs", "1"])
    main(
        ["fit", "--experiment", "halves", "--root_dir", str(tmp_path / "runs"), "--resume", "--trainer.max_epochs", "3"]
    )
    states = []
    for name in ("whole", "halves"):
        path = tmp_path / "runs" / name / "checkpoints" / f"{name}-last.ckpt"
        states.append(torch.load(path, weights_only=True)["state_dict"])
    assert states[0].keys() == states[1].keys()
    curves = [pd.read_csv(tmp_path / "runs" / name / "metrics.csv") for name in ("whole", "halves")]
    assert curves[0]["epoch"].tolist() == curves[1]["epoch"].tolist()


def test_the_checkpoint_holds_plain_values_and_what_a_prediction_needs(arguments, tmp_path):
    main(["fit", *arguments, "--experiment", "one", "--model.arm", "concat"])
    path = tmp_path / "runs" / "one" / "checkpoints" / "one-best.ckpt"
    note = torch.load(path, weights_only=True)["fusionconv_adni"]
    assert note["arm"] == "concat"
    assert note["task"]["classes"] == {"CN": "diagnosis == 'CN'", "AD": "diagnosis == 'AD'"}
    assert note["preparation"]["size"] == [16, 16, 16]
    assert (note["num_covariates"], note["covariates"]) == (2, ["age", "sex"])
    assert note["encoder"]["columns"]


@pytest.mark.parametrize(
    ("task", "column", "metric"),
    [
        (["--data.task.kind", "regression", "--data.task.target", "age", "--data.covariates", "[sex]"], "prediction", "mae"),
        (
            ["--data.task.kind", "survival", "--data.task.time", "age", "--data.task.event", "seen", "--data.covariates", "[sex]"],
            "log_hazard",
            "c_index",
        ),
    ],
)  # fmt: skip
def test_regression_and_survival_run_from_end_to_end(bids, arguments, tmp_path, task, column, metric):
    import shutil

    shutil.copytree(bids, tmp_path / "bids")
    table = pd.read_csv(bids / "participants.tsv", sep="\t")
    table["seen"] = [0, 1, 1] * 8
    table.to_csv(tmp_path / "bids" / "participants.tsv", sep="\t", index=False)
    arguments[arguments.index("--data.source.images") + 1] = str(tmp_path / "bids")
    main(["fit", *arguments, *task, "--experiment", "one", "--model.arm", "hybrid"])
    main(["test", "--experiment", "one", "--root_dir", str(tmp_path / "runs")])
    rows = pd.read_csv(tmp_path / "runs" / "one" / "predictions-test.csv")
    result = json.loads((tmp_path / "runs" / "one" / "results-test.json").read_text())
    assert rows[column].notna().all()
    if metric == "mae":  # in years, not standardised
        assert result["metrics"]["mae"] == pytest.approx((rows["prediction"] - rows["target"]).abs().mean(), abs=1e-5)
        assert 40 < rows["prediction"].mean() < 110
    else:
        assert 0 <= result["metrics"]["c_index"] <= 1


def test_prepare_fills_the_cache_and_lists_what_cannot_be_used(arguments, tmp_path, bids, capsys):
    import shutil

    shutil.copytree(bids, tmp_path / "bids")
    (tmp_path / "bids/sub-002/anat/sub-002_T1w.nii.gz").write_bytes(b"")
    arguments[arguments.index("--data.source.images") + 1] = str(tmp_path / "bids")
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", *arguments, "--experiment", "p"])
    assert stopped.value.code == 2
    main(["prepare", *arguments, "--experiment", "p", "--data.on_error", "skip"])  # asked for: no error
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 23
    skipped = pd.read_csv(tmp_path / "runs" / "p" / "skipped.csv")
    assert skipped["image"].str.contains("sub-002").tolist() == [True]
    printed = capsys.readouterr()
    assert "23 volumes prepared" in printed.out
    assert "1 of 24 volumes cannot be used" in printed.err


def test_inspect_tells_what_is_there(arguments, tmp_path, capsys):
    main(["inspect", *arguments, "--experiment", "look"])
    out = capsys.readouterr().out
    assert "12 CN, 12 AD" in out
    folder = tmp_path / "runs" / "look" / "inspect"
    assert {p.name for p in folder.iterdir()} == {"inspect.txt", "volumes.csv", "unmatched.csv", "slices.png"}
    assert (folder / "slices.png").read_bytes().startswith(b"\x89PNG")


def test_a_device_that_is_too_small_says_which_setting_to_lower(arguments, monkeypatch, capsys):
    def full(self, batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(BrainStudy, "training_step", full)
    with pytest.raises(SystemExit):
        main(["fit", *arguments, "--experiment", "big"])
    said = capsys.readouterr().err
    assert "--data.batch_size" in said
    assert "16 x 16 x 16" in said


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nonsense"], "unknown command"),
        (["fit", "--data.covariates", "[diagnosis]"], "given the answer"),
        (["fit", "--model.arm", "covariates"], "crossval"),
        (["fit", "--model.network", "resnet11"], "resnet11"),
        (["fit", "--resume", "--overwrite"], "exclude each other"),
        (["fit", "--experiment", "a/b"], "plain folder name"),
        (["fit", "--data.source.images", "/nowhere"], "nowhere"),
        (["test", "--experiment", "never"], "there is no run"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, argv, says, capsys):
    command, rest = argv[0], argv[1:]
    with pytest.raises(SystemExit) as stopped:
        main([command, *(arguments if command == "fit" else []), *rest])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_loads(path, tmp_path):
    cli = BrainCLI(
        "crossval",
        [
            "--config",
            str(path),
            "--root_dir",
            str(tmp_path),
            *(["--data.task.classes", "{a: x > 0, b: x < 0}"] if path.stem == "default" else []),
        ],
    )
    cli.datamodule.task.check()


def test_every_command_is_in_the_help(capsys):
    main([])
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_the_layouts_that_the_readme_names_are_those_of_the_parser():
    text = (Path("recipes/adni/README.md")).read_text()
    for kind in ("bids", "adni_loni", "adni_bids", "oasis1", "oasis2", "ixi", "table"):
        assert f"`{kind}`" in text
    assert TINY
