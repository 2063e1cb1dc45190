"""The demo from end to end, cut down to a few brains: what it says first, what it leaves, what it refuses to touch."""

from __future__ import annotations

import json

import pytest

from recipes.adni.__main__ import main
from recipes.adni.synthetic import BAYES


def test_the_demo_runs_every_step_and_says_first_that_it_is_synthetic(tmp_path, capsys):
    out = tmp_path / "demo"
    main(["demo", "--out", str(out), "--subjects", "24", "--epochs", "1"])
    said = capsys.readouterr().out
    assert "SYNTHETIC" in said.splitlines()[0]
    assert f"{BAYES['image only']:.0%} from the image alone" in said
    page = (out / "demo" / "report.html").read_text()
    assert page.index("SYNTHETIC") < page.index("Results per arm")
    for arm in ("covariates", "image", "hybrid"):
        for fold in range(3):
            assert (out / "demo" / "folds" / arm / f"repeat0-fold{fold}" / "result.json").is_file()
    main(["demo", "--out", str(out)])
    assert "has been run before" in capsys.readouterr().out
    assert json.loads((out / "demo.json").read_text())["subjects"] == 24


def test_a_folder_of_somebody_else_is_not_touched(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit):
        main(["demo", "--out", str(tmp_path), "--overwrite"])
    assert "nothing there is touched" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
