"""load: a saved fused model back into its plain network; everything is checked before the network is touched."""

from __future__ import annotations

import importlib
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import torch
from torch import Tensor, nn

from fusionconv.checkpoint.manifest import Manifest, read_manifest
from fusionconv.checkpoint.names import key_name, module_kind, modules_by_key, state_key
from fusionconv.checkpoint.settings import differences, settings_of, some
from fusionconv.checkpoint.weights import read_verified, same_bits, tensors_of
from fusionconv.errors import CheckpointError, SurgeryError
from fusionconv.surgery.fuse import fuse_into
from fusionconv.surgery.root import is_fused_root

if TYPE_CHECKING:
    from fusionconv.tabular import CovariateEncoder

__all__ = ["load", "read_about"]

Model = TypeVar("Model", bound=nn.Module)
# What a file may have built: this function, with these arguments, which do not allow functions of one's own.
_BUILDER = "fusionconv.study.saved:plain_network"
_ARGUMENTS = {"name", "num_outputs", "in_channels", "image_size", "options", "head"}
Entries = dict[str, tuple[tuple[int, ...], torch.dtype]]


@overload
def load(
    path: str | os.PathLike[str], backbone: Model, *, check_finite: bool = True
) -> tuple[Model, CovariateEncoder | None]: ...
@overload
def load(
    path: str | os.PathLike[str], backbone: None = None, *, check_finite: bool = True
) -> tuple[nn.Module, CovariateEncoder | None]: ...
def load(
    path: str | os.PathLike[str], backbone: nn.Module | None = None, *, check_finite: bool = True
) -> tuple[nn.Module, CovariateEncoder | None]:
    """Fuse ``backbone`` as the saved model was, and fill it with the saved numbers.

    The files must be those that were saved (sizes, sha256), and the backbone the network that was fused: same class,
    keys, shapes and dtypes, and the same settings of its layers (stride, padding, groups, eps, kind of activation ...).
    Everything is checked first; a call that raises has changed nothing. Not seen by the check is what the network's
    own code does, and buffers that are not in its state dict.

    Args:
        path: the folder that `save` wrote.
        backbone: the plain network, built as before the surgery, weights of any values, on any device. It is changed
            in place; its device, ``requires_grad`` flags and train/eval mode stay. A fused model within it, which was
            fused before the saved one, must be fused in it already.
        check_finite: as in `fuse_into`.

    Returns:
        The same object, fused, and the encoder that was saved with it, or None.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another network; what does not fit is named.

    Example:
        >>> import tempfile, torch, fusionconv
        >>> def network(stride):
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=stride), torch.nn.ReLU())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = fusionconv.save(fusionconv.fuse_into(network(stride=2), 0, num_covariates=2), folder)
        ...     model, encoder = fusionconv.load(path, network(stride=2))
        ...     fusionconv.load(path, network(stride=1))  # the same keys and shapes
        Traceback (most recent call last):
            ...
        fusionconv.errors.CheckpointError: ... layer '0' (Conv2d): stride expected [2, 2], got [1, 1]. ...
        >>> model(torch.randn(4, 3, 9, 9), torch.randn(4, 2)).shape
        torch.Size([4, 8, 4, 4])
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    encoder = _encoder(manifest, folder)
    if backbone is None:
        backbone = _built(manifest, folder)
    weights = manifest.weights
    tensors = read_verified(folder, weights.file, weights.size, weights.sha256)
    _require_plain(backbone)
    problems = _problems(backbone, manifest, tensors)
    if problems:
        raise CheckpointError(
            f"{type(backbone).__name__} is not the network of the checkpoint {folder}: {'; '.join(problems)}. Build "
            "the backbone as it was when the model was saved (expected: the checkpoint; got: this backbone); nothing "
            "was changed"
        )
    _fuse_and_fill(backbone, manifest, tensors, check_finite)
    return backbone, encoder


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` was given as ``about``: plain data (JSON), an empty dictionary where nothing was given.

    Args:
        path: the folder that `save` wrote.

    Raises:
        CheckpointError: no folder of `save`, or a damaged one.

    Example:
        >>> import tempfile, torch, fusionconv
        >>> from fusionconv.checkpoint import read_about
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), 0, num_covariates=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = fusionconv.save(model, folder, about={"trained_on": "site A"})
        ...     read_about(folder)
        {'trained_on': 'site A'}
    """
    return dict(read_manifest(Path(path)).about or {})


