"""Tasks: targets, losses, answers and metrics, against scikit-learn and formulas written out."""

import math

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
import torch

from fusionconv.errors import StudyError, TableError
from fusionconv.study.tasks import TASKS, make_task
from fusionconv.study.tasks.survival import cox_loss

RNG = np.random.default_rng(0)


def predictions(task, targets, outputs, threshold=0.5):
    return task.decide(pd.DataFrame({**task.truth(targets), **task.answers(outputs)}), threshold)


def binary(loss="default"):
    return make_task(
        {"task": "binary", "columns": ["dx"], "loss": loss, "classes": {"CN": ["CN"], "AD": ["AD", "MCI"]}}
    )


def test_binary_against_scikit_learn():
    task, outputs = binary(), RNG.normal(size=(40, 2))
    frame = pd.DataFrame({"dx": RNG.choice(["CN", "AD", "MCI"], 40)})
    targets = task.targets(frame)
    assert targets.tolist() == [0.0 if v == "CN" else 1.0 for v in frame["dx"]]
    rows = predictions(task, targets, outputs)
    p = np.exp(outputs[:, 1]) / np.exp(outputs).sum(1)
    np.testing.assert_allclose(rows["probability"], p, rtol=1e-12)
    found, said = task.measure(rows), p >= 0.5
    assert found["auc"] == pytest.approx(sk.roc_auc_score(targets, p))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, said))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(targets, said))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(targets, said, average="macro"))
    assert found["sensitivity"] == pytest.approx(sk.recall_score(targets, said))
    assert found["specificity"] == pytest.approx(sk.recall_score(targets, said, pos_label=0))
    lower = task.measure(predictions(task, targets, outputs, 0.1))
    assert lower["sensitivity"] >= found["sensitivity"]
    assert lower["auc"] == found["auc"]


def test_multiclass_against_scikit_learn():
    task = make_task({"task": "multiclass", "columns": ["g"], "classes": {"a": ["1"], "b": ["2"], "c": ["3"]}})
    frame = pd.DataFrame({"g": RNG.choice([1.0, 2.0, 3.0], 60)})  # 1.0 is the class "1"
    targets, outputs = task.targets(frame), RNG.normal(size=(60, 3))
    rows = predictions(task, targets, outputs)
    p = torch.as_tensor(outputs).softmax(1).numpy()
    found = task.measure(rows)
    assert found["auc"] == pytest.approx(sk.roc_auc_score(targets, p, multi_class="ovr", average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, p.argmax(1)))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(targets, p.argmax(1), average="macro"))
    assert set(rows["target"]) == {"a", "b", "c"}
    one_gone = rows[rows["target"] != "c"]
    assert math.isnan(task.measure(one_gone)["auc"])


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    targets = np.array([0.0] * 7 + [1.0] * 3)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=targets)
    np.testing.assert_allclose(binary("balanced").class_weights(targets), expected)
    assert binary().class_weights(targets) is None


def test_regression_against_scikit_learn():
    task = make_task({"task": "regression", "columns": ["age"]})
    targets, outputs = RNG.normal(60, 10, 30), RNG.normal(60, 10, (30, 1))
    found = task.measure(predictions(task, targets, outputs))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, outputs[:, 0]))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, outputs[:, 0]))
    assert found["r2"] == pytest.approx(sk.r2_score(targets, outputs[:, 0]))
    for loss, formula in {"mse": lambda e: e**2, "l1": np.abs}.items():
        made = make_task({"task": "regression", "columns": ["age"], "loss": loss})
        value = made.loss(torch.as_tensor(outputs), torch.as_tensor(targets))
        assert float(value) == pytest.approx(formula(outputs[:, 0] - targets).mean())


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_multilabel(loss):
    task = make_task({"task": "multilabel", "columns": ["Male", "Young"], "loss": loss})
    frame = pd.DataFrame({"Male": [1, -1, 1, -1], "Young": [0, 1, 1, 0]})
    targets = task.targets(frame)
    assert targets.tolist() == [[1, 0], [0, 1], [1, 1], [0, 0]]
    outputs = np.array([[2.0, -1.0], [-2.0, 0.5], [0.3, 3.0], [0.1, -0.2]])
    rows = predictions(task, targets, outputs)
    assert rows["decision_Male"].tolist() == [1, 0, 1, 1]  # above 0 with either loss
    found = task.measure(rows)
    assert found["accuracy"] == pytest.approx((3 / 4 + 4 / 4) / 2)
    t, o = torch.as_tensor(targets), torch.as_tensor(outputs)
    expected = ((o - (2 * t - 1)) ** 2).mean() if loss == "mse" else torch.nn.BCEWithLogitsLoss()(o, t)
    assert float(task.loss(o, t)) == pytest.approx(float(expected))


