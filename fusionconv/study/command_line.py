"""From a command line, or a YAML file, to settings: jsonargparse checks types, help comes from the docstring."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jsonargparse
import yaml

from fusionconv.errors import StudyError
from fusionconv.study.settings import GROUPS, Settings, TaskName

__all__ = ["Given", "help_text", "parse", "trainer_help"]

#: options of the commands that are no settings: name -> (default, help). None is the default of a text. A type in its
#: place: no default, a value of that type; object: the command itself checks what it is.
OWN: dict[str, dict[str, tuple[Any, str]]] = {
    "inspect": {},
    "compare": {
        "arms": (
            ["image", "covariates", "concat", "hybrid@first"],
            "image, covariates, stacked, concat, METHOD@WHERE (hybrid@first, film@last, ...), or {arm: ..., rank: 2}",
        ),
        "out": (None, "folder of everything that is written (needed)"),
        "overwrite": (False, "throw away what an earlier comparison left there"),
        "part": ("1/1", "do the K-th of N parts of the runs, such as 2/3; machines may share --out"),
        "launcher": ("local", "local, ray or slurm"),
        "jobs": (1, "runs at the same time; with ray and slurm 1 is as many as there is room for"),
        "launcher_options": ({}, "of ray or slurm, such as time=2:00:00 partition=gpu"),
        "minutes": (float, "choose the number of epochs so that the whole takes about so long"),
    },
    "fit": {
        "arm": ("hybrid@first", "the arm to train, such as film@last, or {arm: ..., rank: 2}"),
        "out": (None, "folder of everything that is written (needed)"),
        "overwrite": (False, "throw away what an earlier run left there"),
    },
    "predict": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose networks answer (needed); those of all folds are averaged"),
        "table": (None, "rows to predict (needed); the study's columns, no target"),
        "images": (None, "folder of their images; default: the table's folder"),
        "out": ("predictions.csv", "file of the answers"),
        "decimal": (None, "mark of the numbers in a text table, . or , (61,5); default: the study's"),
    },
    "report": {
        "out": (None, "folder of a comparison (needed); with --against also of one arm, OUT/runs/ARM"),
        "against": (None, "another one on the same rows and folds: paired tests of each arm, in against-NAME.csv"),
    },
    "explain": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose network is looked at (needed)"),
        "fold": (None, "which fold's network; default: the first"),
        "rows": (6, "so many test images"),
        "layer": (None, "layer whose feature maps are drawn too, such as layer4.1"),
        "out": (None, "folder of the figures; default: STUDY/explain/ARM"),
        "difference": ([], "images out: a covariate and two values, such as age 60 80: what it changes in the answer"),
        "nifti": (False, "3-D: also write the attributions as NIfTI, on the voxels of the images' files"),
        "method": (
            "integrated_gradients",
            "of the attributions: integrated_gradients, grad_cam, guided_backprop or occlusion",
        ),
    },
    "diagram": {
        "network": (None, "network to draw, such as torchvision:resnet18, timm:resnet18 or package.module:function"),
        "study": (None, "folder of a finished comparison, in place of --network: its network and its covariates"),
        "arm": ("image", "the arm that is drawn, such as hybrid@first, or {arm: ..., rank: 2}"),
        "covariates": ([], "names of the covariates, in the order of the vector"),
        "image_size": ([224, 224], "height and width, or three sizes in 3-D"),
        "channels": (3, "of the images"),
        "num_outputs": (1, "of the last layer"),
        "network_options": ({}, "further arguments of the network, such as depth=18"),
        "title": (None, "above the drawing; default: none"),
        "out": ("network.svg", "file: .svg, .pdf or .png"),
    },
    "serve": {
        "study": (None, "folder of a finished comparison; default: the demo study, made here if it is not there"),
        "arm": (None, "the arm that is shown first; default: the first hybrid one"),
        "host": ("127.0.0.1", "address to listen at; another one shows the images to whoever reaches this machine"),
        "port": (object, "default: the first free one from 7860 on"),
    },
    "lr-find": {
        "arm": ("image", "the arm that is trained for a few steps, or {arm: ..., rank: 2}"),
        "out": (None, "folder of lr_find.csv and lr_find.png (needed)"),
        "steps": (100, "how many rates are tried, one a step"),
        "min_lr": (1e-8, "the first rate"),
        "max_lr": (1.0, "the last rate"),
    },
    "robustness": {
        "study": (None, "folder of a finished comparison (needed)"),
        "arm": (None, "whose networks are judged (needed)"),
        "step": (15.0, "degrees from one angle to the next"),
        "rows": (int, "only the first so many test rows of each fold; default: all"),
        "seed": (0, "of the shuffling"),
        "out": (None, "folder of robustness.csv and robustness.png; default: STUDY/robustness/ARM"),
    },
    "demo": {
        "dims": (2, "2 or 3"),
        "out": (None, "folder of the study; default: runs/demo-2d or runs/demo-3d"),
        "seed": (0, "of the images, splits and weights"),
        "overwrite": (False, "throw away an earlier demo"),
    },
}
_POSITIONAL = {"report": "out", "explain": "study", "robustness": "study", "serve": "study"}
_WITH_SETTINGS = ("inspect", "compare", "fit", "lr-find")
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
    if command in _POSITIONAL and words and not words[0].startswith("-"):
        words = [f"--{_POSITIONAL[command]}", *words]
    lists, pairs = ([name for name, (default, _) in own.items() if isinstance(default, kind)] for kind in (list, dict))
    flags = with_underscores(words, [*_LISTS, *lists], [*_PAIRS, *pairs])
    takes = command in _WITH_SETTINGS if settings is None else settings
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
        return _yaml(text)
    return text if is_text and text != "null" else _word(text)


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
    others = {name for command in _WITH_SETTINGS for name in OWN[command]} - {*names, *own}
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


def help_text(
    command: str, what: str, own: Mapping[str, tuple[Any, str]] | None = None, *, usage: str | None = None
) -> str:
    """A command's options, a line each; ``own`` and ``usage`` as of a program on top of the engine."""
    lines = [usage or _usage(command), "", f"{what[:1].upper()}{what[1:]}.", ""]
    for name, (default, text) in (OWN[command] if own is None else own).items():
        lines.append(_line(name, text, default))
    if command in _WITH_SETTINGS:
        lines.append(_line("config", "YAML file of options; those of the command line win", None))
        told = dict(re.findall(r"^ {8}(\w+): (.*?)\n?$", str(Settings.__doc__), re.M))
        fields = {f.name: f for f in dataclasses.fields(Settings)}
        order = list(fields)
        for title, (first, last) in GROUPS.items():
            lines += [f"{title}:"]
            for name in order[order.index(first) : order.index(last) + 1]:
                f = fields[name]
                made: Any = f.default_factory
                default = f.default if f.default is not dataclasses.MISSING else made()
                lines.append(_line(name, told[name].rstrip("."), default))
    return "\n".join(lines)


