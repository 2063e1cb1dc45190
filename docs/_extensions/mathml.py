"""Formulas as MathML, which browsers draw themselves: no script is fetched, and the pages work offline."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import SphinxError


def mathml(text: str, as_block: bool) -> str:
    """A formula of LaTeX as MathML."""
    try:
        markup: str = tex2mathml(text, as_block=as_block)
    except MathError as error:
        raise SphinxError(
            f"expected a formula that docutils can set, got {text!r}: {error}; write it otherwise"
        ) from None
    return markup


def inline(self: Any, node: nodes.math) -> None:
    """A formula in the text."""
    self.body.append(mathml(node.astext(), False))
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    """A formula on a line of its own."""
    self.body.append(f'<div class="math">{mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
