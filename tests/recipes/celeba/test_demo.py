"""The demo's whole road on a few images: draw, fit and test both arms, report; what it says first, what it refuses."""

from __future__ import annotations

import json

import pytest

from recipes.celeba import demo
from recipes.celeba.__main__ import main


def test_the_whole_road(tiny_vgg, tmp_path, capfd):
    out = tmp_path / "demo"
    command = ["demo", "--out", str(out), "--images", "16", "8", "16", "--epochs", "1", "--seed", "3"]
    main(command)
    printed = capfd.readouterr().out
    assert "SYNTHETIC" in printed.splitlines()[0]
    assert str(out / "report.html") in printed
    results = {arm: json.loads((out / arm / "results-test.json").read_text()) for arm in demo.ARMS}
    for arm, result in results.items():
        assert (result["arm"], result["seed"], result["num_images"], result["steps"]) == (arm, 3, 16, 1)
        assert (result["majority_accuracy"], result["covariates"], result["layer_idx"]) == (0.5, ["Male"], 0)
        assert f"{result['metrics']['accuracy']:.1%}" in printed
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC" in html
    assert f"{results['hybrid']['metrics']['accuracy']:.2%}" in html
    assert (out / "figures" / "accuracy.png").is_file()
    assert (out / "data" / "celeba" / "img_align_celeba" / "000040.jpg").is_file()

    # Again: nothing is run or written over without --overwrite.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    main(command)
    printed = capfd.readouterr().out
    assert "--overwrite" in printed
    assert str(out / "report.html") in printed
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_both_arms_get_the_same_options_but_for_the_arm(tmp_path, monkeypatch):
    """Also: an unfinished demo is begun anew, a finished one with --overwrite; what is not the demo's is kept."""
    calls = []
    monkeypatch.setattr("recipes.celeba.__main__.main", calls.append)
    monkeypatch.setattr(demo, "report_on", lambda out: (out / "report.html").write_text("done") and "comparison")
    small = ["--out", str(tmp_path), "--images", "1", "1", "1"]
    demo.main(small)
    assert [argv[0] for argv in calls] == ["fit", "test", "fit", "test"]
    plain, hybrid = calls[0], calls[2]
    assert [word.replace("plain", "hybrid") for word in plain] == hybrid
    assert plain[plain.index("--model.arm") + 1] == "plain"

    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "report.html").unlink()
    demo.main(small)
    demo.main([*small, "--overwrite", "--seed", "7"])
    assert len(calls) == 12
    assert json.loads((tmp_path / demo.MARK).read_text())["seed"] == 7
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs.txt").write_text("theirs")
    for extra in ([], ["--overwrite"]):
        with pytest.raises(SystemExit, match="2"):
            main(["demo", "--out", str(tmp_path), *extra])
        assert "not a demo's folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "theirs.txt"]


@pytest.mark.parametrize("images", [["8", "8"], ["8", "8", "0"], ["8", "x", "8"]])
def test_bad_counts_are_refused_before_anything_is_written(tmp_path, capsys, images):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--out", str(tmp_path / "demo"), "--images", *images])
    assert "--images" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
