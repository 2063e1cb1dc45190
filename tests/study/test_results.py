"""Tables of a study, of predictions that the tests write."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from fusionconv.study.results import by_group, compared, measured, per_arm
from fusionconv.study.settings import Settings
from fusionconv.study.tasks import make_task

BINARY = {"task": "binary", "columns": ["dx"], "loss": "default", "classes": {"no": ["no"], "yes": ["yes"]}}
SURVIVAL = {"task": "survival", "columns": ["time", "event"], "loss": "default"}


def shifted(folds: int, people: int = 60) -> pd.DataFrame:
    """Two arms on the folds of one repeat: `better` ranks better in every fold, but each of its networks sits on another level.

    The image arm's levels happen to go with the folds' shares of the positive class, so that over all rows together it
    is the better one.
    """
    random = np.random.default_rng(0)
    frames = []
    for fold in range(folds):
        share = (fold + 1) / (folds + 1)
        target = (np.arange(people) < share * people).astype(int)
        for arm, signal, level in (("image", 0.4, 6 * share), ("better", 1.6, -6 * share)):
            z = signal * target + random.normal(size=people) + level
            frames.append(
                pd.DataFrame({
                    "arm": arm, "fold": f"repeat0-fold{fold}", "repeat": 0, "control": "true",
                    "id": [f"{fold}-{i}" for i in range(people)], "target": target, "probability": 1 / (1 + np.exp(-z)),
                })
            )  # fmt: skip
    frame = pd.concat(frames, ignore_index=True)
    return frame.assign(subject=frame["id"], decision=(frame["probability"] >= 0.5).astype(int))


def tables(predictions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    task, settings = make_task(BINARY), Settings(resamples=200)
    folds = measured(predictions, task)
    arms = per_arm(predictions, folds, task, task.metric(None), settings, (180.0, 60.0))
    against = compared(predictions, folds, task, task.metric(None), settings, "image", (180.0, 60.0))
    return arms.set_index(["arm", "metric"]), against[against["metric"] == "auc"].set_index("test")


def test_scores_of_different_networks_are_not_ranked_against_each_other():
    predictions = shifted(3)
    area = {
        (arm, fold): roc_auc_score(part["target"], part["probability"])
        for (arm, fold), part in predictions.groupby(["arm", "fold"])
    }
    mean = {arm: np.mean([a for (name, _), a in area.items() if name == arm]) for arm in ("image", "better")}
    mixed = {arm: roc_auc_score(p["target"], p["probability"]) for arm, p in predictions.groupby("arm")}
    assert mean["better"] > mean["image"] + 0.1
    assert mixed["better"] < mixed["image"] - 0.1  # what these rows say together is the opposite
    arms, against = tables(predictions)
    for arm in mean:
        row = arms.loc[(arm, "auc")]
        assert row["pooled"] == pytest.approx(mean[arm])
        assert row["pooled_low"] < mean[arm] < row["pooled_high"]
    for test in ("bootstrap by subject", "corrected t-test"):
        assert against.loc[test, "difference"] == pytest.approx(mean["better"] - mean["image"])
    assert against.loc["bootstrap by subject", "low"] > 0


def test_folds_that_lack_a_class_are_left_out_and_others_count_by_their_rows():
    predictions = shifted(3)
    alone = predictions["fold"] == "repeat0-fold2"
    predictions = predictions[~alone | (predictions["target"] == 1)]
    predictions = predictions[(predictions["fold"] != "repeat0-fold1") | predictions["id"].str.contains("[02468]$")]
    image = predictions[predictions["arm"] == "image"]
    first, second = (image[image["fold"] == f"repeat0-fold{n}"] for n in (0, 1))
    areas = [roc_auc_score(part["target"], part["probability"]) for part in (first, second)]
    arms, _ = tables(predictions)
    assert arms.loc[("image", "auc"), "pooled"] == pytest.approx((60 * areas[0] + 30 * areas[1]) / 90)


def test_subgroups_rank_within_folds_too():
    predictions = shifted(3)
    rows = predictions[predictions["arm"] == "image"][["id", "subject"]].assign(
        sex=lambda f: np.where(f.index % 2, "F", "M")
    )
    task = make_task(BINARY)
    table = by_group(predictions, rows, task, task.metric(None), Settings(subgroups=["sex"], resamples=100))
    women = set(rows.loc[rows["sex"] == "F", "id"])
    for arm in ("image", "better"):
        own = predictions[(predictions["arm"] == arm) & predictions["id"].isin(women)]
        expected = np.mean([roc_auc_score(p["target"], p["probability"]) for _, p in own.groupby("fold")])
        found = table[(table["arm"] == arm) & (table["group"] == "F")]["value"].item()
        assert found == pytest.approx(expected)


def test_repeats_that_have_other_rows_are_each_measured_on_their_own():
    """Of a repeat that is not finished people are absent, who have no answer that could be right or wrong."""
    predictions = shifted(2)
    predictions = predictions.assign(repeat=predictions["fold"].str[-1].astype(int))
    arms, _ = tables(predictions)
    for arm, own in predictions.groupby("arm"):
        right = [(part["decision"] == part["target"]).mean() for _, part in own.groupby("repeat")]
        assert arms.loc[(arm, "accuracy"), "pooled"] == pytest.approx(np.mean(right))


def test_the_index_of_concordance_is_taken_within_folds():
    random = np.random.default_rng(1)
    task = make_task(SURVIVAL)
    time = np.tile(np.arange(1.0, 21), 2)
    fold = np.repeat(["a", "b"], 20)
    risk = -time + np.where(fold == "a", 100, 0) + random.normal(size=40) * 1e-3  # perfect in each fold
    rows = pd.DataFrame({"fold": fold, "time": time, "event": 1, "log_hazard": risk})
    metric = task.metric("c_index")
    assert metric.compute(rows) < 0.8
    assert metric.out_of_fold(rows) == pytest.approx(1.0)
    assert math.isnan(metric.out_of_fold(rows.assign(event=0)))
