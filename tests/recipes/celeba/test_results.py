import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, roc_auc_score

from fusionconv.study.curves import CurvesLogger
from recipes.celeba.results import COLUMNS, measure, write_results
from recipes.celeba.training import CURVES
from recipes.common.gathering import gather_rows


def rows(count=200, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, count)
    probability = np.clip(0.5 * rng.random(count) + 0.4 * target, 0.01, 0.99)
    loss = -np.log(np.where(target == 1, probability, 1 - probability))
    return pd.DataFrame({"index": np.arange(count), "probability": probability, "target": target, "loss": loss})


def test_figures_are_sklearns():
    frame = rows()
    metrics, confusion = measure(frame)
    target, probability = frame["target"], frame["probability"]
    prediction = probability > 0.5
    assert metrics["accuracy"] == pytest.approx(accuracy_score(target, prediction))
    assert metrics["f1_macro"] == pytest.approx(f1_score(target, prediction, average="macro"))
    assert metrics["auroc"] == pytest.approx(roc_auc_score(target, probability))
    assert metrics["loss"] == pytest.approx(log_loss(target, probability))
    assert confusion == confusion_matrix(target, prediction).tolist()


def test_one_class_has_no_auroc_and_json_says_null(tmp_path):
    frame = rows().query("target == 1").reset_index(drop=True)
    metrics, _ = measure(frame)
    assert math.isnan(metrics["auroc"])
    frame["index"] = range(len(frame))
    files = [f"{i}.jpg" for i in range(len(frame))]
    write_results(tmp_path, "test", {"experiment": "x"}, files, frame)
    result = json.loads((tmp_path / "results-test.json").read_text())
    assert result["metrics"]["auroc"] is None
    assert result["num_images"] == len(frame)
    assert set(result["versions"]) == {"python", "torch", "torchvision", "lightning", "fusionconv"}


def test_rows_that_a_distributed_sampler_repeats_count_once():
    frame = rows(10)
    gathered = gather_rows([frame.iloc[5:], frame.iloc[:6]], COLUMNS)
    pd.testing.assert_frame_equal(gathered, frame)
    assert measure(gather_rows([], COLUMNS))[1] == [[0, 0], [0, 0]]


def test_metrics_csv_has_one_row_per_epoch_and_step_and_goes_on_after_a_resume(tmp_path):
    logger = CurvesLogger(tmp_path, CURVES)
    logger.log_metrics({"train/loss": 0.7, "epoch": 0}, step=4)
    logger.log_metrics({"val/loss": 0.6, "val/accuracy": 0.5, "epoch": 0}, step=4)
    logger.log_metrics({"hp_metric": 1.0}, step=0)
    logger.finalize("failed")
    resumed = CurvesLogger(tmp_path, CURVES, resume=True)
    resumed.log_metrics({"train/loss": 0.4, "epoch": 1}, step=9)
    resumed.finalize("success")
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert table[["epoch", "step"]].to_numpy().tolist() == [[0, 4], [1, 9]]
    assert table["train/loss"].tolist() == [0.7, 0.4]
    assert table["val/loss"].isna().tolist() == [False, True]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
