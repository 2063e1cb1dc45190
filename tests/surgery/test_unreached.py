"""A fused layer that a call does not run: the covariates did nothing there, and the user is told."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fusionconv
from fusionconv import UnusedCovariatesWarning
from tests.helpers.networks import data, fused_body, small_net


class ReadsTheWeight(nn.Module):
    """Never calls its second convolution: it computes with the weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return F.conv2d(self.first(x), self.second.weight, self.second.bias)


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.aux = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return (self.body(x), self.aux(x)) if self.training else self.body(x)


@pytest.fixture(autouse=True)
def _fresh_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def test_a_network_that_reads_the_weight_itself_is_told_of() -> None:
    model = fusionconv.fuse_into(ReadsTheWeight(), ["first", "second"], 1)
    with pytest.warns(UnusedCovariatesWarning, match="layer\\(s\\) 'second' did not run.*reads their weight"):
        model(torch.randn(2, 3, 8, 8), torch.ones(2, 1))


def test_per_call_not_once_and_for_all() -> None:
    model = fusionconv.fuse_into(Auxiliary(), [0, 1], 1)
    x, s = torch.randn(2, 3, 8, 8), torch.ones(2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(x, s)
    model.eval()
    with pytest.warns(UnusedCovariatesWarning, match="'aux'"):
        model(x, s)


def test_a_layer_folded_away_is_told_of() -> None:
    model = fusionconv.fuse_into(small_net().eval(), [0, 1], 1)
    model[3] = nn.Conv2d(6, 6, 3)
    with pytest.warns(UnusedCovariatesWarning, match="'3'"):
        model(torch.randn(2, 3, 8, 8), torch.ones(2, 1))


@pytest.mark.parametrize("mode", ["plain", "reentrant", "non-reentrant"])
def test_silent_where_every_layer_runs(mode) -> None:
    model = fused_body(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnusedCovariatesWarning)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                model(*data(0))
        with fusionconv.covariates(model, data(0)[1]):
            model(data(0)[0])
            model.net[1:3](torch.randn(2, 6, 4, 4, dtype=torch.float64))  # not a call of the model
        fusionconv.unfuse(model)
        fusionconv.fuse_into(model, 1, 2)(*data(0))


def test_compiled_parts_do_not_report_so_nothing_is_said() -> None:
    for compile_part in (lambda m: m.compile(backend="eager"), lambda m: None):
        torch._dynamo.reset()
        model = fusionconv.fuse_into(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)), [0, 1], 1)
        compile_part(model[0])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnusedCovariatesWarning)
            model(torch.randn(2, 3, 8, 8), torch.ones(2, 1))
