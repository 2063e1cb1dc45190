"""save: a fused model into a folder, in an order that leaves no mixture of an older and a newer checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fusionconv.checkpoint.manifest import MANIFEST_FILE, LayerPlan, Manifest, WeightsFile, is_manifest
from fusionconv.checkpoint.names import key_name, module_kind, modules_by_key, state_key
from fusionconv.checkpoint.settings import settings_of
from fusionconv.checkpoint.weights import WEIGHTS_FILE, is_ours, tensors_of, to_bytes
from fusionconv.errors import CheckpointError, SurgeryError
from fusionconv.surgery.frames import Owner
from fusionconv.surgery.fuse import fused_layers
from fusionconv.surgery.fused_layers import FusedLayer
from fusionconv.surgery.root import base_class, is_fused_root, owner_of

if TYPE_CHECKING:
    from fusionconv.tabular import CovariateEncoder

__all__ = ["save"]


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    encoder: CovariateEncoder | None = None,
    *,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a fused model to the folder ``path``: fusion.json and model.safetensors, no pickle.

    The folder holds the whole state dict, under its own keys and bit for bit; which layers are fused and how; the
    settings of the network's layers (strides and the like), by which `load` knows the right backbone; and the encoder.
    An older checkpoint in the folder is replaced, other files are left alone. Both files are written in full before
    either takes its place, and fusion.json, which goes last, carries the sha256 of the weights: a crash in between
    leaves a folder that `load` refuses, never a mixture. With several processes, save in one of them.

    Args:
        model: a model that `fuse_into` has fused; not a wrapper around it.
        path: the folder; made, with its parents, if it is not there.
        encoder: the fitted `fusionconv.tabular.CovariateEncoder` of its covariates, to be kept with it.
        about: what else belongs to the model, as plain JSON data: classes, image size, threshold. `read_about` gives it
            back. With it a network that is not fused is taken too (the arm of a study that sees the image alone).

    Returns:
        The folder.

    Raises:
        SurgeryError: the model was not fused, or is wrapped, or a fused layer of it is parametrized since.
        CheckpointError: the encoder is one of another number of covariates; a state that is sharded, on the meta
            device, or no tensor; ``path`` is a file, or holds files of these names that fusionconv did not write.
        TableError: the encoder is not fitted.

    Example:
        >>> import tempfile, torch, fusionconv
        >>> def network():
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3))
        >>> model = fusionconv.fuse_into(network(), 0, num_covariates=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fusionconv.save(model, folder)
        ...     print(sorted(p.name for p in path.iterdir()))
        ...     again, encoder = fusionconv.load(path, network())
        ['fusion.json', 'model.safetensors']
        >>> images, s = torch.randn(4, 3, 8, 8), torch.randn(4, 2)
        >>> torch.equal(again(images, s), model(images, s))
        True
    """
    plain = (
        about is not None
        and isinstance(model, nn.Module)
        and not any(isinstance(m, FusedLayer) for m in model.modules())
    )
    if not plain:
        _require_fused_root(model)
    folder = Path(path)
    tensors = tensors_of(model)
    base, owner = (type(model), Owner(0, type(model).__name__)) if plain else (base_class(model), owner_of(model))
    saved_encoder = None if encoder is None else _encoder_dict(encoder, owner)
    layers = () if plain else _plan(model, owner, tensors)
    _require_free(folder)
    data = to_bytes(tensors)
    manifest = Manifest(
        model=module_kind(model, owner) if issubclass(base, FusedLayer) else base.__name__,
        num_covariates=owner.num_covariates,
        layers=layers,
        settings=settings_of(model, owner),
        module_versions=_module_versions(model),
        weights=WeightsFile(WEIGHTS_FILE, len(data), hashlib.sha256(data).hexdigest()),
        encoder=saved_encoder,
        about=None if about is None else json.loads(json.dumps(dict(about), allow_nan=False)),
        made_with={"fusionconv": _own_version(), "torch": str(torch.__version__)},
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write_both(folder, {WEIGHTS_FILE: data, MANIFEST_FILE: manifest.to_text().encode()})
    return folder


def _require_fused_root(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if "FullyShardedDataParallel" in {c.__name__ for c in type(model).__mro__}:
        raise SurgeryError(
            "the model is sharded (FullyShardedDataParallel); gather its full state dict, load that into an unsharded "
            "fused model, and save this one"
        )
    inner: Any = model
    way = "model"
    while isinstance(inner, nn.Module) and not is_fused_root(inner):
        attribute = next((a for a in ("_orig_mod", "module") if a in inner._modules), None)
        way, inner = f"{way}.{attribute}", inner._modules[attribute] if attribute else None
    if inner is not model and inner is not None:
        raise SurgeryError(f"the model is wrapped ({type(model).__name__}); save the fused model inside: {way}")
    if inner is None:
        owner_of(model)  # raises, and says how to fuse


def _encoder_dict(encoder: CovariateEncoder, owner: Owner) -> dict[str, Any]:
    from fusionconv.tabular import CovariateEncoder

    if not isinstance(encoder, CovariateEncoder):
        raise TypeError(f"encoder must be a fusionconv.tabular.CovariateEncoder, got {type(encoder).__name__}")
    if encoder.num_covariates != owner.num_covariates:
        raise CheckpointError(
            f"expected an encoder of {owner.num_covariates} covariate(s), as the model takes, got one of "
            f"{encoder.num_covariates} ({', '.join(encoder.columns)}); save the encoder that the model was trained with"
        )
    return encoder.to_dict()


def _plan(model: nn.Module, owner: Owner, tensors: dict[str, Tensor]) -> tuple[LayerPlan, ...]:
    """What `fuse_into` was told about each layer; checked, so that `load` will be able to do it again."""
    layers = []
    for full_name, layer in fused_layers(model).items():
        name = key_name(full_name)
        plan = LayerPlan(name, module_kind(layer, owner), layer.layer_options(), layer.METHOD)
        for parameter, shape in plan.new_shapes(layer, owner.num_covariates).items():
            came = tensors.get(state_key(name, parameter))
            if came is None or tuple(came.shape) != shape or came.dtype != layer.weight.dtype:
                what = "none" if came is None else f"{tuple(came.shape)} {came.dtype}"
                raise CheckpointError(
                    f"layer {name!r}: expected {parameter} in the state dict as {shape} {layer.weight.dtype}, to fit "
                    f"its weight, got {what}; fusing again could not restore this"
                )
        layers.append(plan)
    return tuple(layers)


def _module_versions(model: nn.Module) -> dict[str, int]:
    """The versions of the modules' own state-dict formats, where not 1; torch keeps them beside the keys."""
    versions = {name: getattr(m, "_version", 1) for name, (_, m) in modules_by_key(model).items()}
    return {name: v for name, v in versions.items() if isinstance(v, int) and v != 1}


def _own_version() -> str:
    import fusionconv

    return fusionconv.__version__


def _require_free(folder: Path) -> None:
    """Raise unless the folder can take the checkpoint without harm to files of somebody else."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"expected a folder, or nothing yet, at {folder}, got a file; give another path")
    manifest, weights = folder / MANIFEST_FILE, folder / WEIGHTS_FILE
    strange = [p for p, ours in ((manifest, is_manifest), (weights, is_ours)) if os.path.lexists(p) and not ours(p)]
    if strange and not is_manifest(manifest):
        raise CheckpointError(
            f"{folder} holds {strange[0].name} already, which fusionconv did not write (or which is damaged); give "
            "another path, or move that file away"
        )


def _write_both(folder: Path, contents: dict[str, bytes]) -> None:
    """Write every file in full under a passing name, then let each take its place, in the given order."""
    tag = f".{secrets.token_hex(6)}.tmp"
    try:
        for name, data in contents.items():
            with open(folder / (name + tag), "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for name in contents:
            os.replace(folder / (name + tag), folder / name)
    finally:
        for name in contents:
            (folder / (name + tag)).unlink(missing_ok=True)
