"""What fusing has added to a model: which layers, by which method, parameters and FLOPs against the network's own."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusionconv.errors import SurgeryError
from fusionconv.layers import CovariateLayer
from fusionconv.surgery.eval_mode import in_eval_mode
from fusionconv.surgery.flops import added_flops, plain_flops, positions
from fusionconv.surgery.listing import kind_of
from fusionconv.surgery.one_call import call, count_covariates, zero_covariates, zero_image

__all__ = ["FusedInfo", "Summary", "summary"]


@dataclass(frozen=True)
class FusedInfo:
    """One fused layer of a model, as `summary` lists it.

    Attributes:
        name: of the layer in the model.
        method: of the fusion, as `fuse_into` takes it.
        kind: class of the plain layer, such as Conv2d.
        weight_shape: of the plain layer's weight W.
        options: of the method, by name.
        parameters: how many the plain layer has.
        added_parameters: how many the method adds.
        flops: of the plain layer for one image; None where `summary` was given no image.
        added_flops: what the method adds for one image; None likewise.

    Example:
        >>> import torch, fusionconv
        >>> model = fusionconv.fuse_into(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), 0, num_covariates=2)
        >>> layer = fusionconv.summary(model).layers[0]
        >>> layer.name, layer.method, layer.kind, layer.weight_shape, layer.parameters, layer.added_parameters
        ('0', 'hybrid', 'Conv2d', (8, 3, 3, 3), 224, 432)
    """

    name: str
    method: str
    kind: str
    weight_shape: tuple[int, ...]
    options: dict[str, Any]
    parameters: int
    added_parameters: int
    flops: int | None = None
    added_flops: int | None = None


@dataclass(frozen=True)
class Summary:
    """What `summary` found; printing it gives a table.

    Attributes:
        model: the name of its class.
        num_covariates: K, or None where nothing is fused.
        layers: the fused ones.
        parameters, flops: of the network without what was added.
        added_parameters, added_flops: what was added.
        input_shape: of the image that FLOPs are of, or None.
        warnings: sentences about what is out of proportion.

    Example:
        >>> import torch, fusionconv
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 3))
        >>> model = fusionconv.fuse_into(net, "first", num_covariates=4)
        >>> found = fusionconv.summary(model, input_size=(3, 16, 16))
        >>> found.parameters, found.added_parameters, found.flops, found.added_flops
        (370, 864, 126144, 1728)
        >>> found.warnings[0][:61]
        'the covariates add 864 parameters to the 370 of the network: '
        >>> found.to_dict()["layers"][0]["name"]
        '0'
    """

    model: str
    num_covariates: int | None
    layers: tuple[FusedInfo, ...]
    parameters: int
    added_parameters: int
    flops: int | None = None
    added_flops: int | None = None
    input_shape: tuple[int, ...] | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON knows it: numbers, texts, lists, dicts."""
        found = dataclasses.asdict(self)
        found["layers"] = [{**layer, "weight_shape": list(layer["weight_shape"])} for layer in found["layers"]]
        found["input_shape"] = None if self.input_shape is None else list(self.input_shape)
        found["warnings"] = list(self.warnings)
        return found

    def __str__(self) -> str:
        counted = self.flops is not None
        count = len(self.layers)
        head = f"{self.model}: {count} fused layer{'' if count == 1 else 's'}"
        head += "" if self.num_covariates is None else f", {self.num_covariates} covariate(s)"
        head += f"; FLOPs of one image {self.input_shape}" if counted else ""
        if not self.layers:
            return (
                f"{head}\n{self.parameters:,} parameters; call fusionconv.fuse_into(model, layer_idx, num_covariates)"
            )
        lines = [["layer", "method", "kind", "weight", "parameters", "added", *["FLOPs", "added"] * counted]]
        for layer in self.layers:
            options = ", ".join(f"{k}={v}" for k, v in layer.options.items())
            lines.append([
                layer.name or "(the model)", f"{layer.method} ({options})" if options else layer.method, layer.kind,
                "x".join(map(str, layer.weight_shape)), f"{layer.parameters:,}", f"+{layer.added_parameters:,}",
                *[short(layer.flops), f"+{short(layer.added_flops)}"] * counted,
            ])  # fmt: skip
        share = [f"{self.parameters:,}", _of(self.added_parameters, self.parameters)]
        lines.append(["the network", "", "", "", *share,
                      *[short(self.flops), _of(self.added_flops, self.flops, True)] * counted])  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = []
        for line in lines:
            cells = zip(line, widths, strict=True)
            rows.append("  ".join(c.rjust(w) if n > 3 else c.ljust(w) for n, (c, w) in enumerate(cells)))
        rule = "-" * len(rows[0])
        body = [head, "", rows[0], rule, *rows[1:-1], rule, rows[-1], *(f"Warning: {text}" for text in self.warnings)]
        return "\n".join(line.rstrip() for line in body)

    __repr__ = __str__


