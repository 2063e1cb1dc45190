"""check_leakage: everything that can be known from two tables, their files and the encoder, in one call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from fusionconv.errors import LeakageWarning, TableError
from fusionconv.tabular.columns import require_columns
from fusionconv.tabular.ids import require_unique_index
from fusionconv.tabular.leakage.covariates import find_telling_covariates
from fusionconv.tabular.leakage.encoders import find_encoder_leak
from fusionconv.tabular.leakage.images import find_duplicate_images
from fusionconv.tabular.leakage.report import Finding, LeakageReport
from fusionconv.tabular.leakage.rows import find_identical_rows, find_shared_subjects

__all__ = ["check_leakage"]

_NO_COVARIATES = ("subject", "session", "image", "id", "split")


def check_leakage(
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    group: str = "subject",
    encoder: Any = None,
    covariates: Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    bound: float = 0.95,
    allow: Sequence[str] = (),
    image: str | None = "image",
    root: str | os.PathLike[str] = ".",
    workers: int = 1,
    progress: bool | None = None,
    raise_on: Literal["error", "warning", "never"] = "error",
) -> LeakageReport:
    r"""Look for what the training part may know of the test part (or of a validation part: call it for each pair).

    =============================  ========  ================================================================
    kind                           severity  found by
    =============================  ========  ================================================================
    shared subject                 error     the same id on both sides
    near-identical subject         warning   ids alike but for case, punctuation, leading zeros, ``sub-``
    identical rows                 warning   two subjects alike in all columns, where that is no coincidence
    shared image, duplicate image  error     the same file; SHA-256 of the content (``.gz`` decompressed)
    encoder                        error     learnt from test rows, or from more rows than the training rows
    \                              warning   learnt from others than exactly the training rows
    target among the covariates    error     its name
    defining covariate             warning   MMSE, CDR, ADAS... and other diagnostic scores, by name
    telling covariate              warning   AUC (or \|Spearman\|) of the column alone above ``bound``, training rows
    \                              error     the same, complete: AUC 1 where chance does not explain it
    telling missingness            as above  AUC of "is missing"
    image or encoder not checked   warning   a file that cannot be read; an encoder that cannot be fitted
    =============================  ========  ================================================================

    Nothing found does not prove that nothing leaks: not that networks, features or settings were chosen without the
    test rows, nor that two different scans are not one person's.

    Args:
        train: the training rows, with a unique index.
        test: the other rows.
        group: the column of subjects or identities.
        encoder: a fitted encoder with ``fit`` and ``to_dict``, such as ``CovariateEncoder``.
        covariates: the columns that go into the model. Default: the encoder's; without an encoder every column of
            ``train`` but subject, session, image, id, split, ``group`` and ``target``.
        target: the column to predict, or several, each looked at by itself. Its classes are taken one against the rest;
            numbers with more than ten different values are a measure and are compared by ranks.
        bound: AUC or absolute rank correlation above which a covariate alone is suspicious.
        allow: covariates that are used on purpose; nothing is said of what they tell.
        image: the column of image files, if there is one; None not to read them.
        root: the folder that the image paths start from.
        workers: threads that read and hash.
        progress: show a bar (needs tqdm); None: from 1,000 files on, in a terminal.
        raise_on: raise on findings of this severity or worse. Otherwise findings give a :class:`LeakageWarning`.

    Returns:
        A :class:`LeakageReport`: ``.findings``, a DataFrame with all rows named, and ``.checked``.

    Raises:
        TableError: findings, as ``raise_on`` says; an absent column; a missing id.

    >>> train = pd.DataFrame({"subject": ["a", "b"], "age": [60, 70]}, index=[0, 1])
    >>> test = pd.DataFrame({"subject": ["b", "c"], "age": [71, 80]}, index=[2, 3])
    >>> check_leakage(train, test)
    Traceback (most recent call last):
        ...
    fusionconv.errors.TableError: expected nothing of the test part in training, got 1 error:
    error: shared subject: b: on both sides (training rows 1; test rows 2)
    Split by subject before anything is fitted (fusionconv.tabular.split); raise_on='never' returns the report
    """
    if raise_on not in ("error", "warning", "never"):
        raise TableError(f"expected raise_on to be 'error', 'warning' or 'never', got {raise_on!r}")
    for frame, where in ((train, "training table"), (test, "test table")):
        require_columns(frame, [group], where)
        require_unique_index(frame, "a finding")
    targets = [] if target is None else [target] if isinstance(target, str) else list(target)
    report = LeakageReport.of(
        *_look(train, test, group, encoder, covariates, targets, bound, allow, image, Path(root), workers, progress)
    )
    severities = report.findings["severity"].tolist()
    if raise_on != "never" and ("error" in severities or raise_on in severities):
        counts = {s: severities.count(s) for s in ("error", "warning") if s in severities}
        came = " and ".join(f"{n} {s}{'s' if n > 1 else ''}" for s, n in counts.items())
        found = str(LeakageReport(report.findings))
        raise TableError(
            f"expected nothing of the test part in training, got {came}:\n{found}\n"
            "Split by subject before anything is fitted (fusionconv.tabular.split); raise_on='never' returns the report"
        )
    if len(report.findings):
        warnings.warn(f"what may leak:\n{LeakageReport(report.findings)}", LeakageWarning, stacklevel=2)
    return report


def _look(
    train: pd.DataFrame,
    test: pd.DataFrame,
    group: str,
    encoder: Any,
    covariates: Sequence[str] | None,
    targets: Sequence[str],
    bound: float,
    allow: Sequence[str],
    image: str | None,
    root: Path,
    workers: int,
    progress: bool | None,
) -> tuple[list[Finding], list[str]]:
    found = list(find_shared_subjects(train, test, group))
    checked = [f"{group}: {train[group].nunique()} against {test[group].nunique()}"]
    known = {*_NO_COVARIATES, group, image, *targets}
    shared = [c for c in train.columns if isinstance(c, str) and c in test.columns and c not in known - {*targets}]
    found += find_identical_rows(train, test, group, shared)
    checked.append(f"rows alike in {', '.join(shared)}" if shared else "rows alike: not checked, no columns to compare")
    if image is None or (image not in train.columns and image not in test.columns):
        checked.append("images: not checked, " + ("not asked" if image is None else f"no column {image!r}"))
    else:
        for frame, where in ((train, "training table"), (test, "test table")):
            require_columns(frame, [image], where)
        images, note = find_duplicate_images(train, test, image, root, workers, progress)
        found += images
        checked.append(note)
    if encoder is None:
        checked.append("encoder: not checked, none given")
    else:
        found += find_encoder_leak(train, test, encoder)
        checked.append("encoder: fitted again on the training rows and compared")
    if covariates is None:
        own = getattr(encoder, "columns", None)
        covariates = [c for c in train.columns if isinstance(c, str) and c not in known] if own is None else list(own)
    if not targets:
        checked.append("covariates: not checked, no target given")
        return found, checked
    names = [c for c in covariates if c not in allow]
    require_columns(train, [*targets, *names], "training table")
    notes: list[str] = []
    for target in targets:
        telling, more = find_telling_covariates(train, target, names, bound)
        found += telling
        notes += [note for note in more if note not in notes]
        checked.append(f"covariates against {target!r}: {', '.join(names) or 'none'}")
    checked += [f"covariate {c!r}: allowed" for c in covariates if c in allow] + notes
    return found, checked
