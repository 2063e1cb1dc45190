"""torch.export and torch.jit.trace: another batch size and other covariates at run time, and no row without its sample."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import fusionconv
from fusionconv.errors import CovariateError, FusionError
from tests.helpers.networks import data, small_net
from tests.helpers.recorded import FEW, expected, inputs, many_convs, randomise

EXPORTABLE = ["auto", "scaled", "stacked"]
BATCH = torch.export.Dim("batch")
side_effects = pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")


def export(model: nn.Module, args: tuple[torch.Tensor, ...], strict: bool = False) -> torch.export.ExportedProgram:
    return torch.export.export(model, args, dynamic_shapes=({0: BATCH},) * len(args), strict=strict)


def assert_close(got, wanted) -> None:
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strict", [False, True])
@side_effects
def test_a_free_batch_and_new_covariates(strict) -> None:
    model = fusionconv.fuse_into(small_net().double().eval(), 0, 2)
    model[0].covariate_weight.data.normal_()
    x, s = data(1)
    program = export(model, (x.detach(), s), strict).module()
    for n in (1, 7):
        x, s = data(2, n=n)
        torch.testing.assert_close(program(x, s), model(x, s), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(program(x, -s), model(x, -s), rtol=1e-10, atol=1e-10)
        assert not torch.allclose(program(x, s), program(x, -s))


@pytest.mark.parametrize("strategy", EXPORTABLE)
def test_every_kind_of_convolution(strategy) -> None:
    model = many_convs([strategy])
    program = export(model, inputs(3, seed=0)).module()
    batch = inputs(5, seed=1)
    assert_close(program(*batch), expected(model, *batch))


@side_effects
def test_strict_every_strategy_in_one_network() -> None:
    model = many_convs(EXPORTABLE, FEW)
    program = export(model, inputs(3, seed=0), strict=True).module()
    batch = inputs(5, seed=1)
    assert_close(program(*batch), expected(model, *batch))


@pytest.mark.parametrize("strategy", EXPORTABLE)
def test_rows_that_are_not_the_batch_are_refused(strategy) -> None:
    """One row for five images must not be broadcast by the recorded operations; nor one image to five rows."""
    model = randomise(fusionconv.fuse_into(small_net(), [0, 1], 2, covariate_bias=True, strategy=strategy))
    example = (torch.randn(3, 3, 8, 8), torch.randn(3, 2))
    program, trace = export(model, example).module(), torch.jit.trace(model, example)
    for images, rows in ((5, 1), (1, 5), (3, 1), (1, 3), (3, 2), (5, 3)):
        batch = torch.randn(images, 3, 8, 8), torch.randn(rows, 2)
        with pytest.raises((AssertionError, RuntimeError)):
            program(*batch)
        with pytest.raises(RuntimeError):
            trace(*batch)


def test_saved_and_loaded_where_fusionconv_is_not(tmp_path) -> None:
    model = randomise(fusionconv.fuse_into(small_net(), [0, -1], 2))
    path = tmp_path / "model.pt2"
    torch.export.save(export(model, (torch.randn(3, 3, 8, 8), torch.randn(3, 2))), path)
    x, s = torch.randn(5, 3, 8, 8), torch.randn(5, 2)
    torch.save({"x": x, "s": s}, tmp_path / "batch.pt")
    code = (
        "import sys, torch; sys.modules['fusionconv'] = None; p, b, o = sys.argv[1:]; batch = torch.load(b); "
        "torch.save(torch.export.load(p).module()(batch['x'], batch['s']).detach(), o)"
    )
    files = [str(path), str(tmp_path / "batch.pt"), str(tmp_path / "out.pt")]
    subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True, cwd=tmp_path)
    torch.testing.assert_close(torch.load(files[2]), model(x, s))


@pytest.mark.parametrize("strategy", EXPORTABLE)
def test_trace_leaves_the_batch_free(strategy) -> None:
    model = randomise(fusionconv.fuse_into(small_net(), [0, 1, 2], 2, covariate_bias=True, strategy=strategy))
    trace = torch.jit.trace(model, (torch.randn(3, 3, 8, 8), torch.randn(3, 2)))
    file = io.BytesIO()
    torch.jit.save(trace, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for n in (1, 3, 5):
        x, s = torch.randn(n, 3, 8, 8), torch.randn(n, 2)
        torch.testing.assert_close(loaded(x, s), model(x, s))


@pytest.mark.parametrize("strategy", ["grouped", "loop", "distinct"])
def test_trace_of_the_other_strategies_keeps_the_batch_and_never_the_covariates(strategy) -> None:
    """`distinct` once kept which samples of the example were equal, and gave others their rows."""
    model = randomise(fusionconv.fuse_into(small_net(), [0, 1], 1, covariate_bias=True, strategy=strategy), std=1.0)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        trace = torch.jit.trace(model, (x, torch.tensor([[0.0], [0.0], [1.0]])))
        for rows in ([0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, 1.0]):
            s = torch.tensor(rows)[:, None]
            torch.testing.assert_close(trace(x, s), model(x, s))
        with pytest.raises(RuntimeError):
            trace(torch.randn(6, 3, 8, 8), torch.randn(6, 1))


def test_torchvision_resnet() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    fusionconv.fuse_into(model, ["conv1", "layer2.0.downsample.0", -1, "fc"], 2)
    randomise(model, std=0.05)
    program = export(model, (torch.randn(2, 3, 64, 64), torch.randn(2, 2))).module()
    x, s = torch.randn(3, 3, 64, 64), torch.randn(3, 2)
    with torch.no_grad():
        torch.testing.assert_close(program(x, s), model(x, s), rtol=1e-4, atol=1e-4)
        assert (program(x, s) - program(x, -s)).abs().max() > 1e-2


# ---------------------------------------------------------------- inside `with covariates(...)`


class Calls(nn.Module):
    """A network that knows nothing of covariates and calls another, or one layer of it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


