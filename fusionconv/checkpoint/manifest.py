"""fusion.json: which layers were fused and how, what the network around them was, which weights file belongs to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fusionconv.errors import CheckpointError
from fusionconv.layers.base import check_options

__all__ = ["MANIFEST_FILE", "LayerPlan", "Manifest", "WeightsFile", "is_manifest", "read_manifest"]

MANIFEST_FILE = "fusion.json"
FORMAT, VERSION = "fusionconv.checkpoint", 1


@dataclass(frozen=True)
class LayerPlan:
    """One fused layer: its state-dict name, the torch class that it was, and the options of `fuse_into`."""

    name: str
    kind: str
    covariate_bias: bool
    rank: int | None
    init: str
    strategy: str
    method: str = "hybrid"

    def options(self) -> dict[str, Any]:
        """The layer options for `fuse_into`."""
        return {o: getattr(self, o) for o in ("covariate_bias", "rank", "init", "strategy")}

    def new_shapes(self, layer: nn.Module, num_covariates: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters that fusing adds to ``layer``, a convolution or a linear layer."""
        kernels = num_covariates if self.rank is None else self.rank
        weight: Any = layer.weight
        shapes: dict[str, tuple[int, ...]] = {"covariate_weight": (kernels, *weight.shape)}
        if self.covariate_bias:
            outputs: Any = layer.out_features if hasattr(layer, "out_features") else layer.out_channels
            shapes["covariate_bias"] = (kernels, outputs)
        if self.rank is not None:
            shapes["covariate_map"] = (self.rank, num_covariates)
        return shapes


@dataclass(frozen=True)
class WeightsFile:
    """The file with the tensors, and how to know it again."""

    file: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """All that fusion.json says; see docs/checkpoints.md for the fields."""

    model: str
    num_covariates: int
    layers: tuple[LayerPlan, ...]
    settings: dict[str, dict[str, Any]]
    module_versions: dict[str, int]
    weights: WeightsFile
    encoder: dict[str, Any] | None
    made_with: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """The text of fusion.json."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n"


def is_manifest(path: Path) -> bool:
    """Whether ``path`` is a fusion.json of this format, of any version."""
    try:
        saved = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(saved, dict) and saved.get("format") == FORMAT


def read_manifest(folder: Path) -> Manifest:
    """The checked content of ``folder/fusion.json``.

    Raises:
        CheckpointError: no such folder or file, no JSON, another format, a newer version, a field that is missing or
            of the wrong type.
    """
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        came = "a file" if folder.exists() else "no such folder"
        raise CheckpointError(
            f"expected a checkpoint folder at {folder}, came {came}; give what fusionconv.save returned"
        )
    if not path.is_file():
        raise CheckpointError(
            f"expected {MANIFEST_FILE} in {folder}, came no such file; it is no folder that fusionconv.save wrote (or "
            "the save was interrupted)"
        )
    try:
        saved = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not JSON ({str(error)[:200] or 'empty'}); copy it again or save again"
        ) from error
    try:
        return _parse(saved)
    except _DamagedError as error:
        raise CheckpointError(f"{path}: {error}; copy it again or save again") from None


class _DamagedError(Exception):
    """What is wrong with a field."""


def _parse(saved: Any) -> Manifest:
    if type(saved) is not dict:
        raise _DamagedError(f"expected an object, came {_words(saved)}")
    if saved.get("format") != FORMAT:
        raise _DamagedError(f"expected the format {FORMAT!r}, came {_words(saved.get('format'))}")
    version = _field(saved, "version", int)
    if version != VERSION:
        raise _DamagedError(
            f"expected version {VERSION}, came version {version}, which another fusionconv wrote "
            f"({_words(saved.get('made_with'))}): install that one"
        )
    k = _field(saved, "num_covariates", int)
    layers = tuple(_layer(layer, k) for layer in _field(saved, "layers", list))
    names = [layer.name for layer in layers]
    if not names or len(set(names)) < len(names):
        raise _DamagedError(f"'layers' must name at least one layer, and each once, came {_words(names)}")
    settings, versions = _field(saved, "settings", dict), _field(saved, "module_versions", dict)
    for name, values in settings.items():
        if type(values) is not dict or type(values.get("kind")) is not str:
            raise _DamagedError(f"the settings of {name!r} must be an object with a kind, came {_words(values)}")
    if not all(type(v) is int for v in versions.values()):
        raise _DamagedError(f"'module_versions' must hold integers, came {_words(versions)}")
    weights = _field(saved, "weights", dict)
    return Manifest(
        model=_field(saved, "model", str),
        num_covariates=k,
        layers=layers,
        settings=settings,
        module_versions=versions,
        weights=WeightsFile(_field(weights, "file", str), _field(weights, "size", int), _field(weights, "sha256", str)),
        encoder=_field(saved, "encoder", dict, type(None)),
        made_with=_field(saved, "made_with", dict),
    )


def _layer(saved: Any, num_covariates: int) -> LayerPlan:
    if type(saved) is not dict:
        raise _DamagedError(f"every entry of 'layers' must be an object, came {_words(saved)}")
    plan = LayerPlan(
        name=_field(saved, "name", str),
        kind=_field(saved, "kind", str),
        covariate_bias=_field(saved, "covariate_bias", bool),
        rank=_field(saved, "rank", int, type(None)),
        init=_field(saved, "init", str),
        strategy=_field(saved, "strategy", str),
        method=_field(saved, "method", str),
    )
    if plan.method != "hybrid":
        raise _DamagedError(f"layer {plan.name!r}: method must be 'hybrid', came {plan.method!r}")
    try:
        check_options(num_covariates, **plan.options())
    except ValueError as error:
        raise _DamagedError(f"layer {plan.name!r}: {error}") from None
    return plan


def _field(record: dict[str, Any], name: str, *types: type) -> Any:
    """``record[name]``, which must be of exactly one of these types (True is no integer here)."""
    if name not in record:
        raise _DamagedError(f"the field {name!r} is missing")
    if type(record[name]) not in types:
        expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise _DamagedError(f"the field {name!r} must be {expected}, came {_words(record[name])}")
    return record[name]


def _words(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
