"""What an import loads, and that every public name tells what it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fusionconv import evaluation


def test_what_imports_load() -> None:
    heavy = ["scipy", "sklearn", "torchmetrics", "torchvision", "monai", "lightning", "torchsurv", "matplotlib"]
    code = f"""
import sys, fusionconv
print([m for m in ("fusionconv.evaluation", "pandas", "scipy") if m in sys.modules])
import fusionconv.evaluation
print([m for m in {heavy} if m in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_public_names_are_documented():
    assert sorted(evaluation.__all__) == list(dict.fromkeys(sorted(evaluation.__all__)))
    for name in evaluation.__all__:
        assert (getattr(evaluation, name).__doc__ or "").strip(), name


def test_every_public_name_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    absent = [name for name in evaluation.__all__ if not re.search(rf"(?<!\w){name}(?!\w)", page)]
    assert absent == []
