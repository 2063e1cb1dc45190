"""A value that is missing or masked is an error, wherever it comes in: it would be a wrong answer, or a number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv import evaluation as ev
from fusionconv.errors import EvaluationError

N = 24
CLASSES = np.array(["AD", "CN"] * (N // 2))
NUMBERS = np.linspace(50, 90, N)
LABELS = np.tile([0, 1], N // 2)


def accuracy(target, prediction):
    return float((target == prediction).mean())


def with_hole(values, hole, kind):
    """`values` with one of them missing, in one of the ways in which tables and arrays hold it."""
    listed = [hole if i == 3 else v for i, v in enumerate(values.tolist())]
    return {
        "list": lambda: listed,
        "object array": lambda: np.array(listed, dtype=object),
        "array": lambda: np.array(listed),
        "Series": lambda: pd.Series(listed),
        "Categorical": lambda: pd.Categorical(listed),
        "string": lambda: pd.Series(listed, dtype="string"),
    }[kind]()


@pytest.mark.parametrize("kind", ["list", "object array", "array", "Series", "Categorical", "string"])
@pytest.mark.parametrize("hole", [None, float("nan"), np.nan, pd.NA, pd.NaT], ids=str)
@pytest.mark.parametrize("place", ["target", "prediction"])
def test_a_missing_class_is_refused(kind, hole, place):
    if kind == "string" and hole is pd.NaT:
        pytest.skip("pandas makes NA of it")
    spoilt = with_hole(CLASSES, hole, kind)
    pair = {"target": CLASSES, "prediction": CLASSES, place: spoilt}
    with pytest.raises(EvaluationError, match=f"^{place}: expected .*got 1 of 24"):
        ev.bootstrap_interval(accuracy, pair["target"], pair["prediction"], n_resamples=100)
    arm = "target" if place == "target" else "b"
    with pytest.raises(EvaluationError, match=f"^{arm}: expected .*got 1 of 24"):
        ev.paired_bootstrap(accuracy, pair["target"], CLASSES, pair["prediction"], n_resamples=100)
    with pytest.raises(EvaluationError, match=f"^{arm}: expected .*got 1 of 24"):
        ev.mcnemar(pair["target"], CLASSES, pair["prediction"])
    for function in (ev.balanced_accuracy, ev.f1_macro, ev.confusion):
        with pytest.raises(EvaluationError, match=f"^{place}: expected"):
            function(pair["target"], pair["prediction"], classes=["AD", "CN"])


@pytest.mark.parametrize("text", ["nan", "NaN", "", "<NA>", "None", "NaT"])
def test_the_text_of_a_missing_class_is_refused_in_a_prediction(text):
    said = np.where(np.arange(N) == 3, text, CLASSES)
    with pytest.raises(EvaluationError, match="prediction: expected"):
        ev.bootstrap_interval(accuracy, CLASSES, said, n_resamples=100)


def test_none_is_a_class_where_the_target_has_it():
    target = np.where(LABELS, "Mild", "None")
    assert ev.bootstrap_interval(accuracy, target, target, n_resamples=100).estimate == 1
    assert ev.mcnemar(target, target, target).both == N


@pytest.mark.parametrize("hole", [None, float("nan"), pd.NA], ids=str)
@pytest.mark.parametrize("kind", ["list", "object array", "Series"])
def test_a_missing_number_is_refused(kind, hole):
    spoilt = with_hole(NUMBERS, hole, kind)
    for call in (
        lambda: ev.regression_summary(spoilt, NUMBERS),
        lambda: ev.regression_summary(NUMBERS, spoilt),
        lambda: ev.roc_auc(LABELS, spoilt),
        lambda: ev.paired_bootstrap_scores(NUMBERS, spoilt),
        lambda: ev.fold_interval(spoilt, bounds=None),
        lambda: ev.youden_threshold(LABELS, spoilt),
    ):
        with pytest.raises(EvaluationError, match=r"expected .*got 1 of 24"):
            call()


MASK = np.arange(N) == 5
MASKED = {
    "array": lambda values: np.ma.masked_array(values, MASK),
    "of equal value": lambda values: np.ma.masked_equal(np.where(MASK, -999, values), -999),
    "list of arrays": lambda values: [np.ma.masked_array(v, m) for v, m in zip(values, MASK, strict=True)],
    "torch": lambda values: torch.masked.masked_tensor(torch.tensor(values), torch.tensor(~MASK)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", MASKED)
@pytest.mark.parametrize(
    "call",
    [
        lambda n, y, m: ev.regression_summary(m(n), n),
        lambda n, y, m: ev.regression_summary(n, m(n)),
        lambda n, y, m: ev.age_bias(n, m(n)),
        lambda n, y, m: ev.correct_age_bias(m(n), n, ev.AgeBias(0.1, 1, 2)),
        lambda n, y, m: ev.roc_auc(m(y), n),
        lambda n, y, m: ev.roc_auc(y, m(n)),
        lambda n, y, m: ev.delong(y, n, m(n)),
        lambda n, y, m: ev.mcnemar(y, m(y), y),
        lambda n, y, m: ev.balanced_accuracy(y, m(y)),
        lambda n, y, m: ev.f1_macro(m(y), y),
        lambda n, y, m: ev.confusion(y, m(y)),
        lambda n, y, m: ev.sensitivity(y, m(n), 60),
        lambda n, y, m: ev.specificity(m(y), n, 60),
        lambda n, y, m: ev.youden_threshold(y, m(n)),
        lambda n, y, m: ev.multiclass_roc_auc(m(y), np.stack([n / 100, 1 - n / 100], 1)),
        lambda n, y, m: ev.expected_calibration_error(y, m(n / 100)),
        lambda n, y, m: ev.reliability_table(m(y), n / 100),
        lambda n, y, m: ev.concordance_index(m(n), y, n),
        lambda n, y, m: ev.concordance_index(n, m(y), n),
        lambda n, y, m: ev.bootstrap_interval(accuracy, m(y), y),
        lambda n, y, m: ev.paired_bootstrap(accuracy, y, y, m(y)),
        lambda n, y, m: ev.paired_bootstrap_scores(n, m(n)),
        lambda n, y, m: ev.paired_bootstrap_scores(n, n, m(n)),
        lambda n, y, m: ev.paired_bootstrap_scores(n, n, strata=m(y)),
        lambda n, y, m: ev.corrected_resampled_ttest(m(n), 80, 20),
        lambda n, y, m: ev.fold_interval(m(n), bounds=None),
        lambda n, y, m: ev.smallest_difference(m(n), 80, 20),
        lambda n, y, m: ev.holm(m(n / 100)),
        lambda n, y, m: ev.wrong_rows(N, groups=m(y)),
    ],
)
def test_a_mask_is_never_lost(call, kind):
    with pytest.raises(EvaluationError, match=r"mask|missing|got none in|None"):
        call(NUMBERS, LABELS, MASKED[kind])


@pytest.mark.parametrize("hidden", [0, 1])
def test_masked_covariates_and_references(hidden):
    s = np.ma.masked_array(np.random.default_rng(0).normal(size=(4, 2)), np.arange(8).reshape(4, 2) < hidden)
    if hidden:
        with pytest.raises(EvaluationError, match="hides 1"):
            ev.control_rows(s, "true")
        with pytest.raises(EvaluationError, match="hides 1"):
            ev.control_rows(s.data, "mean", reference=s[0])
    else:
        np.testing.assert_array_equal(ev.control_rows(s, "true"), s.data)


def test_a_mask_that_hides_nothing_is_taken():
    whole = np.ma.masked_array(NUMBERS, False)
    assert ev.regression_summary(whole, NUMBERS + 1).mae == pytest.approx(1)


@pytest.mark.parametrize(
    "ids", [["a", None], ["a", float("nan")], ["a", ""], ["a", pd.NA], [1.0, float("nan")]], ids=str
)
@pytest.mark.parametrize("as_array", [False, True])
def test_a_subject_without_an_id_is_refused(ids, as_array):
    groups = np.array(ids * 12) if as_array else ids * 12  # numpy makes the text "nan" of ["a", nan]
    for call in (
        lambda: ev.bootstrap_interval(accuracy, LABELS, LABELS, groups),
        lambda: ev.mcnemar(LABELS, LABELS, LABELS, groups),
        lambda: ev.wrong_rows(N, groups),
    ):
        with pytest.raises(EvaluationError, match="groups: expected an id in every row, got none in 12 of 24"):
            call()
    with pytest.raises(EvaluationError, match="strata: expected an id"):
        ev.bootstrap_interval(accuracy, LABELS, LABELS, strata=groups)


@pytest.mark.parametrize(
    "values", [["0.5", "0.7"], np.array([0.5, "0.7"], object), np.array([1 + 2j, 2]), pd.to_datetime(["2020", "2021"])]
)
def test_what_is_no_number_is_no_number(values):
    """Texts of numbers, complex numbers and dates would all become floats."""
    for call in (lambda: ev.regression_summary([1, 2], values), lambda: ev.fold_interval(values, bounds=None)):
        with pytest.raises(EvaluationError, match="expected numbers, got"):
            call()


@pytest.mark.parametrize("target", [[0, None], [0, float("nan")], ["0", "1"], [0, 2]])
def test_classes_of_a_calibration_table(target):
    with pytest.raises(EvaluationError, match="target: expected"):
        ev.reliability_table(target, [[0.5, 0.5], [0.2, 0.8]])


def test_a_network_that_answers_nan_is_refused():
    """NaN > 0.5 is False: an answer like any other, if nobody looks."""

    class Diverged(torch.nn.Module):
        def forward(self, images, covariates):
            return torch.full((len(images),), float("nan"))

    batches = [(torch.zeros(6, 1, 2, 2), torch.arange(6.0)[:, None], torch.tensor([0, 1] * 3))]
    with pytest.raises(EvaluationError, match=r"predictions \(true\) of rows 0 on: expected"):
        ev.covariate_controls(Diverged(), batches, lambda y, p: float(((p > 0.5) == y).mean()))
