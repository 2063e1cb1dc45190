"""The runs of a study: which arms, on which folds, with which seeds, and everything that their results depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm, parse_arm
from fusionconv.study.files import read_json
from fusionconv.study.folds import make_encoder
from fusionconv.study.runs import Run, run_folder, run_seed, run_settings
from fusionconv.study.settings import Settings

if TYPE_CHECKING:
    from fusionconv.study.study import Study

__all__ = ["parse_arms", "plan_runs", "require_same_rows"]

log = logging.getLogger("fusionconv.study")


def parse_arms(arms: Sequence[str | Mapping[str, Any]], settings: Settings) -> list[Arm]:
    """The arms, each once; those that others need are there.

    Raises:
        StudyError: two arms of one name; an arm that takes covariates where there are none; no arms.
    """
    if isinstance(arms, (str, Mapping)):
        arms = [arms]
    parsed = [parse_arm(arm) for arm in arms]
    if not parsed:
        raise StudyError("arms: expected at least one, got none; such as image covariates concat hybrid@first")
    names = [arm.name for arm in parsed]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise StudyError(f"arms: expected different names, got {', '.join(twice)} twice; give one another name")
    needy = [
        arm.name
        for arm in parsed
        if arm.takes_covariates
        and not settings.availability
        and not arm.settings.get("covariates", settings.covariates)
    ]
    if needy:
        raise StudyError(f"arms: expected covariates for {', '.join(needy)}, got none; give --covariates COLUMNS")
    if any(arm.kind == "stacked" for arm in parsed) and "image" not in names:
        raise StudyError("arms: expected the arm image beside stacked, which builds on its scores, got none; add image")
    if settings.reference is not None and settings.reference not in names:
        raise StudyError(f"reference: expected one of the arms {', '.join(names)}, got {settings.reference!r}")
    return parsed


def plan_runs(study: Study, arms: Sequence[Arm], out: Path) -> list[Run]:
    """All runs, fold by fold, so that a study that is stopped has every arm of the folds that it finished."""
    data_facts = {arm.name: _facts(study, study.of_arm(arm)) for arm in arms}
    runs = []
    for fold in study.folds.columns:
        for arm in arms:
            if arm.kind == "stacked":
                continue
            for number in range(study.settings.seeds if arm.takes_image else 1):
                seed = run_seed(study.settings.seed, fold, number)
                facts = {
                    "settings": run_settings(study.of_arm(arm), arm), **data_facts[arm.name], "fold": fold,
                    "seed": seed,
                    "arm": {k: v for k, v in asdict(arm).items() if k != "name"},
                    "split": _hash(study.folds[fold].tolist()),
                }  # fmt: skip
                if not arm.takes_image:
                    facts.pop("images", None)
                runs.append(Run(arm, fold, number, seed, run_folder(out, arm.name, fold, number), facts))
    return runs


def require_same_rows(study: Study, arms: Sequence[Arm], out: Path) -> None:
    """The rows and their folds are those that the networks were trained on; else what is called unseen may not be.

    Raises:
        StudyError: they changed, or files of the study are not there.
    """
    try:
        if any(arm.takes_image for arm in arms):
            _ = study.store  # first: it may leave rows out
        runs = plan_runs(study, arms, out)
    except OSError as error:
        raise StudyError(f"{out}: expected the files of the study, got none at {error.filename}") from error
    changed = False
    for run in runs:
        result, now = read_json(run.folder / "result.json"), run.facts
        if result is None:
            continue
        then = result["facts"]
        if then["rows"] != now["rows"] or then["split"] != now["split"]:
            raise StudyError(
                f"{out}: expected the table as it was when {run.arm.name} was trained, got one with other rows, "
                "covariates or targets; which rows a network has not seen is not known then: bring the table back, or "
                "run the comparison again"
            )
        changed |= then["images"] != now["images"]
    if changed:
        log.warning("the images, or the libraries that read them, changed since the study was trained")


def _facts(study: Study, settings: Settings) -> dict[str, Any]:
    """What every run depends on besides settings: the rows with their values and targets, the images' content."""
    encoder = make_encoder(settings)
    beside = [] if encoder is None else [kind.beside for kind in encoder.kinds.values()]
    read = [*study.settings.covariates, *settings.covariates, *beside, settings.pixel_size]
    names = list(dict.fromkeys(["id", "subject", *(name for name in read if name is not None)]))
    rows = study.rows.frame[names].to_csv(index=False)
    weights = study.settings.weights
    return {
        "rows": _hash([rows, np.asarray(study.rows.targets).tolist()]),
        "task": study.rows.task.settings,
        "images": study.store.key if "store" in study.__dict__ else None,
        **({} if study.target_store is None else {"target images": study.target_store.key}),
        "weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights else None,
    }


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()
