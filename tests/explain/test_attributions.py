"""Attributions against formulas, loops and another implementation."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError, ExplainError
from fusionconv.explain import ATTRIBUTION_METHODS, attribute, attributions
from tests.helpers.explained import batch, fused, make_random, net

same = torch.testing.assert_close


class Linear(nn.Module):
    """f(x, s) = a . x + b . s + x_0 (c . s): linear but for one product."""

    def __init__(self, product: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Parameter(torch.randn(n).double()) for n in (32, 3, 3))
        self.product = product

    def forward(self, x, covariates):
        flat = x.flatten(1)
        return flat @ self.a + covariates @ self.b + self.product * flat[:, 0] * (covariates @ self.c)


# ---- integrated gradients ----


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_integrated_gradients_of_a_linear_model_are_weight_times_difference(batch_size):
    model, (x, s) = Linear(), batch(4, size=4)
    found = attributions(
        model, x, s, baseline=0.5, covariate_baseline=torch.tensor([1.0, 0.0, -1.0]), batch_size=batch_size
    )
    same(found.maps.flatten(1), (x - 0.5).flatten(1) * model.a.detach(), atol=1e-6, rtol=1e-6)
    same(found.covariates, (s - torch.tensor([1.0, 0, -1]).double()) * model.b.detach(), atol=1e-6, rtol=1e-6)
    assert found.gap.abs().max() < 1e-6


def test_a_product_of_image_and_covariate_is_shared_by_halves():
    """The integral of t d/dt of x_0 (c . s) along the path: one half for each factor."""
    model, (x, s) = Linear(product=1.0), batch(5, size=4)
    found = attributions(model, x, s)
    product = x.flatten(1)[:, :1] * (s * model.c.detach())
    same(found.covariates, s * model.b.detach() + product / 2, atol=1e-6, rtol=1e-6)
    expected = x.flatten(1) * model.a.detach()
    expected[:, 0] += product.sum(1) / 2
    same(found.maps.flatten(1), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("method", ["hybrid", "lowrank", "film"])
def test_integrated_gradients_of_a_fused_network_by_a_sum_over_the_path(dims, method):
    """Rows of images and covariates go together: against one row at a time, midpoints of 400 steps."""
    model = fused(method, dims=dims, smooth=True).eval()
    x, s = batch(3, dims)
    found = attributions(model, x, s, steps=64, batch_size=2)
    for n in range(3):
        gx, gs = torch.zeros_like(x[n]), torch.zeros_like(s[n])
        t = ((torch.arange(400) + 0.5) / 400).double()
        xs = (t.reshape(-1, *[1] * (dims + 1)) * x[n]).requires_grad_()
        ss = (t[:, None] * s[n]).requires_grad_()
        gx, gs = torch.autograd.grad(model(xs, ss).sum(), (xs, ss))
        same(found.maps[n], gx.mean(0) * x[n], atol=1e-5, rtol=1e-3)
        same(found.covariates[n], gs.mean(0) * s[n], atol=1e-5, rtol=1e-3)
    assert found.gap.abs().max() < 1e-6
    zero = model(torch.zeros_like(x), torch.zeros_like(s))[:, 0]
    same(found.outputs, model(x, s)[:, 0].detach())
    same(found.baseline_outputs, zero.detach())


def test_the_gap_is_the_sum_minus_the_difference_and_shrinks_with_steps():
    model, (x, s) = fused(), batch()
    few, many = attributions(model, x, s, steps=2), attributions(model, x, s, steps=200)
    for found in (few, many):
        total = found.maps.flatten(1).sum(1) + found.covariates.sum(1)
        same(found.gap, total - (found.outputs - found.baseline_outputs))
    assert many.gap.abs().max() < few.gap.abs().max() / 5
    assert few.gap.abs().max() > 1e-4


# ---- Grad-CAM ----


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("layer", "relu"), [(None, True), ("4", False), ("0", True)])
def test_grad_cam_by_its_formula(dims, layer, relu):
    model, (x, s) = fused(dims=dims, outputs=3).eval(), batch(dims=dims)
    found = attributions(model, x, s, method="grad_cam", target=2, layer=layer, relu=relu)
    at = int(layer or 4)
    assert found.layer == str(at)
    with fusionconv.covariates(model, s):
        maps = model[: at + 1](x) if at else model[0](x)
        maps = maps.detach().requires_grad_()
        rest = maps
        for module in list(model)[at + 1 :]:
            rest = module(rest.clone())
    (gradient,) = torch.autograd.grad(rest[:, 2].sum(), maps)
    positions = tuple(range(2, maps.ndim))
    small = (gradient.mean(positions, keepdim=True) * maps).sum(1, keepdim=True).detach()
    small = small.relu() if relu else small
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[dims]
    same(found.maps, F.interpolate(small, size=x.shape[2:], mode=mode, align_corners=False))
    assert found.covariates is None


# ---- guided backpropagation ----


class Functional(nn.Module):
    """Two layers whose ReLU is a module, a function, a method, or in place."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.one, self.two, self.three = kind, nn.Linear(8, 6), nn.Linear(6, 5), nn.Linear(5, 1)
        self.relu = nn.ReLU(inplace=kind == "module in place")

    def act(self, x):
        calls = {
            "module": self.relu, "module in place": self.relu, "function": F.relu, "torch": torch.relu,
            "method": lambda t: t.relu(), "method in place": lambda t: t.relu_(), "function in place": lambda t: F.relu(t, True),
            "keyword": lambda t: F.relu(input=t, inplace=True),
        }  # fmt: skip
        return calls[self.kind](x)

    def forward(self, x):
        return self.three(self.act(self.two(self.act(self.one(x)))))


