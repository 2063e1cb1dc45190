"""Weights to start from: a checkpoint of this recipe (another task's, say brain age) or any state dict that fits."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from fusionconv.errors import CheckpointError
from recipes.common.checkpoint import open_checkpoint


def load_weights(network: nn.Module, path: str) -> dict[str, int]:
    """Copy every tensor that fits by name and shape into ``network``; returns how many did and did not.

    The last layer of another task does not fit and stays new; so do covariate parameters that the file lacks.

    Raises:
        CheckpointError: no such file, no state dict in it, or less than half of the network's weights fit.
    """
    found = open_checkpoint(Path(path))
    state = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"--model.weights {path}: expected a checkpoint or a state dict, and found {type(state).__name__}."
        )
    state = {name.removeprefix("network."): value for name, value in state.items()}
    own = network.state_dict()
    fits = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    weights = {name for name, _ in network.named_parameters()}
    if 2 * len(weights & fits.keys()) < len(weights):
        raise CheckpointError(
            f"--model.weights {path}: {len(weights & fits.keys())} of the network's {len(weights)} weights are in it "
            f"by name and shape; it holds {', '.join(list(state)[:3])}, ... Give weights of the same --model.network."
        )
    network.load_state_dict(fits, strict=False)
    return {"copied": len(fits), "new": len(own) - len(fits), "unused": len(state) - len(fits)}
