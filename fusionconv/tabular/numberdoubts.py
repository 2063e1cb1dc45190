"""Columns that read as numbers and may mean others: points that part thousands, and zeros that are part of a code."""

from __future__ import annotations

import re
from collections.abc import Collection

from fusionconv.tabular.namewords import names_category, names_measure, words_of

__all__ = ["number_doubt"]

_CODES = frozenset(["icd", "icpc", "snomed", "loinc", "atc", "version", "chapter", "section"])


def number_doubt(texts: Collection[str], name: str, decimal: str = ".") -> str:
    """What a person should look at in a column whose different ``texts`` are all numbers, or "".

    * Every number with a decimal point has three digits behind it and one to three before it, and the others have up to
      three digits: 980 beside 1.743 may be 1743. (Zeros alone beside them say nothing: 0 and 1.306 are volumes.)
    * 250.1 and 250.10 are one number and two codes, where all are written as ICD-9 codes are, with three digits before
      the point, or the name says a code or a category. Elsewhere 1.5 and 1.50 are a measure that was typed by hand.

    Both stay numbers: a measure may be written so too.

    >>> number_doubt(["980", "1.743", "12.100"], "vol")[:52]
    "980 beside '1.743' and its like, with three decimals"
    >>> number_doubt(["250.1", "250.10"], "icd")[:35], number_doubt(["1.5", "1.50"], "weight")
    ("'250.1' and '250.10' are one number", '')
    """
    mark = re.escape(decimal)
    pointed = [t for t in texts if decimal in t]
    plain = [t for t in texts if t and decimal not in t]
    whole = next((t for t in plain if t.strip("+-0")), None)
    if pointed and whole is not None:
        marked = all(re.fullmatch(rf"[+-]?[1-9][0-9]{{0,2}}{mark}[0-9]{{3}}", t) for t in pointed)
        if marked and all(re.fullmatch(r"[+-]?[0-9]{1,3}", t) for t in plain):
            return (
                f"{whole} beside {pointed[0]!r} and its like, with three decimals each, which may be thousands; they "
                f"are read with a decimal {'point' if decimal == '.' else 'comma'}: if the mark parts thousands, write "
                "the numbers without it"
            )
    named = names_category(name) or not _CODES.isdisjoint(words_of(name))
    if names_measure(name) or not (
        named or all(re.fullmatch(rf"[0-9]{{3}}({mark}[0-9]{{1,2}})?", t) for t in texts if t)
    ):
        return ""
    spelled: dict[str, str] = {}
    for text in pointed:
        if re.fullmatch(rf"[+-]?[0-9]+{mark}[0-9]*[1-9]0*", text):
            other = spelled.setdefault(text.rstrip("0"), text)
            if other != text:
                return (
                    f"{other!r} and {text!r} are one number, as which they are read, and may be two codes: name the "
                    "column in text=[...] if they are"
                )
    return ""
