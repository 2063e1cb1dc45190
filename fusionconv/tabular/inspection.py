"""inspect_table: what is in a table: types, holes, codes, identifiers - and what the encoder makes of it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular.anytable import MISSING
from fusionconv.tabular.association import associate
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.encoder import CovariateEncoder
from fusionconv.tabular.identifiers import looks_like_id, names_id
from fusionconv.tabular.labels import plain_label
from fusionconv.tabular.missingwords import suspicious_texts
from fusionconv.tabular.numbercodes import code_note, coded_kind, number_codes
from fusionconv.tabular.numberdates import date_format
from fusionconv.tabular.proposal import is_word, require_different, suggest
from fusionconv.tabular.suspicious import suspicious_numbers
from fusionconv.tabular.tablereport import ColumnReport, TableReport
from fusionconv.tabular.text import read_cell, shape_of
from fusionconv.tabular.textcolumn import infer_numbers, is_text, settle

_LONG = 2**53

__all__ = ["inspect_table"]


def inspect_table(frame: pd.DataFrame, target: str | None = None, columns: Sequence[str] | None = None) -> TableReport:
    """Look at each column as it is stored, text as well as numbers, and change nothing.

    Numbers stored as text are read as numbers, so a table may be given all as text. What looks like a code for
    "missing" is reported (:mod:`fusionconv.tabular.suspicious`); so are whole numbers that may be codes, a column that
    nearly says the target, and one that is never there for one of the target's classes. The proposed call is for the
    table as :func:`read_table` gives it. It declares the codes, and it leaves out each other column that has a note.

    Args:
        frame: the table.
        target: the column that will be predicted: associations with it are computed, and it is not encoded.
        columns: the columns to look at; by default all.

    Raises:
        TableError: no rows, or an absent or doubled column.

    Returns:
        The columns, and as ``suggestion`` the call as text (None where no column can be encoded).

    >>> report = inspect_table(pd.DataFrame({"age": ["61", "70", "-4", "82"], "sex": ["F", "M", "NA", "F"]}))
    >>> [(c.name, c.type, c.missing, [code["value"] for code in c.codes]) for c in report.columns]
    [('age', 'number', 0, [-4]), ('sex', 'text', 1, ['NA'])]
    >>> print(report.suggestion)
    CovariateEncoder(['age', 'sex'], {'age': Numeric(missing_codes=[-4, 'NA'])}, missing='mean', missing_codes=['NA'])
    """
    require_columns(frame, [])
    names = [c for c in frame.columns if isinstance(c, str)] if columns is None else list(columns)
    require_columns(frame, [*names, *([target] if target is not None else [])])
    if not len(frame) or not names:
        raise TableError(f"expected a table with rows and named columns, got {frame.shape}; give the right file")
    aim = None if target is None else _typed(frame[target], ColumnReport(target, "", len(frame), 0, 0))
    reports, read = [], {}
    for name in names:
        report = ColumnReport(name, "", len(frame), 0, 0)
        values = _typed(frame[name], report)
        if name != target:
            if aim is not None and not any("identifier" in n for n in report.notes):
                report.association = associate(values, aim)
                if report.association is not None and report.association.strong:
                    report.warn(f"nearly says {target}: does it define it? Left out of the call")
                _never_there(values, aim, report, str(target))
            read[name] = _as_read(frame[name])
            _encode(read[name], values, report)
        reports.append(report)
    require_different(reports)
    return TableReport(len(frame), target, reports, suggest(reports, read, target))


def _as_read(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column as :func:`read_table` gives it: text as numbers where all of it is."""
    if column.dtype == "category" and not column.cat.ordered:
        column = column.astype(object)
    if not is_text(column) or not all(isinstance(v, str) for v in column.dropna()):
        return column
    texts = [v.strip() if isinstance(v, str) else v for v in column.astype(object).tolist()]
    cells = pd.Series([None if isinstance(v, str) and v in MISSING else v for v in texts], column.index, dtype=object)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TableWarning)
            return settle(infer_numbers(cells.to_frame(column.name), "table"))[column.name]
    except TableError:  # decimal commas, of which a note tells
        return cells


