"""Control inputs and the model loop: who gets whose row, columns that stay together, and figures that are known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import fusionconv
from fusionconv.errors import EvaluationError
from fusionconv.evaluation import control_inputs, control_predictions, control_rows, covariate_controls, wrong_rows
from fusionconv.tabular import CovariateDataset, CovariateEncoder


@pytest.fixture
def table():
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "subject": [f"s{i}" for i in range(30)],
            "age": [None, *random.normal(70, 8, 29)],
            "site": random.choice(["A", "B", "C"], 30),
            "sex": random.choice(["F", "M"], 30),
            "target": random.integers(0, 2, 30),
        }
    )


@pytest.fixture
def encoder(table):
    return CovariateEncoder(["age", "site", "sex"], missing="mean", indicator="always").fit(table)


# who gets whose row


def test_no_row_keeps_its_own_and_every_such_permutation_comes_equally_often():
    allowed = [p for p in permutations(range(4)) if all(p[i] != i for i in range(4))]
    drawn = [tuple(wrong_rows(4, seed=s).tolist()) for s in range(1800)]
    counts = [drawn.count(p) for p in allowed]
    assert sum(counts) == 1800  # nothing but these nine
    assert max(abs(c - 200) for c in counts) < 5 * np.sqrt(200)


def test_subjects_exchange_whole():
    groups = ["a", "b", "a", "c", "c", "a", "d"]
    for seed in range(50):
        taken = wrong_rows(7, groups, seed)
        giver = {}
        for row, source in enumerate(taken):
            assert groups[source] != groups[row]
            assert giver.setdefault(groups[row], groups[source]) == groups[source]  # one giver for a subject
        assert len(set(giver.values())) == 4  # and one receiver for a giver
    two = wrong_rows(5, ["a", "a", "a", "b", "b"])
    assert two.tolist() == [3, 4, 3, 0, 1]  # visit by visit, from the first again


def test_a_seed_gives_one_permutation():
    assert wrong_rows(20, seed=1).tolist() == wrong_rows(20, seed=1).tolist() != wrong_rows(20, seed=2).tolist()


def test_a_column_keeps_its_covariates_together(encoder, table):
    s = encoder.transform(table)
    real = {name: {tuple(row) for row in s[:, place]} for name, place in encoder.groups.items()}
    found = {c.name: c.rows for c in control_inputs(s, encoder=encoder, seed=3)}
    assert list(found) == ["true", "zero", "permuted", "permuted: age", "permuted: site", "permuted: sex"]
    for name, place in encoder.groups.items():
        rows = found[f"permuted: {name}"]
        others = np.setdiff1d(np.arange(s.shape[1]), np.arange(s.shape[1])[place])
        np.testing.assert_array_equal(rows[:, others], s[:, others])
        assert {tuple(row) for row in rows[:, place]} == real[
            name
        ]  # no person of two sites, no filled-in age unflagged
        assert sorted(map(tuple, rows[:, place])) == sorted(map(tuple, s[:, place]))
    age = found["permuted: age"][:, encoder.groups["age"]]
    assert (age[1:] != s[1:, encoder.groups["age"]]).any(axis=1).all()  # all ages differ, so nobody has their own
    assert sorted(map(tuple, found["permuted"])) == sorted(map(tuple, s))


def test_groups_hold_for_every_permutation(encoder, table):
    s, groups = encoder.transform(table), [f"p{i // 3}" for i in range(30)]  # three visits each, all ages differ
    ages = dict(zip(s[1:, 0].tolist(), groups[1:], strict=True))
    place = encoder.groups["age"].start
    for control in control_inputs(s, encoder=encoder, groups=groups, n_permutations=3):
        if control.name in ("permuted", "permuted: age"):
            givers = [ages.get(age, "p0") for age in control.rows[:, place].tolist()]  # row 0 has no age
            assert all(givers[i] == givers[i - i % 3] != groups[i] for i in range(30))


def test_zero_and_mean(encoder, table):
    s = encoder.transform(table)
    mean = s[:20].mean(axis=0)
    assert not control_rows(s, "zero").any()
    found = control_rows(s, "mean", reference=mean)
    assert found.dtype == s.dtype == np.float32
    assert (found == mean).all()
    true = control_rows(s, "true")
    true[:] = 5
    assert (s != 5).any()


def test_more_permutations_differ_and_do_not_change_the_first(encoder, table):
    s = encoder.transform(table)
    three = [c.rows for c in control_inputs(s, n_permutations=3) if c.name == "permuted"]
    one = [c.rows for c in control_inputs(s) if c.name == "permuted"]
    np.testing.assert_array_equal(three[0], one[0])
    assert not np.array_equal(three[0], three[1])
    assert not np.array_equal(three[1], three[2])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: control_rows(s[0], "zero"), r"shape \(N, K\)"),
        (lambda s: control_rows(s.astype(int), "zero"), "floating-point"),
        (lambda s: control_rows(s, "shuffled"), "'permuted'"),
        (lambda s: control_rows(s, "mean"), "mean of the training rows"),
        (lambda s: control_rows(s, "mean", reference=[0.0]), "reference: expected shape"),
        (lambda s: control_rows(s * np.nan, "zero"), "expected finite"),
        (lambda s: control_rows(s[:1], "permuted"), "at least two subjects"),
        (lambda s: control_rows(s, "permuted", groups=["a"] * 30), "at least two subjects"),
        (lambda s: list(control_inputs(s[:, :4], encoder={"age": slice(0, 2)})), "that made these 4"),
        (lambda s: list(control_inputs(s, n_permutations=0)), "n_permutations"),
    ],
)
def test_they_refuse(encoder, table, call, says):
    with pytest.raises(EvaluationError, match=says):
        call(encoder.transform(table))


# the model


class Adds(nn.Module):
    """The image's mean plus a weighted sum of the covariates: every figure can be worked out by hand."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.dropout, self.frozen = nn.Dropout(0.9), nn.BatchNorm1d(1).eval()

    def forward(self, images, covariates):
        assert not torch.is_grad_enabled()
        return self.dropout(images.flatten(1).mean(1) + covariates @ self.weights)


