"""Where the networks look: Grad-CAM of test volumes, by networks that were trained on other subjects."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recipes.adni.gradcam import GradCam, choose_layer
from recipes.adni.preparation import Preparation, ReadPrepared, prepare
from recipes.adni.report_run import CrossRun, with_rows
from recipes.adni.saliency import save_in_subject_space
from recipes.adni.study import BrainStudy
from recipes.adni.trained import answers, device_of, encode, open_study, preparation_of
from recipes.common.runs import RunError

log = logging.getLogger("recipes.adni")


@dataclass
class Averaged:
    """The mean volume and the mean saliency (0 ... 1) of some test volumes of one arm."""

    volume: np.ndarray
    saliency: np.ndarray
    n: int = 0
    empty: int = 0  # volumes whose map is zero everywhere

    def add(self, volume: np.ndarray, saliency: np.ndarray) -> None:
        """One more volume."""
        self.n += 1
        self.empty += not saliency.any()
        self.volume += (volume - self.volume) / self.n
        self.saliency += (saliency - self.saliency) / self.n


@dataclass
class Map:
    """One test volume and its saliency."""

    row: pd.Series
    volume: np.ndarray  # prepared
    saliency: np.ndarray  # 0 ... 1, of the same shape
    layer: str
    shape: tuple[int, ...]  # of the maps that the saliency was made from
    preparation: Preparation


def attribution_section(
    run: CrossRun, subject: str | None, layer: str | None, volumes: int
) -> tuple[str, list[str], list[pd.DataFrame], dict[str, Any]]:
    """Title, paragraphs, tables and figures for the report; writes the NIfTI files of one subject.

    Raises:
        RunError: the subject is none of the test subjects; the layer is none; a network does not give again what
            crossval wrote.
    """
    from recipes.adni.attribution_figures import draw_averages

    title = "Where the networks look"
    kept = kept_networks(run)
    if not kept:
        return (
            title,
            [
                "No network was kept, so there is no attribution. Run crossval with --keep_checkpoints (and "
                "--overwrite, since finished folds are not run again)."
            ],
            [],
            {},
        )
    try:
        joined = with_rows(run, run.first_repeat)
    except RunError as error:
        return title, [f"Not possible: {error}"], [], {}
    subject = str(joined["subject"].iloc[0]) if subject is None else subject
    if subject not in set(joined["subject"]):
        raise RunError(f"--subject {subject}: none of the {joined['subject'].nunique()} test subjects is called so.")
    figures: dict[str, Any] = {}
    table, written = [], []
    for arm in run.arms:
        folds = {fold: path for (name, fold), path in kept.items() if name == arm}
        if not folds:
            continue
        rows = joined[(joined["arm"] == arm) & joined["fold"].isin(folds.keys())]
        rows = rows.assign(_group=groups_of(rows, run))
        rows["_averaged"] = rows.groupby(["_group", "fold"]).cumcount() < -(-volumes // len(folds))
        averages: dict[str, Averaged] = {}
        one: Map | None = None
        for one in maps(run, rows[rows["_averaged"] | (rows["subject"] == subject)], folds, layer):
            if one.row["_averaged"]:
                empty = Averaged(np.zeros(one.volume.shape), np.zeros(one.volume.shape))
                averages.setdefault(one.row["_group"], empty).add(one.volume, one.saliency)
            if one.row["subject"] == subject:
                written.append(_write_subject(run, one))
        if one is None or not averages:
            continue
        averages = {name: averages[name] for name in sorted(averages, key=_place(run))}
        about = {"arm": arm, "layer": one.layer, "map (voxels)": " x ".join(map(str, one.shape))}
        table.append(about | {name: str(average.n) for name, average in averages.items()})
        drawn = draw_averages(averages, one.preparation.orientation, arm)
        figures[f"attribution-{arm}"] = (drawn, f"mean Grad-CAM of {arm}")
    return title, [_caption(run, written)], [pd.DataFrame(table).fillna("0")], figures


def _caption(run: CrossRun, written: list[Path]) -> str:
    what = {
        "classification": "the logit of each volume's true class",
        "regression": "the predicted value (what raises it)",
        "survival": "the log hazard (what raises it)",
    }[run.task.kind]
    lines = (
        f"Grad-CAM (Selvaraju et al. 2017, by MONAI) of {what}, each map divided by its maximum, then averaged over "
        "test volumes (the first of each group and fold in the table's order) and laid over their mean. Averages tell "
        "of places only as far as the volumes are registered to each other. Maps are coarse, see the table, and show "
        "where a network looks, not why."
    )
    if written:
        lines += f" In the subject's own space, as NIfTI: {', '.join(str(p.relative_to(run.folder)) for p in written)}."
    return lines


def kept_networks(run: CrossRun) -> dict[tuple[str, str], Path]:
    """The judged checkpoint of each arm and fold of the first repeat: the best on validation, or the last epoch."""
    kept = {}
    for arm in run.arms:
        for fold in run.folds:
            folder = run.folder / "folds" / arm / fold / "checkpoints"
            found = [path for name in ("fold-best.ckpt", "fold-last.ckpt") if (path := folder / name).is_file()]
            if found and fold.startswith("repeat0-"):
                kept[arm, fold] = found[0]
    return kept


def groups_of(rows: pd.DataFrame, run: CrossRun) -> pd.Series:
    """What is averaged together: a class, or everyone."""
    if run.task.kind != "classification":
        return pd.Series("all", rows.index)
    return rows["target"].astype(int).map(dict(enumerate(run.task.queries)))


def _place(run: CrossRun) -> Any:
    return lambda name: list(run.task.queries).index(name) if name in run.task.queries else 0


def maps(run: CrossRun, rows: pd.DataFrame, folds: dict[str, Path], layer: str | None) -> Iterator[Map]:
    """The saliency of each row's volume, by the network of its fold.

    Each network must give again what crossval wrote for the row; else the row, the volume or the network is another.
    """
    from tqdm import tqdm

    device = device_of("auto")
    with tqdm(total=len(rows), desc=f"Grad-CAM {rows['arm'].iloc[0]}", unit="volume") as bar:
        for fold, part in rows.groupby("fold", sort=False):
            study = open_study(folds[str(fold)]).to(device)
            preparation = preparation_of(study)
            prepared = prepare(part["image"], preparation, Path(run.config["data"]["cache"]), progress=False)
            for image, reason in prepared.failed.items():
                log.warning("no attribution of %s: %s", image, reason)
            part = part[part["image"].isin(prepared.files.keys())]
            covariates = encode(study, part, str(run.folder / "rows.csv")).to(device)
            read, camera = ReadPrepared(prepared.files), None
            for place, (_, row) in enumerate(part.iterrows()):
                volume = read({"image": row["image"]})["image"].as_tensor()[None].to(device)
                own = covariates[place : place + 1]
                require_same_answer(study, volume, own, row, run.config["trainer"].get("precision"))
                if camera is None:
                    name, shape = choose_layer(study, volume, own, layer)
                    camera = GradCam(study, name)
                output = int(row["target"]) if run.task.kind == "classification" else 0
                saliency = camera(volume, own, output)
                yield Map(row, volume[0, 0].cpu().numpy(), saliency, name, shape, preparation)
                bar.update()


def require_same_answer(
    study: BrainStudy, volume: Tensor, covariates: Tensor, row: pd.Series, precision: str | int | None = None
) -> None:
    """Raise unless the network answers as predictions.csv says; half precision and other devices differ a little."""
    with torch.no_grad():
        own = answers(study, study(volume, covariates)).iloc[0]
    written = row[own.index].astype(float)
    unit = study.scale[1] if study.task.kind == "regression" else max(1.0, float(own.abs().max()))
    allowed = unit * (0.05 if "16" in str(precision) else 0.005)
    if not np.allclose(own, written, rtol=0, atol=allowed):
        raise RunError(
            f"{row['arm']} {row['fold']} answers {own.round(4).to_dict()} for {row['image']}, and predictions.csv says "
            f"{written.round(4).to_dict()}: the volume, rows.csv or the checkpoint was changed since. Run crossval "
            "again with --overwrite, or report with --skip_attribution."
        )


def _write_subject(run: CrossRun, one: Map) -> Path:
    name = "_".join(filter(None, (one.row["arm"], one.row["subject"], one.row["session"], "gradcam.nii.gz")))
    out = run.folder / "attribution" / name.replace("/", "-")
    return save_in_subject_space(one.saliency, one.row["image"], one.preparation, out)