def summary(
    model: nn.Module, input_size: Sequence[int] | None = None, *, x: Tensor | None = None,
    covariates: Tensor | None = None,
) -> Summary:  # fmt: skip
    r"""What is fused in ``model``, where, by which method, and what that adds to it.

    The network's own FLOPs are what torch.utils.flop_counter counts (convolutions and matrix products; a multiplication
    and an addition are two). What a layer adds is counted by the formula in its class's docstring, the same for every
    strategy: for hybrid ``2 K Q`` for the kernel of Q numbers.

    Args:
        model: fused or not.
        input_size: (C, \*size) of one image, without the batch: also count FLOPs, by one call with zeros in eval mode.
        x: a batch instead, of which the first row is used; for networks that zeros do not suit.
        covariates: (N, K) beside it; default: zeros.

    Returns:
        A `Summary`: print it, or read its attributes. ``warnings`` has a sentence where the covariates add more
        parameters, or more FLOPs, than the network has.

    Raises:
        SurgeryError: an ``input_size`` that is no size; both it and ``x``; parameters without a shape yet.

    Example:
        >>> import torch, fusionconv
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False))
        >>> found = fusionconv.summary(fusionconv.fuse_into(net, 0, num_covariates=2))
        >>> [(layer.name, layer.method) for layer in found.layers]
        [('0', 'hybrid')]
    """
    if not isinstance(model, nn.Module):
        raise SurgeryError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    layers = {name: m for name, m in model.named_modules() if isinstance(m, CovariateLayer)}
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise SurgeryError(
            "expected parameters with shapes, got a lazy module that has not run; call the model once first"
        )
    added = {name: sum(p.numel() for _, p in layer.covariate_parameters()) for name, layer in layers.items()}
    every = sum(p.numel() for p in model.parameters())
    image = _image(model, input_size, x)
    total, own, extra = (None, {}, {}) if image is None else _count(model, layers, image, covariates)
    found = tuple(
        FusedInfo(
            name, layer.METHOD, kind_of(layer), tuple(layer.weight.shape),
            {k: v for k, v in layer.layer_options().items() if v != layer.OPTIONS[k].default},
            sum(p.numel() for p in layer.parameters()) - added[name], added[name], own.get(name), extra.get(name),
        )
        for name, layer in layers.items()
    )  # fmt: skip
    plain, new = every - sum(added.values()), sum(added.values())
    more = None if image is None else sum(extra.values())
    return Summary(
        base_name(model), count_covariates(model), found, plain, new, total, more,
        None if image is None else tuple(image.shape[1:]), _warnings(found, plain, new, total, more),
    )  # fmt: skip


def base_name(model: nn.Module) -> str:
    """The name of the class that a model had before it was fused."""
    kind: type[nn.Module] = getattr(type(model), "_fusion_base", type(model))
    return kind.__name__


def _image(model: nn.Module, input_size: Sequence[int] | None, x: Tensor | None) -> Tensor | None:
    """One image."""
    if x is not None:
        if input_size is not None:
            raise SurgeryError("expected input_size or x, got both; give one")
        if not isinstance(x, Tensor) or x.ndim < 2 or not len(x):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise SurgeryError(f"x: expected a batch (N, C, *size), got {got}")
        return x[:1]
    return None if input_size is None else zero_image(model, input_size)


def _count(
    model: nn.Module, layers: dict[str, CovariateLayer], image: Tensor, covariates: Tensor | None
) -> tuple[int, dict[str, int], dict[str, int]]:  # fmt: skip
    """FLOPs of the network without what was added; of each fused layer its plain ones and what its method adds."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    own, extra, counted, before = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0), 0, [0]

    def enter(module: nn.Module, given: Any) -> None:
        before.append(counter.get_total_flops())

    def leave(name: str) -> Any:
        def hook(module: Any, given: Any, named: Any, output: Tensor) -> None:
            nonlocal counted
            counted += counter.get_total_flops() - before.pop()
            linear = isinstance(module, nn.Linear)
            _, x, *_ = inspect.signature(type(module).forward).bind(module, *given, **named).arguments.values()
            sizes = positions(x.shape, linear), positions(output.shape, linear)
            own[name] += plain_flops(module, *sizes)
            extra[name] += added_flops(module, *sizes)

        return hook

    s = covariates[:1] if covariates is not None else zero_covariates(model, image)
    handles = [m.register_forward_pre_hook(enter) for m in layers.values()]
    handles += [m.register_forward_hook(leave(name), with_kwargs=True) for name, m in layers.items()]
    try:
        with in_eval_mode(model), torch.no_grad(), counter:
            call(model, image, s)
    finally:
        for handle in handles:
            handle.remove()
    return counter.get_total_flops() - counted + sum(own.values()), own, extra


def _warnings(
    layers: tuple[FusedInfo, ...], plain: int, new: int, total: int | None, more: int | None
) -> tuple[str, ...]:  # fmt: skip
    texts = []
    if new > plain:
        most = max(layers, key=lambda layer: layer.added_parameters)
        texts.append(
            f"the covariates add {new:,} parameters to the {plain:,} of the network: {most.added_parameters:,} in "
            f"{most.name or 'the model'} ({most.method}); with few images take a rank, lowrank, film, or another layer"
        )
    if total is not None and more is not None and more > total:
        texts.append(
            f"the covariates add {short(more)} FLOPs to the {short(total)} of the network; see docs/performance.md"
        )
    return tuple(texts)


def short(number: int | None) -> str:
    """1.23M of 1234567."""
    if number is None:
        return ""
    value = float(number)
    for unit in ("", "k", "M", "G"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}T"


def _of(added: int | None, own: int | None, brief: bool = False) -> str:
    """+12 (+3 %)."""
    if added is None or own is None:
        return ""
    text = f"+{short(added) if brief else f'{added:,}'}"
    return f"{text} (+{100 * added / own:.2g} %)" if own else text