def mean_error(target, predicted):
    return float(np.abs(target - predicted).mean())


def loader(table, encoder, **options):
    images = {i: torch.full((1, 4), float(n)) for n, i in enumerate(table["subject"])}
    dataset = CovariateDataset(table, encoder, id="subject", target="target", images=images)
    return DataLoader(dataset, batch_size=7, collate_fn=dataset.collate, **options)


def test_figures_are_those_worked_out_by_hand(encoder, table):
    weights = np.random.default_rng(1).normal(size=encoder.num_covariates).astype(np.float32)
    model, s, y = Adds(weights), encoder.transform(table), table["target"].to_numpy()
    reference = s.mean(axis=0)
    model.train()
    model.frozen.eval()
    found = covariate_controls(
        model,
        loader(table, encoder),
        mean_error,
        encoder=encoder,
        reference=reference,
        groups={name: int(name[1:]) // 2 for name in table["subject"]},  # two visits each
        n_permutations=2,
        seed=5,
    ).set_index("control")
    assert (model.training, model.dropout.training, model.frozen.training) == (True, True, False)
    inputs = {}
    pairs = np.arange(30) // 2
    for control in control_inputs(s, encoder=encoder, reference=reference, groups=pairs, n_permutations=2, seed=5):
        inputs.setdefault(control.name, []).append(control.rows)
    for name, rows in inputs.items():
        values = [np.abs(y - (np.arange(30) + r @ weights)).mean() for r in rows]
        assert found.loc[name, "value"] == pytest.approx(np.mean(values), rel=1e-5)
        assert found.loc[name, "difference"] == pytest.approx(np.mean(values) - found.loc["true", "value"], abs=1e-5)
        assert found.loc[name, "permutations"] == len(rows)
    assert found.loc["permuted", "sd"] == pytest.approx(
        np.std([np.abs(y - (np.arange(30) + r @ weights)).mean() for r in inputs["permuted"]], ddof=1), rel=1e-4
    )
    assert np.isnan(found.loc["zero", "sd"])


def test_only_the_column_that_matters_matters(encoder, table):
    """A fused network that reads sex alone: permuting age or site changes nothing, permuting sex does."""
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten()), 0, encoder.num_covariates)
    sex = encoder.groups["sex"].start
    with torch.no_grad():
        model[0].covariate_weight[sex].fill_(1.0)
    y = encoder.transform(table)[:, sex]
    batches = [
        (torch.ones(10, 1, 1), torch.from_numpy(encoder.transform(table))[i : i + 10], y[i : i + 10])
        for i in (0, 10, 20)
    ]
    offset = (model[0].weight.sum() + model[0].bias.sum()).item()
    found = covariate_controls(
        model, batches, {"error": mean_error}, encoder=encoder, predict=lambda out: out[:, 0] - offset
    ).set_index("control")["value"]
    assert found[["true", "permuted: age", "permuted: site"]].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert found["zero"] == pytest.approx(y.mean(), abs=1e-6)
    assert found["permuted: sex"] > 0.2


def test_predictions_keep_ids_targets_and_order(encoder, table):
    found = control_predictions(Adds(np.zeros(encoder.num_covariates, np.float32)), loader(table, encoder))
    assert found.ids == table["subject"].tolist()
    assert found.target.tolist() == table["target"].tolist()
    assert found.predictions["permuted"][0].tolist() == list(range(30))


def test_modes_come_back_after_an_error(encoder, table):
    model = Adds(np.zeros(encoder.num_covariates, np.float32)).train()

    def fails(output):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        covariate_controls(model, loader(table, encoder), mean_error, predict=fails)
    assert model.training
    assert model.dropout.training


def test_loaders_that_cannot_be_followed_are_refused(encoder, table):
    model = Adds(np.zeros(encoder.num_covariates, np.float32))
    s, images = torch.from_numpy(encoder.transform(table)), torch.zeros(30, 1, 4)
    order = iter([np.arange(30), np.arange(30)[::-1].copy()])

    class Shuffles:
        def __iter__(self):
            rows = next(order)
            yield images[rows], s[rows], torch.zeros(30)

    cases = [
        (loader(table, encoder, shuffle=True), "shuffle=False"),
        (Shuffles(), "same rows both times"),
        ([(images, s)], r"got tuple"),
        ([{"image": images, "covariates": s}], r"got \['covariates', 'image'\]"),
        ([(images[:5], s, torch.zeros(30))], "30 images in a batch, got 5"),
        ([], "at least one batch"),
        (iter([(images, s, torch.zeros(30))]), "30 rows both times, got 0"),
    ]
    for batches, says in cases:
        with pytest.raises(EvaluationError, match=says):
            covariate_controls(model, batches, mean_error)
    with pytest.raises(EvaluationError, match="batches without ids"):
        covariate_controls(model, [(images, s, torch.zeros(30))], mean_error, groups={"s0": "a"})
    with pytest.raises(EvaluationError, match="none for 29"):
        covariate_controls(model, loader(table, encoder), mean_error, groups={"s0": "a"})
