"""Plain networks of torchvision, timm, MONAI, fusionconv and of one's own functions, each with the right arguments."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from fusionconv.errors import CheckpointError, FusionError, StudyError, SurgeryError
from fusionconv.study.first_weights import fit_channels
from fusionconv.study.heads import last_linear
from fusionconv.study.unets import unet_arguments

__all__ = ["LIBRARIES", "make_network"]

Options = Mapping[str, Any]
Made = TypeVar("Made")

# What libraries call the number of outputs, the channels and the image's dimensions.
OUTPUTS = ("num_outputs", "num_classes", "out_channels", "n_classes", "classes")
CHANNELS = ("in_channels", "n_input_channels", "in_chans", "in_channel")


def make_network(
    name: str, num_outputs: int, in_channels: int, image_size: Sequence[int], options: Options, pretrained: bool
) -> nn.Module:
    """The network that ``LIBRARY:NAME`` says, its own last layer with ``num_outputs``.

    Raises:
        StudyError: no such library, network or function; a network that does not take these options.
        SurgeryError: it cannot have these channels or dimensions. CheckpointError: no pretrained weights.
    """
    library, colon, model = name.partition(":")
    if not colon or not model or not library:
        near = f"; did you mean torchvision:{name} or timm:{name}?" if name.isidentifier() else ""
        raise StudyError(
            f"network: expected LIBRARY:NAME such as torchvision:resnet18, timm:convnext_atto, monai:DenseNet121, "
            f"fusionconv:small_resnet or package.module:function, got {name!r}{near}"
        )
    make = LIBRARIES.get(library)
    if make is not None:
        return make(model, num_outputs, in_channels, tuple(image_size), options, pretrained)
    return _own_function(library, model, num_outputs, in_channels, tuple(image_size), options, pretrained)


def _torchvision(
    name: str, num_outputs: int, in_channels: int, image_size: tuple[int, ...], options: Options, pretrained: bool
) -> nn.Module:
    models: Any = _library("torchvision.models", "torchvision")
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known)
    _require_2d(f"torchvision:{name}", image_size)
    arguments: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # second outputs are left out
        arguments = {} if pretrained else {"aux_logits": False, "init_weights": True}
        if in_channels != 3:
            arguments["transform_input"] = False
    if name.startswith("vit_") and not pretrained:
        if len(set(image_size)) > 1:
            raise SurgeryError(f"network torchvision:{name}: expected square images, got {_by(image_size)}")
        arguments["image_size"] = image_size[0]
    if name.startswith("maxvit") and not pretrained:
        arguments["input_size"] = image_size
    if not pretrained:
        network = _call(f"torchvision:{name}", models.get_model, name, weights=None,
                        **{**arguments, "num_classes": num_outputs, **options})  # fmt: skip
    else:
        weights = models.get_model_weights(name).DEFAULT
        network = _download(
            f"torchvision:{name}", weights.url,
            lambda: _call(f"torchvision:{name}", models.get_model, name, weights=weights, **{**arguments, **options}),
        )  # fmt: skip
        for auxiliary in ("AuxLogits", "aux1", "aux2"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
                network.__dict__["aux_logits"] = False
        _replace_last(network, len(weights.meta["categories"]), num_outputs)
    _set_channels(network, in_channels, f"torchvision:{name}", pretrained)
    return network


def _replace_last(network: nn.Module, old_outputs: int, num_outputs: int) -> None:
    try:
        name = last_linear(network, old_outputs)
    except SurgeryError:  # SqueezeNet's last layer is a 1 x 1 convolution
        name = next(n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.out_channels == old_outputs)
    old = network.get_submodule(name)
    if isinstance(old, nn.Conv2d):
        network.set_submodule(name, nn.Conv2d(old.in_channels, num_outputs, old.kernel_size))  # type: ignore[arg-type]
    else:
        assert isinstance(old, nn.Linear)
        network.set_submodule(name, nn.Linear(old.in_features, num_outputs, bias=old.bias is not None))


def _set_channels(network: nn.Module, in_channels: int, name: str, pretrained: bool) -> None:
    """Another first convolution where the images have other channels: the mean of pretrained kernels, or a new one."""
    found = next(((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or found[1].groups != 1:
        raise SurgeryError(f"network {name}: expected a first convolution to take {in_channels} channels, got none")
    where, old = found
    if old.in_channels == in_channels:
        return
    new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation,  # type: ignore[arg-type]
                    bias=old.bias is not None, padding_mode=old.padding_mode)  # fmt: skip
    if pretrained:
        new.weight.data = fit_channels(old.weight.detach(), in_channels)
    else:  # drawn as the old one was: same spread, for its number of inputs
        fresh = old.weight.detach().std() * (old.in_channels / in_channels) ** 0.5
        nn.init.normal_(new.weight, 0.0, float(fresh))
    if old.bias is not None and new.bias is not None:
        new.bias.data = old.bias.detach().clone()
    network.set_submodule(where, new)


def _timm(
    name: str, num_outputs: int, in_channels: int, image_size: tuple[int, ...], options: Options, pretrained: bool
) -> nn.Module:
    timm: Any = _library("timm")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    _require_2d(f"timm:{name}", image_size)
    arguments: dict[str, Any] = {"num_classes": num_outputs, "in_chans": in_channels}
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        arguments["img_size"] = image_size
    if not pretrained:
        made = _call(f"timm:{name}", timm.create_model, name, pretrained=False, **{**arguments, **options})
        return _with_torch_linear(made, timm)
    if not timm.models.is_model_pretrained(name) and config is None:
        raise CheckpointError(
            f"pretrained: expected a network that timm has weights for, got {name}; give weights=FILE"
        )
    source = (config.hf_hub_id and f"huggingface.co/{config.hf_hub_id}") or config.url or name
    made = _download(
        f"timm:{name}", source,
        lambda: _call(f"timm:{name}", timm.create_model, name, pretrained=True, **{**arguments, **options}),
    )  # fmt: skip
    return _with_torch_linear(made, timm)


def _with_torch_linear(network: nn.Module, timm: Any) -> nn.Module:
    """timm's Linear differs from torch's in TorchScript only; the surgery, which takes torch's, could not fuse it."""
    for module in network.modules():
        if type(module) is timm.layers.Linear:
            module.__class__ = nn.Linear
    return network


