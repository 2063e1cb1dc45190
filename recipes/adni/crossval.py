"""The command crossval: every arm on the same folds, a folder per arm and fold, and the tables that follow."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import seed_everything

from fusionconv.study.environment import hardware
from recipes.adni.arms import ARMS, count_parameters
from recipes.adni.configuration import BrainCLI
from recipes.adni.covariates_only import fit_linear
from recipes.adni.data import BrainData
from recipes.adni.memory import memory_errors
from recipes.adni.preparation import content_hash
from recipes.adni.study import BrainStudy
from recipes.adni.summary import summarise
from recipes.adni.training import describe, write_predictions, write_result
from recipes.common.own_config import early_options, with_own_config
from recipes.common.runs import RunError, is_rank_zero
from recipes.common.settings import differences
from recipes.common.trainer import best_checkpoint

log = logging.getLogger("recipes.adni")


@dataclass(frozen=True)
class Job:
    """One arm on one fold."""

    arm: str
    fold: str  # "repeat0-fold3"
    options: dict[str, Any]  # what this arm changes in --model, and "covariates"
    folder: Path
    key: str  # a hash of all settings that the result depends on
    settings: dict[str, Any] = field(default_factory=dict)  # what went into the key, to name what differs

    @property
    def seed(self) -> int:
        """Of the training: the same for all arms of a fold, so that they start from the same weights."""
        repeat, fold = re.findall(r"\d+", self.fold)
        return 1000 * int(repeat) + int(fold)

    @property
    def done(self) -> bool:
        """Whether the job has left its result, by the same settings."""
        path = self.folder / "result.json"
        if not path.is_file():
            return False
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] != self.key:
            differ = differences(found.get("settings", {}), self.settings)
            raise RunError(
                f"{path} comes from other settings than these ({'; '.join(differ) or 'which ones it does not say'}). "
                "Give another --experiment, or --overwrite to throw the old results away."
            )
        return True


def main(argv: list[str]) -> None:
    """Run the cross-validation, or what is left of it."""
    early = early_options(argv, "adni")
    if not early.config and not early.help:
        argv = with_own_config(early, argv)
    cli = BrainCLI("crossval", argv)
    with cli.folder.logging():
        for name in ("lightning.pytorch", "lightning.fabric"):  # dozens of trainers: their remarks once are enough
            logging.getLogger(name).setLevel(logging.WARNING)
        data = cli.datamodule
        data.fold = "all"
        data.read()
        arms = [options.get("covariates", data.covariates) for options in arms_of(cli).values()]
        if is_rank_zero():
            data.try_encoders(data.splits(), arms)  # before minutes go into volumes, and hours into training
        rows = len(data.frame)
        data.prepare_volumes()
        splits = data.splits()
        if is_rank_zero() and len(data.frame) < rows:  # unusable volumes were left out: other folds
            data.try_encoders(splits, arms)
        every = plan(cli, data, splits)
        jobs = [job for job in every if job.fold in folds_of_part(cli.config.part, splits)]
        if cli.config.overwrite and is_rank_zero():
            clear(cli.folder.path)
        waiting = [job for job in jobs if not job.done]
        if is_rank_zero():
            cli.save_config(cli.folder.config)
            for line in describe(data):
                log.info(line)
            names = data.frame[["subject", "session", "image"]] if data.frame is not None else pd.DataFrame()
            names.join(splits).to_csv(cli.folder.path / "folds.csv", index=False)
            write_rows(cli.folder.path, data)
            log.info(
                "%d jobs (%d arms x %d folds), %d done before, %d to do",
                len(jobs),
                len(arms_of(cli)),
                len(splits.columns),
                len(jobs) - len(waiting),
                len(waiting),
            )
        started = time.perf_counter()
        for number, job in enumerate(waiting, 1):
            seconds = run(cli, data, splits[job.fold], job)
            if is_rank_zero():
                result = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
                metric = data.task.metrics[0]
                left = (time.perf_counter() - started) / number * (len(waiting) - number)
                value = result["metrics"][metric]
                shown = "not defined" if value is None else f"{value:.3f}"
                log.info(
                    "[%d/%d] %s %s: %s %s (%.0f s; about %.0f min left)",
                    number,
                    len(waiting),
                    job.arm,
                    job.fold,
                    metric,
                    shown,
                    seconds,
                    left / 60,
                )
        if is_rank_zero():
            undone = [job for job in every if not job.done]
            if undone:
                log.info("%d jobs of other parts are not done yet; the last part to end writes the tables", len(undone))
                return
            log.info("\n%s", summarise(cli.folder.path, data.task, cli.config.reference or next(iter(arms_of(cli)))))
            log.info(
                "now: python -m recipes.adni report --experiment %s --root_dir %s",
                cli.folder.experiment,
                cli.folder.root_dir,
            )


def write_rows(folder: Path, data: BrainData) -> None:
    """What the report needs of the source: rows.csv, the rows in use, and source.json, what became of the others."""
    assert data.frame is not None
    data.frame.to_csv(folder / "rows.csv", index=False)
    unmatched = {} if data.report is None else data.report["kind"].value_counts().to_dict()
    found = {"counts": data.counts, "did not match": unmatched, "volumes left out": data.skipped}
    (folder / "source.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def arms_of(cli: BrainCLI) -> dict[str, dict[str, Any]]:
    """The arms by name; without --arms the one that --model says, beside the image alone and the covariates alone."""
    arms = dict(cli.config.arms or {})
    if not arms:
        arms = {name: {"arm": name} for name in ARMS}
    known = set(cli.model.hparams) | {"covariates"}
    for name, options in arms.items():
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise RunError(f"--arms: {name!r} should be a plain folder name (letters, digits, . _ - +).")
        unknown = sorted(set(options) - known)
        if unknown:
            raise RunError(
                f"--arms.{name}: {', '.join(unknown)} is no option of --model; it has {', '.join(sorted(known))}."
            )
    reference = cli.config.reference
    if reference is not None and reference not in arms:
        raise RunError(f"--reference should be one of the arms {', '.join(arms)}, and is {reference!r}.")
    return arms


def folds_of_part(part: str, splits: pd.DataFrame) -> list[str]:
    """The folds of --part: of 2/3 the second of every three."""
    said = re.fullmatch(r"(\d+)/(\d+)", part)
    if not said or not 1 <= int(said[1]) <= int(said[2]):
        raise RunError(f"--part should be such as 2/3, the second of three parts, and is {part!r}.")
    return list(splits.columns[int(said[1]) - 1 :: int(said[2])])


def plan(cli: BrainCLI, data: BrainData, splits: pd.DataFrame) -> list[Job]:
    """All jobs: fold by fold, so that a run that is stopped has all arms of the folds that it finished."""
    common = settings(cli, data)
    jobs = []
    for fold in splits.columns:
        for arm, options in arms_of(cli).items():
            folder = cli.folder.path / "folds" / arm / fold
            facts = {**common, "arm": options, "fold": fold, "split": splits[fold].tolist()}
            text = json.dumps(facts, sort_keys=True, default=str)
            told = json.loads(text) | {"split": hashlib.sha256(json.dumps(facts["split"]).encode()).hexdigest()[:12]}
            jobs.append(Job(arm, str(fold), options, folder, hashlib.sha256(text.encode()).hexdigest(), told))
    return jobs


def settings(cli: BrainCLI, data: BrainData) -> dict[str, Any]:
    """Everything that a result depends on, the data's content included: which rows, their values, their volumes."""
    config = cli.config.clone().as_dict()
    for name in (
        "config",
        "experiment",
        "root_dir",
        "resume",
        "overwrite",
        "ckpt_path",
        "part",
        "arms",
        "reference",
        "keep_checkpoints",
        "skip_voxels",
    ):
        config.pop(name, None)
    # where the work is done is no part of what is computed
    for name in ("num_workers", "prepare_workers", "cache", "in_memory", "fold", "on_error", "n_repeats"):
        config["data"].pop(name, None)
    for name in ("devices", "num_nodes", "enable_progress_bar", "enable_model_summary", "default_root_dir", "logger"):
        config["trainer"].pop(name, None)
    config["data"].pop("source", None)
    assert data.frame is not None
    assert data.prepared is not None
    volumes = [data.prepared.files[str(image)].stem for image in data.frame["image"]]
    rows = data.frame.drop(columns="image").assign(volume=volumes).to_csv(index=False)
    used = [dict(cli.model.hparams), *arms_of(cli).values()]
    started_from = {str(options["weights"]) for options in used if options.get("weights")}
    weights = {path: content_hash(path) for path in sorted(started_from) if Path(path).is_file()}
    return {"config": config, "rows": hashlib.sha256(rows.encode()).hexdigest(), "weights": weights}


