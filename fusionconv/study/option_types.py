"""Are the values of a study's options of their types? jsonargparse checks them against the dataclass."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, get_args

import jsonargparse

from fusionconv.errors import StudyError
from fusionconv.study.settings import Settings, TaskName

__all__ = ["check_types"]


class _Parser(jsonargparse.ArgumentParser):
    """Raises instead of leaving the process."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        raise StudyError(" ".join(str(ex or message).split()))


@functools.cache
def settings_parser() -> Any:
    """jsonargparse's parser of the dataclass: the types of its fields are what is checked."""
    parser = _Parser(exit_on_error=False, default_env=False)
    parser.add_class_arguments(Settings, None)
    return parser


def check_types(values: Mapping[str, Any]) -> Settings:
    """Settings of plain values.

    Raises:
        StudyError: a value of another type.
    """
    try:
        parsed = settings_parser().parse_object({n: _named(n, value) for n, value in values.items()}).as_dict()
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise StudyError(_plainly(str(error), values)) from error
    return Settings(**{name: parsed[name] for name in Settings.__dataclass_fields__})


def _named(name: str, value: Any) -> Any:
    """Numbers as text where a name is expected: a column 2019, a network of one's own called 7."""
    field = Settings.__dataclass_fields__.get(name)
    several = value if isinstance(value, list) else [value]
    if field is None or str(field.type) not in ("str", "str | None", "list[str]"):
        return value
    texts = [str(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else v for v in several]
    return texts if isinstance(value, list) else texts[0]


_TYPES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "None": "none",
          "dict[str, Any]": "pairs such as a=b", "list[str]": "words", "list[int]": "whole numbers",
          "list[float]": "numbers", "list[str | int | float]": "words or numbers"}  # fmt: skip


def _plainly(message: str, values: Mapping[str, Any]) -> str:
    """jsonargparse's message on a value of another type, in our words; any other as it is."""
    found = re.search(r'[Pp]arser key "(\w+)', message)
    if found is None or found[1] not in Settings.__dataclass_fields__:
        return " ".join(message.split())
    name = found[1]
    said = str(Settings.__dataclass_fields__[name].type)
    said = f"Literal[{', '.join(get_args(TaskName))}]" if name == "task" else said
    kinds = [_TYPES[said]] if said in _TYPES else []
    if not kinds:
        for part in re.findall(r"Literal\[[^]]*\]|[a-z]+\[[^]]*\]|\w+", said):
            words = re.findall(r"[\w.]+|(?<=[\"'])[^\w\s](?=[\"'])", part[8:]) if part.startswith("Literal") else []
            kinds += words or [_TYPES.get(part, part)]
    shown = ", ".join(kinds[:-1]) + f" or {kinds[-1]}" if len(kinds) > 1 else kinds[0]
    return f"{name}: expected {shown}, got {values.get(name)!r}"
