"""The guard: a fused model inside MONAI's sliding windows without coordinates raises, also where row counts agree."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

import fusionconv
from fusionconv.errors import CovariateError
from fusionconv.surgery import window_guard
from tests.helpers.windows import baked, fused_net, volumes_and_covariates

pytest.importorskip("monai")
from monai.inferers import SliceInferer, SlidingWindowInferer, SlidingWindowInfererAdapt, sliding_window_inference

N = 2  # volumes, covariate rows and windows a batch: every row check alone passes


def ways(model: nn.Module, s: torch.Tensor) -> dict:
    """Predictors of somebody who does not think of windows."""

    def with_block(w):
        with fusionconv.covariates(model, s):
            return model(w)

    return {"lambda": lambda w: model(w, s), "keyword": lambda w: model(w, covariates=s), "with-block": with_block}


@pytest.mark.parametrize("way", ["lambda", "keyword", "with-block"])
@pytest.mark.parametrize("batch", [1, N, 2 * N])
def test_several_volumes_raise(way, batch) -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    rows = s.repeat(batch // N, 1) if batch > 1 else s[:1]
    predictor = ways(model, rows)[way]
    for infer in (
        SlidingWindowInferer((4, 4), batch),
        SlidingWindowInfererAdapt((4, 4), batch),
        lambda v, f: sliding_window_inference(v, 4, batch, f, buffer_steps=1),
    ):
        with pytest.raises(CovariateError, match=f"over {N} volumes without window coordinates.*window_predictor"):
            infer(x, predictor)


def test_what_the_guard_is_for(monkeypatch) -> None:
    """Without it the same call gives every window but a few the row of another volume, and says nothing."""
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    monkeypatch.setattr("fusionconv.surgery.root.check_windows", lambda name, s: None)
    wrong = sliding_window_inference(x, (4, 4), N, lambda w: model(w, s))
    right = torch.cat([sliding_window_inference(x[i : i + 1], (4, 4), N, baked(model, s[i])) for i in range(N)])
    assert (wrong - right).abs().max() > 0.1


def test_arguments_and_blocks_around_the_inference_raise_too() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    with pytest.raises(CovariateError, match="window coordinates"):
        sliding_window_inference(x, (4, 4), N, model, covariates=s)
    with fusionconv.covariates(model, s), pytest.raises(CovariateError, match="window coordinates"):
        sliding_window_inference(x, (4, 4), N, model)
    volumes = x[:, :, None]
    with pytest.raises(CovariateError, match="window coordinates"):
        SliceInferer(roi_size=(4, 4), sw_batch_size=N, spatial_dim=0)(volumes, lambda w: model(w, s))


@pytest.mark.parametrize("where", ["around the inference", "inside the predictor"])
def test_other_methods_than_forward_raise_too(where) -> None:
    class WithFeatures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1).double()

        def features(self, x):
            return self.conv(x)

        def forward(self, x):
            return self.features(x)

    model = fusionconv.fuse_into(WithFeatures(), 0, 2)
    x, s = volumes_and_covariates(N, (8, 8))

    def inside(w):
        with fusionconv.covariates(model, s):
            return model.features(w)

    around = fusionconv.covariates(model, s) if where == "around the inference" else contextlib.nullcontext()
    predictor = model.features if where == "around the inference" else inside
    with around, pytest.raises(CovariateError, match="window coordinates"):
        sliding_window_inference(x, (4, 4), N, predictor)
    with fusionconv.covariates(model, s):
        torch.testing.assert_close(model.features(x), model(x, s))


def test_one_volume_with_its_own_row() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(1, (8, 8))
    expected = sliding_window_inference(x, (4, 4), 3, baked(model, s[0]))
    got = sliding_window_inference(x, (4, 4), 3, lambda w: model(w, s.expand(len(w), -1)))
    torch.testing.assert_close(got, expected)
    got = SlidingWindowInferer((4, 4), 1)(x, model, s)
    torch.testing.assert_close(got, expected)


def test_one_volume_with_the_rows_of_several() -> None:
    """A loop over volumes that forgets to index the covariates: the row count fits the windows, the rows do not."""
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    with pytest.raises(CovariateError, match="rows that differ"):
        sliding_window_inference(x[:1], (4, 4), N, lambda w: model(w, s), overlap=0)
    own = sliding_window_inference(x[:1], (4, 4), N, lambda w, coords: model(w, s), overlap=0, with_coord=True)
    for column in range(2):  # whoever takes the coordinates decides: windows of the right half got row 1
        part = slice(4 * column, 4 * column + 4)
        torch.testing.assert_close(own[:, :, :4, part], baked(model, s[column])(x[:1, :, :4, part]))


def test_two_inferences_inside_each_other() -> None:
    """Coordinates of the inner one are of no use where the outer one has lost the volume."""
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    inner = SlidingWindowInferer((2, 2), 3, with_coord=True)
    with pytest.raises(CovariateError, match="window coordinates"):
        SlidingWindowInferer((4, 4), N)(x, lambda w: inner(w, fusionconv.window_predictor(model, s)))
    outer = fusionconv.window_predictor(
        lambda w, covariates: inner(w, fusionconv.window_predictor(model, covariates)), s
    )
    got = SlidingWindowInferer((4, 4), N, with_coord=True)(x, outer)
    plain = SlidingWindowInferer((2, 2), 3)
    for i in range(N):
        alone = baked(model, s[i])
        expected = SlidingWindowInferer((4, 4), N)(x[i : i + 1], lambda w, f=alone: plain(w, f))
        torch.testing.assert_close(got[i : i + 1], expected)


def test_no_trace_is_left_outside() -> None:
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (4, 4))
    assert window_guard.enclosing_windows() == []
    model(x, s)


def test_monai_is_not_imported_by_a_call() -> None:
    code = (
        "import sys, torch, fusionconv; m = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv1d(1, 1, 1)), 0, 1); "
        "m(torch.ones(1, 1, 3), torch.ones(1, 1)); print('monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_cost_is_small() -> None:
    """50 frames deep; the page says 2 us, the bound leaves room for a busy machine."""

    def deep(n: int) -> float:
        if n:
            return deep(n - 1)
        start = time.perf_counter()
        for _ in range(1000):
            window_guard.enclosing_windows()
        return (time.perf_counter() - start) / 1000

    assert min(deep(50) for _ in range(5)) < 50e-6


@pytest.mark.xfail(
    raises=pytest.fail.Exception, reason="docs/limits.md: compiled code cannot look up the stack", strict=True
)
def test_a_model_compiled_before() -> None:
    torch._dynamo.reset()
    model = fused_net(2)
    x, s = volumes_and_covariates(N, (8, 8))
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad(), pytest.raises(CovariateError):
        sliding_window_inference(x, (4, 4), N, lambda w: compiled(w, s), overlap=0)
