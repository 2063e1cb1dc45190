"""Effects of a covariate against a loop over calls of the model; what is drawn against the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, ExplainError
from fusionconv.explain import covariate_effect, plot_covariate_effect
from tests.helpers.explained import batch, fused, net

NAMES = ["age", "sex", "site"]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("method", ["hybrid", "film", "daft"])
def test_curves_are_calls_of_the_model(method, batch_size):
    model, (x, s) = fused(method, outputs=2).train(), batch(5)
    effect = covariate_effect(model, x, s, "sex", [2.0, -1.0, 0.0], names=NAMES, batch_size=batch_size)
    assert effect.values.tolist() == [-1.0, 0.0, 2.0]
    assert model.training
    model.eval()
    for i in range(5):
        for v, value in enumerate(effect.values):
            row = s[i : i + 1].clone()
            row[0, 1] = value
            np.testing.assert_allclose(effect.curves[i, v], model(x[i : i + 1], row)[0].detach(), rtol=1e-10)
    np.testing.assert_allclose(effect.mean, effect.curves.mean(0))
    assert (effect.name, effect.index, effect.held, effect.answers) == ("sex", 1, "rows", ("output 0", "output 1"))


def test_a_reference_holds_the_other_covariates():
    model, (x, s) = fused().eval(), batch(3)
    effect = covariate_effect(model, x, s, 0, [1.5], reference=[9.0, 1.0, -2.0], target=lambda out: 3 * out[:, 0])
    rows = torch.tensor([[1.5, 1.0, -2.0]]).double().expand(3, 3)
    np.testing.assert_allclose(effect.curves[:, 0, 0], 3 * model(x, rows)[:, 0].detach(), rtol=1e-10)
    assert effect.held == "reference"


def test_the_range_of_the_data_is_marked():
    model, (x, s) = fused(), batch(4)
    data = torch.linspace(-1, 1, 50)[:, None].repeat(1, 3)
    effect = covariate_effect(model, x, s, 2, np.linspace(-3, 3, 13), data=data)
    assert (effect.low, effect.high) == (-1, 1)
    assert effect.outside.tolist() == [abs(v) > 1 for v in effect.values]
    axes = effect.figure().axes[0]
    spans = [patch for patch in axes.patches if patch.get_gid() == "outside"]
    left, right = axes.get_xlim()
    assert [(p.get_x(), p.get_x() + p.get_width()) for p in spans] == [(left, -1), (1, right)]
    lines = {line.get_gid(): line for line in axes.lines if line.get_gid() != "row"}
    assert lines["mean"].get_linestyle() == "--"
    np.testing.assert_allclose(lines["mean"].get_ydata(), effect.mean[:, 0])
    np.testing.assert_allclose(lines["inside"].get_xdata(), effect.values[~effect.outside])
    rows = [line for line in axes.lines if line.get_gid() == "row"]
    np.testing.assert_allclose([line.get_ydata() for line in rows], effect.curves[..., 0])
    below = axes.child_axes[0]
    assert sum(bar.get_height() for bar in below.patches) == 50
    assert axes.get_ylim()[0] < effect.curves.min()


def test_inside_the_data_nothing_is_marked():
    axes = plot_covariate_effect(fused(), *batch(4), "age", names=NAMES, data=[-2.0, 0.0, 2.0]).axes[0]
    assert [patch for patch in axes.patches if patch.get_gid() == "outside"] == []
    mean = next(line for line in axes.lines if line.get_gid() == "mean")
    assert mean.get_xdata().tolist() == [-2.0, 0.0, 2.0]  # few values: all of them
    assert axes.get_xlabel() == "age"


def test_default_values_are_the_datas_range():
    x, s = batch(12)
    effect = covariate_effect(fused(), x, s, -1, points=7)
    np.testing.assert_allclose(effect.values, np.linspace(s[:, 2].min(), s[:, 2].max(), 7))
    assert effect.index == 2


def test_covariates_of_a_with_block():
    model, (x, s) = fused(), batch()
    expected = covariate_effect(model, x, s, 0)
    with fusionconv.covariates(model, s):
        np.testing.assert_allclose(covariate_effect(model, x, None, 0).curves, expected.curves)


def test_image_outputs_are_means_of_channels():
    model = fusionconv.fuse_into(nn.Sequential(nn.Conv2d(2, 3, 3)).double(), 0, 3, init="kaiming")
    x, s = batch()
    effect = covariate_effect(model, x, s, 0, [0.5])
    changed = s.clone()
    changed[:, 0] = 0.5
    np.testing.assert_allclose(effect.curves[:, 0], model(x, changed).mean((2, 3)).detach(), rtol=1e-10)


class Gives(nn.Module):
    """A network of one's own that gives what it is told."""

    def __init__(self, outputs) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x, covariates):
        return self.outputs


@pytest.mark.parametrize(("outputs", "says"), [
    (torch.tensor(1.0), r"outputs of 4 row\(s\)"), (torch.zeros(3, 2), r"outputs of 4 row\(s\)"),
    ({"logits": 1}, "which are a dict"),
])  # fmt: skip
def test_outputs_that_are_no_rows(outputs, says):
    with pytest.raises(ExplainError, match=says):
        covariate_effect(Gives(outputs), *batch(), 0)


def test_integers_are_refused_as_covariates_of_a_network_of_ones_own():
    with pytest.raises(CovariateError, match="floating point"):
        covariate_effect(Gives(torch.zeros(4)), batch()[0], torch.zeros(4, 3, dtype=torch.int64), 0)


@pytest.mark.parametrize(("change", "error", "says"), [
    ({"which": "agee"}, ExplainError, "did you mean age"), ({"which": 3}, ExplainError, "from 0 to 2"),
    ({"which": True}, ExplainError, "which"), ({"values": [float("nan")]}, ExplainError, "finite"),
    ({"values": []}, ExplainError, "finite"), ({"data": torch.zeros(5, 2)}, ExplainError, r"data: expected \(M, 3\)"),
    ({"data": [float("inf")]}, ExplainError, "data"), ({"reference": [1.0]}, CovariateError, "reference"),
    ({"s": torch.zeros(1, 3).double()}, CovariateError, "one row per sample"), ({"s": None}, CovariateError, "needs them"),
    ({"model": net(), "s": None}, ExplainError, "takes covariates"), ({"names": ["a"]}, ExplainError, "names"),
])  # fmt: skip
def test_what_does_not_fit(change, error, says):
    x, s = batch()
    given = {"model": fused(), "x": x, "s": s, "which": "age", "names": NAMES, **change}
    if given["model"].__class__.__name__ == "Sequential":
        given["names"] = None
    with pytest.raises(error, match=says):
        plot_covariate_effect(given.pop("model"), given.pop("x"), given.pop("s"), given.pop("which"), **given)
