"""Callbacks of one's own beside the recipe's; what fit says at its end; what it writes into the log."""

import re

import pandas as pd
import pytest
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from recipes.celeba.__main__ import main
from recipes.celeba.results import one_class_answers
from recipes.common.trainer import as_list
from tests.recipes.celeba.conftest import SMALL

pytestmark = pytest.mark.usefixtures("tiny_vgg")


def fit(root, celeba, *options):
    main(["fit", f"--data.root={celeba}", f"--root_dir={root}", "--experiment=x", *SMALL, "--model.lr=1e-3", *options])
    return (root / "x/log.txt").read_text()


def best_of(log, folder):
    value = float(re.search(r"best val/accuracy: ([\d.]+) \(", log)[1])
    assert value == pytest.approx(pd.read_csv(folder / "metrics.csv")["val/accuracy"].max(), abs=1e-4)


def test_one_several_or_no_callback():
    one, other = ModelCheckpoint(), ModelCheckpoint()
    assert (as_list(None), as_list(one), as_list([one]), as_list((one, other))) == ([], [one], [one], [one, other])


def test_one_callback_on_the_command_line(celeba, tmp_path):
    log = fit(tmp_path, celeba, "--trainer.callbacks=LearningRateMonitor")
    best_of(log, tmp_path / "x")
    assert "litlogger" not in log
    assert "\N{ELECTRIC LIGHT BULB}" not in log


@pytest.mark.parametrize(
    "options",
    [{}, {"monitor": "val/accuracy", "mode": "max"}, {"monitor": "val/f1_macro", "mode": "min"}, {"every_n_epochs": 5}],
    ids=["without monitor", "as ours", "another", "never saves"],
)
def test_a_checkpoint_of_ones_own(celeba, tmp_path, options):
    mine = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}
    mine["init_args"] = {"dirpath": str(tmp_path / "mine"), "filename": "mine", **options}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": mine}}))
    log = fit(tmp_path, celeba, f"--config={tmp_path}/more.yaml")
    best_of(log, tmp_path / "x")
    assert str(tmp_path / "x/checkpoints/x-best.ckpt") in log
    assert (tmp_path / "mine").exists() == ("every_n_epochs" not in options)
    main(["test", f"--root_dir={tmp_path}", "--experiment=x"])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.fast_dev_run=true", "nothing was saved"),
        ("--trainer.max_epochs=0", "nothing was trained"),
        ("--trainer.limit_train_batches=0", "nothing was trained"),
        ("--trainer.limit_val_batches=0", "--ckpt_path last"),
    ],
)
def test_what_fit_advises_can_be_done(celeba, tmp_path, option, words, capsys):
    fit(tmp_path, celeba, option)
    printed = capsys.readouterr().out
    assert words in printed
    advised = re.search(r"now: python -m recipes\.celeba (.*)", printed)
    assert (advised is None) == ("nothing" in words)
    if advised:
        main(advised[1].split())


def test_the_log_holds_every_epoch_and_its_loss(celeba, tmp_path):
    log = fit(tmp_path, celeba, "--trainer.max_epochs=3")
    metrics = pd.read_csv(tmp_path / "x/metrics.csv")
    lines = re.findall(r"recipes\.celeba: epoch (\d) of 3, step (\d+): train/loss ([\d.]+).*val/loss ([\d.]+)", log)
    assert [(int(epoch), int(step)) for epoch, step, *_ in lines] == [(1, 3), (2, 6), (3, 9)]
    for epoch, (*_, train, val) in enumerate(lines):
        own = metrics[metrics["epoch"] == epoch]
        assert float(train) == pytest.approx(own["train/loss"].dropna().iloc[-1], abs=1e-4)
        assert float(val) == pytest.approx(own["val/loss"].dropna().iloc[-1], abs=1e-4)


def test_a_metric_that_is_not_measured_is_refused_before_training(celeba, tmp_path, capsys):
    with pytest.raises(SystemExit):
        fit(tmp_path, celeba, "--monitor=val/acuracy")
    assert "expected one of val/loss, val/accuracy" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_answers_of_one_class_are_named():
    rows = pd.DataFrame({"probability": [0.2, 0.3, 0.4], "target": [0, 1, 0]})
    (line,) = one_class_answers(rows, ["Bald"])
    assert "all 3 answers are 0" in line
    assert "(0.6667)" in line
    assert one_class_answers(rows.assign(probability=[0.2, 0.3, 0.6]), ["Bald"]) == []
    several = pd.DataFrame(
        {"A_probability": [0.1, 0.9], "A_target": [0, 0], "B_probability": [0.7, 0.9], "B_target": [0, 1]}
    )
    (line,) = one_class_answers(several, ["A", "B"])
    assert line.startswith("B: all 2 answers are 1")


def test_the_test_says_that_all_answers_are_one_class(run_folder):
    for arm in ("plain", "hybrid"):
        answers = pd.read_csv(run_folder / arm / "predictions-test.csv")["prediction"]
        log = (run_folder / arm / "log.txt").read_text()
        assert ("all 8 answers are" in log) == (answers.nunique() == 1)
