"""Several attributes at once through fit, test and predict; the learning-rate finder; crops in training only."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, roc_auc_score

from fusionconv.tabular import CELEBA_ATTRIBUTES
from recipes.celeba.__main__ import main
from recipes.celeba.data import CelebAData
from recipes.celeba.images import augmentation, decode
from tests.recipes.celeba.conftest import SMALL

TINY_NET = [option for option in SMALL if "classifier_width" not in option] + ["--model.arch=timm:resnet10t"]
PUBLISHED = ["--data.target=all", "--data.covariates=[]", "--model.loss=mse", "--model.optimizer=adamax"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, celeba):
    """`all`: 40 attributes, the published loss; `two`: hybrid, two attributes, BCE."""
    root = tmp_path_factory.mktemp("many")
    where = [f"--data.root={celeba}", f"--root_dir={root}"]
    main(["fit", *where, "--experiment=all", *TINY_NET, *PUBLISHED, "--data.augment=true", "--model.lr=1e-3"])
    main(["fit", *where, "--experiment=two", *TINY_NET, "--model.arm=hybrid", "--data.target=[Smiling, Bald]",
          "--model.freeze_epochs=1"])  # fmt: skip
    for name in ("all", "two"):
        main(["test", f"--root_dir={root}", f"--experiment={name}"])
    return root


@pytest.mark.parametrize(("name", "targets"), [("all", list(CELEBA_ATTRIBUTES)), ("two", ["Smiling", "Bald"])])
def test_the_figures_are_those_of_the_predictions(runs, celeba, name, targets):
    folder = runs / name
    result = json.loads((folder / "results-test.json").read_text())
    table = pd.read_csv(folder / "predictions-test.csv")
    lines = (celeba / "celeba/list_attr_celeba.txt").read_text().splitlines()
    truth = pd.DataFrame([line.split() for line in lines[34:]], columns=["file", *CELEBA_ATTRIBUTES])
    assert table["file"].tolist() == truth["file"].tolist()
    by_name = pd.read_csv(folder / "attributes-test.csv", index_col="attribute")
    assert by_name.index.tolist() == targets == (result["target"])
    aurocs = []
    for target in targets:
        own = (truth[target] == "1").astype(int)
        assert table[f"{target}_target"].tolist() == own.tolist()
        assert by_name.loc[target, "accuracy"] == pytest.approx(accuracy_score(own, table[f"{target}_prediction"]))
        score = table[f"{target}_output" if name == "all" else f"{target}_probability"]
        assert (table[f"{target}_prediction"] == (score > (0 if name == "all" else 0.5))).all()
        if own.nunique() == 2:
            aurocs.append(roc_auc_score(own, score))
            assert by_name.loc[target, "auroc"] == pytest.approx(aurocs[-1], abs=1e-6)  # six digits are written
    assert result["metrics"]["auroc"] == pytest.approx(np.mean(aurocs), abs=1e-6)
    assert result["metrics"]["accuracy"] == pytest.approx(by_name["accuracy"].mean())
    if name == "all":  # targets +1 and -1, squared error
        outputs = table[[f"{target}_output" for target in targets]].to_numpy()
        wanted = np.where(table[[f"{target}_target" for target in targets]] == 1, 1, -1)
        assert result["metrics"]["loss"] == pytest.approx(((outputs - wanted) ** 2).mean(), rel=1e-5)
    assert "targets" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("name", ["all", "two"])
def test_predict_gives_what_test_gave(runs, celeba, name, tmp_path):
    folder = runs / name
    main(["predict", f"--checkpoint={folder}/checkpoints/{name}-best.ckpt", f"--out={tmp_path}/out.csv",
          f"--images={celeba}/celeba/img_align_celeba", f"--table={celeba}/celeba/list_attr_celeba.txt",
          "--num_workers=0", "--device=cpu"])  # fmt: skip
    out = pd.read_csv(tmp_path / "out.csv", index_col="file")
    tested = pd.read_csv(folder / "predictions-test.csv", index_col="file")
    pd.testing.assert_frame_equal(out.loc[tested.index], tested[out.columns], rtol=1e-3, atol=1e-5)


def test_frozen_epochs_left_the_features_alone(runs):
    from recipes.celeba.arms import build_network

    checkpoint = torch.load(runs / "two/checkpoints/two-last.ckpt", weights_only=True)
    state = {key.removeprefix("network."): value for key, value in checkpoint["state_dict"].items()}
    means = [value for key, value in state.items() if key.endswith("running_mean")]
    assert means
    assert all((mean == 0).all() for mean in means)  # as a new network's
    torch.manual_seed(0)
    fresh = build_network("hybrid", weights="none", num_covariates=1, num_classes=2, arch="timm:resnet10t")
    assert set(fresh.state_dict()) == set(state)
    assert any(value.count_nonzero() for key, value in state.items() if key.endswith("covariate_weight"))


def test_a_target_cannot_be_a_covariate(celeba, tmp_path, capsys):
    for target, covariates in (("all", "[Male]"), ("[Smiling, Male]", "[Male]")):
        with pytest.raises(SystemExit):
            main(["fit", f"--data.root={celeba}", f"--root_dir={tmp_path}", *TINY_NET, f"--data.target={target}",
                  f"--data.covariates={covariates}"])  # fmt: skip
        assert "'Male' is among the covariates" in capsys.readouterr().err


def test_each_image_of_a_batch_has_a_crop_of_its_own_in_training_only(celeba):
    data = CelebAData(str(celeba), target="all", covariates=[], image_size=16, augment=True, num_workers=0)
    data.setup("fit")
    torch.manual_seed(0)
    first, again = data.dataset("train")[0], data.dataset("train")[0]
    assert first["image"].shape == (3, 16, 16)
    assert first["image"].dtype == torch.uint8
    assert not torch.equal(first["image"], again["image"])
    assert first["target"].shape == (40,)
    file = data.frames["valid"].index[0]
    assert torch.equal(data.dataset("valid")[0]["image"], decode(data.images / file))
    assert all(image.shape[1] >= 32 for image in data.calibration_images(4))
    flat = torch.full((3, 32, 32), 7, dtype=torch.uint8)
    assert (augmentation(16)(flat) == 7).all()  # nothing but parts of the image


def test_lr_find_prints_a_rate_and_leaves_no_run(celeba, tmp_path, capsys):
    argv = ["lr_find", f"--data.root={celeba}", f"--root_dir={tmp_path}", "--experiment=find", *TINY_NET,
            "--model.arm=hybrid", "--steps=20", "--min_lr=1e-6", "--max_lr=10"]  # fmt: skip
    main(argv)
    table = pd.read_csv(tmp_path / "find/lr_find.csv")
    assert table["lr"].is_monotonic_increasing
    assert 1e-6 <= table["lr"].iloc[0] < table["lr"].iloc[-1] <= 10
    assert len(table) > 3  # more steps than an epoch has
    assert (tmp_path / "find/lr_find.png").stat().st_size > 5000
    printed = capsys.readouterr().out
    assert "suggested learning rate: --model.lr" in printed or "no suggestion" in printed
    assert {path.name for path in (tmp_path / "find").iterdir()} == {"lr_find.csv", "lr_find.png", "log.txt"}
    with pytest.raises(SystemExit):
        main([*argv, "--steps=3"])
    assert "at least 10" in capsys.readouterr().err
