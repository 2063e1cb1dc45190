"""The shared harness of the fusion methods: cases, and each method's formula written out for one sample at a time.

The formulas know nothing of fusionconv: they read the layer's parameters by name and run torch's own layer with the
weight and bias that sample i is to have, or scale and shift what it gives.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

import fusionconv
from fusionconv.layers import METHODS, CovariateLayer
from tests.helpers.networks import small_net

K = 2
KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {  # a plain layer of each kind, and the shape of a sample
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 7)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2, padding_mode="circular"), (4, 4, 5)),
    "Conv3d": (lambda: nn.Conv3d(4, 6, 2, dilation=2, bias=False), (4, 4, 3, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (4, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2, bias=False), (4, 3, 4)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(4, 6, 2, groups=2, stride=2), (4, 2, 2, 2)),
    "Linear": (lambda: nn.Linear(4, 6), (3, 4)),
}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("hybrid", {}),
    ("hybrid", {"rank": 1, "covariate_bias": True}),
    ("lowrank", {}),
    ("lowrank", {"rank": 3, "covariate_bias": True, "strategy": "kernels"}),
    ("lowrank", {"rank": 2, "hidden": 5, "covariate_bias": True, "strategy": "features"}),
    ("hyper", {"hidden": 5}),
    ("hyper", {"hidden": 6, "rank": 2, "covariate_bias": True, "strategy": "stacked"}),
    ("film", {}),
    ("film", {"hidden": 5}),
    ("daft", {}),
    ("daft", {"shift": False, "bottleneck": 6}),
    ("daft", {"scale": False}),
    ("daft", {"activation": "tanh"}),
    ("daft", {"activation": "sigmoid", "identity": True}),
    ("daft", {"activation": "sigmoid", "identity": False}),
    ("scale", {"hidden": 5}),
    ("scale", {"hidden": 5, "identity": False}),
    ("attention", {"hidden": 5}),
    ("attention", {"hidden": 5, "pooled": True}),
    ("concat", {}),
    ("concat", {"hidden": 5}),
    ("condconv", {"ignore_covariates": True}),
    ("condconv", {"ignore_covariates": True, "experts": 2, "covariate_bias": True, "strategy": "loop"}),
]
IDS = ["-".join([m, *(f"{k}={v}" for k, v in o.items() if k != "ignore_covariates")]) for m, o in CASES]
ONE_EACH = [case for i, case in enumerate(CASES) if case[0] not in [m for m, _ in CASES[:i]]]
PAIRS = [(m, o, kind) for m, o in CASES for kind in KINDS if getattr(nn, kind) in METHODS[m].VARIANTS]
PAIR_IDS = [f"{name}-{kind}" for name, case in zip(IDS, CASES, strict=True) for m, o, kind in PAIRS if (m, o) == case]


def starts_as_plain(method: str, options: dict[str, Any]) -> bool:
    return options.get("identity", True) is True


def depends_on_image(method: str, options: dict[str, Any]) -> bool:
    return method in ("daft", "condconv") or bool(options.get("pooled"))


def plain_layer(kind: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return KINDS[kind][0]().double()


def layer_and_batch(method: str, options: dict[str, Any], kind: str, n: int = 3):
    """A layer with everything that it adds drawn at random, and x and s."""
    layer = METHODS[method].from_plain(plain_layer(kind), K, **options)
    randomise(layer)
    x = torch.randn(n, *KINDS[kind][1], dtype=torch.float64)
    return layer, x, torch.randn(n, K, dtype=torch.float64)


def randomise(layer: nn.Module, std: float = 0.7) -> None:
    with torch.no_grad():
        for _, parameter in layer.covariate_parameters():
            parameter.normal_(std=std)


def by_hand(layer: nn.Module, method: str, options: dict[str, Any], plain: nn.Module, x, s) -> torch.Tensor:
    """What ``layer(x, s)`` is to give; ``plain`` is torch's own layer with the same settings."""
    p = dict(layer.named_parameters())
    own = {"weight": p["weight"], "bias": p.get("bias")}
    return torch.cat(
        [one_sample(p, own, method, options, copy.deepcopy(plain), x[i : i + 1], s[i]) for i in range(len(x))]
    )


