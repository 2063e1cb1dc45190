"""Kernels against the layers' own parameters and maps, what is drawn against what was computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, ExplainError, SurgeryError
from fusionconv.explain import kernels, plot_kernels
from tests.helpers.explained import fused, make_random, net

same = torch.testing.assert_close


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("method", "options", "linear"), [
    ("hybrid", {}, True), ("hybrid", {"rank": 2}, True), ("lowrank", {"rank": 2}, True),
    ("lowrank", {"rank": 2, "hidden": 4}, False), ("hyper", {"hidden": 4}, False), ("hyper", {"hidden": 4, "rank": 2}, False),
])  # fmt: skip
def test_the_kernel_at_a_vector_is_the_one_that_the_layer_uses(dims, method, options, linear):
    """The layer's output for that vector is the plain convolution with that kernel."""
    model = fused(method, dims=dims, options=options)
    s = torch.randn(2, 3).double()
    found = kernels(model, covariates=s)
    assert (found.layer, found.method, found.linear) == ("0", method, linear)
    x = torch.randn(1, 2, *[6] * dims).double()
    for row, kernel in zip(s, found.at, strict=True):
        with fusionconv.covariates(model, row[None]):
            expected = model[0](x)
        same(getattr(F, f"conv{dims}d")(x, kernel, model[0].bias, padding=1), expected.detach())
    same(found.weight, model[0].weight.detach())
    if linear:
        same(found.at, found.weight + torch.tensordot(s, found.changes, dims=1))
        assert found.names == ("s_1", "s_2", "s_3")
    else:
        assert len(found.changes) == (options.get("rank") or options["hidden"])
        assert found.names[0] == "h_1"


@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_has_its_outputs_first(groups):
    layer = fusionconv.HybridConvTranspose2d(
        4, 6, 3, num_covariates=2, groups=groups, bias=False, init="kaiming"
    ).double()
    found = kernels(layer, covariates=[0.5, -1.0])
    assert found.weight.shape == (6, 4 // groups, 3, 3)
    x, s = torch.randn(1, 4, 5, 5).double(), torch.tensor([[0.5, -1.0]]).double()
    spread = F.conv2d(x, found.at[0].flip(2, 3), padding=2, groups=groups)  # a transposed convolution of stride 1
    same(spread, layer(x, s).detach())


def test_a_linear_layer_is_a_matrix():
    model = make_random(fusionconv.fuse_into(net(), "8", 3))
    figure = plot_kernels(model, names=["a", "b", "c"])
    assert len(figure.axes) == 4
    np.testing.assert_allclose(figure.axes[2].images[0].get_array(), model[8].covariate_weight[1].detach(), rtol=1e-6)


def test_the_figure_shows_the_kernels():
    model = fused(dims=2)
    found = kernels(model, covariates=[1.0, 2.0, -1.0], names=["age", "sex", "site"])
    figure = found.figure(filters=[2, 0], channel=1)
    rows = [found.weight, *found.changes, found.at[0]]
    assert len(figure.axes) == 5 * 2
    for n, values in enumerate(rows):
        bound = float(values[[2, 0], 1].abs().max())
        for m, filter_ in enumerate([2, 0]):
            image = figure.axes[2 * n + m].images[0]
            np.testing.assert_allclose(image.get_array(), values[filter_, 1], rtol=1e-6)
            np.testing.assert_allclose(image.get_clim(), (-bound, bound), rtol=1e-6)
    assert [figure.axes[2 * n].get_ylabel().split("\n")[0] for n in range(5)] == [
        "W",
        "V age",
        "V sex",
        "V site",
        "at (1, 2, -1)",
    ]


def test_slices_of_3d_kernels_and_bars_of_1d_ones():
    three, one = fused(dims=3), fused(dims=1)
    found = kernels(three)
    np.testing.assert_allclose(found.figure(1, at=2).axes[0].images[0].get_array(),
                               found.weight[int(found.changes.flatten(2).norm(dim=2).norm(dim=0).argmax()), 0, ..., 2], rtol=1e-6)  # fmt: skip
    bars = plot_kernels(one, filters=[3], channel=1).axes[1].patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], one[0].covariate_weight[0, 3, 1].detach(), rtol=1e-6)


def test_the_filters_that_change_most_are_shown():
    model = fused()
    with torch.no_grad():
        model[0].covariate_weight[:, [0, 2]] *= 1e-3
    titles = [axes.get_title() for axes in plot_kernels(model, filters=2).axes[:2]]
    assert titles == ["filter 1", "filter 3"]


def test_rendered_it_is_the_same_as_drawn_by_hand():
    """Pixels, of a figure without text: one kernel, with matplotlib alone beside it."""
    found = kernels(fused())
    drawn = found.figure([1])
    own = Figure(figsize=drawn.get_size_inches())
    for at, axes in enumerate(drawn.axes):
        values = [found.weight, *found.changes][at][1, 0].float().numpy()
        panel = own.add_axes(axes.get_position())
        panel.imshow(values, cmap="RdBu_r", vmin=-abs(values).max(), vmax=abs(values).max())
    drawn.draw_without_rendering()
    for panel, axes in zip(own.axes, drawn.axes, strict=True):
        panel.set_position(axes.get_position())
    pictures = []
    for figure in (drawn, own):
        figure.set_layout_engine("none")
        for text in figure.findobj(lambda artist: hasattr(artist, "set_text")):
            text.set_text("")
        for axes in figure.axes:
            axes.set(xticks=[], yticks=[])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].astype(float))
    assert np.sqrt(((pictures[0] - pictures[1]) ** 2).mean()) < 3
    assert pictures[0].std() > 10


@pytest.mark.parametrize("method", ["film", "daft", "scale", "attention", "condconv"])
def test_methods_without_kernels_say_so(method):
    model = fused(method, options={"ignore_covariates": True} if method == "condconv" else {})
    with pytest.raises(ExplainError, match=f"'0' \\({method}\\)"):
        plot_kernels(model)
    with pytest.raises(ExplainError, match=f"of method '{method}'"):
        plot_kernels(model, "0")


@pytest.mark.parametrize(("given", "error", "says"), [
    ({"layer": "00"}, ExplainError, "did you mean '0'"),
    ({"layer": "4"}, ExplainError, "a layer that is not fused: '4'"),
    ({"layer": ""}, ExplainError, "expected a fused layer"),
    ({"names": ["a"]}, ExplainError, "names: expected 3"),
    ({"filters": 0}, ExplainError, "filters"), ({"filters": [9]}, ExplainError, "from 0 to 3"), ({"filters": []}, ExplainError, "none"),
    ({"channel": 2}, ExplainError, "from 0 to 1"),
    ({"covariates": [1.0]}, CovariateError, "shape"), ({"covariates": [1.0, 2.0, float("nan")]}, CovariateError, "NaN"),
    ({"covariates": torch.tensor([1, 2, 3])}, CovariateError, "floating point"),
])  # fmt: skip
def test_what_does_not_fit(given, error, says):
    with pytest.raises(error, match=says):
        plot_kernels(fused(), **given)


def test_a_model_without_a_fused_layer():
    with pytest.raises(SurgeryError, match="without one; call"):
        plot_kernels(nn.Conv2d(1, 1, 1))