def run(cli: BrainCLI, data: BrainData, split: pd.Series, job: Job) -> float:
    """Train one arm on one fold, judge it on the fold's test part, write its result; returns the seconds it took."""
    started = time.perf_counter()
    own = list(data.covariates)
    data.covariates = list(job.options.get("covariates", own))
    try:
        data.fold = job.fold
        data.use(split)
        seed_everything(job.seed, workers=True, verbose=False)
        options = {**cli.model.hparams, **{k: v for k, v in job.options.items() if k != "covariates"}}
        options |= {"task": data.task, "covariates": data.covariates}
        if is_rank_zero():
            job.folder.mkdir(parents=True, exist_ok=True)
        if options["arm"] == "covariates":
            predictions, facts = judge_covariates(data, cli.config.controls)
        else:
            predictions, facts = train_and_judge(cli, data, BrainStudy(**options), job)
    finally:
        data.covariates = own
    seconds = time.perf_counter() - started
    if is_rank_zero():
        write_predictions(job.folder / "predictions.csv", data, predictions)
        result = {
            "arm": job.arm,
            "fold": job.fold,
            "key": job.key,
            "settings": job.settings,
            "options": job.options,
            "seed": job.seed,
            "seconds": round(seconds, 1),
            **facts,
            "unknown_categories": {} if data.encoder is None else data.encoder.unknown_counts(data.part("test")),
        }
        write_result(job.folder / "result.json", result, data, predictions)
    return seconds


