"""`reproduce` on a tiny set: what it leaves, that it goes on, that a failed run is no end."""

import json
import shutil

import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from fusionconv import unfuse
from recipes.celeba import training
from recipes.celeba.__main__ import main
from recipes.celeba.data import CelebAData
from recipes.celeba.grid.controls import write_covariates_only
from recipes.celeba.images import decode, prepare
from recipes.celeba.study import CelebAStudy
from tests.recipes.celeba.conftest import write_celeba

pytestmark = pytest.mark.usefixtures("tiny_vgg")

OPTIONS = ["--image-size=64", "--weights=none", "--classifier-width=16", "--workers=0", "--seeds=1", "--set",
           "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false", "trainer.accelerator=cpu",
           "trainer.log_every_n_steps=2", "trainer.num_sanity_val_steps=0"]  # fmt: skip
TRIO = ["Smiling", "Young", "High_Cheekbones"]


def reproduce(root, out, *more):
    main(["reproduce", f"--root={root}/data", f"--out={out}", *OPTIONS, *more])


@pytest.fixture(scope="module")
def grid(tmp_path_factory, tiny_vgg):
    """A plain row, a hybrid row in both modes, and a constant row, finished."""
    root = tmp_path_factory.mktemp("grid")
    write_celeba(root / "data", 96, 16, 24, size=64)
    rows = ["plain-lr1e-5-b32", "trio-last-lr1e-5-b32", "ones-conv1-lr1e-3-b16"]
    reproduce(root, root / "out", "--rows", *rows)
    return root


def test_what_a_run_leaves(grid):
    results = pd.read_csv(grid / "out/results.csv").set_index("run")
    assert len(results) == 6
    assert set(results["status"]) == {"finished"}
    run = "trio-last-lr1e-5-b32__corrected__seed0"
    folder = grid / "out" / run
    assert {"config.yaml", "result.json", "results-valid.json", "results-test.json", "controls-test.csv"} <= {
        path.name for path in folder.iterdir()
    }
    result = json.loads((folder / "result.json").read_text())
    for split in ("valid", "test"):
        table = pd.read_csv(folder / f"predictions-{split}.csv")
        prediction = table["probability"] > 0.5
        expected = {
            "accuracy": accuracy_score(table["target"], prediction),
            "f1_macro": f1_score(table["target"], prediction, average="macro"),
            "auroc": roc_auc_score(table["target"], table["probability"]),
        }
        for key, value in expected.items():
            assert result["metrics"][split][key] == pytest.approx(value)
            assert results.loc[run, f"{split}_{key}"] == pytest.approx(value)
    assert result["steps"] == 3
    best = torch.load(folder / f"checkpoints/{run}-best.ckpt", weights_only=True)
    assert best["global_step"] == 3  # as planned
    assert result["settings"]["train_images"] == 96
    assert result["images_per_second"] > 0
    assert result["wall_seconds"] > result["fit_seconds"] > 0
    assert result["peak_memory_bytes"] > 50e6
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]
    # as published: judged on the validation split only, and without controls
    published = grid / "out/trio-last-lr1e-5-b32__as_published__seed0"
    assert json.loads((published / "result.json").read_text())["metrics"]["test"] is None
    assert not list(published.glob("*test*"))
    assert not list(grid.glob("out/ones*/controls*"))
    assert not list(grid.glob("out/*/checkpoints/*-last.ckpt"))


def test_the_controls_are_the_network_with_those_covariates(grid):
    run = "trio-last-lr1e-5-b32__corrected__seed0"
    folder = grid / "out" / run
    table = pd.read_csv(folder / "controls-test.csv").set_index("file")
    names = ["true", "zero", "mean", "permuted", *(f"only_{name}" for name in TRIO)]
    assert table.columns.tolist() == ["target", *names]
    said = pd.read_csv(folder / "predictions-test.csv").set_index("file")
    pd.testing.assert_series_equal(table["true"], said["probability"], check_names=False, rtol=1e-5)

    # By hand: the table's own text, the mean over the training rows, and the plain network for zeros.
    lines = [line.split() for line in (grid / "data/celeba/list_attr_celeba.txt").read_text().splitlines()[1:]]
    columns = [1 + lines[0].index(name) for name in TRIO]
    s = {row[0]: [float(row[c] == "1") for c in columns] for row in lines[1:]}
    mean = torch.tensor([s[f"{i:06d}.jpg"] for i in range(1, 97)]).mean(0)
    study = CelebAStudy.load_from_checkpoint(folder / f"checkpoints/{run}-best.ckpt", weights_only=True).eval()
    images = [decode(grid / "data/celeba/img_align_celeba" / file) for file in table.index]
    images = prepare(images, 64, "corrected")
    with torch.no_grad():
        by_mean = study.network(images, mean.expand(24, 3)).softmax(1)[:, 1]
        plain = unfuse(study.network)(images).softmax(1)[:, 1]
    torch.testing.assert_close(torch.tensor(table["mean"].to_numpy()).float(), by_mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.tensor(table["zero"].to_numpy()).float(), plain, rtol=1e-5, atol=1e-6)