def _usage(command: str) -> str:
    name = _POSITIONAL.get(command)
    word = "" if name is None else f" {name.upper()}" if "(needed)" in OWN[command][name][1] else f" [{name.upper()}]"
    return f"usage: fusionconv {command}{word}{' [--config FILE]' if command in _WITH_SETTINGS else ''} [options]"


def _line(name: str, text: str, default: Any) -> str:
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    end = (
        f" ({shown})"
        if shown not in (None, "", {}, []) and not isinstance(default, (bool, type)) and "default" not in text
        else ""
    )
    return f"  --{name.replace('_', '-'):<20} {text}{end}"


def trainer_help() -> str:
    """The options of Lightning's Trainer."""
    import inspect

    from lightning.pytorch import Trainer

    lines = ["--trainer.KEY VALUE gives an option of Lightning's Trainer:", ""]
    for name, p in list(inspect.signature(Trainer.__init__).parameters.items())[1:]:
        lines.append(f"  --trainer.{name:<36} {p.annotation} (default: {p.default})".replace("typing.", ""))
    return "\n".join(lines)


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
            out.append(_flow([_word(v) for v in values]))
    return out


def _several(text: str) -> Any:
    """``a,b`` is a list, ``{...}`` YAML, everything else one word."""
    if text[:1] in "{[":
        return _yaml(text)
    return [_word(v) for v in text.split(",")] if "," in text else _word(text)


def _word(text: str) -> Any:
    """A number, a YAML mapping, true, false or null, or the text itself: 007, no and dates stay text."""
    if text[:1] in "{[":
        return _yaml(text)
    if text in ("true", "false", "null"):
        return _yaml(text)
    if re.fullmatch(r"[-+]?(0|[1-9]\d*)", text):
        return int(text)
    if re.fullmatch(r"[-+]?((0|[1-9]\d*)\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return text


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
    return text.strip()


def _yaml(text: str) -> Any:
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
