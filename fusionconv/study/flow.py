"""The flow of a study's rows: how many were read, left out and why, and are analysed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

__all__ = ["Flow"]


@dataclass
class Flow:
    """How many rows were read, left out (and why), and are analysed.

    Attributes:
        lines: step, rows, detail.
        lost: every row that was left out for its image: its place in the table -> its id and the reason.
    """

    lines: list[tuple[str, int, str]] = field(default_factory=list)
    lost: dict[int, tuple[str, str]] = field(default_factory=dict)

    def note(self, what: str, count: int, detail: str = "") -> None:
        """Add a line."""
        self.lines.append((what, count, detail))

    def note_analysed(self, frame: pd.DataFrame) -> None:
        """Add a line with the rows that are left."""
        self.note("analysed", len(frame), f"{frame['subject'].nunique()} subjects")
