"""Which part of a U-shaped network a convolution belongs to: encoder, bottleneck or decoder.

Read from what is registered, as roles are, without running the network. tests/surgery/test_parts.py compares with the
size of the maps that run. Three kinds of networks, in this order:

1. Nested (MONAI's UNet and AttentionUnet): each level holds the next one as ``submodule``. The innermost is the
   bottleneck. What is registered before it is the encoder, what comes behind it, or wraps it, the decoder.
2. By names: some convolution has a part of its path that says decoder (decoder, up, upcat, upsamples, ...). These, and
   what is registered behind the first of them, are the decoder; all others are the encoder. The bottleneck is what has
   such a name (bottleneck, bottom, middle, center, bridge), or else the last block of the encoder: the one of the last
   number (down_4, encoder10), or what comes behind the last module that makes maps smaller.
3. By order: the decoder begins at the first module that makes maps larger, and the bottleneck at the last one before it
   that makes them smaller.

A network in which nothing of these is found is no U-shaped one: all its convolutions are its encoder.
"""

from __future__ import annotations

import re

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fusionconv.surgery.roles import AUXILIARY, GATE

__all__ = ["PARTS", "parts_of"]

PARTS = ("encoder", "bottleneck", "decoder")

DECODER_NAME = re.compile(
    r"de_?coders?\d*(_blocks?|_layers?)?|dec\d+|up(_?(cat|samples?|layers?|blocks?|convs?|tr|path|stages?|sampling))?_?\d*"
    r"|expan\w*",
    re.IGNORECASE,
)
BOTTLENECK_NAME = re.compile(
    r"bottle_?neck\d*|bottom\w*|bridge|mid(dle)?(_?(block|conv|layer)s?)?\d*|cent(er|re)", re.IGNORECASE
)
ENCODER_NAME = re.compile(
    r"en_?coders?(?P<a>\d*)(_blocks?|_layers?)?|enc(?P<b>\d+)|contract\w*"
    r"|down(_?(samples?|layers?|blocks?|convs?|tr|path|stages?))?_?(?P<c>\d*)",
    re.IGNORECASE,
)
GROWS = ("upsample", "pixelshuffle", "subpixel", "unpool")


def parts_of(model: nn.Module, roles: dict[str, str]) -> dict[str, str]:
    """The part of each convolution and nn.Linear of ``roles``, by name; empty where the network is not U-shaped."""
    modules = dict(model.named_modules())
    names = list(roles)
    return _nested(modules, names) or _by_name(modules, names, roles) or _by_order(modules, names)


def _nested(modules: dict[str, nn.Module], names: list[str]) -> dict[str, str]:
    levels = [n for n, m in modules.items() if n.rpartition(".")[2] == "submodule" and _holds(n, names)]
    if not levels:
        return {}
    inner = max(levels, key=lambda n: n.split(".").count("submodule"))
    order = {name: at for at, name in enumerate(modules)}
    wraps = [inner.rpartition(".")[0]]  # the module that holds a level, and what merges it: all of it is decoder
    while ".submodule" in wraps[-1] or wraps[-1].endswith("submodule"):
        above = wraps[-1][: wraps[-1].rindex("submodule")].removesuffix(".")
        wraps.append(above)
    found = {}
    for name in names:
        if _below(name, inner):
            found[name] = "bottleneck"
        elif any(_below(name, wrap) and not _below(name, f"{wrap}.submodule".removeprefix(".")) for wrap in wraps):
            found[name] = "decoder"
        else:
            found[name] = "encoder" if order[name] < order[inner] else "decoder"
    return found


def _by_name(modules: dict[str, nn.Module], names: list[str], roles: dict[str, str]) -> dict[str, str]:
    decoder = [name for name in names if _says(DECODER_NAME, name) and roles[name] not in (GATE, AUXILIARY)]
    first = next((at for at, name in enumerate(names) if name in set(decoder)), None)
    if first is None or first == 0:
        return {}
    found = {}
    for at, name in enumerate(names):
        if _says(BOTTLENECK_NAME, name):
            found[name] = "bottleneck"
        elif _says(ENCODER_NAME, name) and not _says(DECODER_NAME, name):
            found[name] = "encoder"
        else:
            found[name] = "decoder" if at >= first or _says(DECODER_NAME, name) else "encoder"
    if "encoder" not in found.values():
        return {}
    encoder = [name for name in names if found[name] == "encoder"]
    if "bottleneck" not in found.values():
        block = _numbered_block(encoder[-1])
        if block is None:
            order = {name: at for at, name in enumerate(modules)}
            ends = order[names[first]]
            smaller = [order[n] for n, m in modules.items() if order[n] < ends and _makes_smaller(m)]
            inside = [name for name in encoder if smaller and order[name] >= smaller[-1]]
        else:
            inside = [name for name in encoder if _below(name, block)]
        if len(inside) < len(encoder):
            found |= dict.fromkeys(inside, "bottleneck")
    return found


def _numbered_block(name: str) -> str | None:
    """The encoder's block that holds a layer, where its name has a number: down_4, encoder10."""
    words = name.split(".")
    for at, word in enumerate(words[:-1]):
        match = ENCODER_NAME.fullmatch(word)
        if match is not None and any(match.groupdict().values()):
            return ".".join(words[: at + 1])
    return None


def _by_order(modules: dict[str, nn.Module], names: list[str]) -> dict[str, str]:
    order = {name: at for at, name in enumerate(modules)}
    grows = [order[n] for n, m in modules.items() if _makes_larger(m)]
    shrinks = [order[n] for n, m in modules.items() if _makes_smaller(m)]
    if not grows or not (before := [at for at in shrinks if at < grows[0]]):
        return {}
    deepest = before[-1]
    places = {name: order[name] for name in names}
    found = {
        name: "decoder" if at >= grows[0] else "bottleneck" if at >= deepest else "encoder"
        for name, at in places.items()
    }
    return found if "decoder" in found.values() else {}


def _makes_larger(module: nn.Module) -> bool:
    if isinstance(module, _ConvNd):
        return module.transposed and max(module.stride) > 1
    kind = type(module).__name__.lower()
    return any(word in kind for word in GROWS)


def _makes_smaller(module: nn.Module) -> bool:
    if isinstance(module, _ConvNd):
        return not module.transposed and max(module.stride) > 1
    kind = type(module).__name__.lower()
    return "pool" in kind and "unpool" not in kind and "adaptive" not in kind


def _says(pattern: re.Pattern[str], name: str) -> bool:
    return any(pattern.fullmatch(word) for word in name.split("."))


def _below(name: str, place: str) -> bool:
    return not place or name == place or name.startswith(f"{place}.")


def _holds(place: str, names: list[str]) -> bool:
    return any(_below(name, place) for name in names)
