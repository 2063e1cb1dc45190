"""What runs the code: Python itself, a recorder (torch.export, ONNX, torch.jit.trace), or a transform of torch.func."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.fx import Proxy

__all__ = ["carries_more", "is_batched", "is_recorded", "is_traced", "is_transformed", "is_unread"]


def carries_more(tensor: Tensor) -> bool:
    """Whether the tensor's class attaches something to results, as MONAI's MetaTensor does (affine, file name).

    It must see one operation on the whole batch, as it sees torch's own convolution: from the slices and joins inside
    a strategy it would take the metadata of the first image for all.
    """
    if isinstance(tensor, (torch.nn.Parameter, Proxy)) or type(tensor) is Tensor or torch.compiler.is_compiling():
        return False
    own = getattr(type(tensor), "__torch_function__", None)
    return own is not torch._C._disabled_torch_function_impl and torch._C._is_torch_function_enabled()


def is_batched(gradient: Tensor) -> bool:
    """Whether many gradients come as one: ``torch.autograd.grad(..., is_grads_batched=True)``."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(gradient))


def is_unread(tensor: Tensor) -> bool:
    """Whether the tensor's values cannot be read: compiled, recorded, torch.func, the meta device, fake tensors."""
    if torch.compiler.is_compiling() or is_recorded() or is_transformed() or tensor.is_meta:
        return True
    return isinstance(tensor, FakeTensor)


def is_traced() -> bool:
    """Whether torch.jit.trace is running (the older ONNX exporter uses it too)."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def is_recorded() -> bool:
    """Whether operations are being recorded to run later without Python: torch.export, ONNX, torch.jit.trace."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or is_traced()


def is_transformed() -> bool:
    """Whether torch.func (vmap, grad, jvp) is at work; torch's own autograd.Function asks the same."""
    return bool(torch._C._are_functorch_transforms_active())
