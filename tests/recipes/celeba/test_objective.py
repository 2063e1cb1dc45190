import numpy as np
import pytest
import torch

from fusionconv.errors import TableError
from recipes.celeba.objective import Objective, target_names


def test_losses_are_their_formulas():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    t = torch.randint(0, 2, (5, 3), generator=generator)
    p = 1 / (1 + np.exp(-y.numpy()))
    bce = -(t.numpy() * np.log(p) + (1 - t.numpy()) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(Objective("bce", 3).losses(y, t, each=True), bce, rtol=1e-12)
    mse = ((y.numpy() - np.where(t.numpy() == 1, 1, -1)) ** 2).mean(1)
    np.testing.assert_allclose(Objective("mse", 3).losses(y, t, each=True), mse, rtol=1e-12)
    assert float(Objective("mse", 3).losses(y, t)) == pytest.approx(mse.mean())
    # two outputs with softmax are one logit, their difference, with a sigmoid
    two = Objective("cross_entropy", 1)
    single = Objective("bce", 1)
    margin = y[:, 1:2] - y[:, :1]
    torch.testing.assert_close(two.losses(y[:, :2], t[:, 0]), single.losses(margin, t[:, 0]))
    torch.testing.assert_close(two.probability(y[:, :2]), single.probability(margin))


def test_answers_and_probabilities():
    y, t = torch.tensor([[0.5, -2.0], [-0.1, 3.0]]), torch.tensor([[1, 1], [0, 1]])
    mse = Objective("mse", 2)
    assert mse.probability(y).tolist() == [[0.75, -0.5], [pytest.approx(0.45), 2.0]]  # (y + 1) / 2, not cut
    assert mse.right(y, t).tolist() == [[1, 0], [1, 1]]
    assert Objective("bce", 2).right(y, t).tolist() == [[1, 0], [1, 1]]
    assert Objective("cross_entropy", 1).right(y, torch.tensor([0, 0])).tolist() == [[1], [0]]


def test_what_cannot_be_asked():
    assert Objective.choose("auto", 1).loss == "cross_entropy"
    assert Objective.choose("auto", 40).loss == "bce"
    with pytest.raises(TableError, match="answers one attribute, and 2"):
        Objective.choose("cross_entropy", 2)
    for bad in ([], ["Male", "Male"]):
        with pytest.raises(TableError, match="several different ones"):
            target_names(bad)
