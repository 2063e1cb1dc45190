"""The house: arrows point down, no module imports itself by a detour, and the recipes stay short enough to be read."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import fusionconv

ROOT = Path(__file__).parent.parent
#: from the bottom up; a package may import what is in front of it, anywhere in its files
HOUSE = [
    "fusionconv.errors", "fusionconv.strategies", "fusionconv.covariate_checks", "fusionconv.functional", "fusionconv.layers",
    "fusionconv.surgery", "fusionconv.tabular", "fusionconv.checkpoint", "fusionconv.evaluation",
    "fusionconv.explain", "fusionconv.study", "benchmarks", "recipes",
]  # fmt: skip


def modules(*packages: str) -> dict[str, Path]:
    found = {}
    for package in packages:
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


MODULES = modules("fusionconv", "benchmarks", "recipes")


def imports(path: Path, inside_functions: bool) -> Iterator[str]:
    """The modules that a file imports; without ``inside_functions`` only what importing the file imports."""

    def visit(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not inside_functions:
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    for node in visit(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def storey(module: str) -> int | None:
    return next((n for n, part in enumerate(HOUSE) if module == part or module.startswith(part + ".")), None)


def test_arrows_point_down() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports(path, True)
        if (here := storey(module)) is not None and (there := storey(other)) is not None and there > here
    ]
    assert not wrong


def test_the_package_never_names_what_is_above_it() -> None:
    """Nor does it reach up by a name in a string, as lazy imports do."""
    for module, path in MODULES.items():
        if not module.startswith("recipes"):
            code = ast.parse(path.read_text(encoding="utf-8"))
            docs = {
                id(node.body[0].value)
                for node in ast.walk(code)
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
                and isinstance(node.body[0], ast.Expr)
            }  # fmt: skip
            words = [n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and id(n) not in docs]
            assert not [w for w in words if isinstance(w, str) and w.startswith("recipes.")], module


def test_no_circle_of_imports() -> None:
    arrows = {m: {o for o in imports(p, False) if o in MODULES and o != m} for m, p in MODULES.items()}
    while leaves := [m for m, others in arrows.items() if not others]:
        arrows = {m: others - set(leaves) for m, others in arrows.items() if m not in leaves}
    assert not arrows, f"these import each other, or what does: {sorted(arrows)}"


def test_the_tests_of_this_file_see_something() -> None:
    assert len(MODULES) > 150
    found = list(imports(ROOT / "fusionconv/study/runs.py", True))
    assert "fusionconv.study.module" in found
    assert "fusionconv.study.module" not in imports(ROOT / "fusionconv/study/runs.py", False)


@pytest.mark.parametrize("recipe", ["celeba", "adni"])
def test_recipes_are_short_enough_to_be_read(recipe: str) -> None:
    files = list((ROOT / "recipes" / recipe).rglob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert len(files) <= 10
    assert lines <= 2000


@pytest.mark.parametrize(("recipe", "command"), [("celeba", "fit"), ("adni", "crossval")])
def test_few_files_are_to_be_opened_to_understand_a_command(recipe: str, command: str) -> None:
    """The recipe's own files that its dispatch and the command's script import, and theirs: at most six."""
    start = f"recipes.{recipe}.__main__"
    text = MODULES[start].read_text(encoding="utf-8")
    assert command in text
    opened, todo = set(), [start]
    while todo:
        module = todo.pop()
        if module in opened or not module.startswith(f"recipes.{recipe}"):
            continue
        opened.add(module)
        todo += [o for o in imports(MODULES[module], module != start) if o in MODULES]
    assert len(opened) <= 6 + 1, sorted(opened)  # and an empty __init__


@pytest.mark.parametrize("folder", ["fusionconv", "recipes", "benchmarks", "tests"])
def test_no_file_is_called_utils(folder: str) -> None:
    assert not [p for p in (ROOT / folder).rglob("*.py") if p.stem in ("utils", "util", "helpers", "misc", "common")]


def test_a_function_and_its_module_do_not_share_a_public_name():
    """`from fusionconv.explain import kernels` must not give the module of that name, whatever was imported before."""
    names = [found.name for found in pkgutil.iter_modules(fusionconv.__path__, "fusionconv.") if found.ispkg]
    packages = [fusionconv, *map(importlib.import_module, names)]
    for package in packages:
        modules = {found.name for found in pkgutil.iter_modules(package.__path__)}
        public = {name for name in package.__all__ if not inspect.ismodule(getattr(package, name))}
        assert not modules & public, package.__name__
