"""--minutes: the epochs are those that fit into the time, counted from one measured step."""

import math

import pytest

from fusionconv.errors import StudyError
from fusionconv.study import Study, timing

STEP = 0.5  # seconds


@pytest.fixture
def step(monkeypatch):
    monkeypatch.setattr(timing, "_seconds_of_a_step", lambda arm, data, settings: STEP)


def epochs(small, tmp_path, minutes, arms=("image", "hybrid@first", "covariates"), **more):
    study = Study(**{**small, "epochs": 1000, **more})
    study.begin(list(arms), out=tmp_path / "out", minutes=minutes)
    return study, study.settings.epochs


def seconds(study, networks, per_arm_judged, epochs):
    """Written out from the first fold's sizes: a training step, a third of it for a batch that is only judged."""
    sizes = study.folds.iloc[:, 0].value_counts()
    batches = {part: math.ceil(sizes.get(part, 0) / 8) for part in ("train", "val", "test")}
    epoch = networks * len(per_arm_judged) * 1.1 * STEP * (batches["train"] + batches["val"] / 3)
    after = sum(networks * ((batches["val"] + batches["test"] * judged) * STEP / 3 + 2) for judged in per_arm_judged)
    return epoch * epochs + after


@pytest.mark.parametrize(
    ("more", "networks"),
    [
        ({}, 2),
        ({"seeds": 3}, 6),
        ({"tune": {"lr": [1e-3, 3e-3, 1e-2]}}, 6),
        ({"seeds": 2, "repeats": 2, "tune": {"lr": [1e-3, 3e-3], "weight_decay": [0.0, 1e-4]}}, 32),
    ],
    ids=["plain", "seeds", "tune", "both"],
)
def test_every_fold_seed_and_trial_is_counted_once(small, tmp_path, step, more, networks):
    minutes = 60
    study, found = epochs(small, tmp_path, minutes, **more)
    judged = [1, 1 + small["controls"] + 1]  # image; hybrid: true, constant and two permuted
    assert seconds(study, networks, judged, found) <= 60 * minutes < seconds(study, networks, judged, found + 1)


def test_at_most_the_epochs_asked_for(small, tmp_path, step):
    assert epochs(small, tmp_path, 1e6)[1] == 1000


def test_no_room_for_one_epoch_says_how_long_it_takes(small, tmp_path, step):
    with pytest.raises(StudyError, match=r"minutes: expected room for one epoch .*, got 0\.1; give fewer"):
        epochs(small, tmp_path, 0.1)


def test_tuned_epochs_cannot_be_chosen_by_time_too(small, tmp_path, step):
    with pytest.raises(StudyError, match=r"minutes: .*tune=epochs"):
        epochs(small, tmp_path, 60, tune={"epochs": [1, 2]})


def test_a_step_is_measured(small, tmp_path):
    found = epochs(small, tmp_path, 1e3, arms=["image"])[1]
    assert found == 1000
    assert "image" not in {path.name for path in (tmp_path / "out").rglob("*")}, "nothing is trained by begin"
