import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score
from torchvision.models.vgg import make_layers

from fusionconv.errors import CheckpointError, TableError
from recipes.celeba.__main__ import COMMANDS, main
from recipes.celeba.images import decode, prepare
from recipes.celeba.predict import read_covariates
from recipes.celeba.study import CelebAStudy
from recipes.celeba.training import CONFIGS, CelebACLI
from recipes.common.checkpoint import check_checkpoint, note_key
from recipes.common.runs import RunFolder
from tests.recipes.celeba.conftest import SMALL, TINY

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def fails(capsys, argv):
    """Run a command that ends with exit code 2 and give its message."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("arm", ["plain", "hybrid"])
def test_a_run_leaves_what_the_readme_says(run_folder, arm, celeba):
    folder = run_folder / arm
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "log.txt", "metrics.csv", "curves.png", "tensorboard", "checkpoints", "results-test.json",
        "predictions-test.csv",
    }  # fmt: skip
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {f"{arm}-best.ckpt", f"{arm}-last.ckpt"}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["model"]["arm"], config["data"]["covariates"], config["seed_everything"]) == (
        arm,
        ["Male", "Young"],
        0,
    )

    log = (folder / "log.txt").read_text()
    assert "always the more common answer gives accuracy" in log  # 0.52 is seen for what it is, before training
    assert all(line[:2] == "20" for line in log.splitlines() if "recipes.celeba" in line)

    metrics = pd.read_csv(folder / "metrics.csv")
    assert not metrics.duplicated(["epoch", "step"]).any()
    assert metrics["val/accuracy"].notna().sum() == 1
    assert metrics["train/loss"].notna().sum() == 2  # after step 2, and the rest of the epoch (3 steps)

    # The figures are those of the predictions, by another library.
    result = json.loads((folder / "results-test.json").read_text())
    table = pd.read_csv(folder / "predictions-test.csv")
    assert table["file"].tolist() == [f"{number:06d}.jpg" for number in range(33, 41)]
    rows = [line.split() for line in (celeba / "celeba/list_attr_celeba.txt").read_text().splitlines()[34:]]
    assert table["target"].tolist() == [int(row[3] == "1") for row in rows]  # Attractive
    assert result["metrics"]["accuracy"] == pytest.approx(accuracy_score(table["target"], table["prediction"]))
    assert result["metrics"]["auroc"] == pytest.approx(roc_auc_score(table["target"], table["probability"]))
    assert result["confusion"] == confusion_matrix(table["target"], table["prediction"], labels=[0, 1]).tolist()
    expected = {
        "experiment": arm, "arm": arm, "mode": "corrected", "split": "test", "target": "Attractive", "layer_idx": 0,
        "covariates": ["Male", "Young"], "num_images": 8, "skipped": [], "epochs": 1, "steps": 3, "seed": 0,
    }  # fmt: skip
    assert expected.items() <= result.items()
    assert result["majority_accuracy"] == max(table["target"].mean(), 1 - table["target"].mean())
    assert result["seconds"] > 0


def test_both_arms_begin_alike(run_folder):
    """The first training loss agrees only where weights, order of images and outputs do (V moves by lr = 1e-5)."""
    first = [pd.read_csv(run_folder / arm / "metrics.csv")["train/loss"][0] for arm in ("plain", "hybrid")]
    assert first[0] == pytest.approx(first[1], abs=1e-3)


def test_a_second_fit_writes_nothing_over(run_folder, celeba, capsys):
    before = files_of(run_folder / "plain")
    argv = ["fit", f"--data.root={celeba}", f"--root_dir={run_folder}", "--experiment=plain", *SMALL]
    message = fails(capsys, argv)
    assert "--overwrite" in message
    assert "--resume" in message
    assert files_of(run_folder / "plain") == before
    assert "exclude each other" in fails(capsys, [*argv, "--resume", "--overwrite"])
    assert "plain folder name" in fails(capsys, [*argv, "--experiment=../x"])


def test_a_mistake_in_the_options_leaves_no_run_behind(celeba, tmp_path, capsys):
    argv = ["fit", f"--data.root={celeba}", f"--root_dir={tmp_path}", "--experiment=x", *SMALL]
    for change, word in (
        ("--data.covariates=[Male,Smilng]", "'Smiling'"),
        ("--data.covariates=[Attractive]", "would be given the answer"),
        ("--data.image_size=16", "at least 32"),
        (f"--data.root={tmp_path}", "download --root"),
        ("--model.weights=absent.pt", "is no file"),
        ("--ckpt_path=last", "no checkpoint"),
    ):
        assert word in fails(capsys, [*argv, change])
        assert not RunFolder(tmp_path, "x").is_taken()
    assert "no run" in fails(capsys, ["test", f"--root_dir={tmp_path}", "--experiment=y"])
    for bad in ("--model.arm=both", "--modle.arm=plain"):
        with pytest.raises(SystemExit):
            main([*argv, bad])
        assert "arm" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["test", "--help"])
    assert stop.value.code == 0
    assert "--ckpt_path" in capsys.readouterr().out


def test_resume_goes_on_and_overwrite_starts_anew(run_folder, celeba, tmp_path):
    shutil.copytree(run_folder / "hybrid", tmp_path / "hybrid")
    where = [f"--root_dir={tmp_path}", "--experiment=hybrid"]
    main(["fit", *where, "--resume", "--trainer.max_epochs=2"])
    metrics = pd.read_csv(tmp_path / "hybrid/metrics.csv")
    assert sorted(metrics["epoch"].unique()) == [0, 1]
    assert metrics["step"].max() == 5
    note = check_checkpoint(tmp_path / "hybrid/checkpoints/hybrid-last.ckpt", "celeba")
    assert (note["history"]["epochs"], note["history"]["steps"]) == (2, 6)
    main(["validate", *where, "--ckpt_path=last"])
    assert json.loads((tmp_path / "hybrid/results-valid.json").read_text())["epochs"] == 2

    main(["fit", *where, f"--config={tmp_path}/hybrid/config.yaml", "--overwrite", "--trainer.max_epochs=1"])
    assert pd.read_csv(tmp_path / "hybrid/metrics.csv")["epoch"].max() == 0
    assert not (tmp_path / "hybrid/results-valid.json").exists()


def test_the_last_checkpoint_is_the_last_epoch(celeba, tiny_vgg, tmp_path):
    """Also where the metric stays flat (lr 0) and the best epoch is the first."""
    main([
        "fit", f"--data.root={celeba}", f"--root_dir={tmp_path}", "--experiment=flat", *SMALL, "--model.lr=0",
        "--trainer.max_epochs=3",
    ])  # fmt: skip
    folder = tmp_path / "flat/checkpoints"
    assert check_checkpoint(folder / "flat-last.ckpt", "celeba")["history"]["epochs"] == 3
    assert sorted(path.name for path in folder.iterdir()) == ["flat-best.ckpt", "flat-last.ckpt"]


def test_a_refused_overwrite_or_resume_leaves_the_run_as_it_was(run_folder, tmp_path, capsys):
    shutil.copytree(run_folder / "hybrid", tmp_path / "hybrid")
    (tmp_path / "hybrid/log.txt").unlink()
    before = files_of(tmp_path / "hybrid")
    argv = ["fit", f"--config={tmp_path}/hybrid/config.yaml", f"--root_dir={tmp_path}", "--experiment=hybrid"]
    assert "img_align_celeba" in fails(capsys, [*argv, "--overwrite", f"--data.root={tmp_path}/nowhere"])
    assert "covariates" in fails(capsys, [*argv, "--resume", "--data.covariates=[Young,Male]"])
    (tmp_path / "hybrid/log.txt").unlink()
    assert files_of(tmp_path / "hybrid") == before


def test_answers_that_are_no_numbers_are_an_error(run_folder, celeba, tmp_path, capsys):
    shutil.copytree(run_folder / "plain", tmp_path / "plain")
    path = tmp_path / "plain/checkpoints/plain-best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["network.classifier.6.bias"].fill_(float("nan"))
    torch.save(checkpoint, path)
    assert "not a number for 8 of 8" in fails(capsys, ["test", f"--root_dir={tmp_path}", "--experiment=plain"])
    images = f"--images={celeba}/celeba/img_align_celeba"
    argv = ["predict", f"--checkpoint={path}", images, f"--out={tmp_path}/out.csv", "--num_workers=0"]
    assert "not a number" in fails(capsys, argv)
    assert not (tmp_path / "out.csv").exists()


def test_checkpoints_load_without_pickle_and_say_what_they_are(run_folder):
    path = run_folder / "hybrid/checkpoints/hybrid-best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint[note_key("celeba")]["covariates"] == ["Male", "Young"]
    study = CelebAStudy.load_from_checkpoint(path, weights_only=True)
    assert study.encoder.get_feature_names_out().tolist() == ["Male", "Young"]
    assert study.network.get_submodule("features.0").covariate_weight.count_nonzero() > 0  # V was trained, and loaded


def test_a_plain_vgg16_is_calibrated_on_training_images_and_its_file_is_needed_once(celeba, tmp_path):
    features = make_layers(TINY, batch_norm=False)
    weights = tmp_path / "vgg16.pt"
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, weights)
    argv = [f"--root_dir={tmp_path}", "--experiment=vgg"]
    start = ["--trainer.limit_train_batches=1", "--model.lr=0", "--model.calibration_images=12"]
    main(["fit", f"--data.root={celeba}", *argv, *SMALL, f"--model.weights={weights}", *start])
    weights.unlink()
    main(["test", *argv])
    network = CelebAStudy.load_from_checkpoint(tmp_path / "vgg/checkpoints/vgg-last.ckpt", weights_only=True).network
    images = [decode(celeba / f"celeba/img_align_celeba/{number:06d}.jpg") for number in range(1, 25, 2)]
    prepared = prepare(images, 32, "corrected")
    with torch.no_grad():  # the file has no classifier: VGG16's features over one number (test_weights.py)
        got, expected = network.features.train()(prepared), features(prepared)
    factor = float((got * expected).sum() / expected.square().sum())
    assert factor > 0
    torch.testing.assert_close(got, factor * expected, rtol=2e-3, atol=2e-3 * float(got.std()))


def test_a_checkpoint_of_another_run_is_refused(run_folder, celeba, tmp_path, capsys):
    """--config in place of the run's own configuration: what the run says must be what the checkpoint says."""
    checkpoint = run_folder / "hybrid/checkpoints/hybrid-best.ckpt"
    argv = ["test", f"--config={run_folder}/hybrid/config.yaml", f"--root_dir={tmp_path}", f"--ckpt_path={checkpoint}"]
    for change, words in (
        ("--data.covariates=[Young,Male]", ["['Male', 'Young']", "['Young', 'Male']", "order"]),
        ("--data.target=Smiling", ["'Attractive'", "'Smiling'"]),
        ("--model.arm=plain", ["'hybrid'", "'plain'"]),
    ):
        message = fails(capsys, [*argv, change])
        assert all(word in message for word in words)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "page.ckpt").write_text("<html>")
    assert "other.ckpt" in fails(capsys, [*argv[:-1], f"--ckpt_path={tmp_path}/other.ckpt"])
    assert "weights_only=True" in fails(capsys, [*argv[:-1], f"--ckpt_path={tmp_path}/page.ckpt"])
    assert "no checkpoint" in fails(capsys, [*argv[:-1], f"--ckpt_path={tmp_path}/absent.ckpt"])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        check_checkpoint(tmp_path, "celeba")


