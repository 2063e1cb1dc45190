"""The table that tells a person what an encoder makes of each column."""

from __future__ import annotations

from collections.abc import Sequence

from fusionconv.tabular.fitted import FittedColumn

__all__ = ["aligned", "summarise"]


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> list[str]:
    """Rows of text as lines with aligned columns; the columns named in ``right`` end at one place.

    >>> print("\\n".join(aligned(["column", "rows"], [["age", "72"], ["sex", "8"]], right=["rows"])))
    column  rows
    age       72
    sex        8
    """
    table = [list(header), *[list(r) for r in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    pads = [str.rjust if name in right else str.ljust for name in header]
    lines = ("  ".join(pad(cell, w) for cell, w, pad in zip(row, widths, pads, strict=True)) for row in table)
    return [line.rstrip() for line in lines]


def summarise(columns: Sequence[FittedColumn], num_rows: int) -> str:
    """One line a column: its kind, where that comes from, what becomes of missing values, and the covariates' names."""
    rows = []
    for c in columns:
        told = c.learnt.describe()
        policy = {"error": "refused", "mean": "mean", "zero": "zeros"}.get(str(c.kind.missing), f"{c.kind.missing!r}")
        if c.fill is not None and not c.indicator and c.kind.indicator == "auto":
            policy = "none seen: refused"
        names = c.feature_names
        shown = ", ".join(names[:6]) + (f", ... ({len(names)})" if len(names) > 6 else "")
        rows.append(
            [
                c.name,
                f"{c.kind.tag} ({told})" if told else c.kind.tag,
                "inferred" if c.inferred else "declared",
                f"{c.num_missing} ({100 * c.num_missing / num_rows:.3g} %)" if c.num_missing else "0",
                policy,
                shown,
            ]
        )
    total = sum(c.width for c in columns)
    lines = [
        f"{len(columns)} column{'s' * (len(columns) != 1)} -> {total} covariate{'s' * (total != 1)}, "
        f"fitted on {num_rows} row{'s' * (num_rows != 1)}"
    ]
    header = ["column", "kind", "from", "missing", "a missing value", "covariates"]
    lines += aligned(header, rows, right=["missing"])
    remarks = [f"  {c.name}: {s}; if so, missing_codes=[...] says it" for c in columns for s in c.suspects]
    remarks += [f"  {c.name}: {note}" for c in columns for note in c.notes]
    return "\n".join(lines + (["look at:", *remarks] if remarks else []))
