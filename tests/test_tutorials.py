"""The tutorials run as they are, and what comes out lies where each says it must, by construction."""

from __future__ import annotations

import ast
import importlib
import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
SCRIPTS = sorted(FOLDER.glob("*.py"))
scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)


def faces(left: dict[str, Any]) -> None:
    accuracy = left["accuracy"]
    assert left["before"][-1] < 0.80  # 75 % by construction, on 800 faces
    assert accuracy["image"] < 0.80
    assert accuracy["hybrid"] > 0.92
    assert left["permuted"] < 0.80


def brains(left: dict[str, Any]) -> None:
    accuracy, observer = left["accuracy"], left["observer"]
    assert observer == pytest.approx(0.75, abs=0.06)
    assert accuracy["volume"] < observer + 0.04
    assert min(accuracy[arm] for arm in accuracy if arm != "volume") > observer + 0.02


def dermoscopy(left: dict[str, Any]) -> None:
    auc = left["auc"]["pooled"]
    assert set(auc.index) == {"image", "covariates", "concat", "hybrid-first"}
    assert auc["image"] < 0.875 + 0.06  # by construction, on 192 lesions
    assert auc["covariates"] == pytest.approx(0.76, abs=0.09)
    assert min(auc["concat"], auc["hybrid-first"]) > auc["covariates"] + 0.03
    assert left["comparison"].comparisons["p"].notna().any()
    assert "device_missing" in left["study"].encoding


def segmentation(left: dict[str, Any]) -> None:
    dice = {arm: values.mean() for arm, values in left["scores"].items()}
    assert dice["image"] < left["floor"] < 0.85
    assert min(dice["concat"], dice["film"], dice["hybrid"]) > left["floor"] + 0.05


def restoration(left: dict[str, Any]) -> None:
    mean = {name: values.mean() for name, values in left["scores"].items()}
    ceiling = mean["Wiener, width known"]
    assert mean["blurred"] < mean["best single filter"] < ceiling
    learned = {name: mean[name] for name in ("image", "concat", "film", "hybrid", "hybrid filter")}
    assert max(learned.values()) < ceiling + 0.02
    assert mean["hybrid filter"] > mean["best single filter"] + 0.5
    assert min(mean["concat"], mean["film"], mean["hybrid"]) > mean["image"]


def bearings(left: dict[str, Any]) -> None:
    accuracy, best = left["accuracy"], left["best"]["signal"]
    assert best == pytest.approx(0.649, abs=1e-3)
    assert accuracy["signal"] < best + 0.06  # four standard errors of 1,000 signals
    assert min(accuracy["hybrid"], accuracy["resampled"]) > 0.92


def names(left: dict[str, Any]) -> None:
    accuracy = left["accuracy"]
    assert left["best_from_name"] == 0.75
    assert accuracy["name"] < 0.78
    assert accuracy["hybrid"] > accuracy["name"] + 0.04


def digits(left: dict[str, Any]) -> None:
    accuracy, best = left["accuracy"], left["ceiling"]["picture alone"]
    assert best == pytest.approx(0.7, abs=0.02)
    assert accuracy["image"] <= best
    assert min(accuracy["hybrid"], accuracy["same, 4 x steps"]) > 0.9


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "plot_01_faces": faces,
    "plot_02_brains": brains,
    "plot_03_dermoscopy": dermoscopy,
    "plot_04_segmentation": segmentation,
    "plot_05_restoration": restoration,
    "plot_06_bearings": bearings,
    "plot_07_names": names,
    "plot_08_digits": digits,
}


def test_there_is_a_check_for_every_tutorial() -> None:
    assert set(CHECKS) == {script.stem for script in SCRIPTS}


@scripts
def test_it_runs_and_its_figures_hold(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    plt.close("all")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        left = runpy.run_path(str(script), run_name="__main__")
    assert plt.get_fignums(), "a tutorial ends with a figure"
    plt.close("all")
    CHECKS[script.stem](left)


@scripts
def test_it_uses_public_names_only(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fusionconv":
            public = importlib.import_module(str(node.module)).__all__
            assert {alias.name for alias in node.names} <= set(public)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fusionconv":
            assert node.attr in importlib.import_module("fusionconv").__all__


@scripts
def test_it_is_told_in_cells(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring is not None
    title, line = docstring.splitlines()[:2]
    assert set(line) == {"="}
    assert len(line) >= len(title)
    assert "Known by construction" in docstring
    assert text.count("\n# %%\n") >= 3
