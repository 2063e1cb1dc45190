"""From words on a command line, or a YAML file, to Settings: jsonargparse checks the types, help comes from docstrings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonargparse
import yaml

from fusionconv.errors import StudyError
from fusionconv.study.settings import Settings

__all__ = ["SettingsParser", "settings_parser", "with_underscores"]


class SettingsParser(jsonargparse.ArgumentParser):
    """A parser of Settings and of a command's own options; hyphens and underscores are the same."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """One line, and exit code 2 at the command line; a StudyError in Python."""
        text = re.sub(r"\s+", " ", str(message)).strip()
        raise StudyError(f"{text}; `{self.prog} --help` lists the options" if self.prog else text)

    def format_help(self) -> str:
        """The help with hyphens, as the options are written."""
        text = re.sub(r"--\w+", lambda found: found[0].replace("_", "-"), super().format_help())
        return re.sub(r" \(type: [^()]*(\([^()]*\)[^()]*)*\)", "", text)

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """Settings of plain values."""
        parsed = self.parse_object(dict(values)).as_dict()
        return Settings(**{name: parsed[name] for name in Settings.__dataclass_fields__})


def settings_parser(prog: str = "", description: str | None = None, **options: Any) -> SettingsParser:
    """The parser of a study's settings."""
    os.environ.setdefault("COLUMNS", "120")
    parser = SettingsParser(prog=prog, description=description, default_env=False, exit_on_error=False, **options)
    parser.add_class_arguments(Settings, None)
    return parser


def with_underscores(words: Sequence[str], lists: Iterable[str], pairs: Iterable[str]) -> list[str]:
    """Words as jsonargparse takes them: ``--image-size 48 48 24`` becomes ``--image_size [48, 48, 24]``, and ``--kinds
    a=b`` becomes ``--kinds {a: b}``.

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
        if equals and name not in lists | pairs:
            out.append(value)
            continue
        values = [value] if equals else []
        while at < len(words) and not re.match(r"--[A-Za-z]", words[at]):
            values.append(words[at])
            at += 1
        if dot or name not in lists | pairs:
            out += values
        elif name in pairs and values and all("=" in v and v[:1] not in "{[" for v in values):
            out.append(_flow({k: _several(v) for k, v in (v.split("=", 1) for v in values)}))
        elif len(values) == 1 and values[0][:1] in "[{":
            out.append(values[0])
        else:
            out.append(_flow([_word(v) for v in values]))
    return out


def _several(text: str) -> Any:
    """``a,b`` is a list, ``{...}`` YAML, everything else one word."""
    if text[:1] in "{[":
        return yaml.safe_load(text)
    return [_word(v) for v in text.split(",")] if "," in text else _word(text)


def _word(text: str) -> Any:
    """A number, a YAML mapping, or the text itself: ``no``, ``null`` and dates stay text."""
    if text[:1] in "{[":
        return yaml.safe_load(text)
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        # 007 and 1_000 are names, and so are nan and inf
        return value if re.fullmatch(r"[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?", text) else text
    return text


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True).strip()