def _typed(column: pd.Series[Any], report: ColumnReport) -> pd.Series[Any]:
    """The column with numbers as numbers, and without codes for "missing"; what was found goes to ``report``."""
    if pd.api.types.is_complex_dtype(column):
        column = column.astype(str)
    if pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column) or column.dtype == "category":
        values = _from_text(column.astype(object), report)
    else:
        values = column
        report.missing = int(column.isna().sum())
        kinds = {"number": pd.api.types.is_numeric_dtype, "date": pd.api.types.is_datetime64_any_dtype}
        report.type = next((k for k, test in kinds.items() if test(column.dtype)), str(column.dtype))
    if report.type == "number":
        infinite = np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan))
        if infinite.any():
            report.warn(f"infinite in {infinite.sum()} of {report.rows} rows")
            values = values.mask(pd.Series(infinite, index=values.index))
    known = values.dropna()
    report.distinct = int(known.nunique())
    if report.distinct and report.type == "number":
        report.lowest, report.highest = plain_label(known.min()), plain_label(known.max())
        suspects = suspicious_numbers(values.to_numpy(dtype=np.float64, na_value=np.nan), report.name)
        report.codes += [s._asdict() for s in suspects]
        values = values.astype(float).mask(values.isin([s.value for s in suspects]))
    elif report.distinct and report.type == "date":
        report.lowest, report.highest = str(known.min()), str(known.max())
    often = [v for v, _ in Counter(known.astype(object)).most_common(5)]
    report.examples = [v if isinstance(v, (str, bool, int, float)) else str(v) for v in often]
    if report.distinct == 1:
        report.warn("constant")
    elif report.type in ("number", "text") and looks_like_id(values, report.name) and not _are_dates(values, report):
        unique = report.distinct == len(known)
        report.warn(f"an identifier? {'no value occurs twice' if unique else 'its name or its numbers say so'}")
    return values


def _are_dates(values: pd.Series[Any], report: ColumnReport) -> bool:
    """Whether numbers are dates such as 20050908, of which the encoder tells."""
    return report.type == "number" and not names_id(report.name) and bool(date_format(values.to_numpy(np.float64)))


def _from_text(column: pd.Series[Any], report: ColumnReport) -> pd.Series[Any]:
    codes, uniques = pd.factorize(column.map(_cell, na_action="ignore").astype(object))
    counts = np.bincount(codes[codes >= 0], minlength=len(uniques))
    texts = [v.strip() if isinstance(v, str) else v for v in uniques]
    seen = [(v, int(n)) for v, n in zip(texts, counts, strict=True) if isinstance(v, str)]
    words = {s.value: s.reason for s in suspicious_texts(seen)}
    shapes: Counter[str] = Counter()
    for text in texts:
        if text not in words:
            shapes[shape_of(text) if isinstance(text, str) else "number" if _is_number(text) else "other"] += 1
    for text, original, count in zip(texts, uniques, counts, strict=True):
        if text in words and text:
            report.codes.append({"value": original, "rows": int(count), "reason": words[text]})
    gone = np.array([t in words for t in texts] + [True], dtype=bool)
    report.missing = int(gone[codes].sum())
    report.type = _type_of(shapes)
    if report.type == "age":
        report.type = "number"
        report.notes.append("ages such as 045Y and 006M: read as years")
    if report.type in ("number", "number with decimal comma"):
        as_numbers = [_to_number(t) if not g else np.nan for t, g in zip(texts, gone[:-1], strict=True)]
        values: pd.Series[Any] = pd.Series(np.append(as_numbers, np.nan)[codes], index=column.index)
    else:
        kept = np.empty(len(texts) + 1, dtype=object)
        kept[:-1], kept[-1] = texts, None
        kept[gone] = None
        values = pd.Series(kept[codes], index=column.index, dtype=object)
    if report.type == "number with decimal comma":
        report.type = "number"
        report.warn("decimal commas: read the table with decimal=','")
    elif shapes["decimal comma"]:
        report.warn("decimal commas in some rows")
    if any(isinstance(t, str) and t.count(".") > 1 and shape_of(t) == "thousands" for t in texts):
        report.warn("numbers such as 1.743.000: a spreadsheet may have rewritten them")
    if report.type == "text" and shapes["number"]:
        report.warn(f"text and numbers mixed ({shapes['number']} of {sum(shapes.values())} different values)")
    return values


