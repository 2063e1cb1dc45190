"""Words that often mean "missing" and are never taken for it unasked: reported, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fusionconv.tabular.suspicious import Suspicion

__all__ = ["suspicious_texts"]

_WORD = re.compile(r"[^\W\d]|[^\w<>≤≥+-]+[^\W\d]")  # begins with a letter, maybe in a bracket
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_NOT = """available|applicable|reported|known|done|recorded|assessed|tested|measured|determined|given|provided|specified
    |stated|collected|evaluated|examined|performed|answered|asked|documented|entered|obtained|released|sure|evaluable
    |disclosed|ascertained|captured|rated|scored|completed|administered|allowed"""
_WORDS = """na|n a|n/a|n/d|nan|nat|null|none|nil|nd|n d|nk|n k|dk|nr|n r|unk|unkn|unknown|unkown|undefined|undetermined
    |unspecified|unavailable|unrecorded|unreported|missing|missing data|missing value|data missing|value missing|no data
    |no value|no answer|no response|no information|no info|no record|refused|refuse|refuses|refusal|declined|decline
    |declines|dont know|don t know|do not know|doesnt know|doesn t know|prefer not|prefers not|withheld|redacted
    |suppressed|tbd|tba|blank|empty|void|invalid|error|value|div/0|ref|name|num|unbekannt|nicht bekannt|keine angabe
    |keine angaben|k a|fehlt|inconnu|inconnue|non renseigne|non renseigné|desconocido|desconocida|sconosciuto|okänd"""


def _one_of(words: str) -> str:
    return "|".join(word.strip() for word in words.split("|"))


_MISSING = re.compile(
    r"(?:\d+ )?(?:(?:it|data|information|info|value|status|results?|answer|response|test|patient|subject) )?"
    rf"(?:(?:is |was )?not (?:yet |been )?(?:{_one_of(_NOT)})|{_one_of(_WORDS)})(?: (?:to|by|or|if|at|in|for|due)\b.*)?"
)
_AMOUNTS = _one_of(
    """mild|moderate|severe|some|minimal|trace|present|slight|partial|full|low|high|light|heavy|yes|one|two|single|multiple
    |few|many|rare|focal|diffuse|weak|strong|minor|major|normal"""
)  # beside one of these, "none" is an answer
_AMOUNT = re.compile(rf".*\b(?:{_AMOUNTS})\b.*", re.IGNORECASE)
_SPREADSHEET = frozenset({"value", "div/0", "ref", "name", "num", "error"})  # of "#VALUE!" and its like


def is_missing_word(text: str) -> bool:
    """Whether a text says that there is no value, in whatever brackets: "n/a", "[Not Available]", "refused", "?".

    >>> [is_missing_word(t) for t in ("[Not Available]", "refused to answer", "?", "Not Hispanic", "AD")]
    [True, True, True, False, False]
    """
    plain = " ".join(re.sub(r"[^\w/]|_", " ", text.casefold().replace("'", "").replace("’", "")).split()).strip("/ ")
    if not plain:
        return set(text) <= set("?-–—.*_/\\#()[]{}: ")  # not "+" and "<"
    if plain in _SPREADSHEET:
        return text.strip().startswith("#")
    parts = [plain] if _MISSING.fullmatch(plain) else [p.strip() for p in plain.split("/")]
    return all(p and _MISSING.fullmatch(p) is not None for p in parts)


def suspicious_texts(texts: Iterable[tuple[str, int]]) -> list[Suspicion]:
    """Words for "missing" among (text, number of rows), and numbers among words.

    >>> [str(s) for s in suspicious_texts([("F", 10), ("n/a", 2), ("", 1), ("-9999", 3)])]
    ["'n/a' in 2 rows often means a missing value", "'' in 1 row often means a missing value", \
"'-9999' in 3 rows is a number among words"]
    """
    found = list(texts)
    signs = any(text.strip().startswith("+") for text, _ in found)  # then "-" is an answer
    answers = {"none", "nil"} if any(_AMOUNT.fullmatch(text) for text, _ in found) else set()
    absent = {
        t
        for t, _ in found
        if is_missing_word(t)
        and not (signs and t.strip() and not t.strip("- "))
        and t.strip().casefold() not in answers
    }
    numbers = {text for text, _ in found if _NUMBER.fullmatch(text)}
    words = {text for text, _ in found if text not in absent and _WORD.match(text)}
    lone = numbers if len(words) >= max(1, len(numbers)) else set()
    reasons = {**dict.fromkeys(absent, "often means a missing value"), **dict.fromkeys(lone, "is a number among words")}
    return [Suspicion(text, count, reasons[text]) for text, count in found if text in reasons]
