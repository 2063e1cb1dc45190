"""The call that inspect_table proposes: it runs on the table as read, and holds nothing that is in doubt."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fusionconv.tabular.numbercodes import python_kind
from fusionconv.tabular.tablereport import ColumnReport

__all__ = ["is_word", "require_different", "suggest"]


def is_word(code: dict[str, Any]) -> bool:
    """Whether a code is a word, which means "missing" in every column; -4 may be a value in another one."""
    return isinstance(code["value"], str) and "number" not in code["reason"]


def require_different(reports: list[ColumnReport]) -> None:
    """Leave columns out whose covariates are called like those of an earlier one."""
    seen: set[str] = set()
    for report in reports:
        names = set(report.covariates) | {f"{report.name}_missing"}
        if report.covariates and not report.left_out:
            if names & seen:
                report.warn(f"its covariates have names that are there already ({sorted(names & seen)[0]}): rename it")
            else:
                seen |= names


def suggest(reports: list[ColumnReport], read: dict[str, pd.Series[Any]], target: str | None) -> str | None:
    """The call that encodes what can be encoded without a doubt."""
    encoded = [r for r in reports if r.covariates and not r.left_out]
    if not encoded:
        return None
    flagged = {r.name: [c["value"] for c in r.codes if is_word(c)] for r in encoded}
    words = [
        word
        for word in dict.fromkeys(w for found in flagged.values() for w in found)
        if all(word in flagged[r.name] or not (read[r.name] == word).any() for r in encoded)  # an answer elsewhere
    ]
    kinds = []
    for r in encoded:
        declared = dict(r.declared or {})
        lacking = [w for w in flagged[r.name] if w not in words]
        if lacking and not declared:
            declared = {"kind": str(r.kind).split()[0], "missing_codes": []}
        if declared:
            if "missing_codes" in declared:
                own = [c for c in declared["missing_codes"] if c not in words and c not in lacking]
                declared["missing_codes"] = [*own, *lacking, *words]
            kinds.append(f"{r.name!r}: {python_kind(declared.pop('kind'), declared)}")
    call = [repr([r.name for r in encoded])] + [f"{{{', '.join(kinds)}}}"] * bool(kinds)
    call += ["missing='mean'"] * any(r.missing or r.codes for r in encoded)
    call += [f"missing_codes={words!r}"] * bool(words)
    fit = f".fit(training_rows, target={target!r})" if target is not None else ""
    return f"CovariateEncoder({', '.join(call)}){fit}"