def _type_of(shapes: Counter[str]) -> str:
    found = {shape for shape, count in shapes.items() if count}
    for name, allowed in (
        ("empty", set()),
        ("number", {"number"}),
        ("number with decimal comma", {"number", "decimal comma"}),
        ("age", {"age"}),
        ("censored number", {"number", "bound"}),
        ("date", {"date"}),
        ("date not as ISO", {"date", "other date"}),
        ("range", {"range", "bound", "number"}),
        ("pair of numbers", {"pair", "number"}),
        ("number with unit", {"unit", "number"}),
        ("number with thousands marks", {"thousands", "number"}),
    ):
        if found <= allowed:
            return name
    return "text"


def _cell(value: Any) -> Any:
    """A number or text as it is, everything else as text."""
    if isinstance(value, Integral) and abs(int(value)) >= _LONG:
        return str(value)
    return value if isinstance(value, (str, Real, np.bool_)) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, np.bool_))


def _to_number(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    number = read_cell(value.replace(",", ".")).number
    return np.nan if number is None else number


def _never_there(values: pd.Series[Any], aim: pd.Series[Any], report: ColumnReport, target: str) -> None:
    """Note classes of which no row has a value: then the hole itself says the target."""
    if not 2 <= aim.nunique() <= 10:
        return
    there = values.notna().groupby(aim).agg(["any", "size"])
    lacking = [str(c) for c in there.index[~there["any"] & (there["size"] >= 3)]]
    if lacking and len(lacking) < len(there):
        where = f"never there where {target} is {' or '.join(lacking)}"
        report.warn(f"{where}: the hole itself says the target. Left out of the call")


def _encode(column: pd.Series[Any], values: pd.Series[Any], report: ColumnReport) -> None:
    """What the encoder makes of the column alone, or why it does not; codes are declared."""
    if any("identifier" in note for note in report.notes):
        return
    codes = [c["value"] for c in report.codes]
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan) if report.type == "number" else np.array([])
    if not date_format(numbers) and (coded := number_codes(numbers, report.name)):
        report.notes.append(code_note(report.name, coded, codes))
        kind, options = coded_kind(coded, codes)
        report.declared = {"kind": kind, **options}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kinds = {report.name: report.declared} if report.declared else {}
            encoder = CovariateEncoder([report.name], kinds, missing="mean", missing_codes=codes)
            encoder.fit(column.to_frame(report.name))
            if more := encoder.suspects.get(report.name, ()):  # numbers among bounds such as "<8"
                report.codes += [s._asdict() for s in more]
                codes += [s.value for s in more]
                encoder.set_params(missing_codes=codes).fit(column.to_frame(report.name))
    except TableError as error:
        words = [c for c in codes if isinstance(c, str)]
        if report.type == "number" and words and is_text(column):
            said = ", ".join(map(repr, words))
            report.warn(f"numbers with {said} among them are text: read_table(..., missing=[*MISSING, {said}])")
        elif not report.notes:
            report.warn(str(error).removeprefix(f"column {report.name!r}: "))
        report.left_out = True
        return
    report.covariates = encoder.get_feature_names_out().tolist()
    report.kind = repr(encoder).split(": ", 1)[1].split("; fitted on")[0]
    if own := [c["value"] for c in report.codes if not is_word(c)]:
        report.declared = report.declared or {"kind": report.kind.split()[0], "missing_codes": own}
