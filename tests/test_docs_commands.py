"""The commands of README and docs: each parses against the program that it names; the scripts of docs/examples run."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.markdown import PAGES, ROOT, blocks, name, prose

pages = pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
#: programs whose options are not ours to check
OTHERS = {"pip", "uv", "source", "pre-commit", "ruff", "mypy", "pytest", "tensorboard", "srun", "sbatch", "git", "cd"}
#: a page that says so has the commands of an earlier commit
PAST = "The commands on this page are those of commit"


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """Commands, and whether one is whole: in a console or an indented block, not a mention in the text."""
    if PAST in page.read_text(encoding="utf-8"):
        return
    for block in blocks(page, "console"):
        yield from ((line, True) for line in block.replace("\\\n", " ").splitlines() if line.strip())
    text = prose(page).replace("\\\n", " ")
    for line in re.findall(r"^    ((?:fusionconv|python -m|[A-Z_]+=\S+ python -m) .*)$", text, flags=re.MULTILINE):
        yield line, True
    for said in re.findall(r"`(fusionconv [a-z-]+ [^`]*|python -m (?:recipes|fusionconv)[^`]*)`", text):
        if "..." not in said and "COMMAND" not in said and "\n" not in said and " --" in said:
            yield said, False


def check(line: str, folder: Path) -> str | None:
    """What is wrong with a command, or None."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if not words:
        return None
    if words[0] == "uvx":
        words = words[max(n for n, word in enumerate(words) if word.startswith(".[")) + 1 :]
    if words[:2] == ["python", "-m"]:
        return _module(words[2], words[3:], folder)
    if words[0] == "python":
        return None if (ROOT / words[1]).exists() else f"no file {words[1]}"
    if words[0] == "fusionconv":
        return _study(words[1], words[2:], folder)
    if words[0] == "torchrun":
        return _torchrun(words[1:])
    return None if words[0] in OTHERS else f"a program that no test knows: {words[0]}"


def _study(command: str, words: list[str], folder: Path, **more: object) -> str | None:
    from fusionconv.errors import StudyError
    from fusionconv.study.command_line import parse
    from fusionconv.study.own_options import OWN

    if command in ("--help", "--version") or {"-h", "--help"} & set(words):
        return None
    if "own" not in more and command not in OWN:
        return f"no such command: {command}"
    config = folder / "study.yaml"
    config.write_text("table: study.csv\ntarget: dx\n")
    ours = [*ROOT.glob("recipes/*/configs/*.yaml"), *ROOT.glob("benchmarks/real/*.yaml")]
    known = {str(path) for path in ours}
    words = [str(ROOT / word) if str(ROOT / word) in known else word for word in words]
    words = [
        str(config) if n and words[n - 1] == "--config" and word not in known else word for n, word in enumerate(words)
    ]
    try:
        given = parse(command, words, **more)  # type: ignore[arg-type]
        if "own" not in more and command in ("compare", "inspect", "fit", "lr-find"):
            from fusionconv.study.arms import parse_arm
            from fusionconv.study.settings import make_settings

            make_settings(given.settings)
            for arm in given.own.get("arms", []):
                parse_arm(arm)
    except StudyError as error:
        return str(error)
    return None


def _module(name: str, words: list[str], folder: Path) -> str | None:
    if name in ("sphinx", "pytest", "torch.distributed.run"):
        return None
    if name.startswith("recipes."):
        main = importlib.import_module(f"{name}.__main__")
        if not words or words[0].startswith("-"):
            return None
        command, *rest = words
        if command not in main.COMMANDS:
            return f"{name}: no such command: {command}"
        if name == "recipes.adni":
            if command in ("test", "report") and rest and not rest[0].startswith("-"):
                rest = ["--out", *rest]  # its folder may come first
            takes = command in ("demo", "inspect", "prepare", "fit", "crossval")
            return _study(command, rest, folder, own=main.options_of(command), settings=takes)
        module, _, options, _ = main.COMMANDS[command]
        if options is None:
            return _study(command, rest, folder) if command in ("explain", "robustness") else None
        own = getattr(importlib.import_module(f"{name}.{module}"), options)
        rest = [str(ROOT / word) if word.startswith("recipes/") else word for word in rest]
        return _study(command, rest, folder, own=own, settings=command in main.WITH_SETTINGS)
    said = io.StringIO()
    package = hasattr(importlib.import_module(name), "__path__")
    where = f"{name}.__main__" if package and importlib.util.find_spec(f"{name}.__main__") else name
    try:  # argparse programs: --help behind the words stops before anything runs, and after unknown commands are refused
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(where).main([*words, "--help"])
    except SystemExit as end:
        return said.getvalue() if end.code else None
    return f"{name}: --help did not stop it"


def _torchrun(words: list[str]) -> str | None:
    from torch.distributed.run import get_args_parser

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = get_args_parser().parse_args(words)
    except SystemExit:
        return said.getvalue()
    script = given.training_script
    return None if script == "train.py" or (ROOT / script).exists() else f"no file {script}"


@pages
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    problems = {
        line: problem
        for line, whole in commands(page)
        if (problem := check(line, tmp_path)) and (whole or "got none" not in problem)
    }
    assert not problems


@pytest.mark.parametrize("line", [
    "fusionconv compare --table a.csv --target dx --arm image --out o",  # arms
    "fusionconv compare --table a.csv --target dx --arms image hybrd@first --out o",
    "fusionconv comparee --table a.csv",
    "fusionconv demo --dims",
    "python -m recipes.celeba fitt --root DIR",
    "python -m recipes.celeba fit --root DIR --rooot DIR --out o",
    "python -m recipes.adni crossval --sources x --out o",
    "python -m fusionconv.tabular inspekt a.csv",
    "python docs/figures/absent.py",
    "torchrun --nproc-per-nodes 2 docs/examples/ddp.py",
    "torchrun --standalone docs/examples/absent.py",
    "fusionkonv demo",
])  # fmt: skip
def test_a_wrong_command_would_be_found(line: str, tmp_path: Path) -> None:
    assert check(line, tmp_path)


def test_commands_are_found_in_blocks_and_in_the_text() -> None:
    found = {page.name: [line for line, _ in commands(page)] for page in PAGES}
    assert sum(map(len, found.values())) > 40
    assert "fusionconv demo --dims 3" in found["study.md"]
    assert any(line.startswith("fusionconv predict") for line in found["study.md"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pages
def test_shell_scripts_parse(page: Path) -> None:
    for block in blocks(page, "bash|sh"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for line in block.replace("\\\n", " ").splitlines():
            if "torchrun" in line and not line.startswith("#"):
                assert _torchrun(shlex.split(line.replace("$", ""))[shlex.split(line).index("torchrun") + 1 :]) is None


EACH = """
import os, runpy, sys
for script, port, folder in zip(*[iter(sys.argv[1:])] * 3):
    os.environ["MASTER_PORT"], sys.argv = port, [script, folder]
    runpy.run_path(script, run_name="__main__")
"""


def test_examples_run_in_two_processes(tmp_path: Path) -> None:
    """As `torchrun --nproc-per-node 2` starts them: gloo, on the CPU; one after another, since torch takes long to load."""
    scripts = sorted((ROOT / "docs/examples").glob("*.py"))
    assert [p.stem for p in scripts] == ["ddp", "fsdp2"]
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in scripts]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in free]
    words = [str(w) for s, port in zip(scripts, ports, strict=True) for w in (s, port, tmp_path / s.stem)]
    common = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    common |= {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen([sys.executable, "-c", EACH, *words], env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=300)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    assert all((tmp_path / script.stem / "fusion.json").exists() for script in scripts)
