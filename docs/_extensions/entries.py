"""The directive ``entries``: a table of names and, below it, the full entry of each, from the docstrings.

In a page: ``.. entries:: fusionconv``, and indented below it the names, ``fuse_into list_convs``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers import rst
from sphinx.util.docutils import SphinxDirective


def directive(value: Any) -> str:
    """The autodoc directive for an object."""
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    if inspect.isroutine(value):
        return "autofunction"
    raise TypeError(f"{value!r} is a constant: describe it in the page, under py:data")


class Entries(SphinxDirective):
    """See the module."""

    required_arguments = 1  # the module
    has_content = True
    option_spec: ClassVar = {"no-members": rst.directives.flag}

    def run(self) -> list[nodes.Node]:
        """A table, then an entry for each name."""
        module = self.arguments[0]
        home = importlib.import_module(module)
        names = [name for line in self.content for name in line.split()]
        lines = [f".. currentmodule:: {module}", "", ".. autosummary::", "   :nosignatures:", ""]
        lines += [f"   {name}" for name in names]
        for name in names:
            value = getattr(home, name)
            kind = directive(value)
            lines += ["", f".. {kind}:: {name}"]
            if kind == "autoclass" and "no-members" not in self.options:
                lines += ["   :members:"]
                if all(base.__module__.split(".")[0] in ("fusionconv", "builtins", "abc") for base in value.__mro__):
                    lines += ["   :inherited-members:"]
        return self.parse_text_to_nodes("\n".join(lines) + "\n", allow_section_headings=False)


def headings(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring is about to be read: "Cost, for K covariates:" begins a list of its own, a dash a line."""
    inside = False
    for n, line in enumerate(lines):
        if line.startswith("Cost, for"):
            inside, lines[n] = True, f"**{line.rstrip(':')}**\n"
        elif inside and line[:1].strip():
            inside = False
        elif inside and re.match(r"    (parameters|FLOPs a sample): ", line):
            lines[n] = "* " + line.strip()
        elif inside and line.strip():
            lines[n] = "  " + line.strip()
    lines[:] = "\n".join(lines).split("\n")


def public(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A reference was not found: it names an object where it is defined, the site has it where it is imported."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    domain = env.domains["py"]
    found = [full for full in domain.objects if full.rpartition(".")[2] == name and full.count(".") <= 2]
    if len(found) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_directive("entries", Entries)
    app.connect("missing-reference", public)
    app.connect("autodoc-process-docstring", headings, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
