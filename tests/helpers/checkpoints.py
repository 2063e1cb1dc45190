"""For the checkpoint tests: fused networks with V drawn at random, edited manifests, and what must not change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

import fusionconv
from tests.helpers.networks import small_net


def plain_net(seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return small_net().eval()


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter and buffer anew, V too, so that no two networks agree by their start."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=g).to(tensor.dtype) - 0.3)
            else:
                tensor.add_(17)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_().add_(0.5)
    return model


def fused_net(seed: int = 0, layers: Any = (0, -1), **options: Any) -> nn.Sequential:
    """`small_net`, fused with two covariates."""
    model = fusionconv.fuse_into(plain_net(seed), list(layers), 2, **options)
    randomize(model, seed)
    return model


def batch(dtype: torch.dtype = torch.float32, k: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return torch.randn(4, 3, 8, 8, generator=g).to(dtype), torch.randn(4, k, generator=g).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor, by numpy."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    one, two = a.state_dict(), b.state_dict()
    assert list(one) == list(two)
    for key in one:
        assert (one[key].shape, one[key].dtype) == (two[key].shape, two[key].dtype), key
        assert bits(one[key]) == bits(two[key]), key


def everything(model: nn.Module) -> list[Any]:
    """All of a network that a failed call must leave as it was."""
    modules = [(n, id(m), type(m), m.training, sorted(vars(m))) for n, m in model.named_modules()]
    named = [*model.named_parameters(), *model.named_buffers()]
    tensors = [(n, id(t), t.requires_grad, None if is_lazy(t) or t.is_meta else bits(t)) for n, t in named]
    return [type(model), modules, tensors, list(model.state_dict())]


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest by hand."""
    path = folder / "fusion.json"
    saved = json.loads(path.read_text())
    change(saved)
    path.write_text(json.dumps(saved))
