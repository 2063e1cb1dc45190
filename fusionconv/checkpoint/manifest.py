"""fusion.json: which layers were fused and how, what the network around them was, which weights file belongs to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fusionconv.errors import CheckpointError
from fusionconv.layers import METHODS

__all__ = ["MANIFEST_FILE", "LayerPlan", "Manifest", "WeightsFile", "is_manifest", "read_manifest"]

MANIFEST_FILE = "fusion.json"
FORMAT, VERSION = "fusionconv.checkpoint", 1


@dataclass(frozen=True)
class LayerPlan:
    """One fused layer: its state-dict name, the torch class that it was, the method and the options of `fuse_into`."""

    name: str
    kind: str
    options: dict[str, Any]
    method: str = "hybrid"

    def entry(self) -> dict[str, Any]:
        """As fusion.json has it: the options beside the name."""
        return {"name": self.name, "kind": self.kind, **self.options, "method": self.method}

    def new_shapes(self, layer: nn.Module, num_covariates: int) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters that fusing adds to ``layer``, a convolution or a linear layer."""
        return METHODS[self.method].added_shapes(layer, num_covariates, self.options)


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
    about: dict[str, Any] | None = None
    made_with: dict[str, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """The text of fusion.json."""
        content = {**asdict(self), "layers": [layer.entry() for layer in self.layers]}
        return json.dumps({"format": FORMAT, "version": VERSION, **content}, indent=1) + "\n"


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
            f"expected a checkpoint folder at {folder}, got {came}; give what fusionconv.save returned"
        )
    if not path.is_file():
        raise CheckpointError(
            f"expected {MANIFEST_FILE} in {folder}, got no such file; it is no folder that fusionconv.save wrote (or "
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
        raise _DamagedError(f"expected an object, got {_words(saved)}")
    if saved.get("format") != FORMAT:
        raise _DamagedError(f"expected the format {FORMAT!r}, got {_words(saved.get('format'))}")
    version = _field(saved, "version", int)
    if version != VERSION:
        raise _DamagedError(
            f"expected version {VERSION}, got version {version}, which another fusionconv wrote "
            f"({_words(saved.get('made_with'))}): install that one"
        )
    k = _field(saved, "num_covariates", int)
    layers = tuple(_layer(layer, k) for layer in _field(saved, "layers", list))
    names = [layer.name for layer in layers]
    if bool(names) != bool(k) or len(set(names)) < len(names):
        raise _DamagedError(
            f"'layers' must name at least one layer, and each once (none where num_covariates is 0), got "
            f"{_words(names)}"
        )
    settings, versions = _field(saved, "settings", dict), _field(saved, "module_versions", dict)
    for name, values in settings.items():
        if type(values) is not dict or type(values.get("kind")) is not str:
            raise _DamagedError(f"the settings of {name!r} must be an object with a kind, got {_words(values)}")
    if not all(type(v) is int for v in versions.values()):
        raise _DamagedError(f"'module_versions' must hold integers, got {_words(versions)}")
    weights = _field(saved, "weights", dict)
    return Manifest(
        model=_field(saved, "model", str),
        num_covariates=k,
        layers=layers,
        settings=settings,
        module_versions=versions,
        weights=WeightsFile(_field(weights, "file", str), _field(weights, "size", int), _field(weights, "sha256", str)),
        encoder=_field(saved, "encoder", dict, type(None)),
        about=_field(saved, "about", dict, type(None)),
        made_with=_field(saved, "made_with", dict),
    )


def _layer(saved: Any, num_covariates: int) -> LayerPlan:
    if type(saved) is not dict:
        raise _DamagedError(f"every entry of 'layers' must be an object, got {_words(saved)}")
    name, kind, method = (_field(saved, field, str) for field in ("name", "kind", "method"))
    if method not in METHODS:
        raise _DamagedError(
            f"layer {name!r}: method must be one of {', '.join(map(repr, METHODS))}, got {method!r}, which a newer "
            "fusionconv may have written"
        )
    options = {option: _field(saved, option, *o.kinds) for option, o in METHODS[method].OPTIONS.items()}
    try:
        options = METHODS[method].check_options(num_covariates, options)
    except ValueError as error:
        raise _DamagedError(f"layer {name!r}: {error}") from None
    return LayerPlan(name, kind, options, method)


def _field(record: dict[str, Any], name: str, *types: type) -> Any:
    """``record[name]``, which must be of exactly one of these types (True is no integer here)."""
    if name not in record:
        raise _DamagedError(f"the field {name!r} is missing")
    if type(record[name]) not in types:
        expected = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise _DamagedError(f"the field {name!r} must be {expected}, got {_words(record[name])}")
    return record[name]


def _words(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
