"""The last layer of a network: where it is, and the heads that may take its place in every arm of a study."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusionconv.errors import StudyError, SurgeryError
from fusionconv.study.forked import forked_rng
from fusionconv.surgery.eval_mode import in_eval_mode

__all__ = ["HeadOptions", "HiddenHead", "find_head", "last_linear", "put_head", "read_head"]

KINDS = ("linear", "mlp", "norm")


@dataclass(frozen=True)
class HeadOptions:
    """What stands at the end of every arm's network.

    Args:
        kind: linear: the network's own last layer. mlp: Linear, ReLU, Linear. norm: batch norm, dropout, Linear, ReLU,
            Linear.
        hidden: units of the hidden layer; None: as many as the last layer has inputs, at most 256.
        dropout: of norm.
    """

    kind: str = "linear"
    hidden: int | None = None
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise StudyError(f"head: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.hidden is not None and self.hidden < 1:
            raise StudyError(f"head: expected at least 1 hidden unit, got {self.hidden}")
        if not 0 <= self.dropout < 1:
            raise StudyError(f"head: expected a dropout of at least 0 and below 1, got {self.dropout}")


def read_head(said: str | HeadOptions | None) -> HeadOptions:
    """Head options from a word, with or without the number of hidden units.

    >>> read_head("mlp:64")
    HeadOptions(kind='mlp', hidden=64, dropout=0.5)

    Raises:
        StudyError: no such head.
    """
    if isinstance(said, HeadOptions):
        return said
    kind, colon, hidden = str(said or "linear").partition(":")
    if colon and not hidden.isdecimal():
        raise StudyError(f"head: expected a number of hidden units behind the colon, such as mlp:64, got {said!r}")
    if colon and kind == "linear":
        raise StudyError(
            f"head: expected linear without hidden units, got {said!r}; for a hidden layer give mlp:{hidden}"
        )
    return HeadOptions(kind, int(hidden) if colon else None)


class HiddenHead(nn.Sequential):
    """A head with one hidden layer; covariates that are concatenated join the features in front of ``hidden``."""

    def __init__(self, num_inputs: int, num_outputs: int, options: HeadOptions) -> None:
        units = options.hidden or min(num_inputs, 256)
        layers: list[tuple[str, nn.Module]] = []
        if options.kind == "norm":
            layers += [("norm", nn.BatchNorm1d(num_inputs)), ("dropout", nn.Dropout(options.dropout))]
        layers += [
            ("hidden", nn.Linear(num_inputs, units)),
            ("relu", nn.ReLU(inplace=True)),
            ("output", nn.Linear(units, num_outputs)),
        ]
        super().__init__(OrderedDict(layers))


def put_head(
    network: nn.Module, head: str | HeadOptions | None, num_outputs: int, in_channels: int, image_size: Sequence[int]
) -> nn.Module:
    """Replace the last linear layer of ``network`` by ``head``, in place.

    Raises:
        SurgeryError: the network has no last linear layer of ``num_outputs``.
    """
    options = read_head(head)
    if options.kind == "linear":
        return network
    name = last_linear(network, num_outputs, in_channels, image_size)
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    new = HiddenHead(old.in_features, num_outputs, options)
    if not name:
        return new
    network.set_submodule(name, new)
    return network


def last_linear(
    network: nn.Module, num_outputs: int, in_channels: int | None = None, image_size: Sequence[int] = ()
) -> str:
    """The name of the last nn.Linear in registration order that has ``num_outputs`` outputs.

    Where several have as many, and the images' size is given, the one whose output is the network's answer.

    Raises:
        SurgeryError: there is none.
    """
    linear: dict[str, nn.Linear] = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}
    found: list[str] = [name for name, m in linear.items() if m.out_features == num_outputs]
    if not found:
        widths = ", ".join(f"{name} ({m.out_features})" for name, m in list(linear.items())[-3:]) or "none at all"
        raise SurgeryError(
            f"head: expected a last nn.Linear of {num_outputs} outputs in {type(network).__name__}, got {widths}; give "
            "head=linear, or another network"
        )
    if len(found) > 1 and in_channels is not None:
        answers = _that_answers(network, found, torch.zeros(2, in_channels, *image_size))
        return found[-1] if answers is None else answers
    return found[-1]


def _that_answers(network: nn.Module, names: Sequence[str], images: Tensor) -> str | None:
    """Which of these layers gives what the network gives; None where the network does not take the images."""
    given: dict[str, Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: given.update({name: out}))
        for name in names
    ]
    try:
        with torch.no_grad(), forked_rng(), in_eval_mode(network):
            answer = network(images)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
        return None
    finally:
        for hook in hooks:
            hook.remove()
    same = [name for name, out in given.items() if isinstance(answer, Tensor) and torch.equal(out, answer)]
    return same[-1] if same else None


def find_head(network: nn.Module) -> str | None:
    """The name of the `HiddenHead` that `put_head` put in, or None."""
    return next((name for name, module in network.named_modules() if isinstance(module, HiddenHead)), None)