@pytest.mark.parametrize("kind", [
    "module", "module in place", "function", "torch", "method", "method in place", "function in place", "keyword",
])  # fmt: skip
def test_guided_backpropagation_by_hand(kind):
    model = Functional(kind).double()
    x = torch.randn(4, 8).double()
    found = attributions(model, x, method="guided_backprop")
    a = model.one(x)
    b = model.two(a.relu())
    back = model.three.weight.expand(4, -1)
    back = back.clamp(min=0) * (b > 0)
    back = (back @ model.two.weight).clamp(min=0) * (a > 0)
    same(found.maps, (back @ model.one.weight).detach())


def test_guided_backpropagation_equals_captums_where_all_are_modules():
    from captum.attr import GuidedBackprop

    model, (x, s) = fused().eval(), batch()
    found = attributions(model, x, s, method="guided_backprop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gx, gs = GuidedBackprop(model).attribute((x.clone().requires_grad_(), s.clone().requires_grad_()), target=0)
    same(found.maps, gx.detach())
    same(found.covariates, gs.detach())
    plain = torch.autograd.grad(model(x.requires_grad_(), s).sum(), x)[0]
    assert (plain - found.maps).abs().max() > 1e-4


def test_guided_backpropagation_of_a_network_without_relu():
    with pytest.raises(ExplainError, match="Sequential has none; use integrated_gradients"):
        attributions(net(smooth=True), batch()[0], method="guided_backprop")


# ---- occlusion ----


@pytest.mark.parametrize(("window", "stride"), [(3, 2), ((2, 4), (2, 4)), (3, 3), (None, None)])
def test_occlusion_by_a_loop(window, stride):
    model, (x, s) = fused().eval(), batch(3)
    base = torch.tensor([0.5, 0.0, 1.0]).double()
    given = {"window": window, "stride": stride, "baseline": 0.25, "covariate_baseline": base}
    found = attributions(model, x, s, method="occlusion", batch_size=7, **given)
    high, wide = (window, window) if isinstance(window, int) else window or (1, 1)
    down, right = (stride, stride) if isinstance(stride, int) else stride or (1, 1)
    total, count = torch.zeros_like(x), torch.zeros_like(x)
    with torch.no_grad():
        whole = model(x, s)[:, 0]

        def places(size, side, step):
            starts = list(range(0, size - side + 1, step))
            return starts if starts[-1] + side >= size else [*starts, starts[-1] + step]

        for top in places(8, high, down):
            for left in places(8, wide, right):
                area = (slice(None), slice(None), slice(top, top + high), slice(left, left + wide))
                hidden = x.clone()
                hidden[area] = 0.25
                total[area] += (whole - model(hidden, s)[:, 0]).reshape(3, 1, 1, 1)
                count[area] += 1
        same(found.maps, total / count, atol=1e-6, rtol=1e-5)
        for j in range(3):
            changed = s.clone()
            changed[:, j] = base[j]
            same(found.covariates[:, j], whole - model(x, changed)[:, 0], atol=1e-6, rtol=1e-5)


# ---- all of them ----


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_each_row_is_explained_by_its_own_covariates(method):
    """A batch gives what its rows give one by one; and other covariates give others."""
    model, (x, s) = fused(outputs=2), batch()
    given = {"method": method, "target": 1, "steps": 20}
    whole = attributions(model, x, s, **given)
    for n in range(4):
        alone = attributions(model, x[n : n + 1], s[n : n + 1], **given)
        same(whole.maps[n : n + 1], alone.maps)
        if whole.covariates is not None:
            same(whole.covariates[n : n + 1], alone.covariates)
    assert (attributions(model, x, s.flip(0), **given).maps - whole.maps).abs().max() > 1e-4


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_modes_gradients_and_frames_are_left_as_they_were(method):
    model, (x, s) = fused().train(), batch()
    model[1].eval()  # a frozen batch norm stays frozen
    stats = model[1].running_mean.clone()
    found = attributions(model, x, s, method=method)
    assert [m.training for m in model] == [n != 1 for n in range(len(model))]
    assert all(p.grad is None for p in model.parameters())
    assert not x.requires_grad
    same(model[1].running_mean, stats)
    with fusionconv.covariates(model, s):
        same(attributions(model, x, method=method).maps, found.maps)
        same(
            attributions(model, x, s.flip(0), method=method).maps, attributions(model, x, s.flip(0), method=method).maps
        )
    with torch.inference_mode():
        same(attributions(model, x, s, method=method).maps, found.maps)
    with pytest.raises(CovariateError, match="needs them in every call"):
        attributions(model, x, method=method)


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
@pytest.mark.parametrize("fusion", ["hyper", "daft", "scale", "attention", "condconv"])
def test_every_method_of_fusion(method, fusion):
    options = {"ignore_covariates": True} if fusion == "condconv" else {}
    found = attributions(fused(fusion, options=options), *batch(), method=method)
    assert torch.isfinite(found.maps).all()
    if fusion == "condconv" and found.covariates is not None:
        assert not found.covariates.any()


def test_concat_behind_the_convolutions():
    model, (x, s) = fused("concat", where="8"), batch()
    found = attributions(model, x, s, method="occlusion")
    same(found.covariates, s * model[8].covariate_out_weight[0].detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("target", "number"), [
    (1, lambda out: out[:, 1]), (-1, lambda out: out[:, 2]), (lambda out: out[:, 1] - out[:, 0], lambda out: out[:, 1] - out[:, 0]),
    (lambda out: out.softmax(1)[:, :1], lambda out: out.softmax(1)[:, 0]),
])  # fmt: skip
def test_targets(target, number):
    model, (x, s) = fused(outputs=3).eval(), batch()
    same(attributions(model, x, s, target=target, steps=1).outputs, number(model(x, s)).detach())


def test_a_scalar_of_an_image_output():
    model = make_random(fusionconv.fuse_into(nn.Sequential(nn.Conv2d(2, 3, 3, padding=1)).double(), 0, 3))
    x, s = batch()
    found = attributions(model, x, s, target=1)
    same(found.outputs, model(x, s)[:, 1].mean((1, 2)).detach())
    own = attributions(model, x, s, target=lambda out: out[:, 1, 4, 4])
    assert not own.maps[..., :3, :].any()  # out of the kernel's reach
    assert own.maps[..., 3:6, 3:6].all()


@pytest.mark.parametrize(("change", "error", "says"), [
    ({"method": "lime"}, ExplainError, "expected one of integrated_gradients, grad_cam"),
    ({}, ExplainError, "which of the model's 3 outputs"),
    ({"target": 3}, ExplainError, "expected 0 to 2"),
    ({"target": True}, ExplainError, "the number of an output"),
    ({"target": lambda out: out}, ExplainError, r"a tensor \(4,\)"),
    ({"target": lambda out: out.sum()}, ExplainError, r"a tensor \(4,\)"),
    ({"target": 0, "names": ["age"]}, ExplainError, "names: expected 3"),
    ({"target": 0, "names": "age"}, ExplainError, "names: expected 3"),
    ({"target": 0, "names": ["a", "a", "b"]}, ExplainError, "each name once"),
    ({"target": 0, "layer": "44", "method": "grad_cam"}, ExplainError, "did you mean 4"),
    ({"target": 0, "layer": "8", "method": "grad_cam"}, ExplainError, "whose output is a map"),
    ({"target": 0, "steps": 0}, ExplainError, "steps: expected a whole number"),
    ({"target": 0, "batch_size": 1.5}, ExplainError, "batch_size"),
    ({"target": 0, "baseline": torch.zeros(5)}, ExplainError, "baseline: expected"),
    ({"target": 0, "covariate_baseline": torch.zeros(2)}, ExplainError, "covariate_baseline: expected"),
    ({"target": 0, "method": "occlusion", "window": 9}, ExplainError, "window"),
    ({"target": 0, "method": "occlusion", "window": 2, "stride": 3}, ExplainError, "stride: expected at most the window"),
    ({"target": 0, "s": torch.zeros(3, 3).double()}, CovariateError, "one row per sample"),
    ({"target": 0, "s": torch.zeros(1, 3).double()}, CovariateError, "one row per sample"),
    ({"target": 0, "s": torch.zeros(4, 2).double()}, CovariateError, "shape"),
    ({"target": 0, "s": torch.full((4, 3), torch.nan).double()}, CovariateError, "NaN"),
    ({"target": 0, "s": torch.zeros(4, 3, dtype=torch.int64)}, CovariateError, "floating point"),
    ({"target": 0, "x": torch.full((4, 2, 8, 8), torch.nan).double()}, ExplainError, r"NaN or infinity in row\(s\) \[0, 1"),
    ({"target": 0, "x": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)}, ExplainError, "uint8"),
    ({"target": 0, "model": 3}, ExplainError, "expected a torch.nn.Module"),
])  # fmt: skip
def test_what_does_not_fit(change, error, says):
    x, s = batch()
    given = {"model": fused(outputs=3), "x": x, "s": s, **change}
    with pytest.raises(error, match=says):
        attributions(given.pop("model"), given.pop("x"), given.pop("s"), **given)


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_a_model_without_a_fused_layer(method):
    plain, (x, s) = net(), batch()
    found = attributions(plain, x, method=method)
    assert found.covariates is None
    assert found.names == ()
    with pytest.raises(ExplainError, match="has no fused layer"):
        attributions(plain, x, s, method=method)


