"""Does a covariate say what the target is: by its name, by how well it alone tells it, or by where it is missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from fusionconv.tabular.leakage.report import Finding, Severity

__all__ = ["column_auc", "find_telling_covariates"]

MOST_CLASSES = 10  # a numeric target with more different values is a measure
MOST_LEVELS = 20  # a text column with more is not scored: it tells any target by heart
_CHANCE = 1e-3  # below this, a complete separation by chance is not believed

# Scores and codes by which a diagnosis is made, or that follow it.
_DEFINING = re.compile(
    r"(mmse|mmscore|moca|cdr\w*|cdglobal|adas\w*|faq|ravlt\w*|ldel\w*|mpacc\w*|ecog\w*|npi\w*"  # dementia
    r"|madrs|bdi|hads\w*|ham-?d\d*|zung\w*|phq\w*|qids\w*"  # depression
    r"|dx|dxchange|diagnos\w*|icd|group)(?![a-z])"
)


def column_auc(score: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """The area under the ROC curve of ``score`` for ``positive`` against the rest, from the ranks (ties count half).

    With R the sum of the positives' average ranks: ``AUC = (R - n1 (n1 + 1) / 2) / (n1 n0)``.

    >>> column_auc([1, 2, 3, 3], [False, False, True, True])
    1.0
    """
    ranks = pd.Series(score).rank().to_numpy(dtype=np.float64)
    positive = np.asarray(positive, dtype=bool)
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)) if n0 and n1 else math.nan


def find_telling_covariates(
    train: pd.DataFrame, target: str, covariates: Sequence[str], bound: float
) -> tuple[list[Finding], list[str]]:
    """Findings on each covariate, from the training rows only, and notes on what could not be scored."""
    found: list[Finding] = []
    notes: list[str] = []
    labelled = train[train[target].notna()]
    goal = labelled[target]
    measure = _is_measure(goal)
    for name in covariates:
        if name == target:
            found.append(Finding("error", "target among the covariates", name, "the covariates hold the answer"))
            continue
        if not measure and _DEFINING.match(name.casefold()):
            detail = f"by its name a score or code that defines or follows a diagnosis; the target is {target!r}"
            found.append(Finding("warning", "defining covariate", name, detail))
        scores = _score(labelled[name], len(labelled))
        if scores is None:
            notes.append(f"covariate {name!r}: not scored against the target (text with too many different values)")
        missing = labelled[name].isna().to_numpy(dtype=bool)
        if measure:
            if scores is not None and not isinstance(scores, pd.Series):
                found.extend(_by_rank(name, scores, goal, target, bound))
            elif scores is not None:
                notes.append(f"covariate {name!r}: not scored (text against a measured target)")
            continue
        for scored, what, kind in (
            (scores, "", "telling covariate"),
            (missing if missing.any() and not missing.all() else None, "where it is missing ", "telling missingness"),
        ):
            if scored is not None:
                found.extend(_by_auc(name, what, kind, scored, goal, target, bound, len(covariates)))
    return found, notes


def _score(column: pd.Series, rows: int) -> npt.NDArray[np.float64] | pd.Series | None:
    """Numbers (dates too) as float64, NaN where missing; text as it is, or None where it has too many values."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.map(lambda t: t.timestamp(), na_action="ignore").to_numpy(dtype=np.float64, na_value=np.nan)
    if not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column.astype(object), errors="coerce")
        if numbers.notna().sum() < column.notna().sum():
            levels = column.nunique()
            return column.astype(object) if levels <= MOST_LEVELS and 5 * levels <= rows else None
        column = numbers
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _by_auc(
    name: str,
    what: str,
    kind: str,
    scored: npt.ArrayLike | pd.Series,
    goal: pd.Series,
    target: str,
    bound: float,
    k: int,
) -> Iterator[Finding]:
    """The class that the column tells best, if it tells it better than ``bound``."""
    there = ~pd.isna(pd.Series(scored)).to_numpy()
    classes = goal.astype(object).map(str).to_numpy(dtype=object)[there]
    labels = sorted(set(classes))
    best, best_label = 0.0, ""
    for label in labels[:1] if len(labels) == 2 else labels:
        positive = classes == label
        if isinstance(scored, pd.Series):  # text: the share of this class among the rows with the same text
            values = pd.Series(positive).groupby(scored.to_numpy()[there]).transform("mean").to_numpy()
        else:
            values = np.asarray(scored, dtype=np.float64)[there]
        auc = column_auc(values, positive)
        if max(auc, 1 - auc) > best:
            best, best_label = max(auc, 1 - auc), label
    if best > bound:
        rows, ones = len(classes), int((classes == best_label).sum())
        chance = 2 * k / math.comb(rows, ones)  # of a complete separation by any of k columns
        severity: Severity = "error" if best == 1 and chance < _CHANCE else "warning"
        yield Finding(
            severity, kind, name, f"{what}alone tells {best_label!r} of {target!r} with AUC {best:.3f}, n={rows}"
        )


def _by_rank(
    name: str, values: npt.NDArray[np.float64], goal: pd.Series, target: str, bound: float
) -> Iterator[Finding]:
    both = pd.DataFrame({"a": values, "b": goal.to_numpy(dtype=np.float64, na_value=np.nan)}).dropna().rank()
    if len(both) < 3 or (both.nunique() < 2).any():
        return
    rho = abs(float(np.corrcoef(both["a"], both["b"])[0, 1]))
    if rho > bound:
        severity: Severity = "error" if rho > 1 - 1e-12 and len(both) >= 8 else "warning"
        yield Finding(severity, "telling covariate", name, f"|Spearman| with {target!r} is {rho:.3f}, n={len(both)}")


def _is_measure(goal: pd.Series) -> bool:
    numeric = pd.api.types.is_numeric_dtype(goal) and not pd.api.types.is_bool_dtype(goal)
    return numeric and goal.nunique() > MOST_CLASSES
