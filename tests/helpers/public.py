"""The public names and the modules that they come from."""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

#: what any other module holds may change without notice (docs/api/index.md says so)
MODULES = ["fusionconv", *(f"fusionconv.{name}" for name in
           "functional layers surgery checkpoint tabular evaluation explain study errors".split())]  # fmt: skip # noqa: SIM905


class Public(NamedTuple):
    module: str
    name: str
    value: Any


@functools.cache
def public() -> list[Public]:
    """Each name of each module's ``__all__``; one that two modules list is there twice."""
    homes = [(module, importlib.import_module(module)) for module in MODULES]
    return [Public(module, name, getattr(home, name)) for module, home in homes for name in home.__all__]