def test_a_loss_that_is_no_number_stops_the_run(celeba, tmp_path, capsys):
    argv = ["fit", f"--data.root={celeba}", f"--root_dir={tmp_path}", "--experiment=nan", "--model.lr=1e30", *SMALL]
    message = fails(capsys, argv)
    assert "loss is nan by step 2" in message
    assert "1e+30" in message


def test_images_that_do_not_decode_are_counted_in_the_results(run_folder, celeba, tmp_path, capsys):
    shutil.copytree(celeba, tmp_path / "data")
    (tmp_path / "data/celeba/img_align_celeba/000035.jpg").write_text("<html>")
    shutil.copytree(run_folder / "plain", tmp_path / "plain")
    argv = ["test", f"--root_dir={tmp_path}", "--experiment=plain", f"--data.root={tmp_path}/data"]
    assert "--data.on_error skip" in fails(capsys, argv)
    main([*argv, "--data.on_error=skip"])
    result = json.loads((tmp_path / "plain/results-test.json").read_text())
    assert (result["num_images"], result["skipped"]) == (7, ["000035.jpg"])
    assert "000035.jpg" in (tmp_path / "plain/log.txt").read_text()


def test_as_published_leaves_the_test_split_alone(run_folder, capsys):
    message = fails(capsys, ["test", f"--root_dir={run_folder}", "--experiment=plain", "--model.mode=as_published"])
    assert "validate" in message


