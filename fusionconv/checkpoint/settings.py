"""What torch's own layers were built with and no state_dict holds: a stride, an eps, the kind of an activation.

Two networks can have the same keys and shapes and still compute different numbers. A checkpoint records these settings
of every layer of torch.nn, and `differences` names those in which a backbone is another network.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fusionconv.checkpoint.names import module_kind, modules_by_key
from fusionconv.surgery.frames import Owner

__all__ = ["differences", "settings_of", "some"]

# What changes the output of a layer in eval mode and is neither a parameter nor a buffer.
SETTINGS = (
    *("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "output_padding"),  # convolutions
    *("ceil_mode", "count_include_pad", "divisor_override", "output_size", "norm_type"),  # pooling
    *("eps", "num_groups", "normalized_shape", "size", "alpha", "beta", "k"),  # norms
    *("scale_factor", "mode", "align_corners", "upscale_factor", "downscale_factor", "value"),  # resizing, padding
    *("negative_slope", "approximate", "min_val", "max_val", "lower", "upper", "threshold", "lambd"),  # activations
    *("dim", "start_dim", "end_dim", "unflattened_size", "num_heads", "batch_first", "bidirectional", "num_layers"),
    *("norm_first", "activation_relu_or_gelu", "activation", "nonlinearity", "add_zero_attn", "norm"),
    *("padding_idx", "max_norm"),  # embeddings
)
# Layers that do nothing in eval mode, hold only others, or are no part of the answer.
IGNORED = ("container", "dropout", "loss", "module")
IGNORED_CLASSES = (nn.Identity,)
BATCH_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")  # the same in eval mode


def settings_of(model: nn.Module, owner: Owner | None = None) -> dict[str, dict[str, Any]]:
    """``{name: {"kind": ..., "stride": ..., ...}}`` for every layer of torch.nn, subclasses of one included.

    Layers that ``owner`` has fused are described as they were before.
    """
    found = {}
    for name, (_, module) in modules_by_key(model).items():
        ours = [c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules.")][:-1]  # without Module
        if not ours or ours[0].__module__.rpartition(".")[2] in IGNORED or isinstance(module, IGNORED_CLASSES):
            continue
        values = {s: _plain(getattr(module, s)) for s in SETTINGS if s in vars(module)}
        kind = module_kind(module, owner)
        found[name] = {"kind": "BatchNorm" if kind in BATCH_NORMS else kind, **values}
    return found


def differences(saved: dict[str, dict[str, Any]], got: dict[str, dict[str, Any]]) -> list[str]:
    """What differs between the settings of the saved network and those of a backbone, in words; [] if nothing."""
    found = []
    for name in [*saved, *(n for n in got if n not in saved)]:
        a, b = saved.get(name), got.get(name)
        if a is None or b is None:
            there, here = ("none" if s is None else f"a {s['kind']}" for s in (a, b))
            found.append(f"layer {name!r}: expected {there}, got {here}")
        elif a["kind"] != b["kind"]:
            found.append(f"layer {name!r}: expected a {a['kind']}, got a {b['kind']}")
        else:
            both = [s for s in a if s in b and not _same(a[s], b[s])]
            found += [f"layer {name!r} ({a['kind']}): {s} expected {a[s]!r}, got {b[s]!r}" for s in both]
    return found


def some(things: list[str], limit: int = 3) -> str:
    """The first few of ``things``, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(things) - limit} more" if len(things) > limit else ""
    return ", ".join(things[:limit]) + more


def _plain(value: Any) -> Any:
    """``value`` as JSON knows it; of a function its name, of anything else only its type."""
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f"<{getattr(value, '__name__', type(value).__name__)}>"


def _same(a: Any, b: Any) -> bool:
    """Equal, where one number for all dimensions is the same as that number for each."""
    if isinstance(a, list) != isinstance(b, list):
        many, one = (a, b) if isinstance(a, list) else (b, a)
        return bool(many) and all(v == one for v in many)
    return bool(a == b)
