"""The repository's Markdown pages, their blocks of code and their text."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "recipes/**/*.md")
    for page in ROOT.glob(pattern)
    if not {"_build", "auto_tutorials"} & set(page.parts)
)


def name(page: Path) -> str:
    """A page's path in the repository: what its test is called."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a language, or of several: ``bash|sh``."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{language})\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
