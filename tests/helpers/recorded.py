"""Networks for the tests of recorded models (torch.export, ONNX, torch.jit.trace), with outputs known without fusionconv."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

import fusionconv
from tests.helpers.hybrid_cases import CASES, Case, reference

NAMES = "-stride-dilation-padding -groups -depthwise -same-even-kernel -transposed -transposed-options".split()  # noqa: SIM905
MANY = [case for case in CASES if any(case.name == f"{case.dims}d{name}" for name in NAMES)]
FEW = [case for case in MANY if case.name.endswith(("-groups", "-transposed-options"))]
KINDS = {False: (nn.Conv1d, nn.Conv2d, nn.Conv3d), True: (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)}


class ManyConvs(nn.Module):
    """One plain convolution of every kind; forward(x1, x2, x3), x_d with d spatial dimensions, gives every output."""

    def __init__(self, cases: Iterable[Case]) -> None:
        super().__init__()
        self.cases = list(cases)
        self.convs = nn.ModuleList(
            KINDS[case.transposed][case.dims - 1](4, case.c_out, case.kernel, bias=case.bias, **case.options)
            for case in self.cases
        )

    def forward(self, x1: torch.Tensor, x2: torch.Tensor, x3: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = (x1, x2, x3)
        return tuple(conv(x[case.dims - 1]) for conv, case in zip(self.convs, self.cases, strict=True))


def many_convs(strategies: list[str], cases: Iterable[Case] = tuple(MANY)) -> ManyConvs:
    """`ManyConvs` fused at every layer with three covariates, at random, every other one with a rank of 2.

    Layer i takes the strategy i (mod their number).
    """
    torch.manual_seed(0)
    model = ManyConvs(list(cases))
    for i in range(len(model.convs)):
        rank = 2 if i % 2 else None
        fusionconv.fuse_into(model, i, 3, covariate_bias=True, rank=rank, strategy=strategies[i % len(strategies)])
    return randomise(model)


def randomise(model: Any, std: float = 0.3) -> Any:
    """Draw everything that belongs to covariates at random, so that they matter; eval mode."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "covariate" in name:
                p.normal_(std=std)
    return model.eval()


def inputs(n: int, seed: int) -> tuple[torch.Tensor, ...]:
    """x1, x2, x3 and covariates for `many_convs`."""
    g = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, 4, *(size,) * d, generator=g) for d, size in ((1, 11), (2, 7), (3, 5))]
    return *x, torch.randn(n, 3, generator=g)


def expected(model: ManyConvs, x1: torch.Tensor, x2: torch.Tensor, x3: torch.Tensor, s: torch.Tensor) -> list:
    """What every layer must give, by linearity, one plain convolution a term."""
    outputs = []
    for case, layer in zip(model.cases, model.convs, strict=True):
        t = s if layer.covariate_map is None else s @ layer.covariate_map.T
        parameters = (layer.weight, layer.covariate_weight, layer.bias, layer.covariate_bias)
        x = (x1, x2, x3)[case.dims - 1]
        y = reference(x, t, *parameters, transposed=case.transposed, **case.options)
        outputs.append(y.detach())
    return outputs
