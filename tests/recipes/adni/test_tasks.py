"""Targets, losses and metrics against formulas written out here and against scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from fusionconv.errors import TableError
from recipes.adni.tasks import Task, cox_loss

DIAGNOSIS = Task(classes={"CN": "DX == 'CN'", "AD": "DX == 'Dementia'"})


def test_a_row_has_the_class_whose_query_holds_and_others_are_counted():
    frame = pd.DataFrame({"subject": list("abcde"), "DX": ["Dementia", "CN", "MCI", None, "CN"]})
    targets = DIAGNOSIS.targets(frame)
    assert targets.rows["subject"].tolist() == ["a", "b", "e"]
    assert targets.values["target"].tolist() == [1, 0, 0]
    assert targets.left_out == 2


def test_a_missing_value_is_never_a_class():
    frame = pd.DataFrame({"subject": list("abc"), "CDR": [0.0, 0.5, math.nan]})
    targets = Task(classes={"impaired": "CDR > 0", "healthy": "not CDR > 0"}).targets(frame)
    assert targets.rows["subject"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (Task(classes={"young": "age < 70", "old": "age > 60"}), "several classes"),
        (Task(classes={"young": "age < 70", "old": "age > 600"}), "no row is old"),
        (Task(classes={"young": "age < 70", "old": "aeg > 60"}), "'aeg'"),
        (Task(classes={"young": "age <", "old": "age > 60"}), "cannot be read"),
        (Task(classes={"young": "age + 1", "old": "age > 60"}), "true or false"),
        (Task(classes={"young": "age < 70"}), "at least two classes"),
        (Task(kind="regression", target="height"), "no column height"),
        (Task(kind="regression"), "--data.task.target"),
        (Task(kind="regression", target="name"), "should hold numbers"),
        (Task(kind="survival", time="age"), "--data.task.event"),
        (Task(kind="survival", time="age", event="age"), "two columns"),
        (Task(kind="survival", time="age", event="negative"), "0 or 1"),
        (Task(kind="survival", time="negative", event="event"), "positive"),
    ],
)
def test_tasks_that_cannot_be_say_what_is_wrong(task, says):
    frame = pd.DataFrame(
        {"subject": list("ab"), "age": [65.0, 75.0], "name": ["x", "y"], "negative": [-1.0, 2.0], "event": [0, 1]}
    )
    with pytest.raises(TableError, match=says):
        task.targets(frame)


def test_regression_and_survival_leave_out_rows_without_an_answer():
    frame = pd.DataFrame({"subject": list("abc"), "age": [65.0, None, 75.0], "t": [1.0, 2.0, None], "e": [1, 0, 1]})
    assert Task(kind="regression", target="age").targets(frame).values["target"].tolist() == [65.0, 75.0]
    values = Task(kind="survival", time="t", event="e").targets(frame).values
    assert values.to_numpy().tolist() == [[1.0, 1.0], [2.0, 0.0]]


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
    h = [0.3, -1.2, 0.8, 2.0, -0.5, 0.1]
    event = [1, 1, 0, 1, 1, 0]
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


def test_binary_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.random(200)
    target = (rng.random(200) < 0.3 + 0.4 * p).astype(int)
    rows = pd.DataFrame({"p_CN": 1 - p, "p_AD": p, "target": target})
    measured = DIAGNOSIS.measure(rows)
    assert measured["auc"] == pytest.approx(roc_auc_score(target, p))
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, p > 0.5))
    assert measured["accuracy"] == pytest.approx(((p > 0.5) == target).mean())


def test_three_class_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(1)
    task = Task(classes={"a": "x == 0", "b": "x == 1", "c": "x == 2"})
    p = rng.dirichlet([1, 1, 1], 150)
    target = np.array([rng.choice(3, p=row) for row in p])
    measured = task.measure(pd.DataFrame(p, columns=["p_a", "p_b", "p_c"]).assign(target=target))
    assert measured["auc"] == pytest.approx(roc_auc_score(target, p, multi_class="ovr", average="macro"))
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, p.argmax(1)))


def test_what_is_not_defined_is_nan_and_not_zero():
    rows = pd.DataFrame({"p_CN": [0.2, 0.6], "p_AD": [0.8, 0.4], "target": [1, 1]})
    measured = DIAGNOSIS.measure(rows)
    assert math.isnan(measured["auc"])
    assert math.isnan(measured["balanced_accuracy"])
    assert measured["accuracy"] == 0.5


def test_regression_metrics_agree_with_scikit_learn():
    rng = np.random.default_rng(2)
    target = rng.normal(70, 8, 50)
    prediction = target + rng.normal(0, 3, 50)
    measured = Task(kind="regression", target="age").measure(pd.DataFrame({"prediction": prediction, "target": target}))
    assert measured["mae"] == pytest.approx(np.abs(prediction - target).mean())
    assert measured["r2"] == pytest.approx(r2_score(target, prediction))
    assert measured["pearson"] == pytest.approx(np.corrcoef(prediction, target)[0, 1])


def test_the_c_index_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(3)
    time, event = rng.permutation(40) + 1.0, rng.random(40) < 0.6
    risk = rng.integers(0, 6, 40).astype(float)
    good = pairs = 0.0
    for i, j in itertools.permutations(range(40), 2):
        if event[i] and time[i] < time[j]:
            pairs += 1
            good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    task = Task(kind="survival", time="t", event="e")
    measured = task.measure(pd.DataFrame({"log_hazard": risk, "time": time, "event": event.astype(float)}))
    assert measured["c_index"] == pytest.approx(good / pairs)


def test_a_measured_target_with_a_code_is_named_in_the_log(tmp_path):
    from recipes.adni.data import BrainData
    from recipes.adni.sources import Source
    from recipes.adni.training import describe

    table = pd.DataFrame({"subject": [f"s{i:02d}" for i in range(20)], "score": [*range(20, 38), -9998, -9998]})
    table["image"] = [f"{name}.nii.gz" for name in table["subject"]]
    table.to_csv(tmp_path / "table.csv", index=False)
    for name in table["image"]:
        (tmp_path / name).write_bytes(b"")
    source = Source("table", str(tmp_path), str(tmp_path / "table.csv"))
    for rows, said in ((None, True), ("`score` != -9998", False)):
        data = BrainData(source, Task(kind="regression", target="score"), covariates=[], rows=rows)
        data.read()
        lines = "\n".join(describe(data))
        assert ("look at the target score: -9998 in 2 rows" in lines) == said
        assert ("--data.rows '`score` != -9998'" in lines) == said
