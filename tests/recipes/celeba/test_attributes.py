import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from recipes.celeba.attributes import answers_frame, columns_of, means, per_attribute, write_table
from recipes.common.runs import RunError

NAMES = ["Male", "Young", "Bald"]


def rows(scale=1.0, shift=0.0):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (50, 3))
    truth[:, 2] = 0  # one answer only
    probability = (rng.random((50, 3)) + 0.5 * truth) / 1.5 * scale + shift
    values = np.column_stack([probability, truth, rng.random(50)])
    frame = pd.DataFrame(values, columns=list(columns_of(NAMES)))
    return frame.astype({f"{name}_target": int for name in NAMES}), probability, truth


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (4.0, -1.5)])  # loss mse leaves 0 ... 1
def test_figures_are_those_of_scikit_learn(scale, shift):
    frame, probability, truth = rows(scale, shift)
    table = per_attribute(frame, NAMES)
    for place, name in enumerate(NAMES[:2]):
        t, p = truth[:, place], probability[:, place]
        line = table.loc[name]
        assert line["accuracy"] == pytest.approx(accuracy_score(t, p > 0.5))
        assert line["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(t, p > 0.5))
        assert line["f1"] == pytest.approx(f1_score(t, p > 0.5))
        assert line["auroc"] == pytest.approx(roc_auc_score(t, p))
        assert line["base_rate"] == pytest.approx(t.mean())
        assert line["majority"] == pytest.approx(max(t.mean(), 1 - t.mean()))
    assert table.loc["Bald", ["balanced_accuracy", "f1", "auroc"]].isna().all()
    found = means(table, 0.3)
    assert found["accuracy"] == pytest.approx((truth == (probability > 0.5)).mean())
    assert found["auroc"] == pytest.approx(np.mean([roc_auc_score(truth[:, i], probability[:, i]) for i in (0, 1)]))


def test_files(tmp_path):
    table = per_attribute(rows()[0], NAMES)
    write_table(table, tmp_path, "test")
    assert pd.read_csv(tmp_path / "attributes-test.csv")["attribute"].tolist() == NAMES
    text = (tmp_path / "attributes-test.md").read_text()
    assert "| Bald | 0.0000 | 1.0000 |" in text
    assert "| **mean** |" in text
    assert "not defined" in text


def test_answers():
    probability = np.array([[-0.5, 0.6], [0.4, 1.5]])
    frame = answers_frame(probability, "mse", ["Male", "Young"])
    assert frame["Male_probability"].tolist() == [0, 0.4]
    assert frame["Young_prediction"].tolist() == [1, 1]
    assert frame["Young_output"].tolist() == pytest.approx([0.2, 2.0])  # 2 p - 1, the network's own
    assert answers_frame(probability[:, :1], "bce", ["Male"]).columns.tolist() == ["probability", "prediction"]


def test_an_answer_that_is_no_number_is_an_error():
    frame = rows()[0]
    frame.loc[3, "Young_probability"] = np.nan
    with pytest.raises(RunError, match="not a number for 1 of 50"):
        per_attribute(frame, NAMES)
