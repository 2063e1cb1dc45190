"""lr-find and robustness: against losses and pictures whose answers are known."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fusionconv.errors import StudyError
from fusionconv.study import Study
from fusionconv.study.command import main
from fusionconv.study.lr_range import find_lr, suggested
from fusionconv.study.robustness import check_robustness, rotate, shuffle_each


class Constant(nn.Module):
    """Always the same answer: the loss is log 2 at every rate."""

    def __init__(self, num_outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.head = nn.Linear(1, num_outputs)

    def forward(self, x):
        return 0 * self.head(self.conv(x).mean((2, 3)))


class Brightness(nn.Module):
    """Right by the mean brightness of the left half of the picture: not by a turned one."""

    def __init__(self, num_outputs):
        super().__init__()
        self.head = nn.Linear(1, num_outputs)

    def forward(self, x):
        return self.head(50 * (x[..., : x.shape[-1] // 2].mean((1, 2, 3)) - 0.5)[:, None])


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Class 1: the left half is bright; class 0: the right half. Turned by 180 degrees every answer is wrong."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("halves")
    draw = np.random.default_rng(0)
    left = draw.integers(0, 2, 40)
    for n in range(40):
        pixels = np.full((16, 16), 40)
        pixels[:, :8] += 160 * left[n]
        pixels[:, 8:] += 160 * (1 - left[n])
        Image.fromarray((pixels + draw.integers(0, 20, pixels.shape)).astype(np.uint8)).save(folder / f"{n}.png")
    pd.DataFrame({"file": [f"{n}.png" for n in range(40)], "left": left}).to_csv(folder / "t.csv", index=False)
    return {"table": str(folder / "t.csv"), "image_column": "file", "target": "left", "image_size": 16, "folds": 2,
            "network": "tests.study.test_ranges:Brightness", "epochs": 8, "lr": 0.1, "batch_size": 8, "schedule": "constant",
            "normalize": "none", "resamples": 100, "cache": str(folder / "cache")}  # fmt: skip


def test_turned_by_half_a_circle_every_answer_is_wrong(halves, tmp_path, capsys):
    out = tmp_path / "out"
    Study(**halves).compare(["image"], out=out, progress=False, report=False)
    assert main(["robustness", str(out), "--arm", "image", "--step", "90"]) == 0
    assert "rotation" in capsys.readouterr().out
    table = pd.read_csv(out / "robustness/image/robustness.csv")
    assert (out / "robustness/image/robustness.png").is_file()
    by_angle = table.set_index("degrees")["accuracy"]
    assert (by_angle[0.0], by_angle[180.0], by_angle[360.0]) == (1.0, 0.0, 1.0)
    assert table["condition"].tolist() == ["rotation"] * 5 + ["shuffled"]
    assert by_angle.iloc[-1] < 1  # without places only chance is left
    # upright is what the study itself found
    mine = pd.read_csv(out / "results.csv").set_index("metric")["mean"]
    np.testing.assert_allclose(table.loc[0, ["auc", "accuracy"]].astype(float), mine[["auc", "accuracy"]])


def test_robustness_says_what_it_cannot(halves, tmp_path):
    out = tmp_path / "out"
    Study(**halves).compare(["image"], out=out, progress=False, report=False, keep="none", epochs=1)
    with pytest.raises(StudyError, match="keep best"):
        check_robustness(str(out), "image")
    with pytest.raises(StudyError, match="one of image"):
        check_robustness(str(out), "film@last")
    with pytest.raises(StudyError, match="step: expected"):
        check_robustness(str(out), "image", step=0)


def test_rotate_is_torch_rot90_in_2d_and_about_the_third_axis_in_3d():
    generator = torch.Generator().manual_seed(0)
    flat, volume = torch.rand(2, 3, 9, 9, generator=generator), torch.rand(2, 1, 9, 9, 4, generator=generator)
    for turns in range(5):
        torch.testing.assert_close(rotate(flat, 90 * turns), torch.rot90(flat, turns, (2, 3)))
        torch.testing.assert_close(rotate(volume, 90 * turns), torch.rot90(volume, turns, (2, 3)))


def test_shuffled_pixels_keep_their_channels_together_and_have_an_order_of_their_own():
    images = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(3, 2, 1, 1)
    images[:, 1] += 100
    out = shuffle_each(images, torch.Generator().manual_seed(0))
    assert torch.equal(out[:, 1] - out[:, 0], torch.full((3, 4, 4), 100.0))
    assert torch.equal(out.flatten(2).sort(2).values, images.flatten(2))
    assert not torch.equal(out[0], out[1])


# ---- rates ----


def test_a_constant_loss_gives_a_flat_curve_and_no_suggestion(small, tmp_path):
    given = {**small, "network": "tests.study.test_ranges:Constant", "channels": 1}
    table, rate = find_lr(Study(**given), "image", out=tmp_path / "out", steps=25, max_lr=1e-3)
    np.testing.assert_allclose(table["smoothed_loss"], np.log(2), rtol=1e-6)
    assert rate is None
    np.testing.assert_allclose(table["lr"], np.geomspace(1e-8, 1e-3, 25))


def test_the_groups_of_the_optimizer_keep_their_ratio_and_nothing_is_kept(small, tmp_path, monkeypatch):
    seen = []
    from fusionconv.study.module import StudyModule

    original = StudyModule.training_step

    def look(self, batch, batch_idx):
        seen.append({group["name"]: group["lr"] for group in self.trainer.optimizers[0].param_groups})
        return original(self, batch, batch_idx)

    monkeypatch.setattr(StudyModule, "training_step", look)
    given = {**small, "lr": 1e-3, "covariate_lr": 1e-4}
    assert (
        main(["lr-find", *_flags(given), "--arm", "hybrid@first", "--out", str(tmp_path / "out"), "--steps", "20"]) == 0
    )
    assert len(seen) <= 20
    for rates in seen:
        assert rates["covariates"] == pytest.approx(0.1 * rates["backbone"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["lr_find.csv", "lr_find.png"]


def _flags(given):
    words = []
    for name, value in given.items():
        words += [f"--{name}", *([str(v) for v in value] if isinstance(value, list) else [str(value)])]
    return words


def test_a_search_that_diverges_ends_there(small, tmp_path):
    study = Study(**{**small, "optimizer": "sgd"})
    table, _ = find_lr(study, "image", out=tmp_path / "out", steps=40, min_lr=1e-3, max_lr=1e12)
    assert len(table) < 40
    last = table["smoothed_loss"].iloc[-1]
    assert not np.isfinite(last) or last > 4 * table["smoothed_loss"].min()


@pytest.mark.parametrize(("steps", "low", "high"), [(5, 1e-8, 1.0), (100, 0.0, 1.0), (100, 1.0, 1e-3)])
def test_rates_that_cannot_be(small, tmp_path, steps, low, high):
    with pytest.raises(StudyError, match="steps of at least 20"):
        find_lr(Study(**small), "image", out=tmp_path, steps=steps, min_lr=low, max_lr=high)
    with pytest.raises(StudyError, match="one with a network"):
        find_lr(Study(**small), "covariates", out=tmp_path)


def test_a_curve_that_only_rises_suggests_nothing():
    table = pd.DataFrame({"lr": np.geomspace(1e-8, 1, 30), "smoothed_loss": np.linspace(0.5, 2, 30)})
    assert suggested(table) is None


# ---- what an arm may change, and rates of nothing ----


def test_arms_of_other_batches_and_networks_in_one_study(small, tmp_path):
    """Batch size and options of the network are an arm's own; the others keep the study's."""
    arms = [
        "image",
        {"name": "wide", "arm": "image", "network_options": {"width": 7}},
        {"name": "two", "arm": "image", "batch_size": 2},
    ]
    out = tmp_path / "out"
    given = {**small, "network": "tests.study.test_ranges:wide", "folds": 1, "epochs": 1}
    Study(**given).compare(arms, out=out, progress=False, report=False)
    facts = {arm: json.loads((out / f"runs/{arm}/holdout/result.json").read_text()) for arm in ("image", "wide", "two")}
    assert facts["wide"]["parameters"] > facts["image"]["parameters"] == facts["two"]["parameters"]
    assert facts["two"]["facts"]["settings"]["batch_size"] == 2
    study, parsed = Study.open(out)
    assert [run.done for run in study.begin([arm.said for arm in parsed], out=out)] == [True] * 3


def wide(num_outputs, in_channels, width=3):
    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_outputs))  # fmt: skip


def test_a_covariate_rate_of_zero_leaves_them_as_they_began(small, tmp_path):
    from safetensors.torch import load_file

    given = {**small, "folds": 1, "epochs": 2, "lr": 0.05}
    arms = [{"name": f"v{rate}", "arm": "hybrid@first", "init": "kaiming", "covariate_lr": rate} for rate in (0, 0.05)]
    Study(**given).compare(arms, out=tmp_path / "out", progress=False, report=False)
    Study(**given).compare([{**arms[0], "epochs": 1}], out=tmp_path / "one", progress=False, report=False)
    (still, moved), one = ([load_file(tmp_path / f"out/runs/v{r}/holdout/model/model.safetensors") for r in (0, 0.05)],
                           load_file(tmp_path / "one/runs/v0/holdout/model/model.safetensors"))  # fmt: skip
    name = next(key for key in still if key.endswith("covariate_weight"))
    assert torch.equal(still[name], one[name])
    assert still[name].abs().min() > 0
    assert not torch.equal(still[name], moved[name])
    assert not torch.equal(still["0.weight"], one["0.weight"])
