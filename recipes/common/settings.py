"""Which settings of two runs differ, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``"data.image_size: 64 there, 32 here"`` for each setting that differs, nested ones by their dotted names.

    >>> differences({"data": {"size": 64}, "lr": 1}, {"data": {"size": 32}, "lr": 1, "seed": 0})
    ['data.size: 64 there, 32 here', 'seed: absent there, 0 here']
    """
    found = []
    for key in {**there, **here}:
        old, new = there.get(key, "absent"), here.get(key, "absent")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}: {_short(old)} there, {_short(new)} here")
    return found


def _short(value: Any, width: int = 120) -> str:
    text = str(value)
    return text if len(text) <= width else text[: width - 4] + " ..."
