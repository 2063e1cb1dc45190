"""What a text cell of a table means: the one grammar that the readers, inspect and the encoder share.

============= ================================================= ==================================================
shape         such as                                           read as
============= ================================================= ==================================================
number        ``61.5``  ``-4``  ``1.5e3``  ``1e+03``            the number
bound         ``<8``  ``<=8``  ``≤8``  ``>1700``  ``≥89``,      the number and a side, -1 or 1 (kind ``censored``)
              ``89+``
age           ``045Y``  ``006M``  ``030W``  ``010D``            years (DICOM's Age String: days / 365.25)
date          ``2005-09-08``  ``2005-09-08T10:30``              a date (kind ``Age``)
blank         nothing, or spaces                                a missing value
============= ================================================= ==================================================

The other shapes are no numbers. A reader leaves them as text or refuses them, the encoder asks, and :func:`advice` says
what to do: ``decimal comma``, ``thousands``, ``range``, ``pair`` (``120/80``), ``unit``, ``other date``, and ``code``,
digits that may be a name (``007``, ``10E2``, 16 of them and more). What is left is ``text``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from fusionconv.tabular.numberdates import date_format

__all__ = [
    "ISO_DATE",
    "NUMBER",
    "ODD_SHAPES",
    "Reading",
    "Shape",
    "advice",
    "read_cell",
    "same_word",
    "shape_of",
    "tidy_cell",
]

Shape: TypeAlias = Literal[
    "number", "bound", "age", "date", "blank",
    "decimal comma", "thousands", "range", "pair", "unit", "other date", "code", "text",
]  # fmt: skip

#: Shapes that are neither words nor plain numbers: a column of words that holds one is asked about.
ODD_SHAPES: frozenset[Shape] = frozenset(
    ["bound", "age", "date", "decimal comma", "thousands", "range", "pair", "unit", "other date"]
)

#: A number with a decimal point, as a regular expression.
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
#: A date as ISO 8601 writes it, with or without a time and a time zone.
ISO_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)

_PLAIN = re.compile(NUMBER)
# A program that shortens a number gives the exponent a sign (1e+03); 10E2 is a name as often
_CODE = re.compile(r"[+-]?0[0-9]+(?:\.0*)?|[+-]?[0-9]{16,}(?:\.0*)?|[0-9]+[eE][0-9]+")
_SIGN = r"<=?|>=?|=<|=>|≤|≥|⩽|⩾"
_BOUND = re.compile(rf"({_SIGN})\s*({NUMBER})|({NUMBER})\s*\+")
_AGE = re.compile(r"([0-9]{3}|[0-9]{2}|[0-9](?!D))([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
_COMMA = re.compile(rf"(?:{_SIGN})?\s*[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?\s*\+?")
_MARKS = re.compile(
    r"[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}|[+-]?[0-9]{1,3}(?:,[0-9]{3}){2,}"  # 1.743.000 and 1,743,000
    r"|[+-]?[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]*|[+-]?[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]*"  # 1,743.5 and 1.743,5
    r"|[+-]?[0-9]{1,3}(?:[\s'’][0-9]{3})+(?:[.,][0-9]+)?"  # 1 743 and 1'743
)
_AMOUNT = r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
# fmt: off
_UNITS = """\
% ‰ percent pct nm um µm μm mm cm dm m km in inch inches ft feet mm2 mm3 cm2 cm3 mm² mm³ cm² cm³ m2 m² ml mL l L dl dL
cc ng µg μg ug mcg mg g kg lb lbs oz t ms s sec secs second seconds min mins minute minutes h hr hrs hour hours d day
days w wk wks week weeks mo mos mth month months y yr yrs year years yo Hz kHz MHz T mT tesla Tesla °C °F °K ° deg
degrees mmHg bpm U IU kU mol mmol µmol μmol umol nmol pmol mM µM μM nM pg fl fL kcal kJ J W kPa Pa mEq cells Jahre
Jahr Monate Tage ans mois jours años
""".split()  # noqa: SIM905
# fmt: on
_ONE_UNIT = "|".join(re.escape(u) for u in sorted(_UNITS, key=len, reverse=True))
_UNIT = re.compile(
    rf"(?:{NUMBER}|[+-]?[0-9]+,[0-9]+)\s*(?:{_ONE_UNIT})\.?(?:\s*[/·]\s*(?:[0-9.]+\s*)?(?:{_ONE_UNIT}))*(?:\s*old)?"
    rf"|[$€£]\s*[0-9][0-9.,]*|[~≈±(]\s*{NUMBER}\)?|{NUMBER}\s*(?:±|\+/?-)\s*{NUMBER}"
    rf"|{NUMBER}\s*[*?†‡§!#ªº¹²³\u2070-\u209c\u2460-\u24ff]+"  # also a small 1 as of a footnote, or a circled one
)
_RANGE = re.compile(
    rf"({_AMOUNT})\s*(?:-|–|—|to|bis|\.\.\.?|…)\s*({_AMOUNT})(?:\s*(?:{_ONE_UNIT}))?"
    rf"|[\[(]\s*({NUMBER}|-inf)\s*[,;]\s*({NUMBER}|inf)\s*[\])]"  # as pandas.cut writes it
)
_PAIR = re.compile(rf"{_AMOUNT}\s*[/x×]\s*{_AMOUNT}(?:\s*[/x×]\s*{_AMOUNT})?(?:\s*(?:{_ONE_UNIT}))?")
_MONTH = r"(?:jan|feb|mar|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-zéûä]*\.?"
_DAY = r"[0-9]{1,2}(?:st|nd|rd|th)?"
_TIME = r"(?:[ T,]+[0-9]{1,2}:[0-9]{2}.*)?"
_OTHER_DATE = re.compile(
    rf"[0-9]{{1,2}}([/.-])[0-9]{{1,2}}\1[0-9]{{4}}{_TIME}|[0-9]{{1,2}}([/-])[0-9]{{1,2}}\2[0-9]{{2}}{_TIME}"
    rf"|[0-9]{{2}}\.[0-9]{{2}}\.[0-9]{{2}}|[0-9]{{4}}([/.-])[0-9]{{1,2}}\3[0-9]{{1,2}}{_TIME}"
    r"|[0-9]{4}[-/](?:0[1-9]|1[0-2])|[0-9]{4}-[0-9]{2}-[0-9]{2}[T _].*"
    rf"|{_DAY}[ ./-]*{_MONTH}[ ,./-]*[0-9]{{2,4}}{_TIME}"
    rf"|{_MONTH}[ ,./-]*(?:{_DAY}[ ,./-]+)?[0-9]{{4}}{_TIME}"
    r"|[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:\s*[ap]\.?m\.?)?",
    re.IGNORECASE,
)
# Compatibility characters that say what their plain form says; not <super>, <sub>, <circle> and <fraction>
_SAME_MEANING = frozenset({"<wide>", "<narrow>", "<small>", "<noBreak>", "<font>", "<compat>", "<square>"})
# Spellings of one word; f is female beside m, and false beside t
_SAME = [
    set(words.split())
    for words in (
        "m male man men boy mann männlich maennlich masculin masculino",
        "f female woman women girl w weiblich frau femme femenino",
        "y yes true t ja j oui si sí",
        "n no false f nein non",
        "l left lt links",
        "r right rt rechts",
        "pos positive +",
        "neg negative -",
    )
]


class Reading(NamedTuple):
    """What a cell means: its shape; the number (years, for an age), if it is one; the side of a bound, else 0."""

    shape: Shape
    number: float | None = None
    side: int = 0


def tidy_cell(text: str) -> str:
    """``text`` without outer spaces; wide digits are digits, and the minus sign of typesetters (U+2212) is a hyphen.

    A sign with a meaning of its own stays: 61¹ is not 611, ① not 1. An accent is one with its letter.

    >>> [tidy_cell(t) for t in (" ６１．５", "\u22124", "10³", "½")]
    ['61.5', '-4', '10³', '½']
    """
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", "".join(map(_plain, text))).strip()


def _plain(sign: str) -> str:
    """The plain form of a wide, narrow or compatibility character; others, and those that hide a digit, as they are."""
    tag = unicodedata.decomposition(sign).partition(" ")[0]
    plain = unicodedata.normalize("NFKC", sign) if tag in _SAME_MEANING else sign
    if tag in ("<compat>", "<square>") and any(c.isdigit() for c in plain):
        return sign
    return plain.replace("\u2212", "-")


def read_cell(text: str) -> Reading:
    """What a piece of text means; the module's table tells the shapes.

    >>> read_cell(" 61.5 "), read_cell(">1700"), read_cell("89+"), read_cell("006M")[:2]
    (Reading(shape='number', number=61.5, side=0), Reading(shape='bound', number=1700.0, side=1), \
Reading(shape='bound', number=89.0, side=1), ('age', 0.5))
    >>> [shape_of(t) for t in ("1,5", "1.743.000", "45-50", "120/80", "172 cm", "9/8/2005", "2005-09-08")]
    ['decimal comma', 'thousands', 'range', 'pair', 'unit', 'other date', 'date']
    >>> [shape_of(t) for t in ("007", "10E2", " ", "AD")]
    ['code', 'code', 'blank', 'text']
    """
    text = tidy_cell(text)
    if not text:
        return Reading("blank")
    if _PLAIN.fullmatch(text):
        if _CODE.fullmatch(text):
            return Reading("code")
        number = float(text)
        return Reading("number", number) if abs(number) < float("inf") else Reading("text")
    if not any(c.isdigit() for c in text):
        return Reading("text")
    if match := _BOUND.fullmatch(text):
        number = float(match[2] or match[3])
        below = match[1] is not None and any(sign in match[1] for sign in "<≤⩽")
        return Reading("bound", number, -1 if below else 1) if abs(number) < float("inf") else Reading("text")
    if match := _AGE.fullmatch(text):
        return Reading("age", int(match[1]) * _YEARS[match[2]])
    if _MARKS.fullmatch(text):
        return Reading("thousands")
    if _COMMA.fullmatch(text):
        return Reading("decimal comma")
    if ISO_DATE.fullmatch(text):
        return Reading("date")
    if _OTHER_DATE.fullmatch(text):
        return Reading("other date")
    if (match := _RANGE.fullmatch(text)) and float(match[1] or match[3]) <= float(match[2] or match[4]):
        return Reading("range")
    if _PAIR.fullmatch(text):
        return Reading("pair")
    return Reading("unit") if _UNIT.fullmatch(text) else Reading("text")


def shape_of(text: str) -> Shape:
    """The shape of a piece of text."""
    return read_cell(text).shape


def same_word(one: str, other: str) -> bool:
    """Whether two texts are known spellings of one word: M and male, yes and Y, L and left.

    >>> same_word("M", "Male"), same_word("F", "female"), same_word("F", "false"), same_word("M", "F")
    (True, True, True, False)
    """
    found = {one.strip().casefold(), other.strip().casefold()}
    return any(found <= words for words in _SAME)


def advice(texts: Iterable[str], name: str) -> str:
    """What to do about text where numbers were expected; empty where nothing of it looks like a number."""
    texts = list(texts)
    shapes: dict[Shape, str] = {}
    for text in texts:
        shapes.setdefault(shape_of(text), text)
    first = {shape: repr(text) for shape, text in shapes.items()}
    if "thousands" in shapes:
        if shapes["thousands"].count(".") > 1:
            return (
                f"{first['thousands']} looks like a number that a spreadsheet rewrote (1.743 to 1.743.000): "
                "its digits cannot be trusted, take the column from the original table"
            )
        return f"{first['thousands']} has marks between the thousands: write the numbers without them"
    if "decimal comma" in shapes:
        if "text" in first or "code" in first:  # it may have been read so, and be text because of the others
            return (
                f"{first['decimal comma']} has a decimal comma, beside text such as "
                f"{first.get('text') or first['code']}: correct or clear the text, and read the table with "
                "decimal=',' if it was not (or, if the comma parts thousands, write the number without it)"
            )
        return (
            f"{first['decimal comma']} has a decimal comma: read the table again with decimal=',' (or, if the comma "
            "parts thousands, write the numbers without it)"
        )
    if "range" in shapes:
        return (
            f"{first['range']} is a range, which is no number: give the ranges their order, "
            f"kinds={{{name!r}: Ordinal({_in_order(texts)})}}, or write a number in their place"
        )
    if "pair" in shapes:
        return (
            f"{first['pair']} is several numbers: make a column of each, or declare kinds={{{name!r}: 'categorical'}} "
            "if it is a name"
        )
    if "unit" in shapes:
        unit = tidy_cell(shapes["unit"]).lstrip("+-0123456789.,eE ")
        return (
            f"{first['unit']} is a number with a unit or a mark: write the numbers alone, all in one unit (where it is "
            f"always {unit!r}: frame[{name!r}] = pandas.to_numeric(frame[{name!r}].str.removesuffix({unit!r}))), or "
            f"declare kinds={{{name!r}: 'categorical'}} if they are names"
        )
    if "other date" in shapes:
        return (
            f"{first['other date']} looks like a date or a time that is not written as 2005-09-08, and day and month "
            f"are not guessed: kinds={{{name!r}: Age(at=..., format='%d.%m.%Y')}} makes years of dates (%d/%m/%Y: day "
            "first, %m/%d/%Y: month first); of times of day make numbers"
        )
    if "date" in shapes:
        return f"dates: kinds={{{name!r}: Age(at=...)}} makes years of them"
    if "age" in shapes:
        return (
            f"{first['age']} is an age as DICOM writes it, and all values must be: write them all so (045Y, 006M, "
            "030W, 010D), or all as numbers in one unit"
        )
    if "bound" in shapes:
        return f"{first['bound']} is a censored number: declare kinds={{{name!r}: 'censored'}}"
    if "code" in shapes:
        return (
            f"{first['code']} may be a name or a number: declare kinds={{{name!r}: 'categorical'}} if it is a name, or "
            f"frame[{name!r}] = pandas.to_numeric(frame[{name!r}]) if it is a number"
        )
    if "number" in shapes:
        if form := date_format(np.array([n for t in texts if (n := read_cell(t).number) is not None])):
            return f"dates: kinds={{{name!r}: Age(at=..., format={form!r})}} makes years of them"
        return (
            f"numbers stored as text: declare kinds={{{name!r}: 'numeric'}}, or kinds={{{name!r}: 'categorical'}} if "
            "they are codes"
        )
    return ""


def _in_order(texts: Iterable[str]) -> str:
    """Ranges, bounds and numbers as a list in the order of their numbers; at most twelve."""

    def place(text: str) -> tuple[float, int]:
        low = re.search(r"[0-9]+(?:\.[0-9]+)?", text)
        return (float(low[0]) if low else float("inf"), read_cell(text).side)

    levels = sorted(dict.fromkeys(t for t in texts if shape_of(t) in ("range", "bound", "number")), key=place)
    return f"[{', '.join(map(repr, levels[:12]))}{', ...' * (len(levels) > 12)}]"
