"""README and docs: their Python runs, their links lead somewhere, and CI runs the command that the README names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fusionconv import study
from tests.helpers.markdown import PAGES, ROOT, blocks, name, prose

pages = pytest.mark.parametrize("page", PAGES, ids=name)


@pages
def test_python_blocks_run(page: Path) -> None:
    namespace: dict[str, object] = {}  # the blocks of a page continue each other
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), namespace)


def anchors(page: Path) -> set[str]:
    """What a link may jump to, as GitHub and the site name headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)#?([^)\s]*)\)", prose(page)):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}#{anchor}: expected one of {sorted(anchors(file))}"


@pages
def test_python_that_needs_data_is_python(page: Path) -> None:
    """Blocks of ```text that show Python: they compile, and `Study` takes their options."""
    for block in blocks(page, "text"):
        if "import " in block or "(" in block.splitlines()[0]:
            tree = ast.parse(block)
            for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "Study":
                    study.Study(**{str(k.arg): ast.literal_eval(k.value) for k in call.keywords})


def test_ci_runs_the_readme_s_test_command() -> None:
    commands = [c.strip() for c in blocks(ROOT / "README.md", "console")]
    test = next(c for c in commands if " pytest " in c)
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert any(c.endswith("python -m recipes.celeba demo") for c in commands)


def test_no_download_address_and_no_lock_file_is_kept() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line) for line in pins), pins
    assert "uv.lock" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()
