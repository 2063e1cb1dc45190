"""ColumnReport and TableReport: what inspect_table found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from fusionconv.tabular.association import Association
from fusionconv.tabular.labels import Label

__all__ = ["ColumnReport", "TableReport"]


@dataclass
class ColumnReport:
    """One column. ``missing`` counts empty cells and words such as "NA"; ``codes`` are such words and numbers.

    ``declared`` is the kind that the proposed call declares, as plain data; ``left_out`` says that a note keeps the
    column out of that call.
    """

    name: str
    type: str
    rows: int
    missing: int
    distinct: int
    lowest: Label | None = None
    highest: Label | None = None
    examples: list[Label] = field(default_factory=list)
    codes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    association: Association | None = None
    kind: str | None = None
    covariates: list[str] = field(default_factory=list)
    declared: dict[str, Any] | None = None
    left_out: bool = False

    def warn(self, note: str) -> None:
        """A note that keeps the column out of the proposed call."""
        self.notes.append(note)
        self.left_out = True

    @property
    def missing_percent(self) -> float:
        """Per cent of the rows."""
        return 100 * self.missing / self.rows


@dataclass
class TableReport:
    """The columns of a table, and the call that encodes those which can be encoded."""

    rows: int
    target: str | None
    columns: list[ColumnReport]
    suggestion: str | None

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        columns = [{**asdict(c), "missing_percent": round(c.missing_percent, 3)} for c in self.columns]
        return {"rows": self.rows, "target": self.target, "columns": columns, "suggestion": self.suggestion}
