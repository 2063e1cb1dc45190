"""A fused network in other precisions, on other devices, in other memory layouts."""

from __future__ import annotations

import pytest
import torch

import fusionconv
from fusionconv.errors import CovariateError
from tests.helpers.by_hand import Around, assert_gradients, batch, by_hand, expected_gradients, fused, same


def test_autocast() -> None:
    model, (x, s) = fused().float(), (t.float() for t in batch())
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x, s)
    assert y.dtype == torch.bfloat16
    expected = by_hand(model, x, s)
    assert 0 < (y - expected).abs().max() < 0.02 * expected.abs().max()
    y.float().square().sum().backward()
    g = expected_gradients(model, x, s)[2]
    assert (model.net[0].covariate_weight.grad - g).norm() < 0.03 * g.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_grad_scaler() -> None:
    model, (x, s) = fused().float().cuda(), (t.float().cuda() for t in batch())
    expected = expected_gradients(model, x, s)
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.0), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda", torch.float16):
        loss = model(x, s).square().sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    for p, g in zip(model.parameters(), expected, strict=True):
        assert (p.grad - g).norm() < 0.03 * g.norm() + 1e-3
    scaler.step(optimizer)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.06)])
def test_a_whole_model_in_half_precision(dtype, tolerance) -> None:
    """Covariates in float32 or in the model's dtype: the layer takes them in the dtype of its weights."""
    model, (x, s) = fused(), batch()
    expected = by_hand(model, x, s)
    model.to(dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    for covariates in (s.float(), s.to(dtype)):
        y = model(x.to(dtype), covariates)
        assert y.dtype == dtype
        assert (y.double() - expected).abs().max() < tolerance * expected.abs().max()
    same(model.double()(x, s), by_hand(model, x, s))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_to_another_device() -> None:
    model, (x, s) = fused(), batch()
    expected = by_hand(model, x, s)
    model.cuda()
    same(model(x.cuda(), s.cuda()).cpu(), expected)
    with pytest.raises(CovariateError, match="on the device of the input"):
        model(x.cuda(), s)
    same(model.cpu()(x, s), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graph() -> None:
    model, (x, s) = fused().float().cuda(), [t.float().cuda() for t in batch()]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        model(x, s)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        y = model(x, s)
    for seed in (2, 3):
        for t, new in zip((x, s), batch(seed), strict=True):
            t.copy_(new)
        graph.replay()
        same(y, by_hand(model, x, s).detach(), 1e-4)


def test_meta_and_to_empty() -> None:
    """A model made on the meta device, filled later: as large checkpoints are loaded."""
    source, (x, s) = fused(), batch()
    with torch.device("meta"):
        model = fusionconv.fuse_into(Around().double().eval(), [0, -1], 2)
    assert model(x.to("meta"), s.to("meta")).shape == (4, 4)
    model.to_empty(device="cpu").load_state_dict(source.state_dict())
    same(model(x, s), by_hand(source, x, s))
    with torch.device("meta"):
        model = fusionconv.fuse_into(Around().double().eval(), [0, -1], 2)
    model.load_state_dict(source.state_dict(), assign=True)
    same(model(x, s), by_hand(source, x, s))


def test_channels_last() -> None:
    model, (x, s) = fused(), batch()
    model.to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    y = model(x, s)
    same(y, by_hand(model, x, s))
    y.square().sum().backward()
    assert_gradients(model, x, s)


def test_inference_mode() -> None:
    model, (x, s) = fused(), batch()
    with torch.inference_mode():
        same(model(x, s).clone(), by_hand(model, x, s))
        born_there = s.clone()
    with torch.no_grad():
        same(model(x, born_there), by_hand(model, x, s))
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        model(x, born_there)
    same(model(x, s), by_hand(model, x, s))  # and nothing is left behind
