"""The public names, and that importing the package is light."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys

import pytest

import fusionconv
from tests.helpers.markdown import ROOT
from tests.helpers.public import MODULES, public

PUBLIC = """CheckpointError ConvInfo CovariateError CovariateTypeError EvaluationError ExplainError FusedInfo FusionError HybridConv1d
    HybridConv2d HybridConv3d HybridConvTranspose1d HybridConvTranspose2d HybridConvTranspose3d HybridLinear ImageError
    ImageWarning LayerChoiceWarning LeakageWarning RowsError SplitWarning StudyError SurgeryError TableError TableWarning
    TunedLayer UndefinedMetricError UnusedCovariatesWarning autotune covariates functional fuse_into list_convs load merge
    param_groups save Summary summary unfuse window_predictor""".split()  # noqa: SIM905


def test_public_names() -> None:
    assert sorted(set(PUBLIC) - set(fusionconv.__all__)) == []
    for name in fusionconv.__all__:
        assert getattr(fusionconv, name).__doc__, name


def test_functional_has_its_three_functions() -> None:
    functional = fusionconv.functional
    assert functional.__all__ == ["hybrid_conv", "hybrid_conv_transpose", "hybrid_linear"]
    own = [n for n, v in vars(functional).items() if getattr(v, "__module__", "") == functional.__name__]
    assert sorted(n for n in own if not n.startswith("_")) == functional.__all__


def classes() -> list[type]:
    """Every exception and warning that a module of fusionconv defines."""
    found = []
    for path in sorted((ROOT / "fusionconv").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Warning")) and node.name[0] != "_":
                found.append(getattr(importlib.import_module(module), node.name))
    return found


def test_exceptions_and_warnings_are_exported() -> None:
    found = classes()
    assert len(found) >= 17
    for value in found:
        assert getattr(fusionconv, value.__name__, None) is value, f"export {value.__name__} from fusionconv"
        assert issubclass(value, (fusionconv.FusionError, Warning))


def test_warnings_have_a_class_of_the_library() -> None:
    """A filter for our warnings must not have to name UserWarning."""
    for path in sorted((ROOT / "fusionconv").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "warnings.warn":
                given = [ast.unparse(a) for a in [*call.args[1:], *(k.value for k in call.keywords)]]
                assert any(name in fusionconv.errors.__all__ for name in given), f"{path.name}:{call.lineno}"


def test_a_public_name_means_one_thing() -> None:
    assert len({(module, name) for module, name, _ in public()}) == len(public())
    found: dict[str, object] = {}
    for module, name, value in public():
        assert found.setdefault(name, value) is value, f"{module}.{name} is another {name} than an earlier module's"


@pytest.mark.parametrize("module", MODULES)
def test_a_page_mentions_every_public_name(module: str) -> None:
    """In the API reference or on a page; a name that is on neither is not public."""
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    words = set(re.findall(r"\w+", pages))
    assert [name for home, name, _ in public() if home == module and name not in words] == []


def test_the_list_of_public_modules_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    assert [module for module in MODULES if f"`{module}`" not in text] == []


def test_a_name_in_all_is_used_by_another_file() -> None:
    """A module's __all__ lists what other files use; the rest is private to the file."""
    files = [p for top in ("fusionconv", "recipes", "benchmarks", "tests") for p in (ROOT / top).rglob("*.py")]
    words = {path: set(re.findall(r"\w+", path.read_text(encoding="utf-8"))) for path in files}
    pages = "".join(p.read_text(encoding="utf-8") for p in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
    read = set(re.findall(r"\w+", pages))
    unused = []
    for path in sorted((ROOT / "fusionconv").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                unused += [
                    f"{path.relative_to(ROOT)}: {name}"
                    for name in ast.literal_eval(node.value)
                    if name not in read and not any(name in words[other] for other in files if other != path)
                ]
    assert not unused, "take them out of __all__"


def test_fusion_methods() -> None:
    from fusionconv.layers import METHODS

    assert list(METHODS) == ["hybrid", "lowrank", "hyper", "film", "daft", "scale", "attention", "concat", "condconv"]
    for name, method in METHODS.items():
        assert name == method.METHOD
        assert method.__doc__
        if name != "hybrid":  # its docstring is HybridConv2d's
            assert all(word in method.__doc__ for word in ("Source:", "Cost", "parameters:", "FLOPs", ">>>"))


def test_import_loads_only_torch_and_einops() -> None:
    heavy = [
        "captum",
        "nibabel",
        "pandas",
        "torchvision",
        "monai",
        "lightning",
        "matplotlib",
        "sklearn",
        "torchmetrics",
        "safetensors",
    ]
    code = f"import sys, fusionconv; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_projects() -> None:
    assert f'version = "{fusionconv.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