def test_covariates_only(grid):
    """The figures against scikit-learn's on the rows of the file; with all products, the share in each cell."""
    figures = pd.read_csv(grid / "out/covariates-only.csv").set_index(["covariates", "model", "split"])
    assert len(figures) == 4  # one set of covariates, two models, two splits
    said = pd.read_csv(grid / f"out/covariates-only-{'-'.join(TRIO)}.csv")
    for (_, model, split), row in figures.iterrows():
        own = said[said["split"] == split]
        assert row["num_images"] == len(own) == {"valid": 16, "test": 24}[split]
        assert row["accuracy"] == pytest.approx(accuracy_score(own["target"], own[model] > 0.5))
        assert row["auroc"] == pytest.approx(roc_auc_score(own["target"], own[model]))


def test_parts_with_other_covariates_keep_each_others_figures(grid, tmp_path, monkeypatch):
    """While one part fits its models, another one ends: both sets are in the table."""
    data = {"root": str(grid / "data"), "image_size": 64, "limit": None}
    done = []

    def setup(self, stage):
        if not done:
            done.append(True)
            write_covariates_only(tmp_path, [("Male",)], data)
        return whole(self, stage)

    whole = CelebAData.setup
    monkeypatch.setattr(CelebAData, "setup", setup)
    write_covariates_only(tmp_path, [("Young",)], data)
    assert set(pd.read_csv(tmp_path / "covariates-only.csv")["covariates"]) == {"Male", "Young"}
    before = (tmp_path / "covariates-only.csv").stat().st_mtime_ns
    write_covariates_only(tmp_path, [("Male",), ("Young",)], data)
    assert (tmp_path / "covariates-only.csv").stat().st_mtime_ns == before


def test_finished_runs_are_skipped_and_half_a_set_or_another_grid_is_refused(grid, tmp_path, capsys):
    results = {path: path.stat().st_mtime_ns for path in grid.glob("out/*/result.json")}
    reproduce(grid, grid / "out", "--rows", "matched", "--modes", "corrected", "--dry-run")
    assert "6 runs, 18 steps; 4 runs to do, 12 steps, time: " in capsys.readouterr().out
    reproduce(grid, grid / "out", "--rows", "plain-lr1e-5-b32", "--budget-hours", "0")
    reproduce(grid, grid / "out", "--rows", "male-conv1-lr1e-5-b32", "--budget-hours", "0")
    assert "budget of 0 hours is used up: male-conv1" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in grid.glob("out/*/result.json")} == results
    shutil.copytree(grid / "data", tmp_path / "data")
    (tmp_path / "data/celeba/img_align_celeba/000130.jpg").unlink()
    with pytest.raises(SystemExit) as stop:
        reproduce(tmp_path, tmp_path / "out", "--rows", "plain-lr1e-5-b32")
    assert stop.value.code == 2
    assert "1 of the 24 test images are listed but absent" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plan.json"]
    with pytest.raises(SystemExit) as stop:
        reproduce(grid, grid / "out", "--image-size", "96")
    assert stop.value.code == 2
    assert "image_size: 64 there, 96 here" in capsys.readouterr().err


def test_a_grid_that_is_stopped_goes_on_and_a_failed_run_is_not_the_end(grid, tmp_path, monkeypatch, capsys):
    """Stopped between fit and validate; then a run whose loss is no number, between two that are well."""
    rows = ["--rows", "plain-lr1e-5-b32", "trio-last-lr1e-5-b32", "--modes", "corrected"]
    shutil.copytree(grid / "data", tmp_path / "data")
    out = tmp_path / "out"

    def stop(argv):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "validate", stop)
        with pytest.raises(KeyboardInterrupt):
            reproduce(tmp_path, out, *rows)
    assert not list(out.glob("*/result.json"))
    forward = CelebAStudy.forward

    def broken(self, images, covariates):
        return forward(self, images, covariates) * (float("nan") if self.hparams.arm == "hybrid" else 1)

    monkeypatch.setattr(CelebAStudy, "forward", broken)
    with pytest.raises(SystemExit) as ended:
        reproduce(tmp_path, out, *rows)
    assert ended.value.code == 1
    plain = json.loads((out / "plain-lr1e-5-b32__corrected__seed0/result.json").read_text())
    assert (plain["status"], plain["resumed"]) == ("finished", True)
    # The same figures as in the grid that was not stopped.
    whole = json.loads((grid / "out/plain-lr1e-5-b32__corrected__seed0/result.json").read_text())
    assert plain["metrics"] == whole["metrics"]
    text = capsys.readouterr().out
    assert "1 runs failed" in text
    assert "loss is nan by step 2, with --model.lr 1e-05" in text
    table = pd.read_csv(out / "results.csv").set_index("row")
    assert table.loc["trio-last-lr1e-5-b32", "status"] == "failed"
    assert "loss is nan" in table.loc["trio-last-lr1e-5-b32", "reason"]

    monkeypatch.setattr(CelebAStudy, "forward", forward)
    with pytest.raises(SystemExit):
        reproduce(tmp_path, out, *rows)  # known as failed, not tried again
    reproduce(tmp_path, out, *rows, "--retry-failed")
    assert set(pd.read_csv(out / "results.csv")["status"]) == {"finished"}
