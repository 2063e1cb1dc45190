"""The figures of docs/figures: each is what its script draws today."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import pytest
import torch

from fusionconv.layers import METHODS

mpl.use("Agg")
FOLDER = Path(__file__).parents[1] / "docs" / "figures"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_figures_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def words(svg: str) -> list[str]:
    """The texts of a figure, which matplotlib leaves beside their outlines."""
    return re.findall(r"<!-- (.*?) -->", svg, flags=re.DOTALL)


def test_every_script_has_its_figure() -> None:
    scripts, figures = ({p.stem for p in FOLDER.glob(f"*.{kind}")} for kind in ("py", "svg"))
    assert scripts == figures
    assert {"idea", "cheatsheet"} <= figures


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_the_figure_in_the_repository_is_what_its_script_draws(name: str, tmp_path: Path) -> None:
    """`python docs/figures/NAME.py` draws it again; texts are compared, since outlines are matplotlib's."""
    script(name).draw().savefig(tmp_path / "now.svg", metadata={"Date": None})
    now, kept = (words(p.read_text(encoding="utf-8")) for p in (tmp_path / "now.svg", FOLDER / f"{name}.svg"))
    assert len(now) > 10
    assert now == kept


def test_the_cheat_sheet_shows_every_method() -> None:
    kept = words((FOLDER / "cheatsheet.svg").read_text(encoding="utf-8"))
    assert [word for word in kept if word in METHODS] == list(METHODS)
    assert list(script("cheatsheet").FORMULAS) == list(METHODS)


@pytest.mark.parametrize(("method", "where", "expected"), [
    ("hybrid", "first", 4 * 64 * 3 * 49),  # K Q
    ("film", "first", 2 * 64 * 4),  # 2 C K
    ("concat", "fc", 1000 * 4),  # C K
    ("lowrank", "last", 8 * (512 * 9 + 512 + 4)),  # r (Q / C + C + K)
    ("concat", "layer4", None),
])  # fmt: skip
def test_the_cheat_sheet_counts_as_docs_methods_says(method: str, where: str, expected: int | None) -> None:
    found = script("cheatsheet").added("ResNet-18", where, method)
    assert (found and found[0]) == expected


def test_the_idea_s_maps_are_convolutions_with_the_kernels_shown() -> None:
    idea = script("idea")
    layer, image = idea.layer(), idea.image()
    for s in idea.SUBJECTS.values():
        kernel = layer.weight + s[0] * layer.covariate_weight[0] + s[1] * layer.covariate_weight[1]
        padded = torch.nn.functional.pad(image, (2, 2, 2, 2), mode="reflect")
        expected = torch.nn.functional.conv2d(padded, kernel)
        assert torch.allclose(layer(image, torch.tensor([s])), expected, atol=1e-6)
