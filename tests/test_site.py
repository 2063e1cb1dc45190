"""The documentation site: it builds without a warning, its links lead somewhere, and it shows every public name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("sphinx_gallery", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[1]


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
        cwd=root, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
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
