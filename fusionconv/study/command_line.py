"""From a command line, or a YAML file, to options by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fusionconv.errors import StudyError
from fusionconv.study.own_options import OWN, POSITIONAL, WITH_SETTINGS
from fusionconv.study.settings import Settings
from fusionconv.study.words import read_yaml, value_of, with_underscores

__all__ = ["Given", "parse"]

_LISTS = [f.name for f in dataclasses.fields(Settings) if str(f.type).startswith("list")]
_PAIRS = [f.name for f in dataclasses.fields(Settings) if "dict" in str(f.type)]


@dataclass
class Given:
    """What was given: options of a study, and options of the command (defaults filled in)."""

    settings: dict[str, Any]
    own: dict[str, Any]


def parse(
    command: str, words: Sequence[str], own: Mapping[str, tuple[Any, str]] | None = None, *,
    settings: bool | None = None, config: Path | None = None, program: str = "fusionconv",
) -> Given:  # fmt: skip
    """Words of a command line: ``--config FILE`` first, then the options, which win.

    Args:
        command: its name.
        words: of the command line.
        own: options beside a study's, name -> (default, help) as in ``OWN``, of a program on top of the engine;
            default: ``OWN[command]``.
        settings: whether a study's options are taken too; default: as the command of that name.
        config: the YAML file that is read where the words name none.
        program: for messages.

    Raises:
        StudyError: an unknown option, a value of another type, a needed option that is absent.
    """
    own = OWN[command] if own is None else own
    if command in POSITIONAL and words and not words[0].startswith("-"):
        words = [f"--{POSITIONAL[command]}", *words]
    lists, pairs = ([name for name, (default, _) in own.items() if isinstance(default, kind)] for kind in (list, dict))
    flags = with_underscores(words, [*_LISTS, *lists], [*_PAIRS, *pairs])
    takes = command in WITH_SETTINGS if settings is None else settings
    names = list(Settings.__dataclass_fields__) if takes else []
    said: dict[str, Any] = {}
    at = 0
    while at < len(flags):
        word = flags[at]
        if not word.startswith("--"):
            raise StudyError(
                f"expected an option such as --out DIR, got {word!r}; `{program} {command} --help` lists them"
            )
        name, _, key = word[2:].partition(".")
        value: Any = flags[at + 1] if at + 1 < len(flags) and not re.match(r"--[a-z]", flags[at + 1]) else None
        at += 1 if value is None else 2
        if name not in [*names, *own, *(["config"] if names else [])]:
            raise StudyError(_unknown(f"{program} {command}", name, [*names, *own]))
        if value is None and not isinstance(_default(name, own), bool):
            raise StudyError(f"--{name.replace('_', '-')}: expected a value, got none")
        is_text = name in own and _is_text(own[name][0])
        read = True if value is None else _read(name, value, [*lists, *pairs], is_text)
        if key:
            said.setdefault(name, {})[key] = read
        elif isinstance(read, dict) and isinstance(said.get(name), dict):
            said[name] |= read
        else:
            said[name] = read
    file = said.pop("config", config)
    if file is not None:
        said = {**_config(str(file), names, own), **said}
    values = {n: said.get(n, None if isinstance(d, type) else d) for n, (d, _) in own.items()}
    needed = [n for n, (_, text) in own.items() if values[n] is None and "(needed)" in text]
    if needed:
        raise StudyError(f"expected --{' --'.join(needed)}, got none; `{program} {command} --help` says what it is")
    for name, (default, _) in own.items():
        values[name] = _as_kind(name, values[name], default)
    return Given({name: value for name, value in said.items() if name in names}, values)


def _as_kind(name: str, value: Any, default: Any) -> Any:
    """Of the command's own options: numbers are numbers, and names are text."""
    kind = default if isinstance(default, type) else str if default is None else type(default)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None and (default is None or default is kind):
        return None
    if kind is object:
        return value
    if kind is list:
        return value if isinstance(value, list) else [value]
    if number and kind in (str, float):  # of a YAML file: a folder 2024, a layer 2; 3 hours
        return kind(value)
    if name == "arm" and isinstance(default, str) and isinstance(value, dict):  # {arm: hybrid@first, rank: 2}
        return value
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise StudyError(f"--{name.replace('_', '-')}: expected {_kind(kind)}, got {value!r}")


def _is_text(default: Any) -> bool:
    return default is None or isinstance(default, str)


def _kind(kind: type) -> str:
    return {int: "a whole number", float: "a number", str: "text", dict: "pairs such as a=b", bool: "true or false"}[
        kind
    ]


def _default(name: str, own: Mapping[str, tuple[Any, str]]) -> Any:
    return own[name][0] if name in own else Settings.__dataclass_fields__[name].default if name != "config" else None


def _read(name: str, text: str, several: Sequence[str], is_text: bool) -> Any:
    if name in _LISTS or name in _PAIRS or name in several or text[:1] in ("{", "["):
        return read_yaml(text)
    return text if is_text and text != "null" else value_of(text)


def _unknown(command: str, name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join('--' + n.replace('_', '-') for n in near)}?" if near else ""
    return f"expected an option of {command.split()[-1]}, got --{name.replace('_', '-')}{hint} (`{command} --help`)"


def _config(path: str, names: Sequence[str], own: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML file: options by name; study.yaml of a comparison is one too.

    A key ``x-NAME`` holds options of another program: those that ``own`` lists are taken as if they stood outside.
    One file serves every command of a study: what only another command takes, such as arms, is left alone.
    """
    if not Path(path).is_file():
        raise StudyError(f"config: expected a YAML file, got {path}, which is not there")
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"config: expected YAML in {path}, got {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyError(f"config: expected options by name in {path}, got {type(content).__name__}")
    content = {**content.pop("settings", {}), **content}
    for key in [key for key in content if str(key).startswith("x-")]:
        theirs = content.pop(key)
        if isinstance(theirs, dict) and any(name in own for name in theirs):
            content = {**theirs, **content}
    content = {str(name).replace("-", "_"): value for name, value in content.items()}
    others = {name for command in WITH_SETTINGS for name in OWN[command]} - {*names, *own}
    content = {name: value for name, value in content.items() if name not in others}
    for name in content:
        if name not in [*names, *own]:
            raise StudyError(f"{path}: {_unknown('fusionconv compare', name, [*names, *own])}")
    return content


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML 1.2 numbers: 1e-5 is one, and 2:00:00 is text (YAML 1.1 reads it as 7200)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def _number(read: Any) -> Any:
    return lambda loader, node: node.value if ":" in node.value else read(loader, node)


_Loader.add_constructor("tag:yaml.org,2002:int", _number(yaml.SafeLoader.construct_yaml_int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(yaml.SafeLoader.construct_yaml_float))
