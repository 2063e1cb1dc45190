"""The cells of an Excel file as a person would type them: numbers that Excel rounded are refused, errors are kept."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Collection
from typing import Any

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular.columns import require_names

__all__ = ["excel_rows", "typed"]

_DIGITS = 10**15  # Excel keeps 15 digits of a number
_MEASURED = 12  # a number of no more digits than these, such as 6.022e23, is a measure


def excel_rows(
    data: bytes, where: str, expected: str, sheet: str | None, decimal: str, exact: Collection[str] | None
) -> list[list[str]]:
    """The rows of the one sheet that has something in it, or of ``sheet``, cells as text.

    Args:
        exact: the columns that stay text, in which no long number is taken; None: all.

    Raises:
        TableError: a damaged file, an absent sheet, several, or a number of 16 digits and more that may be an id.
    """
    sheets = {name: rows for name, rows in _sheets(data, where, expected).items() if rows}
    if sheet is not None:
        require_names([sheet], list(sheets), "sheet", where)
    elif len(sheets) > 1:
        raise TableError(
            f"{where}: expected one sheet with something in it, got {len(sheets)}: {', '.join(map(repr, sheets))}; "
            "say which with sheet=..."
        )
    if not sheets:
        raise TableError(f"{where}: expected {expected}, got an Excel file with nothing in it; give the right file")
    header, *body = next(iter(sheets.values())) if sheet is None else sheets[sheet]
    names = [_cell(v, decimal).strip() for v in header]
    for row, values in enumerate(body, 2):
        for name, value in zip(names, values, strict=True):
            if _may_be_an_id(value, exact is None or name in exact):
                raise TableError(
                    f"{where}: column {name!r}, row {row} of the sheet: expected a number of up to 15 digits, got "
                    f"{value!r}; Excel keeps 15 digits, so that different ids become one: store the column as text in "
                    "the program that has the ids, or, if it measures, in a larger unit"
                )
    return [names, *([_cell(v, decimal) for v in values] for values in body)]


def typed(value: Any) -> Any:
    """A cell of Excel or Parquet as a person would type it: 61 for 61.0, 2005-09-08 for a day; NaN stays NaN."""
    if isinstance(value, str) or value != value:
        return value
    if isinstance(value, (datetime.datetime, pd.Timestamp)):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def _may_be_an_id(value: object, exact: bool) -> bool:
    if isinstance(value, str) or not isinstance(value, (int, float)) or not _DIGITS <= abs(value) < float("inf"):
        return False
    return exact or float(f"{value:.{_MEASURED}g}") != value


def _cell(value: object, decimal: str) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, (int, float)) and abs(value) >= _DIGITS:
        value = float(value)
        return f"{value:.{_MEASURED - 1}e}".replace(".", decimal)
    text = str(typed(value))
    return text.replace(".", decimal) if isinstance(value, float) else text


def _sheets(data: bytes, where: str, expected: str) -> dict[str, list[list[Any]]]:
    """The values of each sheet, its rows of one length; no rows where nothing is in it."""
    if data[:2] == b"PK":
        names = zipfile.ZipFile(io.BytesIO(data)).namelist() if zipfile.is_zipfile(io.BytesIO(data)) else []
        if "xl/workbook.xml" not in names:
            came = f"a zip archive{f' of {names[:3]}' if names else ', cut off'}"
            raise TableError(f"{where}: expected {expected}, got {came}; unpack it and give the path of the table")
    try:
        return _new(data) if data[:2] == b"PK" else _old(data)
    except ImportError as error:
        package = '"fusionconv[tabular]"' if data[:2] == b"PK" else "xlrd"
        raise TableError(
            f"{where}: expected the package that reads this kind of Excel file, got none; pip install {package}, or "
            "save the table as CSV"
        ) from error
    except Exception as error:
        raise TableError(
            f"{where}: expected an Excel file, got a damaged one ({type(error).__name__}: {error}); save it again"
        ) from error


def _new(data: bytes) -> dict[str, list[list[Any]]]:
    """By openpyxl itself: pandas makes a missing value of every error (#DIV/0!), which is then as if never measured."""
    import openpyxl  # type: ignore[import-untyped]

    sheets = {}
    for page in openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False).worksheets:
        page.reset_dimensions()  # what a file says of its size is wrong at times
        rows = [list(row) for row in page.iter_rows(values_only=True)]
        widths = [max((i for i, v in enumerate(row, 1) if v is not None), default=0) for row in rows]
        width, last = max(widths, default=0), max((n for n, w in enumerate(widths, 1) if w), default=0)
        sheets[page.title] = [(row + [None] * width)[:width] for row in rows[:last]]
    return sheets


def _old(data: bytes) -> dict[str, list[list[Any]]]:
    sheets = pd.read_excel(
        io.BytesIO(data), sheet_name=None, header=None, dtype=object, keep_default_na=False, na_values=[]
    )
    return {str(name): table.to_numpy(object).tolist() if table.size else [] for name, table in sheets.items()}