def test_outputs_that_are_no_tensor():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net(outputs=2)

        def forward(self, x):
            return {"logits": self.net(x)}

    model, x = fusionconv.fuse_into(Named(), "first", 3), batch()[0]
    with pytest.raises(ExplainError, match="a function of the model's outputs, which are a dict"):
        attributions(model, x, batch()[1], target=0)
    assert attributions(model, *batch(), target=lambda out: out["logits"][:, 1]).outputs.shape == (4,)


def test_a_wrapped_model_is_looked_through():
    model, (x, s) = fused(), batch()
    expected = attributions(model, x, s).maps
    same(attributions(nn.DataParallel(model), x, s).maps, expected)
    same(attributions(torch.compile(model, backend="eager"), x, s).maps, expected)


# ---- figures and files ----


@pytest.mark.parametrize("method", ATTRIBUTION_METHODS)
def test_the_figure_shows_the_numbers(method):
    model, (x, s) = fused(), batch()
    found = attributions(model, x, s, method=method, names=["age", "sex", "site"])
    figure = attribute(model, x, s, method, names=["age", "sex", "site"], rows=2, titles=["a", "b"])
    bars = found.covariates is not None
    assert len(figure.axes) == 2 * (2 + bars)
    images, maps = figure.axes[:2], figure.axes[2:4]
    for n in range(2):
        np.testing.assert_allclose(images[n].images[0].get_array(), x[n].mean(0), rtol=1e-6)
        drawn = maps[n].images[0]
        np.testing.assert_allclose(drawn.get_array(), found.maps[n].sum(0), rtol=1e-5, atol=1e-7)
        low, high = drawn.get_clim()
        assert low == -high
        assert high == pytest.approx(float(found.maps[n].sum(0).abs().max()))
        assert images[n].get_title().startswith("ab"[n])
        if bars:
            np.testing.assert_allclose([bar.get_width() for bar in figure.axes[4 + n].patches], found.covariates[n])
            ticks = [label.get_text() for label in figure.axes[4 + n].get_yticklabels()]
            assert ticks[0].startswith("age " if n == 0 else f"{s[n, 0]:.2g}")
    assert ("completeness gap" in figure.get_suptitle()) == (method == "integrated_gradients")


