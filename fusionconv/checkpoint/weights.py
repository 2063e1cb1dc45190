"""model.safetensors: every tensor of a model's state dict under its own key, bit for bit.

safetensors stores no memory twice, so tensors that share some (tied weights, a layer under two names) are written out
under each of their keys; loading gives both the same numbers, and the backbone's own tying stays.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from fusionconv.errors import CheckpointError

__all__ = ["WEIGHTS_FILE", "from_bytes", "is_ours", "read_verified", "same_bits", "tensors_of", "to_bytes"]

WEIGHTS_FILE = "model.safetensors"
_MARK = {"format": "pt", "written_by": "fusionconv"}
_PLAIN_TENSORS = (Tensor, nn.Parameter, nn.Buffer)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """``model.state_dict()``, all of it plain dense tensors with values.

    Raises:
        CheckpointError: an entry is no tensor, or one that is sharded, on the meta device, sparse, or not yet made.
    """
    tensors = dict(model.state_dict())
    for key, tensor in tensors.items():
        problem = _problem(tensor)
        if problem:
            raise CheckpointError(f"state-dict entry {key!r} of {type(model).__name__} {problem}; nothing was changed")
    return tensors


def _problem(tensor: object) -> str | None:
    """Why this entry of a state dict cannot go into a safetensors file and come back as it is."""
    if not isinstance(tensor, Tensor):
        return (
            f"is a {type(tensor).__name__}, not a tensor (a module's get_extra_state): a checkpoint without pickle "
            "cannot hold it; let get_extra_state return a tensor, or remove it"
        )
    if nn.parameter.is_lazy(tensor):
        return "is a lazy parameter without values yet; call the network once first"
    if type(tensor).__name__ in ("DTensor", "ShardedTensor"):
        return (
            f"is sharded over processes (a {type(tensor).__name__}). To save, gather it first: torch.distributed."
            "checkpoint.state_dict.get_model_state_dict with full_state_dict=True, loaded into an unsharded copy of "
            "the model; to load, shard afterwards"
        )
    if type(tensor) not in _PLAIN_TENSORS:
        return f"is a tensor of the class {type(tensor).__name__}, of which only the plain values could be kept"
    if tensor.is_meta:
        return "is on the meta device and has no values; give it some first: model.to_empty(device=...), then fill it"
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else f"of layout {tensor.layout}"
        return f"is {kind}; only dense tensors can be kept: tensor.dequantize() or tensor.to_dense()"
    return None


def to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """The tensors as a safetensors file, brought to the CPU; keys that share memory each get their own copy.

    Raises:
        CheckpointError: a dtype that safetensors does not know; an entry that does not come back bit for bit.
    """
    import safetensors
    import safetensors.torch

    plain = {key: _own_copy(tensor) for key, tensor in tensors.items()}
    try:
        data = safetensors.torch.save(plain, metadata=_MARK)
        back = safetensors.torch.load(data)
    except (KeyError, safetensors.SafetensorError) as error:
        dtypes = sorted({str(t.dtype) for t in plain.values()})
        raise CheckpointError(f"safetensors cannot keep one of the dtypes {', '.join(dtypes)} ({error})") from error
    wrong = [key for key, tensor in tensors.items() if key not in back or not same_bits(back[key], tensor)]
    if wrong:
        raise CheckpointError(
            f"state-dict entry {wrong[0]!r} does not come back from safetensors as it was; was the model still in "
            "training in another thread?"
        )
    return data


def from_bytes(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: this is no safetensors file.
    """
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{path} is not a safetensors file that can be read here: {error}") from error


def read_verified(folder: Path, name: str, size: int, sha256: str) -> dict[str, Tensor]:
    """The tensors of ``folder/name``, if it is that very file; read once, so that what was checked is what is used.

    Raises:
        CheckpointError: the name leaves the folder, there is no such file, or its bytes are not those that were saved.
    """
    path = folder / name
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):
        raise CheckpointError(f"{folder}: the weights' file must lie in this folder, fusion.json names {name!r}")
    if not path.is_file():
        raise CheckpointError(f"expected the weights at {path}, got no such file; copy the whole folder")
    if path.resolve().parent != folder.resolve():
        raise CheckpointError(f"{path} is a link that leaves the folder, to {path.resolve()}; copy the file itself")
    data = path.read_bytes()
    if len(data) != size:
        came = "an empty file" if not data else f"{len(data)} bytes"
        raise CheckpointError(f"{path}: expected {size} bytes, got {came}; {_AGAIN}")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(f"{path}: its sha256 is not the one in fusion.json, so the bytes changed; {_AGAIN}")
    return from_bytes(data, path)


_AGAIN = (
    "the file is damaged, or a save was interrupted or is under way, and belongs to another fusion.json; copy the "
    "folder again or save again"
)


def is_ours(path: Path) -> bool:
    """Whether ``path`` is a safetensors file that fusionconv wrote."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("written_by") == _MARK["written_by"]
    except (OSError, safetensors.SafetensorError):
        return False


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal shape, dtype and bits (so that NaN is equal to itself and -0.0 is not equal to 0.0)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    x, y = (_own_copy(t).reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(x, y)


def _own_copy(tensor: Tensor) -> Tensor:
    """The values in memory of their own, on the CPU, row by row; what safetensors reads is this memory."""
    values = tensor.detach().resolve_conj().resolve_neg()  # a lazy conjugate holds other numbers than it shows
    return values.to("cpu", copy=True, memory_format=torch.contiguous_format)