def one_sample(p, own, method, options, plain, x, s) -> torch.Tensor:
    def run(weight, bias):
        if bias is not None and plain.bias is None:
            plain.register_parameter("bias", nn.Parameter(torch.zeros_like(bias)))
        given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        return torch.func.functional_call(plain, given, (x,))

    linear = isinstance(plain, nn.Linear)

    def mean_of_each_channel(maps):  # (1, C, *spatial) or (1, *, C)
        return maps[0].reshape(-1, maps.shape[-1]).mean(0) if linear else maps[0].reshape(maps.shape[1], -1).mean(1)

    def over_maps(numbers, maps):
        return numbers if linear else numbers.reshape(-1, *[1] * (maps.ndim - 2))

    if method in ("hybrid", "hyper", "condconv"):
        if method == "hybrid":
            factors = s if options.get("rank") is None else p["covariate_map"] @ s
        elif method == "hyper":
            factors = (p["covariate_hidden_weight"] @ s + p["covariate_hidden_bias"]).clamp(min=0)
            factors = factors if options.get("rank") is None else p["covariate_map"] @ factors
        else:
            factors = 1 / (1 + torch.exp(-(p["routing_weight"] @ x[0].flatten(1).mean(1) + p["routing_bias"])))
        weight, bias = own["weight"], own["bias"]
        for r, factor in enumerate(factors):
            weight = weight + factor * p["covariate_weight"][r]
            if options.get("covariate_bias"):
                bias = factor * p["covariate_bias"][r] + (0 if bias is None else bias)
        return run(weight, bias)

    if method == "lowrank":  # entry by entry of the change, for each output channel and each of its inputs
        c = s
        if "covariate_hidden_weight" in p:
            c = (p["covariate_hidden_weight"] @ s + p["covariate_hidden_bias"]).clamp(min=0)
        c = p["covariate_out_weight"] @ c
        a, b = p["covariate_mixing"], p["covariate_filters"]
        transposed = type(plain).__name__.startswith("ConvTranspose")
        groups = 1 if linear else plain.groups
        weight = own["weight"].clone()
        for channel in range(len(a)):
            mix = a[channel] * c  # (r,)
            if transposed:  # of one group: its inputs' rows, the channel's place in its group
                group, place = divmod(channel, len(a) // groups)
                rows = len(b)
                change = torch.stack([torch.tensordot(mix, b[i], 1) for i in range(rows)])
                weight[group * rows : (group + 1) * rows, place] += change
            else:
                weight[channel] += sum(mix[q] * b[q] for q in range(len(mix)))
        bias = own["bias"]
        if options.get("covariate_bias"):
            bias = c @ p["covariate_bias"] + (0 if bias is None else bias)
        return run(weight, bias)

    y = run(own["weight"], own["bias"])
    channels = len(mean_of_each_channel(y))
    v = torch.cat([mean_of_each_channel(y), s]) if depends_on_image(method, options) else s
    if "covariate_hidden_weight" in p:
        v = (p["covariate_hidden_weight"] @ v + p.get("covariate_hidden_bias", 0)).clamp(min=0)
    values = p["covariate_out_weight"] @ v
    if method == "concat":
        return y + values
    if method == "film":
        return (1 + over_maps(values[:channels], y)) * y + over_maps(values[channels:], y)
    if method == "scale":
        return over_maps(values if options.get("identity") is False else 1 + values, y) * y
    if method == "attention":
        return over_maps(2 / (1 + torch.exp(-values)), y) * y
    assert method == "daft"
    a = values[:channels] if options.get("scale", True) else None
    shift = None if not options.get("shift", True) else values[channels:] if a is not None else values
    if a is not None:
        activation, identity = options.get("activation", "linear"), options.get("identity", True)
        alpha = {"linear": lambda t: t, "tanh": torch.tanh, "sigmoid": lambda t: 1 / (1 + torch.exp(-t))}[activation](a)
        if identity:
            alpha = 2 * alpha if activation == "sigmoid" else 1 + alpha
        y = over_maps(alpha, y) * y
    return y if shift is None else y + over_maps(shift, y)


def where(method: str) -> list[int]:
    """The layers of `small_net` that the network tests fuse: two convolutions and the head, or what the method takes."""
    return {"concat": [8], "condconv": [0, 5]}.get(method, [0, 5, 8])


def fuse(model: nn.Module, method: str, options: dict[str, Any], prefix: str = "") -> nn.Module:
    """`small_net`, or a module that holds one under ``prefix``, fused and with everything that is new at random."""
    fusionconv.fuse_into(model, [f"{prefix}{i}" for i in where(method)], K, method=method, **options)
    torch.manual_seed(3)
    for layer in model.modules():
        if isinstance(layer, CovariateLayer):
            randomise(layer, std=0.4)
    return model


def fused_net(method: str, options: dict[str, Any], seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net: Any = fuse(small_net().double().eval(), method, options)
    return net


def net_by_hand(net: nn.Sequential, method: str, options: dict[str, Any], x, s) -> torch.Tensor:
    """What a `small_net` fused so is to give, in eval mode, as a function of its own parameters."""
    plain = small_net().double()
    for i, module in enumerate(net):
        x = by_hand(module, method, options, plain[i], x, s) if i in where(method) else module(x)
    return x
