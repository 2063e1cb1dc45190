import json
import math

import pandas as pd
import pytest
from scipy import stats

from fusionconv.errors import TableError
from fusionconv.tabular import read_celeba_identity, read_celeba_partition
from recipes.celeba import crossval as command
from recipes.celeba.__main__ import main
from recipes.celeba.folds import assign_fold
from tests.recipes.celeba.conftest import SMALL

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def test_folds_leave_the_test_split_alone_and_people_together(tmp_path):
    count = 120
    files = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    partition = pd.Series(["train"] * 80 + ["valid"] * 20 + ["test"] * 20, index=files)
    person = [i % 25 for i in range(count)]
    lines = [f"{file} {number}" for file, number in zip(files, person, strict=True)]
    (tmp_path / "identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    who = read_celeba_identity(tmp_path / "identity_CelebA.txt")
    judged = []
    for fold in range(4):
        split = assign_fold(tmp_path, partition, fold, 4)
        assert split.index.tolist() == files[:100]  # train and valid, in their order
        people = {name: set(who[split.index[split == name]]) for name in ("train", "valid", "test")}
        assert not people["train"] & people["test"]
        assert not people["valid"] & people["test"]
        assert not people["train"] & people["valid"]
        assert all(people.values())
        judged += split.index[split == "test"].tolist()
    assert sorted(judged) == files[:100]  # each once
    with pytest.raises(TableError, match="came 4 of 4"):
        assign_fold(tmp_path, partition, 4, 4)
    (tmp_path / "identity_CelebA.txt").write_text("\n".join(lines[:50]) + "\n")
    with pytest.raises(TableError, match="have no row in the identity file"):
        assign_fold(tmp_path, partition, 0, 4)


def test_two_arms_on_two_folds(celeba, tmp_path, capsys, monkeypatch):
    argv = ["crossval", "--folds=2", f"--root_dir={tmp_path}", "--experiment=cv", f"--data.root={celeba}", *SMALL]
    main(argv)
    table = pd.read_csv(tmp_path / "cv/crossval.csv")
    assert table[["arm", "fold"]].to_numpy().tolist() == [["plain", 0], ["hybrid", 0], ["plain", 1], ["hybrid", 1]]
    judged = {}
    for line in table.itertuples():
        folder = tmp_path / f"cv/{line.arm}-fold{line.fold}"
        predictions = pd.read_csv(folder / "predictions-test.csv")
        assert line.accuracy == pytest.approx((predictions["prediction"] == predictions["target"]).mean())
        assert line.images == len(predictions)
        assert json.loads((folder / "results-test.json").read_text())["fold"] == line.fold
        judged[line.arm, line.fold] = set(predictions["file"])
    assert judged["plain", 0] == judged["hybrid", 0]
    official = read_celeba_partition(celeba / "celeba/list_eval_partition.txt")
    assert judged["plain", 0] | judged["plain", 1] == set(official.index[official != "test"])
    assert not judged["plain", 0] & judged["plain", 1]

    # Finished folds are not run again, and not joined with folds of other settings.
    def never(argv):
        raise AssertionError

    monkeypatch.setattr(command, "fit", never)
    capsys.readouterr()
    main(argv)
    assert "| hybrid |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*argv, "--model.lr=1e-3"])
    assert "other settings" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--data.fold=1"])
    assert "leave these options out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv, "--model.mode=as_published"])
    assert "one fixed split" in capsys.readouterr().err
    # A fold's network on another fold would be judged on images that it was trained on.
    where = [f"--root_dir={tmp_path}/cv", "--experiment=plain-fold0"]
    for wrong in ("--data.fold=1", "--data.fold=null"):
        with pytest.raises(SystemExit):
            main(["test", *where, wrong])
        assert "its own training images" in capsys.readouterr().err


def test_the_comparison_is_the_corrected_t_test(tmp_path, monkeypatch, capsys):
    accuracy = {"plain": [0.80, 0.82, 0.79], "hybrid": [0.83, 0.84, 0.80]}
    results = {
        (arm, fold): {"num_images": 50, "metrics": {"accuracy": value, "f1_macro": 0.5, "auroc": 0.5, "loss": 1.0}}
        for arm, values in accuracy.items()
        for fold, value in enumerate(values)
    }
    monkeypatch.setattr(command, "_sizes", lambda run, folds: (90.0, 50.0))
    command._summarise(tmp_path, results, ["plain", "hybrid"], 3)
    d = [0.03, 0.02, 0.01]
    mean, variance = sum(d) / 3, ((0.01) ** 2 + 0 + (0.01) ** 2) / 2
    t = mean / math.sqrt((1 / 3 + 50 / 90) * variance)
    p = 2 * stats.t.sf(t, 2)
    assert f"accuracy of hybrid less plain: 0.0200 [95% {mean - stats.t.ppf(0.975, 2) * mean / t:.4f}" in (
        text := capsys.readouterr().out
    )
    assert f"p = {p:.3f}" in text