def train_and_judge(cli: BrainCLI, data: BrainData, study: BrainStudy, job: Job) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Fit a network; judge the best epoch on validation, or the last where there is no validation part."""
    trainer = cli.trainer_for(job.folder, "fold", keep_last=cli.config.keep_checkpoints, enable_progress_bar=False)
    with memory_errors(data):
        trainer.fit(study, datamodule=data)
    epochs = trainer.current_epoch
    best = best_checkpoint(trainer)  # not one of the user's own
    path = best.best_model_path if best is not None else ""
    if study.hparams.arm != "image":
        study.controls = {
            name: dict(zip(ids, rows, strict=True)) for name, ids, rows in controls(data, cli.config.controls)
        }
    trainer.test(study, datamodule=data, ckpt_path=path or None, weights_only=True, verbose=False)
    if is_rank_zero() and path and not cli.config.keep_checkpoints:
        shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    assert study.predictions is not None
    assert study.network is not None
    facts = {
        **count_parameters(study.network),
        "epochs": study.history["epochs"] if path else epochs,
        "encoder": study.encoder and study.encoder.to_dict(),
        "hardware": hardware(trainer.strategy.root_device, trainer.world_size),
    }
    return study.predictions, facts


def judge_covariates(data: BrainData, permutations: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The arm without an image."""
    assert data.values is not None
    assert data.split is not None
    train, test = data.table("train"), data.table("test")
    answer = fit_linear(data.task, train.covariates.numpy(), data.values[data.split == "train"])
    truth = data.values[data.split == "test"].reset_index(drop=True)
    given = [("true", list(test.ids), test.covariates), *controls(data, permutations)]
    frames = [
        pd.DataFrame({"id": ids, "control": name}).join(truth).assign(**answer(rows.numpy()))
        for name, ids, rows in given
    ]
    assert data.encoder is not None
    return pd.concat(frames, ignore_index=True), {
        "parameters": data.num_covariates + 1,
        "covariate_parameters": data.num_covariates,
        "encoder": data.encoder.to_dict(),
        "hardware": hardware(torch.device("cpu")),
    }


def controls(data: BrainData, permutations: int) -> list[tuple[str, list[str], torch.Tensor]]:
    """What is given in place of the test covariates: other subjects' rows, several times, and the training mean."""
    if permutations < 1:
        return []
    from fusionconv.evaluation import control_rows

    test, train = data.table("test"), data.table("train")
    ids, groups = list(test.ids), data.part("test")["subject"].to_numpy()
    true = test.covariates.numpy()
    mean = np.broadcast_to(train.covariates.numpy().mean(0), true.shape)
    rows = [
        (f"permuted-{seed}", control_rows(true, "permuted", groups=groups, seed=seed)) for seed in range(permutations)
    ]
    return [
        (name, ids, torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32)))
        for name, values in [*rows, ("constant", mean)]
    ]


def clear(folder: Path) -> None:
    """Throw away an earlier cross-validation's results, and nothing else."""
    for name in ("folds", "figures", "attribution"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (
        "folds.csv",
        "rows.csv",
        "source.json",
        "results.csv",
        "summary.csv",
        "comparison.csv",
        "controls.csv",
        "results.md",
        "report.html",
        "report.md",
    ):
        (folder / name).unlink(missing_ok=True)
