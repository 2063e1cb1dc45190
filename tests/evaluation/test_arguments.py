"""One order of arguments: what is true comes first, what was predicted after it; a swap is noticed where it can be."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from fusionconv import evaluation
from fusionconv.errors import EvaluationError
from fusionconv.evaluation import (
    balanced_accuracy,
    bootstrap_interval,
    confusion,
    delong,
    expected_calibration_error,
    f1_macro,
    mcnemar,
    multiclass_roc_auc,
    paired_bootstrap,
    reliability_table,
    roc_auc,
    sensitivity,
    specificity,
    youden_threshold,
)

TRUE = ("target", "time", "event")
PREDICTED = ("prediction", "probability", "score", "a", "b", "risk", "predicted", "score_a", "score_b")
BEFORE = ("metric",)  # what is to be computed may come before what it is computed of
WITHOUT_TARGET = {"paired_bootstrap_scores"}  # scores of single rows, such as Dice: each holds its own comparison
FUNCTIONS = sorted(name for name in evaluation.__all__ if inspect.isfunction(getattr(evaluation, name)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_target_comes_first_and_predictions_next(name):
    names = list(inspect.signature(getattr(evaluation, name)).parameters)
    predicted = [n for n in names if n in PREDICTED]
    if not predicted or name in WITHOUT_TARGET:
        return
    true = [n for n in names if n in TRUE]
    assert true, f"{name}{tuple(names)}: predictions without a target"
    start = 1 if names[0] in BEFORE else 0
    assert names[start : start + len(true) + len(predicted)] == true + predicted
    assert "groups" not in names or names.index("groups") >= start + len(true) + len(predicted)


def test_the_rule_would_notice():
    """The functions that are known to take both are among those that the test above looks at."""
    both = {n for n in FUNCTIONS if set(inspect.signature(getattr(evaluation, n)).parameters) & set(PREDICTED)}
    assert both >= {
        "age_bias", "balanced_accuracy", "bootstrap_interval", "concordance_index", "correct_age_bias", "delong",
        "expected_calibration_error", "mcnemar", "paired_bootstrap", "regression_summary", "reliability_table", "roc_auc",
        "confusion", "f1_macro", "multiclass_roc_auc", "sensitivity", "specificity", "youden_threshold",
    }  # fmt: skip


Y, P = np.array([0, 1, 1, 0, 1, 0]), np.array([0.1, 0.8, 0.7, 0.6, 0.9, 0.2])
ROWS = np.stack([1 - P, P], axis=1)


@pytest.mark.parametrize(
    "swapped",
    [
        lambda: roc_auc(P, Y),
        lambda: delong(P, Y, P),
        lambda: expected_calibration_error(P, Y),
        lambda: expected_calibration_error(ROWS, Y),
        lambda: reliability_table(P, Y),
        lambda: reliability_table(ROWS, Y),
        lambda: bootstrap_interval(roc_auc, P, Y),
        lambda: bootstrap_interval(Y, roc_auc, P),
        lambda: paired_bootstrap(roc_auc, P, P, Y),
        lambda: paired_bootstrap(Y, P, P, roc_auc),
        lambda: balanced_accuracy(P, Y),
        lambda: f1_macro(P, Y),
        lambda: confusion(P, Y),
        lambda: multiclass_roc_auc(ROWS, Y),
        lambda: sensitivity(P, Y, 0.5),
        lambda: specificity(P, Y, 0.5),
        lambda: youden_threshold(P, Y),
        lambda: mcnemar(P, Y, Y),
        lambda: mcnemar(Y, Y, P),
        lambda: mcnemar(Y, Y, list("abcdef")),  # the groups where an arm belongs
        lambda: mcnemar(np.tile(Y, 5), np.tile(Y, 5), np.arange(30)),
        lambda: roc_auc(np.where(Y, "AD", "CN"), P),
        lambda: expected_calibration_error(Y, 2 * P),
        lambda: reliability_table(Y, P - 0.5),
    ],
)
def test_a_swap_is_noticed(swapped):
    with pytest.raises(EvaluationError, match=r"expected .*got"):
        swapped()