RECORDERS = {
    "export": lambda model, x: torch.export.export(model, (x,)),
    "export strict": lambda model, x: torch.export.export(model, (x,), strict=True),
    "trace": lambda model, x: torch.jit.trace(model, (x,)),
    "onnx": lambda model, x: torch.onnx.export(model, (x,), dynamo=True, verbose=False),
    "onnx by trace": lambda model, x: torch.onnx.export(model, (x,), io.BytesIO(), dynamo=False),
    "make_fx": lambda model, x: make_fx(model)(x),
    "make_fx symbolic": lambda model, x: make_fx(model, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x),
}


@pytest.mark.parametrize("recorder", RECORDERS)
@pytest.mark.parametrize("what", ["root", "around", "layer", "around a layer"])
@pytest.mark.filterwarnings("ignore")
def test_no_covariates_of_a_block_become_constants(recorder, what) -> None:
    if recorder.startswith("onnx"):
        pytest.importorskip("onnxscript")
    model = randomise(fusionconv.fuse_into(small_net().eval(), [0, 1], 2))
    x, s = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    recorded = model[0] if "layer" in what else model
    recorded = Calls(recorded) if what.startswith("around") else recorded
    words = r"would become constants of the program.*give the covariates as an argument of the recorded call"
    with fusionconv.covariates(model, s), pytest.raises(Exception, match=words) as caught:
        RECORDERS[recorder](recorded, x)
    if recorder not in ("export strict", "onnx"):  # these two wrap what a model raises in errors of their own
        assert isinstance(caught.value, CovariateError)
    expected = model(x, s)
    with fusionconv.covariates(model, s):  # the block goes on as before
        torch.testing.assert_close(model(x), expected)
        torch.testing.assert_close(torch.compile(model, backend="eager")(x), expected)
        torch.testing.assert_close(torch.compile(Calls(model), backend="eager", fullgraph=True)(x), expected)


@pytest.mark.parametrize("recorder", ["export", "export strict", "trace"])
@side_effects
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_inside_a_block_with_covariates_of_its_own(recorder) -> None:
    """Given to the call, or to a block that the recorded forward opens, they stay free whatever block is around."""

    class Opens(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x, s):
            with fusionconv.covariates(self.model, s):
                for module in self.model:
                    x = module(x)
            return x

    record = {
        "export": lambda model, args: torch.export.export(model, args).module(),
        "export strict": lambda model, args: torch.export.export(model, args, strict=True).module(),
        "trace": torch.jit.trace,
    }[recorder]
    model = randomise(fusionconv.fuse_into(small_net().eval(), [0, 1], 2, strategy="scaled"))
    x, s = torch.randn(3, 3, 8, 8), torch.randn(3, 2)
    for recorded in (model, Opens(model)):
        with fusionconv.covariates(model, 0 * s), torch.no_grad():
            program = record(recorded, (x, s))
            torch.testing.assert_close(program(x, -s), model(x, -s), rtol=1e-4, atol=1e-5)
            assert not torch.allclose(program(x, s), program(x, -s))


def test_fx_in_a_block_says_so_too() -> None:
    model = fusionconv.fuse_into(small_net(), [0, 1], 2)
    with fusionconv.covariates(model, torch.randn(3, 2)):
        for recorded, words in (
            (model, "torch.fx cannot trace"),
            (Calls(model), "cannot trace|constants of the program"),
        ):
            with pytest.raises(FusionError, match=words):
                torch.fx.symbolic_trace(recorded)
