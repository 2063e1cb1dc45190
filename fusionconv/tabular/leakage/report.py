"""What check_leakage found: a table of findings with the rows named, and what was and was not looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from fusionconv.tabular.ids import first_few

__all__ = ["Finding", "LeakageReport", "Severity"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found: what, how bad, whose, and the index labels of the rows on both sides."""

    severity: Severity
    kind: str
    name: str
    detail: str
    train_rows: tuple[Any, ...] = ()
    test_rows: tuple[Any, ...] = ()

    def __str__(self) -> str:
        sides = (("training", self.train_rows), ("test", self.test_rows))
        rows = "; ".join(f"{side} rows {first_few(rows)}" for side, rows in sides if rows)
        return f"{self.severity}: {self.kind}: {self.name}: {self.detail}{f' ({rows})' if rows else ''}"


@dataclass(frozen=True)
class LeakageReport:
    """The outcome of :func:`check_leakage`.

    Attributes:
        findings: a DataFrame with the columns ``severity`` (``"error"`` or ``"warning"``), ``kind``, ``name`` (a
            subject, a file, a column), ``detail``, and ``train_rows`` and ``test_rows``, tuples of all index labels
            concerned.
        checked: a sentence for each check that was made, or why it was not.
        errors: whether there is any error.

    Example:
        >>> import pandas as pd
        >>> from fusionconv.tabular import check_leakage
        >>> train, test = pd.DataFrame({"subject": ["a", "b"]}), pd.DataFrame({"subject": ["c", "d"]})
        >>> report = check_leakage(train, test, image=None)
        >>> report.errors, len(report.findings)
        (False, 0)
    """

    findings: pd.DataFrame
    checked: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, findings: Iterable[Finding], checked: Iterable[str]) -> LeakageReport:
        """Errors first, otherwise in the order in which they were found."""
        ordered = sorted(findings, key=lambda f: f.severity != "error")
        columns = ["severity", "kind", "name", "detail", "train_rows", "test_rows"]
        values = [[getattr(f, c) for c in columns] for f in ordered]
        return cls(pd.DataFrame(values, columns=columns, dtype=object), tuple(checked))

    @property
    def errors(self) -> bool:
        """Whether anything was found that is an error."""
        return bool((self.findings["severity"] == "error").any())

    def __str__(self) -> str:
        found = [str(Finding(**{str(k): v for k, v in row.items()})) for row in self.findings.to_dict("records")]
        shown = 20
        more = [f"... and {len(found) - shown} more: see .findings"] if len(found) > shown else []
        return "\n".join([*(found[:shown] or ["nothing found"]), *more, *(f"checked: {c}" for c in self.checked)])
