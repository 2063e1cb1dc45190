"""window_predictor: in every mode of MONAI's sliding windows each window gets the row of its own volume."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv import window_predictor
from fusionconv.errors import CovariateError, CovariateTypeError
from tests.helpers.windows import baked, fused_net, one_by_one, volumes_and_covariates

pytest.importorskip("monai")
from monai.inferers import (
    PatchInferer,
    SliceInferer,
    SlidingWindowInferer,
    SlidingWindowInfererAdapt,
    SlidingWindowSplitter,
    sliding_window_inference,
)

MODES = {
    "plain": ((9, 8), (4, 4), {}),
    "overlap": ((9, 8), (4, 4), {"overlap": 0.6}),
    "overlap-a-dimension": ((9, 8), (4, 4), {"overlap": (0.0, 0.75)}),
    "gaussian": ((9, 8), (4, 4), {"overlap": 0.5, "mode": "gaussian", "sigma_scale": 0.2}),
    "not-square": ((9, 8), (3, 5), {}),
    "whole-dimension": ((9, 8), (3, -1), {}),
    "roi-larger-than-image": ((5, 4), (8, 6), {"padding_mode": "reflect"}),
    "roi-larger-constant": ((5, 9), (8, 4), {"cval": 2.0}),
    "devices-named": ((9, 8), (4, 4), {"sw_device": "cpu", "device": torch.device("cpu")}),
    "weight-map": ((9, 8), (4, 4), {"roi_weight_map": torch.linspace(0.5, 2, 16, dtype=torch.float64).view(4, 4)}),
    "buffered": ((9, 8), (4, 4), {"buffer_steps": 1, "overlap": 0.5}),
    "buffered-two-steps-first-dim": ((9, 8), (4, 4), {"buffer_steps": 2, "buffer_dim": 0}),
    "3d": ((6, 5, 7), (3, 4, 3), {"overlap": 0.5}),
    "3d-buffered": ((6, 6, 7), (3, 4, 3), {"buffer_steps": 3, "buffer_dim": 1, "overlap": 0.3}),
}


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("mode", MODES)
def test_each_volume_as_if_alone(mode, batch, n) -> None:
    size, roi, options = MODES[mode]
    model = fused_net(len(size))
    x, s = volumes_and_covariates(n, size)
    with torch.no_grad():
        got = sliding_window_inference(x, roi, batch, window_predictor(model, s), with_coord=True, **options)
        expected = one_by_one(lambda v, f: sliding_window_inference(v, roi, batch, f, **options), model, x, s)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_one_window_a_volume_is_the_network_itself() -> None:
    """No MONAI in the reference: with one window a volume the answer is each volume's own network."""
    model = fused_net(3)
    x, s = volumes_and_covariates(3, (4, 4, 4))
    got = sliding_window_inference(x, (4, 4, 4), 2, window_predictor(model, s), with_coord=True)
    expected = torch.cat([baked(model, s[i])(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [SlidingWindowInferer, SlidingWindowInfererAdapt])
@pytest.mark.parametrize("options", [{}, {"cpu_thresh": 10}, {"mode": "gaussian", "cache_roi_weight_map": True}])
def test_inferers(make, options) -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(3, (9, 8))
    got = make((4, 4), 3, with_coord=True, **options)(x, window_predictor(model, s))
    expected = one_by_one(SlidingWindowInferer((4, 4), 3, **options), model, x, s)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_tuple_and_dict_outputs_and_process_fn() -> None:
    class Two(nn.Module):
        def __init__(self, net, how) -> None:
            super().__init__()
            self.net, self.how = net, how

        def forward(self, x):
            y = self.net(x)
            return (y, y[:, :1, ::2, ::2]) if self.how is tuple else {"a": y, "b": y[:, :1] * 2}

    def heavier(outputs, windows, weight):
        return tuple(y * 3 for y in outputs), weight.expand(1, 1, 4, 4) * 1.0

    x, s = volumes_and_covariates(3, (8, 8))
    inner = fused_net(2)
    for how in (tuple, dict):
        model = fusionconv.fuse_into(Two(fusionconv.unfuse(fused_net(2)), how), [0, 1], 2, covariate_bias=True)
        model.net.load_state_dict(inner.state_dict())
        for options in ({}, {"process_fn": heavier}):
            got = sliding_window_inference(
                x, (4, 4), 3, window_predictor(model, s), overlap=0.5, with_coord=True, **options
            )
            for i in range(3):
                alone = Two(baked(inner, s[i]), how)
                expected = sliding_window_inference(x[i : i + 1], (4, 4), 3, alone, overlap=0.5, **options)
                for key in (0, 1) if how is tuple else ("a", "b"):
                    torch.testing.assert_close(got[key][i : i + 1], expected[key], rtol=1e-10, atol=1e-10)


def test_slices_of_a_volume_through_a_function() -> None:
    """SliceInferer has no coordinates to give; the page's way around it, against SliceInferer itself volume by volume."""
    model = fused_net(2)
    x, s = volumes_and_covariates(2, (3, 6, 5))
    for dim in (0, 1, 2):
        roi = [4, 4]
        roi.insert(dim, 1)
        predictor = window_predictor(lambda w, covariates, d=dim + 2: model(w.squeeze(d), covariates).unsqueeze(d), s)
        got = sliding_window_inference(x, roi, 3, predictor, with_coord=True)
        expected = one_by_one(SliceInferer(roi_size=(4, 4), sw_batch_size=3, spatial_dim=dim), model, x, s)
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("with_coord", [False, True])
def test_slice_inferer_raises(with_coord) -> None:
    x, s = volumes_and_covariates(3, (3, 6, 5))
    inferer = SliceInferer(roi_size=(4, 4), sw_batch_size=3, spatial_dim=0, with_coord=with_coord)
    with pytest.raises((CovariateError, AttributeError, TypeError)):  # MONAI 1.6 takes the coordinates for a condition
        inferer(x, window_predictor(fused_net(2), s))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_patch_inferer_is_right_or_raises(batch) -> None:
    """Its batches are whole patches of all volumes in turn: right with one patch a batch, a row error with more."""
    model = fused_net(2)
    x, s = volumes_and_covariates(2, (8, 8))
    inferer = PatchInferer(SlidingWindowSplitter((4, 4)), batch_size=batch)
    with pytest.raises(CovariateError, match="with_coord=True"):
        inferer(x, window_predictor(model, s))
    expected = one_by_one(PatchInferer(SlidingWindowSplitter((4, 4))), model, x, s)
    if batch == 1:
        torch.testing.assert_close(inferer(x, model, s), expected, rtol=1e-10, atol=1e-10)
    else:
        with pytest.raises(CovariateError, match="one row per sample"):
            inferer(x, model, s)
    repeated = inferer(x, lambda patches: model(patches, s.repeat(len(patches) // len(s), 1)))
    torch.testing.assert_close(repeated, expected, rtol=1e-10, atol=1e-10)


def test_arguments_go_on_as_the_model_took_them_before() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)

        def forward(self, x, time, gain=1.0, *, shift=0.0):
            return self.conv(x) * time * gain + shift

    model = fusionconv.fuse_into(Late().double(), 0, 1)  # forward(x, time, covariates=None, gain=1.0, *, shift=0.0)
    model.conv.weight.data.fill_(1.0)
    model.conv.covariate_weight.data.fill_(1.0)
    x = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    predictor = window_predictor(model, torch.tensor([[1.0], [2.0]], dtype=torch.float64))  # kernels 2 and 3
    infer = SlidingWindowInferer((2, 2), 3, with_coord=True)
    for args, kwargs, factor, shift in [
        ((5.0,), {}, 5, 0),
        ((5.0, 7.0), {}, 35, 0),
        ((5.0,), {"gain": 7.0, "shift": 1.0}, 35, 1),
        ((), {"time": 5.0, "shift": 1.0}, 5, 1),
    ]:
        y = infer(x, predictor, *args, **kwargs)
        for i, kernel in enumerate((2, 3)):
            assert torch.equal(y[i], x[i] * kernel * factor + shift)


def test_a_condition_is_cut_into_windows_too() -> None:
    class Conditioned(nn.Module):
        def __init__(self, net) -> None:
            super().__init__()
            self.net = net

        def forward(self, x, condition=None):
            return self.net(x) + condition

    inner = fused_net(2)
    model = fusionconv.fuse_into(Conditioned(fusionconv.unfuse(fused_net(2))), [0, 1], 2, covariate_bias=True)
    model.net.load_state_dict(inner.state_dict())
    x, s = volumes_and_covariates(3, (8, 8))
    c = torch.randn_like(x)
    infer = SlidingWindowInferer((4, 4), 3, with_coord=True)
    try:
        got = infer(x, window_predictor(model, s), condition=c)
    except RuntimeError:
        pytest.skip("this MONAI does not cut the condition")
    expected = one_by_one(SlidingWindowInferer((4, 4), 3), inner, x, s) + c
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_through_wrappers_and_callables() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(3, (8, 8))
    infer = SlidingWindowInferer((4, 4), 3, with_coord=True)
    expected = one_by_one(SlidingWindowInferer((4, 4), 3), model, x, s)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    parallel = nn.DataParallel(model)
    for callee in (compiled, parallel, lambda w, covariates: model(w, covariates)):
        with torch.no_grad():
            torch.testing.assert_close(infer(x, window_predictor(callee, s)), expected, rtol=1e-10, atol=1e-10)
    for callee in (compiled, parallel):
        with pytest.raises(CovariateError, match=r"\(N, 2\)"):  # they are known to be fused, and with how many
            window_predictor(callee, s[:, :1])


def test_gradients_reach_the_covariates() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(2, (8, 8))
    grads = []
    for alone in (False, True):
        t = s.clone().requires_grad_()
        if alone:
            for i in range(2):
                volume = x[i : i + 1]
                y = sliding_window_inference(
                    volume, (4, 4), 3, lambda w, r=t[i : i + 1]: model(w, r.expand(len(w), -1))
                )
                y.square().sum().backward()
        else:
            y = sliding_window_inference(x, (4, 4), 3, window_predictor(model, t), with_coord=True)
            y.square().sum().backward()
        grads.append(t.grad)
    assert grads[0].abs().min() > 0
    torch.testing.assert_close(*grads)


def test_rows_go_to_the_device_of_the_windows() -> None:
    seen = []
    predictor = window_predictor(lambda w, covariates: seen.append(covariates), torch.randn(2, 1))
    predictor(torch.empty(3, 1, 4, 4, device="meta"), [[slice(i, i + 1), slice(0, 4)] for i in (1, 0, 1)])
    assert seen[0].device.type == "meta"
    assert seen[0].shape == (3, 1)


def window(i: object) -> list[object]:
    return [i, slice(None), slice(0, 4), slice(0, 4)]


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (None, "with_coord=True"),
        ([window(slice(0, 1))], "for 2 windows"),
        ([window(slice(0, 1)), window(slice(2, 3))], "a window is of volume 2"),
        ([window(slice(0, 1)), window(slice(0, 2))], "first is slice"),
        ([window(slice(0, 1)), window(slice(None))], "first is slice"),
        ([window(slice(0, 1)), window(slice(-1, 0))], "first is slice"),
        ([window(slice(0, 1)), window(1)], "first is slice"),
        ([[], []], "first is slice"),
        (torch.zeros(2, 4), "got Tensor"),
    ],
)
def test_coordinates_that_do_not_fit(coords, message) -> None:
    _, s = volumes_and_covariates(2, (4, 4))
    with pytest.raises(CovariateError, match=message):
        window_predictor(fused_net(2), s)(torch.zeros(2, 1, 4, 4, dtype=torch.float64), coords)


def test_covariates_that_do_not_fit() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(2, (8, 8))
    infer = SlidingWindowInferer((4, 4), 2, with_coord=True)
    with pytest.raises(CovariateError, match=r"\(N, 2\)"):
        window_predictor(model, s[:, :1])
    with pytest.raises(CovariateError, match=r"\(N, 2\)"):
        window_predictor(model, s[0])
    with pytest.raises(CovariateTypeError, match="floating point"):
        window_predictor(model, s.long())
    with pytest.raises(CovariateTypeError, match="got list"):
        window_predictor(model, s.tolist())
    with pytest.raises(CovariateError, match=r"row\(s\) 1"):
        window_predictor(model, torch.stack([s[0], s[1] * float("nan")]))
    with pytest.raises(TypeError, match="callable"):
        window_predictor(None, s)
    for rows in (s[:1], torch.cat([s, s])):  # too few and too many
        with pytest.raises(CovariateError, match=f"2 volumes and {len(rows)} rows"):
            infer(x, window_predictor(model, rows))
    with pytest.raises(CovariateError, match="only, not to the inference"):
        infer(x, window_predictor(model, s), covariates=s)
    with pytest.raises(CovariateError, match=r"with_coord=True.*got none"):
        SlidingWindowInferer((4, 4), 2)(x, window_predictor(model, s))
    with pytest.raises(CovariateTypeError):  # the model itself takes the coordinates for covariates
        infer(x, model)
    assert "(2, 2)" in repr(window_predictor(model, s))


def test_meta_tensors_of_monai() -> None:
    from monai.data import MetaTensor

    model = fused_net(2)
    x, s = volumes_and_covariates(3, (8, 8))
    infer = SlidingWindowInferer((4, 4), 3, with_coord=True)
    got = infer(MetaTensor(x), window_predictor(model, MetaTensor(s)))
    expected = infer(x, window_predictor(model, s))
    assert isinstance(got, MetaTensor)
    torch.testing.assert_close(got.as_tensor(), expected.float())  # MONAI gives float32 for a MetaTensor
