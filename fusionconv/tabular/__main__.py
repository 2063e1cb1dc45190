"""``python -m fusionconv.tabular inspect FILE``: a look at a table before a model sees it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from fusionconv.errors import TableError
from fusionconv.tabular.anytable import read_table
from fusionconv.tabular.inspection import inspect_table
from fusionconv.tabular.summary import aligned
from fusionconv.tabular.tablereport import ColumnReport, TableReport

_DESCRIPTION = """Print each column of a table: type, missing values, range, values that look like codes for "missing",
its association with the target, and the covariates that CovariateEncoder would make of it. Nothing is changed."""
_WIDE = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 with a message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m fusionconv.tabular", description="Covariate tables.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("inspect", help="what is in a table", description=_DESCRIPTION)
    command.add_argument("file", metavar="FILE", help="CSV, TSV (the separator is found out), Excel or Parquet")
    command.add_argument("--target", metavar="COL", help="the column to predict")
    command.add_argument("--columns", metavar="COL", nargs="+", help="look at these columns only")
    command.add_argument("--sheet", metavar="NAME", help="the sheet of an Excel file that has several")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        frame = read_table(
            options.file, numbers=False, missing=(), sheet=options.sheet
        )  # all of it as text, nothing taken for missing yet
        report = inspect_table(frame, options.target, options.columns)
    except (TableError, OSError) as error:
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"file": str(options.file), **report.to_dict()}, indent=2, ensure_ascii=False, default=str))
    else:
        print(render(report, options.file))
    return 0


def render(report: TableReport, file: str = "table") -> str:
    """The report as text for people.

    >>> import pandas as pd
    >>> print(render(inspect_table(pd.DataFrame({"age": [61, 70, 82, -4], "sex": ["F", "M", "M", ""]}))))
    table: 4 rows, 2 columns
    column  type    missing  distinct  range     covariates
    age     number      0 %         4  -4 to 82  age, age_missing
    sex     text       25 %         2  M, F      sex_M, sex_missing
    look at:
      age: -4 in 1 row is apart from the others (61 to 82)
    encode the training rows with
      CovariateEncoder(['age', 'sex'], {'age': Numeric(missing_codes=[-4])}, missing='mean')
    """
    header = ["column", "type", "missing", "distinct", "range", "covariates"]
    header[5:5] = [f"with {report.target}"] if report.target else []
    rows = []
    for c in report.columns:
        row = [c.name, c.type, f"{c.missing_percent:.3g} %", str(c.distinct), _range(c)]
        if report.target:
            tie = c.association
            row.append("(target)" if c.name == report.target else f"{tie.measure} {tie.value:.2f}" if tie else "")
        rows.append([*row, _short(", ".join(c.covariates)) or "-"])
    columns = f"{len(report.columns)} column{'s' * (len(report.columns) != 1)}"
    lines = [f"{file}: {report.rows} row{'s' * (report.rows != 1)}, {columns}"]
    lines += aligned(header, rows, right=["missing", "distinct"])
    words: dict[str, list[str]] = {}
    remarks = []
    for c in report.columns:
        for code in c.codes:
            where = f"{code['rows']} row{'s' * (code['rows'] != 1)}"
            if isinstance(code["value"], str):
                words.setdefault(f"{code['value']!r} {code['reason']}", []).append(f"{c.name} ({where})")
            else:
                remarks.append(f"  {c.name}: {code['value']!r} in {where} {code['reason']}")
        remarks += [f"  {c.name}: {note}" for note in c.notes]
    remarks = [f"  {word}: {_short(', '.join(places), 100)}" for word, places in words.items()] + remarks
    lines += ["look at:", *remarks] if remarks else []
    if report.suggestion:
        lines += ["encode the training rows with", f"  {report.suggestion}"]
    return "\n".join(lines)


def _range(column: ColumnReport) -> str:
    if column.lowest is not None:
        low, high = (f"{v:g}" if isinstance(v, float) else str(v) for v in (column.lowest, column.highest))
        return f"{low} to {high}"
    return _short(
        ", ".join(map(str, column.examples)) + (", ..." if column.distinct > len(column.examples) else ""), 40
    )


def _short(text: str, wide: int = _WIDE) -> str:
    return text if len(text) <= wide else text[: wide - 3] + "..."


if __name__ == "__main__":
    sys.exit(main())