def _monai(
    name: str, num_outputs: int, in_channels: int, image_size: tuple[int, ...], options: Options, pretrained: bool
) -> nn.Module:
    nets: Any = _library("monai.networks.nets", "monai")
    known = [n for n, made in vars(nets).items() if _is_maker(made)]
    if name not in known:
        raise _unknown("monai", name, known)
    maker = getattr(nets, name)
    taken = _parameters(maker, nets)
    given: dict[str, Any] = {
        "spatial_dims": len(image_size), "img_size": image_size, "in_shape": (in_channels, *image_size),
        "out_shape": (num_outputs,), "dim": len(image_size),
    }  # fmt: skip
    arguments = {key: value for key, value in given.items() if key in taken}
    outputs = next((key for key in OUTPUTS if key in taken), None)
    channels = next((key for key in CHANNELS if key in taken), None)
    arguments |= {} if outputs is None else {outputs: num_outputs}
    arguments |= {} if channels is None else {channels: in_channels}
    arguments |= unet_arguments(name, image_size)
    if "pretrained" in taken and "pretrained" not in options:
        arguments["pretrained"] = False  # EfficientNetBN's default would download
    if outputs is None and "out_shape" not in taken and not set(OUTPUTS) & options.keys():
        raise StudyError(
            f"network: expected one of monai's classification networks, got {name}, which takes none of "
            f"{', '.join(OUTPUTS)}; name its number of outputs ({num_outputs}) in network_options"
        )
    if not pretrained:
        return _call(f"monai:{name}", maker, **{**arguments, **options})
    if maker.__name__.startswith("resnet"):  # MedicalNet's weights come without a last layer
        return _medicalnet(maker, arguments, options)
    if "pretrained" not in taken:
        raise CheckpointError(
            f"pretrained: expected a network that MONAI has weights for, got {name}; give weights=FILE"
        )
    return _download(
        f"monai:{name}", "the weights that MONAI names",
        lambda: _call(f"monai:{name}", maker, **{**arguments, "pretrained": True, **options}),
    )  # fmt: skip


def _medicalnet(maker: Callable[..., nn.Module], arguments: dict[str, Any], options: Options) -> nn.Module:
    resnet: Any = importlib.import_module("monai.networks.nets.resnet")
    name, depth = maker.__name__, int(maker.__name__.removeprefix("resnet"))
    if arguments["spatial_dims"] != 3:
        dims = arguments["spatial_dims"]
        raise CheckpointError(f"pretrained: expected 3-D images for monai:{name}, got {dims}-D; give weights=FILE")
    bias, shortcut = resnet.get_medicalnet_pretrained_resnet_args(depth)
    network = _call(
        f"monai:{name}", maker, **{**arguments, "bias_downsample": bias, "shortcut_type": shortcut, **options}
    )
    file = f"huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}"
    state = _download(f"monai:{name}", file, lambda: resnet.get_pretrained_resnet_medicalnet(depth))
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = network.state_dict()
    if own["conv1.weight"].shape[1] != state["conv1.weight"].shape[1]:
        state["conv1.weight"] = fit_channels(state["conv1.weight"], own["conv1.weight"].shape[1])
    lacking, strange = network.load_state_dict(
        {k: v for k, v in state.items() if not k.startswith("fc.")}, strict=False
    )
    lacking = [key for key in lacking if not key.startswith("fc.") and not key.endswith("num_batches_tracked")]
    if lacking or strange:
        raise CheckpointError(
            f"pretrained: expected all weights of monai:{name}, got none for {lacking[:3]} and no place for "
            f"{strange[:3]}; leave options out that change its layers"
        )
    return network


