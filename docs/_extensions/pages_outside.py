"""Pages of the site that live elsewhere in the repository: CHANGELOG.md, the recipes' README.md, and links to them.

A page of docs/ that shows such a file is listed in `PAGES`. A relative link to the file becomes a link to the page, and
the file's own relative links are written anew from where the page is. A link to a source file shows the path only: the
site does not carry it.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

#: file of the repository: page of the site
PAGES = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "benchmarks/README.md": "benchmarks",
    "recipes/celeba/README.md": "recipe-celeba",
    "recipes/adni/README.md": "recipe-adni",
}
ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!https?://|mailto:|#)([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", flags=re.DOTALL | re.MULTILINE)


def rewrite(text: str, file: str, page: str) -> str:
    """``text`` of ``file`` (a path in the repository) with its links as ``page`` (a docname of the site) needs them."""
    here = posixpath.dirname(f"docs/{page}")

    def link(match: re.Match[str]) -> str:
        image, words, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(file), target))
        if path in PAGES:
            return f"[{words}]({posixpath.relpath(f'docs/{PAGES[path]}', here)}.md{anchor})"
        if path.startswith("docs/"):
            return f"{image}[{words}]({posixpath.relpath(path, here)}{anchor})"
        assert (ROOT / path).exists(), f"{file} links to {target}, which is not there"
        return words if words.startswith("`") else f"{words} (`{path}`)"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def read(app: Any, docname: str, source: list[str]) -> None:
    """Sphinx has read a page: fill in a file from outside, and set the links to such files."""
    file = next((file for file, page in PAGES.items() if page == docname and file != "README.md"), None)
    if file is None:
        if Path(app.env.doc2path(docname)).suffix == ".md":
            source[0] = rewrite(source[0], f"docs/{docname}.md", docname)
        return
    app.env.note_dependency(os.fspath(ROOT / file))
    source[0] = rewrite((ROOT / file).read_text(encoding="utf-8"), file, docname)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
