"""Where the tests of this folder run: on a CUDA card, or to try them out, on what FUSIONCONV_TEST_DEVICE names (cpu)."""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("FUSIONCONV_TEST_DEVICE", "cuda")
ON_CARD = DEVICE == "cuda"
on_the_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_CARD and not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def exact_float32():
    """TF32 keeps ten bits: what is compared in float32 is computed in it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def there(*tensors: torch.Tensor | None) -> list:
    """Copies on the device, as leaves where they were leaves that take a gradient."""
    return [None if t is None else t.detach().to(DEVICE).requires_grad_(t.requires_grad) for t in tensors]
