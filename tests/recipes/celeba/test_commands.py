"""Every command once on a tiny folder, what it leaves, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fusionconv.study.settings import make_settings
from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.__main__ import COMMANDS, main
from recipes.celeba.training import CONFIGS, FIT, read
from tests.recipes.celeba.conftest import SMALL, TINY_VGG

pytestmark = pytest.mark.usefixtures("tiny_vgg")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_yaml_is_a_study_of_the_engine(path):
    from fusionconv.study.arms import parse_arm
    from fusionconv.study.command_line import parse

    given = parse("compare", ["--config", str(path), "--out", "x"])
    assert make_settings(given.settings).split_column in ("split", "as_published")
    assert all(parse_arm(arm) for arm in given.own["arms"])
    settings, own = read(["--config", str(path), "--root", "r", "--out", "o"], "fit", FIT)
    assert set(settings["target"] if isinstance(settings["target"], list) else [settings["target"]]) <= set(
        CELEBA_ATTRIBUTES
    )
    assert own["arms"] == given.own["arms"]


def test_help_of_every_command(capsys):
    for words in (
        [],
        ["--help"],
        *([command, "--help"] for command in COMMANDS if command not in ("verify", "download")),
    ):
        assert main(words) == 0
        assert "usage: python -m recipes.celeba" in capsys.readouterr().out
    assert main(["fit", "--help", "trainer"]) == 0
    assert "--trainer.devices" in capsys.readouterr().out
    assert main(["nosuch"]) == 2


def test_fit_keeps_the_official_split_and_cross_checks_its_rows(fitted, celeba):
    rows = pd.read_csv(fitted / "rows.csv")
    folds = pd.read_csv(fitted / "folds.csv")
    assert folds["split"].value_counts().to_dict() == {"train": 24, "val": 8, "test": 8}
    partition = dict(line.split() for line in (celeba / "celeba/list_eval_partition.txt").read_text().splitlines())
    names = {"0": "train", "1": "val", "2": "test"}
    assert folds.set_index("id")["split"].to_dict() == {name: names[code] for name, code in partition.items()}
    assert set(rows["Male"]) == {0, 1}
    for arm in ("image", "hybrid-first"):
        result = json.loads((fitted / f"runs/{arm}/split/result.json").read_text())
        assert result["num_covariates"] == 2  # no flags of missing values
    assert (fitted / "report.html").is_file()


def test_validate_and_test_say_what_the_predictions_say(fitted, capsys):
    for command, part in (("validate", "val"), ("test", "test")):
        assert main([command, "--study", str(fitted)]) == 0
        printed = capsys.readouterr().out
        table = pd.read_csv(fitted / f"{command}.csv").set_index("arm")
        for arm in ("image", "hybrid-first"):
            rows = pd.read_csv(fitted / f"runs/{arm}/split/predictions.csv", dtype={"control": str})
            rows = rows[(rows["part"] == part) & (rows["control"] == "true")]
            assert table.loc[arm, "n"] == 8
            assert table.loc[arm, "accuracy"] == pytest.approx((rows["decision"] == rows["target"]).mean())
            assert table.loc[arm, "base_rate"] == pytest.approx(rows["target"].mean())
            if rows["decision"].nunique() == 1:
                assert f"{arm} split: all 8 answers are one class" in printed
    assert main(["test", "--study", str(fitted), "--arm", "film@last"]) == 2


def test_predict_gives_the_tests_own_answers(fitted, celeba, tmp_path, capsys):
    """A CSV of ours, CelebA's own table, and for the image arm no table: the same images, the same answers."""
    images = tmp_path / "images"
    images.mkdir()
    own = pd.read_csv(fitted / "runs/hybrid-first/split/predictions.csv", dtype={"control": str})
    own = own[(own["part"] == "test") & (own["control"] == "true")].set_index("id")["probability"]
    for name in own.index:
        shutil.copy(celeba / "celeba/img_align_celeba" / name, images / name)
    rows = pd.read_csv(fitted / "rows.csv").set_index("file").loc[own.index[::-1], ["Young", "Male"]].reset_index()
    rows.to_csv(tmp_path / "mine.csv", index=False)
    for table in (tmp_path / "mine.csv", celeba / "celeba/list_attr_celeba.txt"):
        out = tmp_path / "out.csv"
        words = ["--study", str(fitted), "--images", str(images), "--table", str(table), "--out", str(out)]
        assert main(["predict", "--arm", "hybrid@first", *words]) == 0
        found = pd.read_csv(out).set_index("id")["probability"]
        np.testing.assert_allclose(found[own.index], own, atol=1e-6)
    assert "32 rows of" in capsys.readouterr().out  # of CelebA's table have no image
    assert main(["predict", "--arm", "image", "--study", str(fitted), "--images", str(images), "--out", str(out)]) == 0
    assert len(pd.read_csv(out)) == 8
    bad = (
        (["--table", str(tmp_path / "mine.csv"), "--images", str(tmp_path / "nowhere")], "folder of images"),
        (["--table", str(tmp_path / "none.csv"), "--images", str(images)], "not there"),
        (["--images", str(images)], "no table"),
        (["--images", str(tmp_path), "--table", str(tmp_path / "mine.csv")], "got none of"),
    )
    for words, says in bad:
        assert main(["predict", "--arm", "hybrid@first", "--study", str(fitted), "--out", str(out), *words]) == 2
        assert says in capsys.readouterr().err


