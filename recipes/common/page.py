"""A report as one HTML file that needs nothing but itself: its frame, its tables, its figures as embedded PNG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from recipes.common.figures import save


def style() -> str:
    """The style sheet of every report."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def page(title: str, body: str) -> str:
    """A whole page; ``title`` is plain text, ``body`` is HTML."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title><style>\n{style()}</style></head><body><main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def data_uri(path: Path, kind: str) -> str:
    """A file as an address that holds it: ``kind`` is jpeg or png."""
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def figure_html(drawn: Figure, path: Path, alt: str) -> str:
    """Write a figure as PNG, and give the element that holds it."""
    save(drawn, path)
    width = round(drawn.get_figwidth() * 100)
    return f'<img src="{data_uri(path, "png")}" width="{width}" alt="{escape(alt)}">'


def table_html(table: pd.DataFrame, text: Sequence[str] = ()) -> str:
    """A table of texts. The first column heads its row; ``text`` names columns of words, the others are numbers."""
    kinds = ["" if not i or name in text else ' class="number"' for i, name in enumerate(table.columns)]
    head = "".join(f"<th{kind}>{escape(str(name))}</th>" for kind, name in zip(kinds, table.columns, strict=True))
    body = ""
    for row in table.itertuples(index=False):
        cells = [escape(str(cell)) for cell in row]
        rest = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], cells[1:], strict=True))
        body += f"<tr><th>{cells[0]}</th>{rest}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
