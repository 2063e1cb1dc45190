"""The demo to the end: what it reaches of the known rates, what it leaves, what it refuses."""

import pandas as pd
import pytest

from recipes.celeba.__main__ import main
from recipes.celeba.demo import rates


def test_the_known_rates_are_reached(tmp_path, capsys):
    """Covariate 50 %, image 75 %, both 100 %: on 432 faces at 32 pixels by a small network, the demo's way."""
    out = tmp_path / "demo"
    words = ["demo", "--out", str(out), "--faces", "432", "80", "400", "--network", "tests.recipes.celeba.test_demo:network",
             "--network-options", "{}", "--epochs", "10", "--batch-size", "32", "--lr", "5e-3", "--schedule", "onecycle",
             "--arms", "image", "covariates", "hybrid@first", "--controls", "1", "--resamples", "100", "--seed", "0"]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "SYNTHETIC" in printed.splitlines()[0]
    assert str(out / "report.html") in printed
    found = pd.read_csv(out / "results.csv").query("metric == 'accuracy'").set_index("arm")["mean"]
    assert found["covariates"] == pytest.approx(0.5, abs=0.01)
    assert found["image"] == pytest.approx(0.75, abs=0.03)
    assert found["hybrid-first"] > 0.95
    table = rates(
        pd.read_csv(out / "predictions.csv", dtype={"id": str}), pd.read_csv(out / "rows.csv", dtype={"id": str})
    )
    table = table.set_index("arm")
    assert (table["glasses and smile agree"][["image", "hybrid-first"]] > 0.93).all()
    assert table.loc["image", "differ"] < 0.6 < 0.9 < table.loc["hybrid-first", "differ"]

    # again: nothing is trained
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*")} == before


def network(num_outputs, in_channels, image_size):
    from torch import nn

    layers = []
    for channels in (8, 16, 32):
        layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
        in_channels = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 32), nn.ReLU(), nn.Linear(32, num_outputs))


@pytest.mark.parametrize("faces", [["8", "8"], ["8", "8", "0"], ["8", "x", "8"]])
def test_bad_counts_are_refused_before_anything_is_written(tmp_path, capsys, faces):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--faces", *faces]) == 2
    assert "--faces" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "theirs.txt").write_text("theirs")
    assert main(["demo", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["theirs.txt"]
