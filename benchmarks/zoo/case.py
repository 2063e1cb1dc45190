"""One network of the sweep: how to build it, what it takes, and how it is called with and without covariates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import fusionconv

__all__ = ["Case", "Shape", "build", "call", "inputs_for", "precision", "settle"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A network and the way to run it.

    Attributes:
        library, group, name: where it is in the table.
        build: shape of one sample -> the network, with random weights.
        shapes: shapes of one sample, smallest first; the first that the network takes is used.
        extra: (batch, shape) -> further inputs, each with one row per sample, behind the first.
        pack: the inputs as the network takes them, for instance as a list of images.
        keywords: names of the last arguments, for forwards with optional inputs: ``covariates`` stands before those.
        method: what is called; another method than forward runs inside ``fusionconv.covariates(model, s)``.
        rows: rows of covariates per sample, where the network lays several images of one sample into its batch.
        per_image: the output is a list with one entry per sample (detections).
        quiet: torch.randn_like gives zeros, for networks that draw noise in every call.
        same_noise: torch.multinomial draws the same for every row of a batch, for networks that mask at random.
        root_training: the root alone is in training mode, so that auxiliary heads run (batch norm stays in eval mode).
        note: told in the table.
        double: float64 from the start, for networks that pick among their outputs (detections).
        large: put last, since it takes long.
    """

    library: str
    group: str
    name: str
    build: Callable[[Shape], nn.Module]
    shapes: tuple[Shape, ...]
    extra: Callable[[int, Shape], tuple[Tensor, ...]] | None = None
    pack: Callable[[tuple[Tensor, ...]], tuple[Any, ...]] = tuple
    keywords: tuple[str, ...] = ()
    method: str = "forward"
    rows: int = 1
    per_image: bool = False
    quiet: bool = False
    same_noise: bool = False
    root_training: bool = False
    note: str = ""
    double: bool = False
    large: bool = False

    @property
    def key(self) -> str:
        """Its name in the stored results: ``torchvision/resnet18``."""
        return f"{self.library}/{self.name}"


@contextmanager
def precision(dtype: torch.dtype) -> Iterator[None]:
    """Tensors that a network makes itself come in ``dtype`` too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def build(case: Case, shape: Shape, dtype: torch.dtype) -> nn.Module:
    """The network in eval mode, always with the same weights, and none of its branches asleep.

    A network as built often has branches that add nothing (batch norms that start at zero, layer scales of 1e-6,
    zero-initialised projections) and batch norms that do not normalise: a convolution there cannot be judged. So every
    parameter whose elements are all equal gets noise of standard deviation 0.2, as a little training would give it.
    """
    torch.manual_seed(0)
    model = case.build(shape).to(dtype).eval()
    model.training = case.root_training
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() and parameter.is_floating_point() and bool((parameter == parameter.view(-1)[0]).all()):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter += 0.2 * noise.to(dtype)
    return model


def settle(case: Case, model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    """Give the batch norms the statistics of these inputs, by one call, so that each layer matters; its output."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        with torch.no_grad():
            return call(case, model, inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
            variance = norm.running_var
            if variance is not None:  # a channel that is dead on these few samples must not blow rounding up
                variance.clamp_(min=0.1 * variance.mean().item() + 1e-12)


def inputs_for(case: Case, shape: Shape, n: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """``n`` samples: standard normal numbers of ``shape``, and the case's further inputs."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(n, *shape, generator=generator, dtype=torch.float32).to(dtype)
    torch.manual_seed(3)
    more = case.extra(n, shape) if case.extra else ()
    return images, *(t.to(dtype) if t.is_floating_point() else t for t in more)


def call(case: Case, model: nn.Module, inputs: tuple[Tensor, ...], s: Tensor | None = None, seed: int = 4) -> Any:
    """The network's output; with covariates ``s`` (one row per sample) where it is fused."""
    torch.manual_seed(seed)
    arguments = case.pack(inputs)
    positional = len(arguments) - len(case.keywords)
    named = dict(zip(case.keywords, arguments[positional:], strict=True))
    arguments = arguments[:positional]
    if s is not None and case.rows > 1:
        s = s.repeat_interleave(case.rows, 0)
    with _noise(case):
        if case.method != "forward":
            method = getattr(model, case.method)
            if s is None:
                return method(*arguments, **named)
            with fusionconv.covariates(model, s):
                return method(*arguments, **named)
        return model(*arguments, **named) if s is None else model(*arguments, covariates=s, **named)


@contextmanager
def _noise(case: Case) -> Iterator[None]:
    """The random numbers of a call, so that a sample alone gets what it gets in its batch."""
    multinomial = torch.multinomial

    def same_rows(*arguments: Any, **options: Any) -> Tensor:
        drawn = multinomial(*arguments, **options)
        return drawn[:1].expand_as(drawn).clone()

    with ExitStack() as stack:
        if case.quiet:
            stack.enter_context(mock.patch("torch.randn_like", torch.zeros_like))
        if case.same_noise:
            stack.enter_context(mock.patch("torch.multinomial", same_rows))
        yield