def _built(manifest: Manifest, folder: Path) -> nn.Module:
    """The plain network of a study, by ``about["build"]``. No other function is called, whatever the file names."""
    build = (manifest.about or {}).get("build")
    if build is None:
        raise CheckpointError(
            f"{folder}: expected the plain network as the second argument (this checkpoint does not name one), got "
            "none; fusionconv.load(path, network)"
        )
    arguments = build.get("arguments") if isinstance(build, dict) and build.get("function") == _BUILDER else None
    if not isinstance(arguments, dict) or set(arguments) != _ARGUMENTS:
        raise CheckpointError(
            f"{folder}: expected a network that {_BUILDER} builds of {', '.join(sorted(_ARGUMENTS))}, got "
            f"{str(build)[:200]}; pass the network: fusionconv.load(path, network)"
        )
    module, _, name = _BUILDER.partition(":")
    network: nn.Module = getattr(importlib.import_module(module), name)(**arguments)
    return network


def _encoder(manifest: Manifest, folder: Path) -> CovariateEncoder | None:
    if manifest.encoder is None:
        return None
    from fusionconv.tabular import CovariateEncoder

    encoder = CovariateEncoder.from_dict(manifest.encoder)
    if encoder.num_covariates != manifest.num_covariates:
        raise CheckpointError(
            f"{folder}: expected an encoder of {manifest.num_covariates} covariate(s), as its model takes, got one of "
            f"{encoder.num_covariates}; fusion.json is damaged: copy it again or save again"
        )
    return encoder


def _require_plain(backbone: object) -> None:
    if not isinstance(backbone, nn.Module):
        raise TypeError(f"backbone must be a torch.nn.Module, got {type(backbone).__name__}")
    if is_fused_root(backbone):
        raise CheckpointError(
            f"expected a plain network, got {type(backbone).__name__}, which is fused already; load fuses it itself: "
            "pass a new network, or fusionconv.unfuse(model)"
        )


def _problems(backbone: nn.Module, manifest: Manifest, tensors: dict[str, Tensor]) -> list[str]:
    """All that makes ``backbone`` another network than the saved one, in words; [] if nothing does."""
    if type(backbone).__name__ != manifest.model:
        inner = next((a for a in ("_orig_mod", "module") if a in backbone._modules), None)
        hint = f" (a wrapper? then load into its .{inner}, and wrap it afterwards)" if inner else ""
        return [f"expected the class {manifest.model}, got {type(backbone).__name__}{hint}"]
    problems = []
    modules = modules_by_key(backbone)
    for plan in manifest.layers:
        kind = module_kind(modules[plan.name][1]) if plan.name in modules else "no such layer"
        if kind != plan.kind:
            problems.append(f"fused layer {plan.name!r}: expected a {plan.kind}, got {kind}")
    if problems:
        return problems
    expected = {key: (tuple(t.shape), t.dtype) for key, t in tensors.items()}
    came = _entries(backbone, manifest)
    missing = [repr(key) for key in sorted(expected) if key not in came]
    extra = [repr(key) for key in came if key not in expected]
    if missing:
        problems.append(f"{len(missing)} key(s) of the checkpoint are missing in the backbone: {some(missing)}")
    if extra:
        problems.append(f"{len(extra)} key(s) of the backbone are missing in the checkpoint: {some(extra)}")
    both = [key for key in came if key in expected]
    shapes = [f"{k!r} expected {expected[k][0]}, got {came[k][0]}" for k in both if expected[k][0] != came[k][0]]
    dtypes = [f"{k!r} expected {expected[k][1]}, got {came[k][1]}" for k in both if expected[k][1] != came[k][1]]
    if shapes:
        problems.append(f"{len(shapes)} shape(s) differ: {some(shapes)}")
    if dtypes:
        problems.append(f"{len(dtypes)} dtype(s) differ: {some(dtypes)} (backbone.to(dtype) first, as when saved)")
    settings = differences(manifest.settings, settings_of(backbone))
    if settings:
        problems.append(f"{len(settings)} setting(s) of layers differ: {some(settings)}")
    if any("expected a Fused" in text for text in settings):
        problems.append("a fused model inside the saved one must be fused in the backbone before load")
    return problems


