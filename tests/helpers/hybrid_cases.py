"""The shared harness: cases of a hybrid convolution and an independent way to compute them.

The reference does not form per-sample kernels at all. It uses linearity: y_i = x_i * W + sum_j s_ij (x_i * V_j) + b_i,
one plain torch convolution per term and per sample, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass
class Case:
    name: str
    dims: int
    n: int = 3
    k: int = 2
    c_in: int = 4
    c_out: int = 6
    kernel: int = 3
    size: int = 7
    bias: bool = True
    covariate_bias: bool = True
    transposed: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, torch.Tensor | None]:
        """x, covariates, weight, covariate_weight, bias, covariate_bias; every leaf requires grad."""
        g = torch.Generator().manual_seed(seed)
        groups = self.options.get("groups", 1)
        channels = (self.c_in, self.c_out // groups) if self.transposed else (self.c_out, self.c_in // groups)
        kernel = (*channels, *(self.kernel,) * self.dims)

        def leaf(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_()

        return {
            "x": leaf(self.n, self.c_in, *(self.size,) * self.dims),
            "covariates": leaf(self.n, self.k),
            "weight": leaf(*kernel),
            "covariate_weight": leaf(self.k, *kernel),
            "bias": leaf(self.c_out) if self.bias else None,
            "covariate_bias": leaf(self.k, self.c_out) if self.covariate_bias else None,
        }


def _cases() -> list[Case]:
    cases = []
    for d in (1, 2, 3):
        size = {1: 11, 2: 7, 3: 5}[d]
        cases += [
            Case(f"{d}d", d, size=size),
            Case(f"{d}d-one-covariate-no-biases", d, k=1, size=size, bias=False, covariate_bias=False),
            Case(f"{d}d-only-covariate-bias", d, size=size, bias=False),
            Case(f"{d}d-only-bias", d, size=size, covariate_bias=False),
            Case(f"{d}d-stride-dilation-padding", d, size=size, options={"stride": 2, "padding": 2, "dilation": 2}),
            Case(f"{d}d-groups", d, size=size, options={"groups": 2, "padding": 1}),
            Case(f"{d}d-depthwise", d, size=size, c_in=4, c_out=8, options={"groups": 4}),
            Case(f"{d}d-same-even-kernel", d, size=size, kernel=2, options={"padding": "same"}),
            Case(f"{d}d-valid", d, size=size, options={"padding": "valid"}),
            Case(f"{d}d-one-sample", d, n=1, size=size),
            Case(f"{d}d-transposed", d, size=size - 2, transposed=True),
            Case(
                f"{d}d-transposed-options",
                d,
                k=1,
                size=3,
                transposed=True,
                options={"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2},
            ),
        ]
    cases.append(Case("2d-many-samples-many-covariates", 2, n=17, k=9, size=5))
    cases.append(Case("2d-1x1-kernel", 2, kernel=1))
    cases.append(Case("2d-anisotropic", 2, options={"stride": (1, 2), "padding": (0, 2), "dilation": (2, 1)}))
    return cases


CASES = _cases()


def reference(
    x: torch.Tensor,
    covariates: torch.Tensor,
    weight: torch.Tensor,
    covariate_weight: torch.Tensor,
    bias: torch.Tensor | None,
    covariate_bias: torch.Tensor | None,
    *,
    transposed: bool = False,
    **options: Any,
) -> torch.Tensor:
    """The hybrid convolution by linearity; see the head of this file."""
    function = (CONV_TRANSPOSE if transposed else CONV)[weight.ndim - 2]
    rows = []
    for i in range(x.shape[0]):
        y = function(x[i : i + 1], weight, bias, **options)
        for j in range(covariates.shape[1]):
            c = None if covariate_bias is None else covariate_bias[j]
            y = y + covariates[i, j] * function(x[i : i + 1], covariate_weight[j], c, **options)
        rows.append(y)
    return torch.cat(rows)