def test_explain_and_robustness(fitted, tmp_path, capsys):
    assert main(["explain", str(fitted), "--arm", "hybrid@first", "--rows", "2", "--out", str(tmp_path / "e")]) == 0
    assert {p.name for p in (tmp_path / "e").iterdir()} == {"attribution.png", "effects.png", "kernels.png"}
    assert main(["robustness", str(fitted), "--arm", "image", "--step", "180", "--out", str(tmp_path / "r")]) == 0
    table = pd.read_csv(tmp_path / "r/robustness.csv")
    assert table["degrees"].tolist()[:3] == [0, 180, 360]
    assert table.loc[0, "accuracy"] == table.loc[2, "accuracy"]


def test_crossval_keeps_people_together_and_leaves_the_test_images_alone(celeba, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(celeba, root)
    names = [f"{i + 1:06d}.jpg" for i in range(40)]
    (root / "celeba/identity_CelebA.txt").write_text("".join(f"{name} {i // 2}\n" for i, name in enumerate(names)))
    out = tmp_path / "cv"
    words = ["--root", str(root), "--out", str(out), "--folds", "2", "--arms", "covariates", "image", *SMALL, *TINY_VGG]
    assert main(["crossval", *words]) == 0
    folds = pd.read_csv(out / "folds.csv")
    assert sorted(folds["id"]) == names[:32]  # train and valid
    for fold in ("repeat0-fold0", "repeat0-fold1"):
        assert folds.groupby("subject")[fold].nunique().max() == 1
    assert (folds[["repeat0-fold0", "repeat0-fold1"]] == "test").sum(axis=1).eq(1).all()
    config = ["--config", str(CONFIGS / "as-published.yaml")]
    assert main(["crossval", *config, "--root", str(root), "--out", str(tmp_path / "x")]) == 2


def test_people_on_both_sides_are_refused_unless_another_unit_is_named(celeba, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(celeba, root)
    (root / "celeba/identity_CelebA.txt").write_text("".join(f"{i + 1:06d}.jpg {i % 3}\n" for i in range(40)))
    words = ["fit", "--root", str(root), "--arms", "covariates", "--controls", "0", "--resamples", "100"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "each subject on one side" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "b"), "--subject", "file"]) == 0


def test_as_published_is_judged_on_the_validation_images(celeba, tmp_path, capsys):
    out = tmp_path / "published"
    words = ["--config", str(CONFIGS / "as-published.yaml"), "--root", str(celeba), "--out", str(out), *SMALL]
    arms = yaml.safe_load((CONFIGS / "as-published.yaml").read_text())["arms"]
    small = [{**arm, "network_options": {**arm.get("network_options", {}), "classifier_width": 16}} for arm in arms]
    config = yaml.safe_load((CONFIGS / "as-published.yaml").read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**config, "arms": small[1:], "lr": 1e-3}))
    words[1] = str(tmp_path / "small.yaml")
    assert main(["fit", *words, "--image-size", "64"]) == 0
    folds = pd.read_csv(out / "folds.csv", keep_default_na=False)
    assert folds["split"].value_counts().to_dict() == {"train": 24, "test": 8, "": 8}
    assert main(["validate", "--study", str(out)]) == 0
    assert pd.read_csv(out / "validate.csv")["n"].tolist() == [8, 8, 8]
    capsys.readouterr()
    assert main(["test", "--study", str(out)]) == 2
    assert "run validate" in capsys.readouterr().err
    # V: trained where there is one covariate, as it was drawn where there are three
    import torch
    from safetensors.torch import load_file

    from fusionconv.study.arms import build_arm, parse_arm
    from fusionconv.study.networks import build_network

    for arm, count in ((small[2], 1), (small[3], 3)):
        saved = load_file(out / f"runs/{arm['name']}/split/model/model.safetensors")
        torch.manual_seed(0)
        network = build_network("recipes.celeba.vgg:as_published", num_outputs=2, in_channels=3, image_size=(64, 64),
                                options=arm["network_options"])  # fmt: skip
        drawn = build_arm(parse_arm(arm), network, count).state_dict()
        name = "features.published.covariate_weight"
        assert torch.equal(saved[name], drawn[name]) == (count == 3)
        assert not torch.equal(saved["features.published.weight"], drawn["features.published.weight"])


