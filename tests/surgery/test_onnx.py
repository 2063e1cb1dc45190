"""ONNX: a file with a free batch size, run in onnxruntime with another batch and other covariates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fusionconv
from tests.helpers.networks import small_net
from tests.helpers.recorded import FEW, expected, inputs, many_convs, randomise

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
BATCH = torch.export.Dim("batch")


def to_onnx(model: nn.Module, args: tuple[torch.Tensor, ...]) -> onnxruntime.InferenceSession:
    program = torch.onnx.export(model, args, dynamo=True, dynamic_shapes=({0: BATCH},) * len(args), verbose=False)
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString())


def run(session: onnxruntime.InferenceSession, *args: torch.Tensor) -> list[torch.Tensor]:
    feed = {i.name: a.numpy() for i, a in zip(session.get_inputs(), args, strict=True)}
    return [torch.from_numpy(y) for y in session.run(None, feed)]


@pytest.mark.parametrize("strategy", ["auto", "scaled", "stacked"])
def test_every_kind_of_convolution(strategy) -> None:
    model = many_convs([strategy], FEW)
    session = to_onnx(model, inputs(3, seed=0))
    for n in (1, 5):
        batch = inputs(n, seed=n)
        for got, wanted in zip(run(session, *batch), expected(model, *batch), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strategy", ["scaled", "stacked"])
def test_rows_that_are_not_the_batch_are_refused(strategy) -> None:
    """ONNX multiplies with broadcasting: one patient's row would serve the batch if nothing tied the two."""
    torch.manual_seed(0)
    model = randomise(fusionconv.fuse_into(small_net(), [0, 1], 2, covariate_bias=True, strategy=strategy))
    session = to_onnx(model, (torch.randn(3, 3, 8, 8), torch.randn(3, 2)))
    x, s = torch.randn(5, 3, 8, 8), torch.randn(5, 2)
    torch.testing.assert_close(run(session, x, s)[0], model(x, s).detach(), rtol=1e-4, atol=1e-4)
    for images, rows in ((5, 1), (1, 5), (3, 1), (1, 3), (3, 2), (5, 3)):
        with pytest.raises(Exception, match=r"(?i)concat"):
            run(session, torch.randn(images, 3, 8, 8), torch.randn(rows, 2))


def test_torchvision_resnet() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    fusionconv.fuse_into(model, ["conv1", "layer2.0.downsample.0", -1, "fc"], 2)
    randomise(model, std=0.05)
    session = to_onnx(model, (torch.randn(2, 3, 64, 64), torch.randn(2, 2)))
    x, s = torch.randn(3, 3, 64, 64), torch.randn(3, 2)
    with torch.no_grad():
        y = model(x, s)
    torch.testing.assert_close(run(session, x, s)[0], y, rtol=1e-4, atol=1e-4)
    assert (run(session, x, -s)[0] - y).abs().max() > 1e-2