def test_slices_of_volumes_stand_upright():
    model, (x, s) = fused(dims=3), batch(2, 3)
    found = attributions(model, x, s)
    figure = found.figure(axis=-1, slices=[2, 5])
    assert len(figure.axes) == 3 * 4
    volume = found.maps[0].sum(0)
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), np.rot90(volume[..., 2].numpy()), rtol=1e-5)
    np.testing.assert_allclose(figure.axes[5].images[0].get_array(), np.rot90(volume[..., 5].numpy()), rtol=1e-5)
    most = int(volume.abs().sum((0, 2)).argmax())
    first = found.figure(axis=-2, rows=1).axes[1].images[0].get_array()
    np.testing.assert_allclose(first, np.rot90(volume[:, most].numpy()), rtol=1e-5)
    for given, says in (
        ({"axis": 1}, "axis"),
        ({"slices": 8}, "slices: expected 0 to 7"),
        ({"titles": ["a"]}, "titles"),
    ):
        with pytest.raises(ExplainError, match=says):
            found.figure(**given)


def test_signals_are_lines():
    model, (x, s) = fused(dims=1), batch(2, 1)
    figure = attribute(model, x, s)
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), x[0, 1], rtol=1e-6)
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    np.testing.assert_allclose(heights, attributions(model, x, s).maps[0].sum(0), rtol=1e-5, atol=1e-8)


def test_maps_as_nifti_on_the_given_affine(tmp_path):
    model, (x, s) = fused(dims=3), batch(2, 3)
    found = attributions(model, x, s)
    affine = np.array([[2.0, 0, 0, -3], [0, 1.5, 0, 4], [0, 0, 1, 5], [0, 0, 0, 1]])
    paths = found.write_nifti(tmp_path / "maps", affine, ["one", "two.nii.gz"])
    assert [p.name for p in paths] == ["one.nii.gz", "two.nii.gz"]
    for n, path in enumerate(paths):
        image = nib.load(path)
        np.testing.assert_allclose(image.affine, affine)
        np.testing.assert_allclose(image.get_fdata(), found.maps[n].sum(0), rtol=1e-5, atol=1e-7)
        assert image.get_data_dtype() == np.float32
    with pytest.raises(ExplainError, match="affine: expected"):
        found.write_nifti(tmp_path, np.eye(3))
    with pytest.raises(ExplainError, match="names: expected 2"):
        found.write_nifti(tmp_path, np.eye(4), ["a"])
    with pytest.raises(ExplainError, match="3-D"):
        attributions(fused(), *batch()).write_nifti(tmp_path, np.eye(4))