def test_survival_is_coxs_partial_likelihood_written_out():
    task = make_task({"task": "survival", "columns": ["months", "event"]})
    frame = pd.DataFrame({"months": [5.0, 8.0, 3.0, 9.0, 7.0], "event": [1, 0, 1, 1, 0]})
    targets, risk = task.targets(frame), np.array([[0.2], [-0.4], [1.1], [0.0], [0.7]])
    total = 0.0
    for i in np.flatnonzero(targets[:, 1]):
        at_risk = targets[:, 0] >= targets[i, 0]
        total -= risk[i, 0] - np.log(np.exp(risk[at_risk, 0]).sum())
    value = task.loss(torch.as_tensor(risk, dtype=torch.float32), torch.as_tensor(targets, dtype=torch.float32))
    assert float(value) == pytest.approx(total / 3, rel=1e-5)
    found = task.measure(predictions(task, targets, risk))
    pairs = [(i, j) for i in range(5) for j in range(5) if targets[i, 1] and targets[i, 0] < targets[j, 0]]
    assert found["c_index"] == pytest.approx(np.mean([risk[i, 0] > risk[j, 0] for i, j in pairs]))


def efron(h, time, event):
    """Efron's negative log partial likelihood, event time by event time."""
    total = 0.0
    for t in sorted({t for t, e in zip(time, event, strict=True) if e}):
        tied = [i for i in range(len(h)) if time[i] == t and event[i]]
        at_risk = [i for i in range(len(h)) if time[i] >= t]
        total -= sum(h[i] for i in tied)
        for r in range(len(tied)):
            total += math.log(sum(math.exp(h[i]) for i in at_risk) - r / len(tied) * sum(math.exp(h[i]) for i in tied))
    return total / sum(event)


@pytest.mark.parametrize("times", [[5.0, 3.0, 8.0, 1.0, 6.0, 2.0], [3.0, 3.0, 8.0, 1.0, 3.0, 1.0]])
def test_the_cox_loss_is_efrons_partial_likelihood(times):
    h, event = [0.3, -1.2, 0.8, 2.0, -0.5, 0.1], [1, 1, 0, 1, 1, 0]
    mine = cox_loss(torch.tensor(h), torch.tensor(times), torch.tensor(event) > 0)
    assert float(mine) == pytest.approx(efron(h, times, event), rel=1e-5)
    # only differences of log hazards count, large ones too: exp must not overflow
    far = cox_loss(torch.tensor(h) + 200.0, torch.tensor(times), torch.tensor(event) > 0)
    assert float(far) == pytest.approx(efron(h, times, event), rel=1e-4)


def test_a_batch_without_an_event_teaches_nothing_and_breaks_nothing():
    h = torch.tensor([0.3, -1.0], requires_grad=True)
    loss = cox_loss(h, torch.tensor([1.0, 2.0]), torch.tensor([False, False]))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert h.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", list(TASKS))
def test_settings_make_the_same_task(name):
    columns = {"multilabel": ["a", "b"], "survival": ["t", "e"]}.get(name, ["a"])
    classes = {"classes": {"x": ["0"], "y": ["1"]}} if name in ("binary", "multiclass") else {}
    task = make_task({"task": name, "columns": columns, **classes})
    again = make_task(task.settings)
    assert again.settings == task.settings
    assert [m.name for m in again.metrics] == [m.name for m in task.metrics]
    assert task.metrics[0].name == {
        "regression": "mae",
        "survival": "c_index",
        "segmentation": "dice",
        "restoration": "psnr",
    }.get(name, "auc")


@pytest.mark.parametrize(
    ("name", "columns", "frame", "says"),
    [
        ("regression", ["a"], {"a": ["x", "1"]}, "finite numbers"),
        ("survival", ["t", "e"], {"t": [0.0, 1.0], "e": [1, 0]}, "positive times"),
        ("survival", ["t", "e"], {"t": [2.0, 1.0], "e": [2, 0]}, "0 or 1"),
        ("multilabel", ["a", "b"], {"a": [0, 1], "b": [1, 2]}, "expected 0 and 1"),
        ("multilabel", ["a", "b"], {"a": [0, -1], "b": [1, 0]}, "expected 0 and 1"),
    ],
)
def test_targets_that_are_none(name, columns, frame, says):
    with pytest.raises(TableError, match=says):
        make_task({"task": name, "columns": columns}).targets(pd.DataFrame(frame))


def test_unknown_loss_and_metric():
    with pytest.raises(StudyError, match="expected one of mse, l1, huber"):
        make_task({"task": "regression", "columns": ["a"], "loss": "cross_entropy"})
    with pytest.raises(StudyError, match="expected one of mae"):
        make_task({"task": "regression", "columns": ["a"]}).metric("auc")