def test_predict_writes_a_row_for_each_image_that_has_one(run_folder, celeba, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for number in (33, 34, 36):
        shutil.copy(celeba / f"celeba/img_align_celeba/{number:06d}.jpg", images)
    tested = pd.read_csv(run_folder / "hybrid/predictions-test.csv").set_index("file")
    attributes = (celeba / "celeba/list_attr_celeba.txt").read_text().splitlines()[2:]
    rows = {row[0]: row for row in (line.split() for line in attributes)}
    lines = ["file,Young,extra,Male"]
    for number in (33, 34, 35):
        row = rows[f"{number:06d}.jpg"]
        lines.append(f"{row[0]},{int(row[40] == '1')},7,{int(row[21] == '1')}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    argv = ["predict", f"--checkpoint={run_folder}/hybrid/checkpoints/hybrid-best.ckpt", f"--images={images}",
            "--num_workers=0", "--device=cpu"]  # fmt: skip
    main([*argv, f"--table={tmp_path}/table.csv", f"--out={tmp_path}/out.csv"])
    printed = capsys.readouterr().out
    assert "1 images have no row" in printed and "000036.jpg" in printed  # noqa: PT018
    assert "1 rows" in printed and "000035.jpg" in printed  # noqa: PT018
    out = pd.read_csv(tmp_path / "out.csv").set_index("file")
    assert out.index.tolist() == ["000033.jpg", "000034.jpg"]
    pd.testing.assert_frame_equal(out, tested.loc[out.index, ["probability", "prediction"]], rtol=1e-4)

    # CelebA's own table gives the same; an existing file is kept.
    own = f"--table={celeba}/celeba/list_attr_celeba.txt"
    assert "--overwrite" in fails(capsys, [*argv, own, f"--out={tmp_path}/out.csv"])
    main([*argv, own, f"--out={tmp_path}/out.csv", "--overwrite"])
    assert len(pd.read_csv(tmp_path / "out.csv")) == 3
    assert "give --table" in fails(capsys, [*argv, f"--out={tmp_path}/x.csv"])
    assert "no such file" in fails(capsys, [*argv, f"--out={tmp_path}/x.csv", f"--table={tmp_path}/absent.csv"])
    (tmp_path / "short.csv").write_text("file,Male,Yuong\n000033.jpg,1,0\n")
    assert "'Young'" in fails(capsys, [*argv, f"--out={tmp_path}/x.csv", f"--table={tmp_path}/short.csv"])
    (images / "000033.jpg").write_text("no image")
    assert "000033.jpg" in fails(capsys, [*argv, own, f"--out={tmp_path}/x.csv"])
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,Male,Young,Male\n000033.jpg,1,0,0\n", "each column name once.*'Male'"),
        ("file,Male,Young\n000033.jpg,1,0\n000034.jpg,1,0,1,1\n", "line 3: expected 3 values"),
        ("file,Male,Young\n000033.jpg,1\n", "line 2: expected 3 values"),
        ("file,Male,Young\n", "rows after the header"),
        ('file,Male,Young\n000033.jpg,1,"0\n000034.jpg,1,0\n', "line 2: .*quote"),
        ("file,Male,Young\n000033.jpg,1,\0\n", "NUL"),
        ("file,Male,Old\n000033.jpg,1,0\n", "unknown column 'Young'"),
    ],
)
def test_predict_refuses_a_table_that_is_none(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(TableError, match=words):
        read_covariates(tmp_path / "t.csv", ["Male", "Young"])


def test_predict_reads_spaces_and_trailing_commas(tmp_path):
    (tmp_path / "t.csv").write_text("file , Male,Young,\n000033.jpg,1,0,\n")
    table = read_covariates(tmp_path / "t.csv", ["Young", "Male"])
    assert table.loc["000033.jpg", ["Male", "Young"]].tolist() == [1, 0]


def test_help_names_every_command_and_an_unknown_one_is_refused(capsys):
    main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {command}" in text for command in COMMANDS)
    with pytest.raises(SystemExit):
        main(["train"])
    assert "unknown command 'train'" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_loads(path, tmp_path, celeba):
    cli = CelebACLI("fit", [f"--config={path}", f"--data.root={celeba}", f"--root_dir={tmp_path}"])
    assert not any(Path(tmp_path).iterdir())  # a run that is refused now leaves no folder
    assert cli.model.hparams.covariates == cli.datamodule.covariates
    assert (cli.model.hparams.mode == "as_published") == path.stem.startswith("as-published")
    assert cli.model.hparams.constant == cli.datamodule.constant
    assert path.stem in (cli.config.experiment, "default")
    epochs = {"demo": 4, "attributes-bce": 3, "attributes-published-mse": 3}
    assert cli.trainer.max_epochs == epochs.get(path.stem, 1)
