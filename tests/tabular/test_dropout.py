"""CovariateDropout: rates, columns that go together, what a dropped value becomes, and when nothing is dropped."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from fusionconv.errors import CovariateError, TableError
from fusionconv.tabular import CovariateDropout, CovariateEncoder

N = 20_000


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(70, 9, N),
            "site": rng.choice(["A", "B", "C"], N),
            "tau": rng.choice([">1300", "<80", "200", "300"], N),
            "sex": rng.choice(["F", "M"], N),
        }
    )


@pytest.fixture(scope="module")
def encoder(rows):
    return CovariateEncoder(list(rows), missing="mean", indicator="always").fit(rows)


@pytest.fixture(scope="module")
def covariates(encoder, rows):
    return torch.from_numpy(encoder.transform(rows))


def indicators(encoder):
    names = list(encoder.get_feature_names_out())
    return [names.index(f"{c}_missing") for c in encoder.columns]


@pytest.mark.parametrize(("p_row", "p_value"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2), (1.0, 0.0), (0.0, 1.0)])
def test_rates_are_as_asked(encoder, covariates, p_row, p_value):
    torch.manual_seed(0)
    gone = CovariateDropout(encoder, p_row, p_value)(covariates)[:, indicators(encoder)].numpy()
    expected = 1 - (1 - p_row) * (1 - p_value)
    spread = 5 * (0.25 / N) ** 0.5  # five standard deviations of a share at most
    np.testing.assert_allclose(gone.mean(axis=0), expected, atol=spread)
    np.testing.assert_allclose(gone.all(axis=1).mean(), p_row + (1 - p_row) * p_value**4, atol=spread)
    np.testing.assert_allclose((gone[:, 0] * gone[:, 1]).mean(), p_row + (1 - p_row) * p_value**2, atol=spread)


def test_a_dropped_column_is_what_the_encoder_makes_of_a_missing_value(encoder, covariates, rows):
    torch.manual_seed(1)
    dropped = CovariateDropout(encoder, 0.2, 0.3)(covariates)
    gone = dropped[:, indicators(encoder)].numpy() == 1
    holes = rows.astype(object).where(~pd.DataFrame(gone, columns=list(rows)), None)
    assert 0.2 < gone.mean() < 0.7
    np.testing.assert_array_equal(dropped.numpy(), encoder.transform(holes))


def test_a_dropped_row_is_the_missing_vector(encoder, covariates):
    dropped = CovariateDropout(encoder, p_row=1.0, p_value=0.0)(covariates)
    np.testing.assert_array_equal(dropped.numpy(), np.tile(encoder.missing_vector(), (N, 1)))


def test_without_indicators_the_filled_in_values_are_used(rows):
    encoder = CovariateEncoder(["age", "site"], {"age": "numeric"}, missing="zero", indicator="never").fit(rows)
    covariates = torch.from_numpy(encoder.transform(rows))
    dropped = CovariateDropout(encoder, 0.0, 0.5)(covariates)
    one_hot = dropped[:, 1:]
    assert set(one_hot.sum(dim=1).tolist()) == {0.0, 1.0}  # all of a column's covariates or none
    assert 0.45 < (one_hot.sum(dim=1) == 0).float().mean() < 0.55


def test_evaluation_mode_and_zero_rates_change_nothing(encoder, covariates):
    assert CovariateDropout(encoder, 0.5, 0.5).eval()(covariates) is covariates
    assert CovariateDropout(encoder, 0.0, 0.0)(covariates) is covariates


def test_the_input_is_not_changed(encoder, covariates):
    before = covariates.clone()
    CovariateDropout(encoder, 0.5, 0.5)(covariates)
    assert torch.equal(covariates, before)


def test_seeds_reproduce(encoder, covariates):
    def draw(seed):
        return CovariateDropout(encoder, 0.2, 0.2, torch.Generator().manual_seed(seed))(covariates)

    state = torch.get_rng_state()
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator was left alone
    dropout = CovariateDropout(encoder, 0.2, 0.2)
    torch.manual_seed(5)
    first, second = dropout(covariates), dropout(covariates)
    torch.manual_seed(5)
    assert torch.equal(dropout(covariates), first)
    assert not torch.equal(first, second)


def test_gradient_reaches_what_stayed_only(encoder, covariates):
    values = covariates[:50].clone().requires_grad_()
    dropped = CovariateDropout(encoder, 0.3, 0.3, torch.Generator().manual_seed(0))(values)
    dropped.sum().backward()
    kept = dropped[:, indicators(encoder)] == 0
    per_covariate = torch.cat(
        [kept[:, [i]].expand(-1, s.stop - s.start) for i, s in enumerate(encoder.groups.values())], 1
    )
    assert torch.equal(values.grad, per_covariate.float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_dtype_stays(encoder, covariates, dtype):
    assert CovariateDropout(encoder, 0.5, 0.5)(covariates[:4].to(dtype)).dtype == dtype


def test_it_adds_nothing_to_a_checkpoint_and_copies(encoder, covariates):
    dropout = CovariateDropout(encoder, 1.0, 0.0)
    assert dropout.state_dict() == {}
    assert list(dropout.parameters()) == []
    assert torch.equal(copy.deepcopy(dropout)(covariates[:3]), dropout(covariates[:3]))
    assert repr(dropout) == f"CovariateDropout(p_row=1, p_value=0, num_covariates={encoder.num_covariates})"


def test_an_encoder_that_refuses_missing_values_is_refused(rows):
    refusing = CovariateEncoder(["age", "site"]).fit(rows)
    with pytest.raises(TableError, match=r"'age': expected an encoder that takes missing values.*missing='mean'"):
        CovariateDropout(refusing)
    with pytest.raises(TableError, match="indicator='always'"):
        CovariateDropout(CovariateEncoder(["age", "site"], missing="mean").fit(rows))
    with pytest.raises(TableError, match="fitted encoder"):
        CovariateDropout(CovariateEncoder(["age"], missing="mean", indicator="never"))
    with pytest.raises(TableError, match="got Linear"):
        CovariateDropout(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("wrong", [torch.zeros(3, 2), torch.zeros(14), torch.zeros(3, 14, dtype=torch.int64)])
def test_wrong_covariates_are_refused(encoder, wrong):
    with pytest.raises(CovariateError, match=r"shape \(N, "):
        CovariateDropout(encoder)(wrong)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_wrong_probabilities_are_refused(encoder, p):
    with pytest.raises(CovariateError, match="p_row between 0 and 1"):
        CovariateDropout(encoder, p_row=p)
    with pytest.raises(CovariateError, match="p_value between 0 and 1"):
        CovariateDropout(encoder, p_value=p)
