"""The documentation site: it builds without a warning, its links lead somewhere, and it shows every public name."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="the extra docs is not installed")
from sphinx.util.inventory import InventoryFile

from tests.helpers.markdown import ROOT, blocks
from tests.helpers.public import MODULES, public


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of docs/ with the tutorials shown but not run."""
    root = tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name not in (".git", "docs"):
            (root / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", root / "docs", ignore=shutil.ignore_patterns("_build", "auto_tutorials"))
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    built = subprocess.run(
        [*command, "-D", "plot_gallery=0", "docs", "html"],
        cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return root / "html"


class Links(HTMLParser):
    """Every address on a page, and every name that one may jump to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value for key, value in attrs if value}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        self.addresses += [found[key] for key in ("href", "src") if key in found]


def broken(site: Path) -> list[str]:
    pages = {p: Links(p.read_text(encoding="utf-8")) for p in site.rglob("*.html") if "_static" not in p.parts}
    wrong = []
    for page, links in pages.items():
        for address in links.addresses:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else page
            anchor = urllib.parse.unquote(parts.fragment)
            known = not anchor or target not in pages or anchor in pages[target].anchors
            if not target.exists() or not known:
                wrong.append(f"{page.relative_to(site)}: {address}")
    return wrong


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 40
    assert not broken(site)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own: it works without a network, and tells nobody who reads."""
    pages = [p for p in site.rglob("*.html") if "_static" not in p.parts]
    asks = re.compile(
        r"<(?:script|img|iframe|source)[^>]+src=\"(?:https?:)?//[^\"]*\"|<link[^>]+href=\"(?:https?:)?//[^\"]*\""
    )
    found = {f"{page.name}: {m[0]}" for page in pages for m in asks.finditer(page.read_text(encoding="utf-8"))}
    assert not found


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="#here"></a><a href="b.html#no"></a><img src="c.png">')
    (tmp_path / "b.html").write_text('<a href="a.html#here"></a><a href="https://example.org/x"></a>')
    assert broken(tmp_path) == ["a.html: b.html#no", "a.html: c.png"]


def test_every_page_is_in_the_navigation_and_can_be_searched(site: Path) -> None:
    """-W refuses a page that no toctree names; here: the switch for dark mode, the search, the sources."""
    index = (site / "index.html").read_text(encoding="utf-8")
    assert "theme-switch" in index
    assert "search-button" in index
    assert "fuse_into" in (site / "searchindex.js").read_text(encoding="utf-8")
    assert (site / "_modules" / "fusionconv" / "surgery" / "fuse.html").exists()


def test_the_reference_shows_every_public_name(site: Path) -> None:
    inventory = InventoryFile.load((site / "objects.inv").open("rb"), "", os.path.join)
    shown = {name for kind in inventory if kind.startswith("py:") for name in inventory[kind]}
    objects = [value for module, name, value in public() if f"{module}.{name}" in shown]
    missing = [
        f"{module}.{name}"
        for module, name, value in public()
        if not inspect.ismodule(value) and not any(value is other for other in objects)
    ]
    assert not missing, "add them to docs/api/*.md"


def example(name: str, value: object) -> bool:
    if inspect.ismodule(value):
        return True
    if inspect.isclass(value) or inspect.isroutine(value):
        return ">>> " in (vars(value).get("__doc__") or "" if inspect.isclass(value) else value.__doc__ or "")
    code = "".join(block for page in (ROOT / "docs/api").glob("*.md") for block in blocks(page, "python"))
    return re.search(rf"\b{name}\b", code) is not None


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_example_that_runs(module: str) -> None:
    """Doctests run in the suite; the example of a constant is a block of its page, which tests/test_docs.py runs."""
    lacking = [name for home, name, value in public() if home == module and not example(name, value)]
    assert not lacking


def described(value: object) -> str:
    """A docstring with those of the names that it refers to, as in "see `HybridConv2d`"."""
    own = inspect.getdoc(value) or ""
    named = re.findall(r"(?<!`)`~?([\w.]+?)(?:\(\))?`(?!`)", own)
    every = {name: value for _, name, value in public()}
    every |= {kind.__name__: kind for kind in vars(importlib.import_module("fusionconv.tabular.kinds.base")).values()
              if inspect.isclass(kind)}  # fmt: skip
    return own + "".join(inspect.getdoc(every[n]) or "" for n in {n.split(".")[-1] for n in named} if n in every)


@pytest.mark.parametrize("module", [module for module in MODULES if module != "fusionconv.errors"])
def test_every_parameter_is_described(module: str) -> None:
    lacking = []
    for home, name, value in public():
        error = inspect.isclass(value) and issubclass(value, BaseException)
        if home != module or not (inspect.isfunction(value) or inspect.isclass(value)) or error:
            continue
        text = described(value)
        try:
            parameters = [p.name for p in inspect.signature(value).parameters.values() if p.kind not in (2, 4)]
        except (ValueError, TypeError):
            continue
        lacking += [f"{name}: {p}" for p in parameters if not re.search(rf"\b{p}\b", text)]
    assert not lacking
