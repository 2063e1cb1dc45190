"""What runs the code: Python itself, a recorder (torch.export, ONNX, torch.jit.trace), or a transform of torch.func."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.autograd import forward_ad
from torch.fx import Proxy, _symbolic_trace

__all__ = [
    "can_read",
    "carries_more",
    "has_tangent",
    "is_baked",
    "is_batched",
    "is_recorded",
    "is_traced",
    "is_transformed",
    "is_unread",
]


def carries_more(tensor: Tensor) -> bool:
    """Whether the tensor's class attaches something to results, as MONAI's MetaTensor does (affine, file name).

    It must see one operation on the whole batch, as it sees torch's own convolution: from the slices and joins inside
    a strategy it would take the metadata of the first image for all.
    """
    if isinstance(tensor, (torch.nn.Parameter, Proxy)) or type(tensor) is Tensor or torch.compiler.is_compiling():
        return False
    own = getattr(type(tensor), "__torch_function__", None)
    return own is not torch._C._disabled_torch_function_impl and torch._C._is_torch_function_enabled()


def has_tangent(tensor: Tensor) -> bool:
    """Whether forward-mode differentiation (``torch.func.jvp``) runs through the tensor."""
    return forward_ad.unpack_dual(tensor).tangent is not None


def is_batched(gradient: Tensor) -> bool:
    """Whether many gradients come as one: ``torch.autograd.grad(..., is_grads_batched=True)``, torch.func's vmap."""
    functorch = torch._C._functorch
    return bool(functorch.is_legacy_batchedtensor(gradient) or functorch.is_functorch_wrapped_tensor(gradient))


def can_read(tensor: Tensor) -> bool:
    """Whether the values are there to be read: not while compiling, exporting, capturing a CUDA graph or in ``vmap``,
    nor on the meta device and in fake tensors.

    Asked before, and not by trying: an error while reading (out of memory, a failed kernel) is one, and goes on.
    """
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or tensor.is_meta:
        return False
    if isinstance(tensor, FakeTensor) or torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
        return False
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return False
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def is_unread(tensor: Tensor) -> bool:
    """Whether a recording, a transform of torch.func or a derivative would keep what the values decided, or it cannot
    be read at all (`can_read`).
    """
    return is_recorded() or is_transformed() or not can_read(tensor)


def is_traced() -> bool:
    """Whether torch.jit.trace is running (the older ONNX exporter uses it too)."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def is_recorded() -> bool:
    """Whether operations are being recorded to run later without Python: torch.export, ONNX, torch.jit.trace."""
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or is_traced()


# torch < 2.9 has the second only
_is_traced_by_fx = getattr(_symbolic_trace, "is_fx_symbolic_tracing", _symbolic_trace.is_fx_tracing)


def is_baked() -> bool:
    """Whether tensors from outside become constants of a program: `is_recorded`, torch.fx, or its make_fx."""
    return is_recorded() or (not torch.compiler.is_compiling() and _is_traced_by_fx())


def is_transformed() -> bool:
    """Whether torch.func (vmap, grad, jvp) is at work; torch's own autograd.Function asks the same."""
    return bool(torch._C._are_functorch_transforms_active())
