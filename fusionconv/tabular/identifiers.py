"""Whether a column names rows or people, judged by its name and by the shape of its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fusionconv.tabular.namewords import names_category, names_measure, words_of
from fusionconv.tabular.text import shape_of

__all__ = ["looks_like_id", "names_id"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: An id by themselves, at the end of a name or at its start.
_ID = _words(
    """
    id ids rid ptid mrn uid uuid guid iid fid eid pid sid usubjid subjid identifier kennung nhs ssn
    """
)
#: Whom or what an id names: an id alone (subject), with "id" or a word for number (patientid, case_number, PatNr).
_WHOM = _words(
    """
    subject subj usubj patient pat participant proband person individual case record row study series image img scan
    sample specimen lesion accession medical hospital mr medicalrecord serial animal mouse paciente probanden patienten
    fall vp vpn sujet sujeto bids
    """
)
_PEOPLE = _words("subject subj patient participant proband person individual case record paciente sujet sujeto")
_NUMBER = _words("number nr no num nummer numero número code key name index")
_COUNTED = _words("n num number no nr count total sum")
_LONG = 10**8  # numbers of nine digits and more
_LUCK = 4.6  # pairs that should have been alike, for each value that could be: exp(-4.6) is one in a hundred


def names_id(name: str) -> bool:
    """Whether a name says that the column tells rows or people apart.

    A site, a scanner or a rater has an id too, and is a category: see
    :func:`~fusionconv.tabular.namewords.names_category`.

    >>> [names_id(n) for n in ("RID", "PatientID", "subject", "patient_nr", "SeriesInstanceUID", "MRN")]
    [True, True, True, True, True, True]
    >>> [names_id(n) for n in ("site_id", "age", "lipid", "number_of_lesions", "patient_age", "subject_group")]
    [False, False, False, False, False, False]
    """
    words = [w for w in words_of(name) if not w.isdigit()]
    if not words:
        return False
    if all(w in _WHOM | _ID | _NUMBER or _parted(w) for w in words) and len(words) > 1 and words[0] not in _COUNTED:
        return True  # of words for people and numbers only
    if len(words) == 1:
        return words[0] in _ID | _PEOPLE or _parted(words[0])
    at_an_end = words[0] in _ID or words[-1] in _ID or _parted(words[-1])
    others = " ".join(w for w in words if w not in _ID)
    return at_an_end and not names_category(others) and not names_measure(others)


def _parted(word: str) -> bool:
    """Two words written as one: patientid, lesionid, patientennummer."""
    return any(
        word.endswith(end) and word.removesuffix(end) in _WHOM
        for end in (*sorted(_NUMBER - {"no", "name"}), "id", "uid")
    )


def looks_like_id(values: pd.Series[Any], name: str) -> bool:
    """Whether a column names rows or people, and is no covariate.

    ``values`` are as they are after missing codes: numbers, or text. A column is an id if

    * its name says so (``id``, ``RID``, ``subject``, ``patient_nr``, ``MRN``, ``SeriesInstanceUID``), however often a
      value occurs, and its numbers are whole and not all 0 or 1;
    * it holds more than ten texts, and none twice;
    * it holds whole numbers from 0 on and nothing in its name measures or counts (age, score, ``n_...``, a plural), and
      they have nine digits and more, or none occurs twice where that is too much of a chance: n different numbers, as
      measured, between lowest and highest would have n (n - 1) / (2 (highest - lowest + 1)) pairs of equal ones, here
      4.6 and more. So 1 to 20 is an id, and eleven ages from 47 to 91 are none;
    * it is called ``nr``, ``number``, ``no`` or ``index`` and holds whole numbers of which none occurs twice.

    >>> looks_like_id(pd.Series([2, 2, 5, 5]), "RID"), looks_like_id(pd.Series([2, 2, 5, 5]), "visit")
    (True, False)
    >>> looks_like_id(pd.Series(range(20)), "x"), looks_like_id(pd.Series(range(50, 70)), "age")
    (True, False)
    """
    known = values.dropna()
    if not len(known):
        return False
    different, rows = int(known.nunique()), len(known)
    named = names_id(name)
    if not pd.api.types.is_numeric_dtype(known):
        return (different == rows > 10) or (named and any(shape_of(str(v)) in ("text", "code") for v in known.unique()))
    numbers = known.to_numpy(dtype=np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if bool((numbers % 1).any()) or low < 0 or not np.isfinite(high):
        return False
    if named:
        return different == rows or not high <= 1
    words = words_of(name)
    if len(words) == 1 and words[0] in _NUMBER - {"code", "key", "name"}:
        return different == rows and rows > 1
    if names_measure(name):
        return False
    if low >= _LONG and different > 1 and not names_category(name):
        return True
    return different == rows and rows * (rows - 1) / (2 * (high - low + 1)) >= _LUCK
