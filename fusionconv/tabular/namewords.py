"""What the name of a column says of its values: a category, a count or a measure, or a measure that is never 0."""

from __future__ import annotations

import itertools
import re

__all__ = ["names_category", "names_measure", "never_zero", "words_of"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CATEGORY = _words(
    """
    sex gender geschlecht sexe sexo race ethnicity ethnic ethnie side laterality hemisphere eye hand handedness
    dominance site center centre hospital clinic institution scanner vendor manufacturer model device machine
    coil location localization localisation lobe region area country state province city zone organ tissue type
    subtype class category cat code group grp cohort arm treatment therapy drug diagnosis dx status marital
    marry raccat ethcat
    smoking smoker smoke religion language occupation job employment insurance view projection orientation
    position protocol sequence modality genotype haplotype histology morphology pathology bloodtype month
    weekday dayofweek quarter color colour shape cause reason source method rater reader operator surgeon
    physician referral admission discharge fitzpatrick phototype label cluster kind variant ward department
    specialty speciality
    """
)
_MEASURE = _words(
    """
    amount frequency freq age alter years year yrs yr months weeks days hours minutes edu educ education educat
    pteducat schooling school score scores index scale rating points mmse moca cdr updrs edss apoe apoe4 e4
    alleles allele copies parity gravida gravidity children siblings packyears dose mg ml mm cm kg tesla
    strength thickness spacing size length width height weight volume diameter time duration te tr rank order
    percent pct ratio rate iq pain vas tumors visits lesions metastases visit session
    timepoint wave trial day week
    """
)
_COUNT = _words(
    """
    n num number count counts nr no total sum
    """
)
_CHANGE = _words(
    """
    change loss gain diff difference delta z zscore sds percentile sample class log scaled norm std
    """
)
_POSITIVE = _words(
    """
    weight height bmi bp sbp dbp systolic diastolic pressure pulse hr heartrate bpm glucose cholesterol insulin
    skinfold hemoglobin haemoglobin hb hematocrit haematocrit platelets creatinine albumin waist icv etiv tiv
    sodium potassium spo2 respiratoryrate ejectionfraction egfr circumference bodytemperature restingbp
    gewicht groesse größe poids taille peso altura bodyweight birthweight bloodpressure bodyheight
    """
)
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-zà-ÿ]+|[A-Z]+|[0-9]+")
_AGE = frozenset({"age", "alter", "ages"})


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: at spaces, marks, digits, and where capitals begin.

    >>> words_of("BloodPressure"), words_of("tumor_location.2"), words_of("numLesions"), words_of("PTGENDER")
    (['blood', 'pressure'], ['tumor', 'location', '2'], ['num', 'lesions'], ['ptgender'])
    """
    return [word.casefold() for word in _WORD.findall(name)]


def _joined(name: str) -> set[str]:
    """The words, pairs of neighbours written as one, and words without ADNI's "pt" before them."""
    words = words_of(name)
    return {*words, *(a + b for a, b in itertools.pairwise(words)), *(w.removeprefix("pt") for w in words)}


def names_measure(name: str) -> bool:
    """Whether the name says that the column counts or measures: ``n_``, ``_count``, ``age``, ``score``, a plural.

    >>> [names_measure(n) for n in ("n_lesions", "visits", "age", "APOE4", "status", "race", "age_group")]
    [True, True, True, True, False, False, False]
    """
    words = [w for w in words_of(name) if not w.isdigit()]
    last, first = (words[-1], words[0]) if words else ("", "")
    plural = len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is", "as", "os"))
    named = last in _CATEGORY and first not in _COUNT
    return not named and (plural or bool(_joined(name) & (_MEASURE | _COUNT | _POSITIVE)))


def names_category(name: str) -> bool:
    """Whether the name says that the column names something: sex, side, site, ..., and does not count it.

    >>> [names_category(n) for n in ("PTGENDER", "tumor_location", "race", "n_sites", "smoking_years", "weight")]
    [True, True, True, False, False, False]
    """
    return bool(_joined(name) & _CATEGORY) and not names_measure(name)


def never_zero(name: str, lowest: float) -> bool:
    """Whether 0 is impossible under this name: heights, weights, pressures; ages if the ``lowest`` other is 10 or more.

    >>> never_zero("BloodPressure", 60), never_zero("weight_change", 2), never_zero("age", 55), never_zero("age", 1)
    (True, False, True, False)
    """
    words = _joined(name)
    return not words & _CHANGE and (
        bool(words & _POSITIVE) or ("skinthickness" in words) or (bool(words & _AGE) and lowest >= 10)
    )
