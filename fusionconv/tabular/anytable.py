"""read_table: any CSV, TSV, Parquet or Excel file, told apart by its content, as a DataFrame without surprises."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import warnings
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import pandas as pd

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular.columns import require_names
from fusionconv.tabular.datafile import decode_text, read_data
from fusionconv.tabular.excel import excel_rows, typed
from fusionconv.tabular.textcolumn import infer_numbers, is_text, settle

__all__ = ["MISSING", "read_table"]

#: What stands for a missing value in the tables that people have. "None" is not among them: it is an answer too.
MISSING: tuple[str, ...] = (
    "", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null",
)  # fmt: skip
_SEPARATORS = ",\t;|"
_EXPECTED = "a table (CSV, TSV, Parquet or Excel)"


def read_table(
    path: str | os.PathLike[str],
    *,
    numbers: bool = True,
    text: Sequence[str] = (),
    missing: Collection[str] = MISSING,
    decimal: str = ".",
    sep: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> pd.DataFrame:
    r"""Read a table as it is: no row skipped, no column renamed, no text turned into another.

    What a file is shows in its content, not in its name: Parquet, Excel (.xlsx; .xls if xlrd is installed), else text
    with commas, tabs, semicolons or bars between the columns, whichever parts all rows alike. Quoted fields may hold
    separators and line ends; a byte order mark and CRLF are fine. Spaces around a value go; rows and unnamed columns
    that are wholly empty go, and so does an unnamed first column that only counts the rows.

    Args:
        path: the file.
        numbers: make columns numbers where every value is one
            (:func:`~fusionconv.tabular.textcolumn.infer_numbers` says when a column stays text). ``False`` leaves every
            column text.
        text: names of columns that stay text whatever they hold, such as ids and codes.
        missing: what stands for a missing value.
        decimal: ``","`` where numbers have decimal commas.
        sep: the separator, where it is not to be found out.
        encoding: such as ``"latin-1"``. Without it UTF-8 (UTF-16 with a byte order mark), else Windows' Latin-1 with a
            :class:`~fusionconv.errors.TableWarning`.
        sheet: the name of the Excel sheet, where there are several with something in them.

    Returns:
        A table with a RangeIndex and text names; missing values are NaN.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: the file is empty or is none of these (a web page, an archive, a Git LFS pointer, ...), a row has
            more or fewer values than the header, a column name is there twice or an absent one is in ``text``, or
            numbers have decimal commas or were changed by a spreadsheet, or a number in Excel has more digits than
            the 15 that Excel keeps.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "study.csv")
    ...     _ = path.write_text('id;age;note\n007;61,5;"a; b"\n008;n/a;c\n')
    ...     frame = read_table(path, decimal=",")
    >>> frame.to_dict("list")
    {'id': ['007', '008'], 'age': [61.5, nan], 'note': ['a; b', 'c']}
    """
    if decimal not in (".", ","):
        raise TableError(f"decimal: expected '.' or ',', got {decimal!r}")
    where = str(path)
    data = read_data(path, _EXPECTED)
    if data[:4] == b"PAR1":
        frame = _parquet(data, where, decimal)
    elif data[:4] == b"PK\x03\x04" or data[:8] == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        frame = _from_rows(excel_rows(data, where, _EXPECTED, sheet, decimal, text if numbers else None), where)
    else:
        frame = _from_rows(_text_rows(_decode(data, where, encoding), where, sep), where)
    require_names(text, list(frame.columns), "column", where)
    gone = set(missing)
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            values = [math.nan if v is None or v != v or v in gone else v for v in column.astype(object).tolist()]
            frame[name] = pd.Series(values if numbers else [typed(v) for v in values], dtype=object)
        elif not numbers or name in text:
            values = column.astype(object).where(column.notna(), math.nan).tolist()
            frame[name] = pd.Series([typed(v) for v in values], dtype=object)
    if numbers:
        frame = infer_numbers(frame, where, text=text, decimal=decimal)
    return settle(frame)


def _decode(data: bytes, where: str, encoding: str | None) -> str:
    if encoding is None and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    try:
        return decode_text(data, where, _EXPECTED, encoding or "utf-8-sig")
    except LookupError:
        raise TableError(f"encoding: expected a name that Python knows, such as 'latin-1', got {encoding!r}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        at = f"byte 0x{data[error.start]:02x} in line {line}"
        if encoding is not None:
            raise TableError(
                f"{where}: expected text in {encoding}, got other bytes ({at}); leave encoding out, or give the right "
                "one"
            ) from None
    try:
        text = decode_text(data, where, _EXPECTED, "cp1252")
    except UnicodeDecodeError:
        text = decode_text(data, where, _EXPECTED, "latin-1")
    warnings.warn(
        f"{where} is not UTF-8 ({at}) and was read as Latin-1 (Windows-1252); look at its accents, and say what it is "
        "with encoding=...",
        TableWarning,
        stacklevel=3,
    )
    return text


def _separator(text: str, where: str) -> str:
    """The separator that parts the first 50 rows most alike, and of those the one that makes most columns."""
    claims: dict[tuple[float, int], list[str]] = {}
    for sep in _SEPARATORS:
        try:
            rows = [r for r in itertools.islice(csv.reader(io.StringIO(text), delimiter=sep), 51) if r]
        except csv.Error:
            continue
        width = len(rows[0])
        alike = sum(len(r) == width for r in rows[1:]) / max(1, len(rows) - 1)
        if width > 1:
            claims.setdefault((alike, width), []).append(sep)
    best = claims[max(claims)] if claims else [","]
    if len(best) > 1:
        raise TableError(
            f"{where}: expected one separator between the columns, got {' and '.join(map(repr, best))}, which part "
            "the rows equally well (decimal commas?); say which with sep="
        )
    return best[0]


def _text_rows(text: str, where: str, sep: str | None) -> list[list[Any]]:
    sep = _separator(text, where) if sep is None else sep
    lines = text.split("\n")
    reader = csv.reader(io.StringIO(text), delimiter=sep, strict=True, skipinitialspace=True)
    rows: list[list[Any]] = []
    start = 1  # the line where the row begins
    try:
        for row in reader:
            start, first = reader.line_num + 1, start
            if not row or (len(row) == 1 and not row[0].strip()):
                if rows and len(rows[0]) == 1:
                    rows.append([""])
                continue
            if rows and len(row) != len(rows[0]):
                hint = (
                    "is the separator another, or the first line a comment? Give sep=..., or take that line out"
                    if len(rows) == 1
                    else "a separator or a quote too many or too few: mend that line"
                )
                raise TableError(
                    f"{where}, line {first}: expected {len(rows[0])} values as the header has "
                    f"({', '.join(map(repr, rows[0][:4]))}{', ...' if len(rows[0]) > 4 else ''}), got {len(row)}: "
                    f"{_short(row)}; {hint}"
                )
            if rows and row == rows[0]:
                raise TableError(f"{where}, line {first}: expected a row, got the header again; remove that line")
            _refuse_swallowed(lines, first, reader.line_num, sep, row, where)
            rows.append(row)
    except csv.Error as error:
        raise TableError(
            f"{where}, line {start}: expected rows of a table, got {error} (read to line {reader.line_num}); is a "
            "quote not closed, or not doubled inside a value? Mend that line"
        ) from None
    return rows


def _refuse_swallowed(lines: list[str], first: int, last: int, sep: str, row: list[str], where: str) -> None:
    """Raise where a value in quotes that runs over several lines holds what looks like a row of its own."""
    for number in range(first + 1, last + 1):
        if len(row) > 1 and len(lines[number - 1].split(sep)) == len(row):
            raise TableError(
                f"{where}, line {first}: expected a row, got a value in quotes that goes on to line {last} and would "
                f"swallow line {number}, with {len(row)} values, as a row has: {_short([lines[number - 1]])}; close "
                "or remove the quote, or take the line end out of the value"
            )


def _parquet(data: bytes, where: str, decimal: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except ImportError as error:
        raise TableError(
            f'{where}: expected the package pyarrow to read Parquet, got none; pip install "fusionconv[tabular]"'
        ) from error
    except Exception as error:
        raise TableError(
            f"{where}: expected a Parquet file, got a damaged one ({type(error).__name__}); write it again"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    frame.columns = pd.Index([str(c) for c in frame.columns])
    for name, dtype in list(zip(frame.columns, frame.dtypes, strict=True)):
        if isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered and is_text(dtype.categories.to_series()):
            frame[name] = frame[name].astype(object)  # how it was stored says nothing of what it is
        elif is_text(frame[name]) and any(isinstance(v, Decimal) for v in frame[name]):
            frame[name] = frame[name].map(lambda v: f"{v:f}".replace(".", decimal) if isinstance(v, Decimal) else v)
    if frame.empty:
        raise TableError(f"{where}: expected rows, got none ({len(frame.columns)} columns); give the right file")
    return frame.reset_index(drop=True)


def _from_rows(rows: list[list[Any]], where: str) -> pd.DataFrame:
    """The first row as names, the others as columns of text."""
    names = [str(v).strip() for v in rows[0]]
    body = [row for row in rows[1:] if any(str(v).strip() for v in row) or len(names) == 1]
    if not body:
        raise TableError(
            f"{where}: expected rows after the header, got none (the header is {_short(names)}); the file is cut off "
            "or has no header: give the right file, or put the names of the columns into its first line"
        )
    columns = [[v.strip() for v in column] for column in zip(*body, strict=True)]
    keep = []
    for i, name in enumerate(names):
        if not name and (not any(columns[i]) or (i == 0 and columns[i] in _counts(len(body)))):
            continue  # an empty column behind the last separator, or the index that a program wrote
        names[i] = name or f"Unnamed: {i}"
        keep.append(i)
    kept = [names[i] for i in keep]
    if twice := sorted({n for n in kept if kept.count(n) > 1}):
        places = "; ".join(f"{n!r} in columns {[i + 1 for i in keep if names[i] == n]}" for n in twice[:5])
        raise TableError(
            f"{where}: expected each column name once, got {places}; rename or remove all but one of them, so that it "
            "is clear which values are meant"
        )
    return pd.DataFrame({names[i]: pd.Series(columns[i], dtype=object) for i in keep})


def _counts(rows: int) -> tuple[list[str], list[str]]:
    return [str(n) for n in range(rows)], [str(n + 1) for n in range(rows)]


def _short(row: Sequence[Any]) -> str:
    shown = repr([str(v) for v in row])
    return shown if len(shown) <= 80 else shown[:77] + "..."