def _brain(
    name: str, num_outputs: int, in_channels: int, image_size: tuple[int, ...], options: Options, pretrained: bool
) -> nn.Module:
    from fusionconv.study.brain_networks import BRAIN_NETWORKS
    from fusionconv.study.small_cnn import SmallCNN

    if name not in BRAIN_NETWORKS and name != "small_cnn":
        raise _unknown("fusionconv", name, ["small_cnn", *BRAIN_NETWORKS])
    if len(image_size) != 3 and name != "small_cnn":
        raise SurgeryError(
            f"network fusionconv:{name}: expected 3-D images, got {_by(image_size)}; give another network"
        )
    if pretrained:
        raise CheckpointError(
            f"pretrained: expected a library's network, got fusionconv:{name}, which has no published weights; give "
            "weights=FILE"
        )
    given: dict[str, Any] = {"num_outputs": num_outputs, "in_channels": in_channels}
    if name == "small_cnn":
        return _call("fusionconv:small_cnn", SmallCNN, **{**given, "image_size": image_size, **options})
    return _call(f"fusionconv:{name}", BRAIN_NETWORKS[name], **{**given, **options})


def _own_function(
    module: str, name: str, num_outputs: int, in_channels: int, image_size: tuple[int, ...], options: Options,
    pretrained: bool,
) -> nn.Module:  # fmt: skip
    full = f"{module}:{name}"
    if pretrained:
        raise CheckpointError(
            f"pretrained: expected a library's network, got {full}; load its weights in the function, or give "
            "weights=FILE"
        )
    found = _import(module)
    maker = getattr(found, name, None)
    if not callable(maker):
        raise StudyError(f"network: expected a function or class of {module}, got {name!r}"
                         + _near(name, [n for n, made in vars(found).items() if callable(made)]))  # fmt: skip
    taken = inspect.signature(maker).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    given = {"num_outputs": num_outputs, "in_channels": in_channels, "image_size": image_size}
    given = {key: value for key, value in given.items() if key in taken or open_ended}
    network = _call(full, maker, **{**given, **options})
    if not isinstance(network, nn.Module):
        raise StudyError(f"network: expected {full} to return an nn.Module, got {type(network).__name__}")
    return network


def _import(module: str) -> Any:
    here = os.getcwd()
    local = os.path.join(here, module.partition(".")[0])
    if here not in sys.path and (os.path.isfile(f"{local}.py") or os.path.isdir(local)):
        sys.path.append(here)  # the console command does not look in the folder in which it is run
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise StudyError(f"network: expected a module that can be imported, got {module} ({error})") from error
        raise StudyError(
            f"network: expected {', '.join(LIBRARIES)} or a module of your own, got {module!r}, which Python does not "
            f"find{_near(module, list(LIBRARIES))}; run the command in the folder that holds it, or install it"
        ) from error


LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "monai": _monai,
    "fusionconv": _brain,
}


# ---- what they share ----


def _library(module: str, package: str | None = None) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = package or module
        raise StudyError(f"network: expected the package {name}, which is not installed; pip install {name}") from error


def _parameters(maker: Callable[..., Any], nets: Any) -> set[str]:
    """The arguments of a maker, with those that ``**kwargs`` passes on: to a class's parents, or to ResNet."""
    taken = set(inspect.signature(maker).parameters)
    if "kwargs" in taken:
        parents = maker.__mro__[1:] if isinstance(maker, type) else (nets.ResNet,)
        for parent in parents:
            if str(parent.__module__).startswith("monai.networks.nets"):
                taken |= set(inspect.signature(parent).parameters)
    return taken - {"kwargs"}


def _is_maker(made: object) -> bool:
    is_network = isinstance(made, type) and issubclass(made, nn.Module)
    return (is_network or inspect.isfunction(made)) and str(made.__module__).startswith("monai.networks.nets")


def _call(name: str, maker: Callable[..., Any], *positional: Any, **arguments: Any) -> nn.Module:
    try:
        network: nn.Module = maker(*positional, **arguments)
        return network
    except FusionError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError) as error:
        said = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key not in ("weights", "pretrained"))
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise StudyError(
            f"network {name}: expected arguments that it takes, got {said or 'none'} ({why}); correct "
            "network_options, or the image size"
        ) from error


def _download(name: str, file: str, make: Callable[[], Made]) -> Made:
    try:
        return make()
    except StudyError:
        raise
    except Exception as error:  # no connection, a quota, a full disk: urllib, requests, httpx, the hub, each its own
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"pretrained: expected to download the weights of {name} from {file}, got {type(error).__name__} ({why}); "
            "download this file on another machine and give weights=FILE, or leave pretrained out"
        ) from error


def _require_2d(name: str, image_size: Sequence[int]) -> None:
    if len(image_size) != 2:
        raise SurgeryError(
            f"network {name}: expected 2-D images, got {_by(image_size)}; give one of monai or fusionconv"
        )


def _unknown(library: str, name: str, known: Sequence[str]) -> StudyError:
    hint = _near(name, known) or (f"; there are {', '.join(known)}" if len(known) < 10 else "")
    return StudyError(f"network: expected a network of {library}, got {name!r}{hint}")


def _near(name: str, known: Sequence[str]) -> str:
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.casefold(), candidate)
    found = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(folded[f] for f in found)}?" if found else ""


def _by(image_size: Sequence[int]) -> str:
    return " x ".join(map(str, image_size))
