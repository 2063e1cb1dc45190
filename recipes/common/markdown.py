"""A table of texts as Markdown."""

from __future__ import annotations

import pandas as pd


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown.

    >>> print(markdown(pd.DataFrame({"arm": ["plain"], "accuracy": ["81.6"]})))
    | arm | accuracy |
    |---|---|
    | plain | 81.6 |
    """
    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|" + "---|" * len(table.columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False))])
