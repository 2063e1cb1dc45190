"""Weights to start from: a file of torch or safetensors, and what of it did not fit."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.errors import CheckpointError

__all__ = ["fit_channels", "load_weights", "read_weights"]

log = logging.getLogger("fusionconv.study")


def read_weights(path: str) -> dict[str, Tensor]:
    """The state dict in a file, without running anything that is in it.

    Raises:
        CheckpointError: no such file, or no state dict in it.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"weights: expected a file, got {path!r}, which is none; check the path")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle, safetensors, EOF: each reader has its own
        why = "it holds other objects than tensors" if isinstance(error, pickle.UnpicklingError) else _line(error)
        raise CheckpointError(
            f"weights: expected a state dict of tensors, got {path} ({why}); write one by "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):  # of Lightning, of most training scripts
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise CheckpointError(
            f"weights: expected a state dict of tensors, got a {type(found).__name__} in {path}; write one by "
            "torch.save(model.state_dict(), FILE)"
        )
    return dict(found)


def load_weights(network: nn.Module, path: str, head: Sequence[str]) -> dict[str, list[str]]:
    """Copy every tensor that fits by name and shape, and log what did not.

    A first convolution of another number of channels takes the mean kernel (see `fit_channels`).

    Args:
        network: in place.
        path: the file.
        head: names of the last layer and of a head: these may be new.

    Returns:
        ``new``: the network's tensors that are not in the file; ``unused``: the file's that the network has no place
        for; ``adapted``: first kernels of other channels.

    Raises:
        CheckpointError: fewer than half of the network's weights are in the file.
    """
    own = network.state_dict()
    state = _renamed(read_weights(path), own)
    adapted = []
    for name in own:
        # only the first convolution sees the image, and only its channels may differ
        if name == _first_kernel(network) and name in state and _other_channels(state[name], own[name]):
            state[name] = fit_channels(state[name], own[name].shape[1])
            adapted.append(name)
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    parameters = [name for name, _ in network.named_parameters() if not _in_head(name, head)]
    there = sum(name in fits for name in parameters)
    if 2 * there < len(parameters):
        raise CheckpointError(
            f"weights: expected weights of this network, got {there} of its {len(parameters)} by name and shape in "
            f"{path}, which holds {', '.join(list(state)[:3])}, ...; give the file of this network"
        )
    network.load_state_dict(fits, strict=False)
    new = [name for name in own if name not in fits and not name.endswith("num_batches_tracked")]
    unused = [name for name in state if name not in fits]
    if new or unused or adapted:
        log.warning(
            "weights: %d tensors of %s fit; new in the network: %s; not used: %s%s", len(fits), path, _some(new),
            _some(unused), f"; mean over the channels: {_some(adapted)}" if adapted else "",
        )  # fmt: skip
    return {"new": new, "unused": unused, "adapted": adapted}


def fit_channels(kernel: Tensor, channels: int) -> Tensor:
    """A first kernel (C_out, C, ...) for another number of channels: the mean over C, times C / channels.

    An image whose channels are all the same then gives what it gave before, whatever their number.
    """
    mean = kernel.mean(1, keepdim=True) * (kernel.shape[1] / channels)
    return mean.expand(-1, channels, *kernel.shape[2:]).clone()


def _first_kernel(network: nn.Module) -> str | None:
    found = next(((n, m) for n, m in network.named_modules() if isinstance(m, _ConvNd)), None)
    return None if found is None or found[1].groups != 1 else f"{found[0]}.weight".removeprefix(".")


def _other_channels(value: Tensor, own: Tensor) -> bool:
    return value.ndim == own.ndim and value.shape[0] == own.shape[0] and value.shape[2:] == own.shape[2:] and (
        value.shape[1] != own.shape[1])  # fmt: skip


def _renamed(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that a wrapper gave the names (DDP, Lightning, torch.compile), where they fit better so."""

    def without(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in state.items()}

    first = ("", "module.", "_orig_mod.", "network.", "model.", "net.", "backbone.", "network._orig_mod.")
    return max((without(prefix) for prefix in first), key=lambda named: len(named.keys() & own.keys()))


def _in_head(name: str, head: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in head)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return (", ".join(names[:6]) or "none") + more


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
