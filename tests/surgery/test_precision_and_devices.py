"""A fused network in other precisions, on other devices, in other memory layouts."""

from __future__ import annotations

import pytest
import torch

import fusionconv
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
