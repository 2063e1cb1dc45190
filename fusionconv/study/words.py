"""Words of a command line as values: numbers, lists and pairs, as in ``--covariates age sex --kinds age=numeric``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from fusionconv.errors import StudyError

__all__ = ["read_yaml", "value_of", "with_underscores"]


def with_underscores(words: Sequence[str], lists: Iterable[str], pairs: Iterable[str]) -> list[str]:
    """Flags with underscores, and several words as one YAML list or mapping.

    >>> with_underscores(["--image-size", "48", "24", "--kinds", "sex=binary", "--lr=1e-3"], ["image_size"], ["kinds"])
    ['--image_size', '[48, 24]', '--kinds', '{sex: binary}', '--lr', '1e-3']
    """
    lists, pairs = set(lists), set(pairs)
    out: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not re.match(r"--[A-Za-z]", word):
            out.append(word)
            continue
        flag, equals, value = word.partition("=")
        head, dot, tail = flag[2:].partition(".")
        name = head.replace("-", "_")
        out.append(f"--{name}{dot}{tail}")
        several = name in lists | pairs and not dot
        if equals and not several:
            out.append(value)
            continue
        values = [value] if equals else []
        while at < len(words) and not re.match(r"--[A-Za-z]", words[at]) and (several or not values):
            values.append(words[at])
            at += 1
        if not several:
            out += values
        elif name in pairs and values and all("=" in v and v[:1] not in "{[" for v in values):
            out.append(_flow({k: _several(v) for k, v in (v.split("=", 1) for v in values)}))
        elif len(values) == 1 and (values[0][:1] == "[" or (values[0][:1] == "{" and name not in lists)):
            out.append(values[0])
        else:
            out.append(_flow([value_of(v) for v in values]))
    return out


def _several(text: str) -> Any:
    """``a,b`` is a list, ``{...}`` YAML, everything else one word, a lone comma too."""
    if text[:1] in "{[":
        return read_yaml(text)
    parts = text.split(",")
    return [value_of(v) for v in parts] if len(parts) > 1 and all(parts) else value_of(text)


def value_of(text: str) -> Any:
    """A number, a YAML mapping, true, false or null, or the text itself: 007, no and dates stay text."""
    if text[:1] in "{[":
        return read_yaml(text)
    if text in ("true", "false", "null"):
        return read_yaml(text)
    if re.fullmatch(r"[-+]?(0|[1-9]\d*)", text):
        return int(text)
    if re.fullmatch(r"[-+]?((0|[1-9]\d*)\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return text


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
    return text.strip()


def read_yaml(text: str) -> Any:
    """What a word of the command line says.

    Raises:
        StudyError: brackets or quotes that do not close.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = getattr(error, "problem", None) or next(iter(str(error).splitlines()), "")
        raise StudyError(
            f"expected YAML such as '{{a: b}}' or '[1, 2]', got {text!r} ({why}); close brackets, and put it in quotes "
            "for the shell"
        ) from error
