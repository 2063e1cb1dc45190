"""Text that looks like a number: plain, censored (">1700"), with a decimal comma, or mangled by a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

__all__ = ["ISO_DATE", "Shape", "advice", "parse_censored", "shape_of"]

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PLAIN = re.compile(rf"\s*{_NUMBER}\s*", re.ASCII)
_CENSORED = re.compile(rf"\s*(<=?|>=?|≤|≥)\s*({_NUMBER})\s*", re.ASCII)
_COMMA = re.compile(r"\s*[<>]?\s*[+-]?\d+(?:\.\d{3})*,\d+\s*", re.ASCII)
_DOTS = re.compile(r"\s*[<>]?\s*[+-]?\d{1,3}(?:\.\d{3}){2,}\s*", re.ASCII)

#: A date as ISO 8601 writes it, with or without a time.
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}.*)?", re.ASCII)

Shape: TypeAlias = Literal["number", "censored", "decimal comma", "thousands dots", "date", "blank", "text"]


def shape_of(text: str) -> Shape:
    """What a piece of text looks like.

    >>> [shape_of(t) for t in ("61.5", ">1700", "1,5", "1.743.000", "2011-03-05", " ", "AD")]
    ['number', 'censored', 'decimal comma', 'thousands dots', 'date', 'blank', 'text']
    """
    if not text.strip():
        return "blank"
    if _PLAIN.fullmatch(text):
        return "number"
    if _CENSORED.fullmatch(text):
        return "censored"
    if _DOTS.fullmatch(text):
        return "thousands dots"
    if _COMMA.fullmatch(text):
        return "decimal comma"
    return "date" if ISO_DATE.fullmatch(text.strip()) else "text"


def parse_censored(text: str) -> tuple[float, int] | None:
    """``(number, side)``: side -1 for "<8", 1 for ">1700", 0 for "203.1"; None for what is none of these.

    >>> parse_censored("> 1700"), parse_censored("<8"), parse_censored("203.1"), parse_censored("AD")
    ((1700.0, 1), (8.0, -1), (203.1, 0), None)
    """
    if _PLAIN.fullmatch(text):
        return float(text), 0
    if match := _CENSORED.fullmatch(text):
        return float(match[2]), -1 if match[1] in ("<", "<=", "≤") else 1
    return None


def advice(texts: Iterable[str], name: str) -> str:
    """What to do about text where numbers were expected; empty where nothing of it looks like a number."""
    shapes = {shape_of(t): t for t in texts}
    if "thousands dots" in shapes:
        return (
            f"{shapes['thousands dots']!r} looks like a number that a spreadsheet rewrote (1.743 to 1.743.000): "
            "its digits cannot be trusted, take the column from the original table"
        )
    if "decimal comma" in shapes:
        return f"{shapes['decimal comma']!r} has a decimal comma: read the table again with decimal=',' "
    if "censored" in shapes:
        return f"{shapes['censored']!r} is a censored number: declare kinds={{{name!r}: 'censored'}}"
    if "number" in shapes:
        return (
            f"numbers stored as text: frame[{name!r}] = pandas.to_numeric(frame[{name!r}]), "
            f"or declare kinds={{{name!r}: 'categorical'}} if they are codes"
        )
    if "date" in shapes:
        return f"dates: kinds={{{name!r}: Age(at=...)}} makes years of them"
    return ""