def test_images_that_are_absent_or_do_not_decode(celeba, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(celeba, root)
    (root / "celeba/img_align_celeba/000002.jpg").unlink()
    words = ["fit", "--root", str(root), "--out", str(tmp_path / "out"), "--arms", "image", *SMALL, *TINY_VGG]
    assert main(words) == 2
    assert "got none of 000002.jpg" in capsys.readouterr().err
    shutil.copy(celeba / "celeba/img_align_celeba/000002.jpg", root / "celeba/img_align_celeba/000002.jpg")
    (root / "celeba/img_align_celeba/000003.jpg").write_bytes(b"\xff\xd8 no picture")
    assert main(words) == 2
    assert "000003.jpg" in capsys.readouterr().err
    (root / "celeba/img_align_celeba/000002.jpg").unlink()
    assert main([*words, "--on-error", "skip"]) == 0
    assert len(pd.read_csv(tmp_path / "out/rows.csv")) == 38
    flow = json.loads((tmp_path / "out/notes.json").read_text())["flow"]
    assert [line[1] for line in flow if line[1] < 0] == [-1, -1]


def test_forty_attributes(celeba, tmp_path):
    out = tmp_path / "forty"
    words = [
        "--config",
        str(CONFIGS / "attributes-published-mse.yaml"),
        "--root",
        str(celeba),
        "--out",
        str(out),
        "--epochs",
        "1",
    ]
    assert main(["fit", *words, *SMALL, "--network", "fusionconv:small_cnn"]) == 0
    assert main(["test", "--study", str(out)]) == 0
    each = pd.read_csv(out / "attributes-test.csv")
    assert each["attribute"].tolist() == list(CELEBA_ATTRIBUTES)
    rows = pd.read_csv(out / "runs/image/split/predictions.csv", dtype={"control": str})
    rows = rows[rows["part"] == "test"]
    line = each.set_index("attribute").loc["Smiling"]
    assert line["base_rate"] == pytest.approx(rows["target_Smiling"].mean())
    assert line["accuracy"] == pytest.approx((rows["target_Smiling"] == (rows["p_Smiling"] >= 0.5)).mean())
    assert main(["fit", *words[:4], "--out", str(tmp_path / "x"), "--covariates", "Male"]) == 2  # a target


def test_lr_find(celeba, tmp_path, capsys):
    words = ["--root", str(celeba), "--out", str(tmp_path), "--steps", "20", "--arm", "hybrid@first", *SMALL, *TINY_VGG]
    assert main(["lr_find", *words]) == 0
    assert "lr_find.png" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "lr_find.csv")) <= 20


def test_a_plain_vgg16_is_calibrated_and_said_so(celeba, tmp_path):
    import torch
    from torchvision.models.vgg import make_layers

    from tests.recipes.celeba.conftest import TINY

    torch.manual_seed(1)
    state = make_layers(TINY, batch_norm=False).state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, tmp_path / "vgg16.pt")
    out = tmp_path / "out"
    words = ["--root", str(celeba), "--out", str(out), "--arms", "image", *SMALL, *TINY_VGG]
    assert main(["fit", *words, "--weights", str(tmp_path / "vgg16.pt")]) == 0
    weights = Path(yaml.safe_load((out / "study.yaml").read_text())["settings"]["weights"])
    assert weights.name.startswith("vgg16-calibrated-")
    assert main(["fit", *words, "--weights", str(tmp_path / "vgg16.pt")]) == 0  # nothing is done again
    assert main(["fit", *words]) == 2  # other weights


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--root", "nowhere", "--out", "x"], "img_align_celeba"),
        (["--out", "x"], "--root"),
        (["--root", "{root}"], "--out"),
        (["--root", "{root}", "--out", "x", "--target", "Smilling"], "Smilling"),
        (["--root", "{root}", "--out", "x", "--covariates", "Attractive"], "Attractive"),
        (["--root", "{root}", "--out", "x", "--covariates", "Age"], "Age"),
        (["--root", "{root}", "--out", "x", "--arms", "hybrid@fist"], "fist"),
        (["--root", "{root}", "--out", "x", "--data.root", "y"], "data"),
        (["--root", "{root}", "--out", "x", "--config", "none.yaml"], "none.yaml"),
        (["--root", "{root}", "--out", "x", "--weights", "none.pt", *TINY_VGG], "none.pt"),
        (["--root", "{root}", "--out", "x", "--weights", "none", "--image-size", "16", *TINY_VGG], "image-size 32"),
        (["--root", "{root}", "--out", "x", "--epochs", "0"], "epochs"),
        (["--root", "{root}", "--out", "/proc/x"], "/proc/x"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_is_one_line_that_says_what(words, says, celeba, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *(word.format(root=celeba) for word in words)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("recipes.celeba fit: ")


def test_files_and_lines_of_the_recipe():
    """At most ten Python files and 2,000 lines; nothing of another recipe, and nothing imports a recipe from below."""
    import ast

    root = Path(__file__).parents[3]
    files = sorted((root / "recipes/celeba").rglob("*.py"))
    assert len(files) <= 10
    assert sum(len(path.read_text().splitlines()) for path in files) <= 2000
    for path in [*files, *(root / "fusionconv").rglob("*.py"), *(root / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                allowed = path in files and name.startswith("recipes.celeba")
                assert allowed or not name.startswith("recipes"), f"{path}: {name}"