def _entries(backbone: nn.Module, manifest: Manifest) -> Entries:
    """Shapes and dtypes of the state dict that ``backbone`` will have when it is fused as the manifest says."""
    entries: Entries = {key: (tuple(t.shape), t.dtype) for key, t in tensors_of(backbone).items()}
    modules = modules_by_key(backbone)
    names: dict[nn.Module, set[str]] = {}  # a layer may stand under several
    for name, module in backbone.named_modules(remove_duplicate=False):
        names.setdefault(module, set()).add(key_name(name))
    for plan in manifest.layers:
        layer: Any = modules[plan.name][1]
        for parameter, shape in plan.new_shapes(layer, manifest.num_covariates).items():
            for name in names[layer]:
                entries[state_key(name, parameter)] = (shape, layer.weight.dtype)
    return entries


def _fuse_and_fill(backbone: nn.Module, manifest: Manifest, tensors: dict[str, Tensor], check_finite: bool) -> None:
    """Change the backbone; if anything fails now, undo it."""
    modules = modules_by_key(backbone)
    state: OrderedDict[str, Tensor] = OrderedDict(tensors)
    state._metadata = {  # type: ignore[attr-defined]  # where torch keeps the versions of the modules' state
        name: {"version": manifest.module_versions.get(key_name(name), 1)}
        for name, _ in backbone.named_modules(remove_duplicate=False)
    }
    undo = _snapshot(backbone)
    try:
        with torch.random.fork_rng({p.device for p in backbone.parameters() if p.is_cuda}):  # the start values are lost
            for plan in manifest.layers:
                fuse_into(
                    backbone, modules[plan.name][0], manifest.num_covariates, plan.method,
                    check_finite=check_finite, **plan.options,
                )  # fmt: skip
        backbone.load_state_dict(state)
        after = backbone.state_dict()
        wrong = [repr(key) for key, t in tensors.items() if key not in after or not same_bits(after[key], t)]
        if wrong:
            raise CheckpointError(
                f"{len(wrong)} entries of {manifest.model} did not take the saved values: {some(wrong)}; two of its "
                "keys share one tensor that was two when saved, or a module changes its state when it is loaded; "
                "nothing was changed"
            )
    except BaseException as error:
        undo()
        if isinstance(error, (SurgeryError, RuntimeError)):
            raise CheckpointError(f"the checkpoint could not be loaded, nothing was changed: {error}") from error
        raise


def _snapshot(backbone: nn.Module) -> Callable[[], None]:
    """Remember classes, attributes and numbers; the function that is returned brings them back.

    Not only `unfuse`: a module's own loading code may have failed half way, or have put other layers into it.
    """
    values = [(t, t.detach().clone()) for t in (*backbone.parameters(), *backbone.buffers())]
    registers = ("_parameters", "_buffers", "_modules")
    modules = [(m, type(m), dict(vars(m)), {r: dict(vars(m)[r]) for r in registers}) for m in backbone.modules()]

    def undo() -> None:
        for module, kind, attributes, registered in modules:
            module.__class__ = kind
            vars(module).clear()
            vars(module).update(attributes)
            for register, content in registered.items():
                vars(module)[register].clear()
                vars(module)[register].update(content)
        with torch.no_grad():
            for tensor, before in values:
                if not same_bits(tensor, before):
                    tensor.copy_(before)

    return undo
