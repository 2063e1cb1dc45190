"""Everything of a study that can be known before the first training step: for every fold and every arm, in seconds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fusionconv.errors import LeakageWarning, StudyError, TableError
from fusionconv.study.arms import Arm, build_arm, count_parameters, too_large
from fusionconv.study.folds import PARTS, constant_in_training, fold_data
from fusionconv.study.forked import forked_rng
from fusionconv.study.image_checks import require_image_options
from fusionconv.study.rows import Rows
from fusionconv.study.sequences import flag_columns
from fusionconv.study.settings import Settings, make_settings
from fusionconv.tabular import check_leakage
from fusionconv.tabular.sides import left_right_columns, mirroring_note

if TYPE_CHECKING:
    from fusionconv.study.images import ImageStore

__all__ = ["check_arms", "check_images", "check_options", "check_parts", "check_rows"]

_TELLING = ("defining covariate", "telling covariate", "telling missingness")


def check_options(arms: Sequence[tuple[Arm, Settings]], rows: Rows) -> None:
    """Names and files that would otherwise be looked up after hours of training; before any image is read.

    Raises:
        StudyError: metrics, transforms, options of the trainer or of --tune that there are none of; no file of weights.
    """
    from fusionconv.study.augment import augmentation
    from fusionconv.study.image_options import image_options

    for arm, settings in arms:
        rows.task.metric(settings.metric)
        rows.task.chooses(settings.select)
        augmentation(settings.augment, image_options(settings))
        if rows.task.IMAGE_OUT or settings.patch:
            require_image_options(arm, settings, rows.task)
        arm.trials(settings.tune)
        if settings.weights is not None and not Path(settings.weights).is_file():
            raise StudyError(
                f"weights: expected a file, got {settings.weights}, which is not there; give --weights FILE"
            )
        if settings.trainer:
            _require_trainer_options(settings.trainer)


def check_parts(arms: Sequence[tuple[Arm, Settings]], folds: pd.DataFrame, rows: Rows) -> None:
    """Look whether every fold has the rows that something is chosen on, fitted to or exchanged with.

    Raises:
        StudyError: no validation part for a threshold, for --tune or for `stacked`; one subject in a test part, whose
            covariates have nobody's to be exchanged with.
    """
    unvalidated = [str(fold) for fold in folds if not (folds[fold] == "val").any()]
    people = {str(fold): rows.frame["subject"][folds[fold] == "test"].nunique() for fold in folds}
    lonely = [fold for fold, count in people.items() if count < 2]
    for arm, settings in arms:
        what = ""
        if unvalidated and settings.threshold == "validation" and rows.task.NAME == "binary":
            what, other = "threshold: expected a validation part to choose it on", "--threshold 0.5"
        elif unvalidated and len(arm.trials(settings.tune)) > 1:
            what, other = "tune: expected a validation part to choose on", "no --tune"
        elif unvalidated and arm.kind == "stacked" and len(folds.columns) == 1:
            what = "arm stacked: expected a validation part or several folds, whose answers it is fitted to"
            other = "no such arm"
        if what:
            raise StudyError(f"{what}, got none in {unvalidated[0]}; give --val-size 0.2, or {other}")
        if lonely and settings.controls and arm.takes_covariates:
            raise StudyError(
                f"controls: expected at least two subjects in every test part, whose covariates are exchanged, got one "
                f"in {len(lonely)} of {len(folds.columns)} folds, such as {lonely[0]}; give fewer --folds, or "
                "--controls 0"
            )


def _require_trainer_options(given: Mapping[str, Any]) -> None:
    import difflib
    import inspect

    from lightning.pytorch import Trainer

    known = list(inspect.signature(Trainer.__init__).parameters)[1:]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "; --help trainer lists them"
            raise StudyError(f"trainer: expected options of Lightning's Trainer, got {name!r}{hint}")


def check_rows(rows: Rows, folds: pd.DataFrame, settings: Settings, covariates: Sequence[Sequence[str]]) -> list[str]:
    """Fit every fold's encoders, encode all rows, look for leaks and absent classes; returns warnings.

    Args:
        rows: the study's.
        folds: train, val, test for each row and fold.
        settings: the study's.
        covariates: the sets of covariates that the arms take.

    Raises:
        TableError: a fold that cannot be run; covariates that tell the target and are not allowed.
    """
    said: dict[str, int] = {}
    of_arms = list(dict.fromkeys(n for names in covariates for n in names))
    if "hflip" in settings.augment:
        used = dict.fromkeys([*settings.covariates, *of_arms, *settings.target])
        if note := mirroring_note(left_right_columns(rows.frame[list(used)]), "other --augment without hflip"):
            said[note] = 1
    flat: dict[str, list[str]] = {}
    for fold in folds.columns:
        for name in constant_in_training(rows, folds[fold], of_arms):
            flat.setdefault(name, []).append(str(fold))
        for names in covariates or [()]:
            data = fold_data(rows, folds[fold], settings, None, covariates=names)
            for name, count in data.unknown.items():
                key = f"{name}: a category that training does not have becomes zeros"
                said[key] = said.get(key, 0) + count
        for part in ("val", "test"):
            if len(data.frames[part]) and (gone := rows.task.absent(data.targets[part])):
                so = "some metrics are not defined there"
                if part == "val" and settings.threshold == "validation" and rows.task.NAME == "binary":
                    so += ", and its threshold stays 0.5"
                said[f"{fold}: no {' and no '.join(gone)} in {part}; {so}"] = 1
        _refuse_leaks(rows, folds[fold], settings, [*settings.covariates, *of_arms])
    for name, where in flat.items():
        told = f"{', '.join(where[:3])}{f' and {len(where) - 3} more' if len(where) > 3 else ''}"
        said[
            f"{name}: one value in all training rows of {told}, so that its effect (V) cannot be learnt there; take "
            "fewer folds, another --seed, or leave it out"
        ] = 1
    return [f"{text} ({count} rows over all folds)" if count > 1 else text for text, count in said.items()]


def _refuse_leaks(rows: Rows, split: pd.Series, settings: Settings, covariates: Sequence[str]) -> None:
    covariates = [*covariates, *(name for name in flag_columns(settings) if rows.frame[name].nunique() > 1)]
    answers = _answers(rows)
    told = rows.frame.assign(**answers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)  # what it finds is raised below
        found = check_leakage(
            told[split == "train"], told[split.isin(PARTS[1:])], covariates=list(dict.fromkeys(covariates)),
            target=list(answers), allow=settings.allow_leaks, image=None, raise_on="never",
        ).findings  # fmt: skip
    telling = found[found["kind"].isin(_TELLING) & ~found["name"].isin(settings.allow_leaks)]
    if len(telling):
        names = list(dict.fromkeys(telling["name"]))
        what = "; ".join(dict.fromkeys(f"{r['name']}: {r['detail']}" for _, r in telling.iterrows()))
        for name in answers:
            what = what.replace(repr(name), name)
        raise TableError(
            f"covariates: expected columns that do not give the target away, got {what}; leave out {', '.join(names)}, "
            f"or say that it is meant: --allow-leaks {' '.join(names)}"
        )
    errors = found[found["severity"] == "error"]
    if len(errors):
        raise TableError(f"fold {split.name}: {errors.iloc[0]['kind']}: {errors.iloc[0]['detail']}")


def _answers(rows: Rows) -> dict[str, pd.Series]:
    """Every answer as `check_leakage` takes it, by what messages call it; none where the answers are images."""
    task, index = rows.task, rows.frame.index
    if task.IMAGE_OUT:
        return {}
    if rows.targets.ndim == 2:  # labels, or time and event
        of_columns = zip(task.columns, rows.targets.T, strict=True)
        return {f"the target {name}": pd.Series(values, index=index).convert_dtypes() for name, values in of_columns}
    names = getattr(task, "names", None)
    values = [names[int(v)] for v in rows.targets] if names else rows.targets
    return {"the target": pd.Series(values, index=index)}


def check_images(rows: Rows, folds: pd.DataFrame, store: ImageStore) -> list[str]:
    """Warnings: the same image under two subjects.

    Raises:
        TableError: the same image on both sides of a split.
    """
    content = pd.Series(store.rows).reindex(rows.frame["id"]).to_numpy()
    frame = rows.frame.assign(content=content)
    groups = frame.groupby("content")["subject"].nunique()
    doubled = frame[frame["content"].isin(groups[groups > 1].index)]
    if doubled.empty:
        return []
    for fold in folds.columns:
        sides = folds.loc[doubled.index, fold]
        several = sides[sides != ""].groupby(doubled["content"]).nunique()
        if (several > 1).any():
            ids = doubled.loc[doubled["content"] == several.index[several > 1][0], "id"].tolist()
            raise TableError(
                f"fold {fold}: expected no image in training and test, got the same picture as {' and '.join(ids[:3])} "
                f"({int((several > 1).sum())} such pictures); one person under two ids? Mend --subject, or leave the "
                "doubles out with --rows"
            )
    return [f"{len(doubled)} rows share pictures with another subject, such as {', '.join(doubled['id'].iloc[:2])}"]


def check_arms(
    arms: Sequence[Arm], rows: Rows, folds: pd.DataFrame, settings: Settings, store: ImageStore | None
) -> list[str]:
    """Build every arm's network once and send an image through it; returns warnings.

    Raises:
        SurgeryError: an arm that the network cannot have, or an image size that it does not take.
    """

    from fusionconv.study.folds import require_normalisation
    from fusionconv.study.networks import build_network, check_network, freeze

    said: list[str] = []
    if store is None:
        return said
    require_normalisation(settings, store)
    split, checked = folds.iloc[:, 0], False
    for arm in arms:
        if not arm.has_network:
            continue
        own = make_settings(arm.settings, settings) if arm.settings else settings
        data = fold_data(rows, split, own, None, covariates=own.covariates)
        if arm.takes_covariates and data.num_covariates == 0:
            raise StudyError(f"arm {arm.name}: expected covariates, got none; give --covariates COLUMNS")
        with forked_rng():
            network = build_network(
                own.network, num_outputs=rows.task.num_outputs, in_channels=store.array.shape[1],
                image_size=own.part or store.array.shape[2:], options=own.network_options, head=own.head,
                weights=None if checked else settings.weights,
            )  # fmt: skip
            if not checked or own.network_options != settings.network_options:
                check_network(network, store.array.shape[1], own.part or store.array.shape[2:], rows.task.num_outputs,
                              images_out=rows.task.IMAGE_OUT)  # fmt: skip
                checked = True
            if own.freeze:
                freeze(network, own.freeze)
            network = build_arm(arm, network, data.num_covariates)
        if text := too_large(arm, count_parameters(network)):
            said.append(text)
    return said
