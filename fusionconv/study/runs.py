"""Runs: one arm on one fold with one seed, in a folder of its own: train, judge, write; done or not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fusionconv.errors import StudyError
from fusionconv.study.arms import Arm, build_arm, count_parameters
from fusionconv.study.environment import hardware
from fusionconv.study.files import read_json, write_csv, write_json
from fusionconv.study.folds import FoldData
from fusionconv.study.settings import AFTERWARDS, Settings, differences
from fusionconv.study.written_tables import read_predictions

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Run", "control_rows_of", "do_run", "run_folder", "run_seed", "run_settings"]

log = logging.getLogger("fusionconv.study")

#: in a run's key by what they lead to: rows, their targets, their images' content, the split itself
_IN_THE_ROWS = (
    "limit", "table", "images", "on_error", "rows", "drop", "positive", "classes", "suffix", "sheet", "decimal",
    "text", "folds", "repeats", "seeds", "split_column", "test_size", "stratify", "subject", "target", "image_column",
    "target_folder",
)  # fmt: skip
_TRAINER_ELSEWHERE = ("devices", "num_nodes", "enable_progress_bar", "enable_model_summary", "accelerator")


@dataclass(frozen=True)
class Run:
    """One arm on one fold with one seed."""

    arm: Arm
    fold: str
    number: int  # which of the seeds, from 0
    seed: int
    folder: Path
    facts: Mapping[str, Any]  # everything that the result depends on, as plain data

    @property
    def key(self) -> str:
        """A hash of the facts."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def control_seed(self) -> int:
        """Of the controls: all networks whose answers are averaged get the same rows."""
        return self.seed - 100_000 * self.number

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.arm.name} {self.fold}" + (f" seed {self.number}" if self.number else "")

    @property
    def done(self) -> bool:
        """Whether it has left its result, by the same settings.

        Raises:
            StudyError: the result is of other settings; they are named.
        """
        result = read_json(self.folder / "result.json")
        if result is None:
            return False
        if result["key"] != self.key:
            raise StudyError(
                f"{self.folder}: expected a result of these settings, got one of others "
                f"({_named(result, self.facts)}); "
                "give another --out, or --overwrite to throw the old results away"
            )
        return True


def run_folder(out: Path, arm: str, fold: str, number: int) -> Path:
    """Where a run of the study in ``out`` leaves its files."""
    return out / "runs" / arm / (f"{fold}-seed{number}" if number else fold)


def run_seed(seed: int, fold: str, number: int) -> int:
    """Of a training: the same for all arms of a fold, so that they start from the same weights."""
    numbers = [int(n) for n in re.findall(r"\d+", fold)] if fold.startswith("repeat") else [0, 0]
    return 1_000_000 * seed + 100_000 * number + 1000 * numbers[0] + numbers[1]


def _named(result: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Which settings differ, each with both values."""
    old = result.get("facts", {})
    now = json.loads(json.dumps(facts, default=str))
    lines = []
    for name, (before, after) in differences(old, now).items():
        if isinstance(before, dict) and isinstance(after, dict):
            lines += [f"{k}: {_short(a)} before, {_short(b)} now" for k, (a, b) in differences(before, after).items()]
        else:
            lines.append(f"{name}: {_short(before)} before, {_short(after)} now")
    return "; ".join(lines) or "other versions of fusionconv"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def run_settings(settings: Settings, arm: Arm) -> dict[str, Any]:
    """The settings that a run's result depends on."""
    plain = {name: value for name, value in settings.to_dict().items() if name not in AFTERWARDS + _IN_THE_ROWS}
    plain["trainer"] = {k: v for k, v in settings.trainer.items() if k not in _TRAINER_ELSEWHERE}
    if not arm.takes_image:
        of_table = ("kinds", "missing", "missing_codes", "unknown", "covariates", "controls", "seed")
        plain = {name: plain[name] for name in of_table}
    return plain


def do_run(run: Run, data: FoldData, settings: Settings, *, progress: bool = True) -> dict[str, Any]:
    """Do a run, or what is left of it; returns its result, which is then in ``result.json``.

    The folder holds ``predictions.csv`` (validation and test rows, true and control covariates), ``result.json``,
    ``metrics.csv`` (each epoch) and ``model/`` (what `fusionconv.load` reads).
    """
    started = time.perf_counter()
    run.folder.mkdir(parents=True, exist_ok=True)
    if run.arm.takes_image:
        predictions, facts = _train(run, data, settings, progress)
    else:
        from fusionconv.study.plain_models import judge_covariates

        predictions, facts = judge_covariates(run, data, settings)
    main = data.task.metric(settings.metric)
    true = predictions[(predictions["control"] == "true") & (predictions["part"] == "test")]
    result = {
        "arm": run.arm.name, "fold": run.fold, "number": run.number, "seed": run.seed, "key": run.key,
        "metrics": data.task.measure(true), "main": main.name, "seconds": round(time.perf_counter() - started, 2),
        "counts": {part: len(frame) for part, frame in data.frames.items()}, "num_covariates": data.num_covariates,
        "unknown": dict(data.unknown), **facts, "facts": json.loads(json.dumps(run.facts, default=str)),
    }  # fmt: skip
    write_csv(run.folder / "predictions.csv", predictions)
    write_json(run.folder / "result.json", result)
    return result


# ---- an arm with a network ----


def _train(run: Run, data: FoldData, settings: Settings, progress: bool) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train the trials (one without --tune), keep the best on validation, judge it on the test part."""
    trials = run.arm.trials(settings.tune)
    tried: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Any]] | None = None
    chooser, greater = data.task.chooses(settings.select)
    for number, chosen in enumerate(trials):
        folder = run.folder if len(trials) == 1 else run.folder / "trials" / f"{number}"
        outcome = read_json(folder / "trial.json")
        if outcome is None or outcome["key"] != run.key:
            outcome = _trial(run, number, chosen, data, settings, folder, progress)
        value = outcome["val"].get(chooser)
        tried.append({**chosen, chooser: value})
        score = -math.inf if value is None or math.isnan(value) else value if greater else -value
        if best is None or score > best[0]:
            best = (score, {**outcome, "number": number, "chosen": chosen, "folder": folder})
    assert best is not None
    outcome = best[1]
    folder = outcome.pop("folder")
    predictions = read_predictions(folder / "trial.csv")
    if folder != run.folder:
        for name in ("model", "metrics.csv", "curves.png", "epochs", "tensorboard", "images", "overlays.npz"):
            _move(folder / name, run.folder / name)
        shutil.rmtree(run.folder / "trials", ignore_errors=True)
    for name in ("trial.json", "trial.csv", "last.ckpt", "best.ckpt", "began.json"):
        (run.folder / name).unlink(missing_ok=True)
    facts = {name: outcome[name] for name in ("epochs", "best_epoch", "parameters", "covariate_parameters", "hardware",
                                              "threshold", "val")}  # fmt: skip
    return predictions, {**facts, "tuned": tried if len(tried) > 1 else [], "chosen": outcome["chosen"]}


def _trial(
    run: Run, number: int, chosen: Mapping[str, Any], data: FoldData, settings: Settings, folder: Path, progress: bool
) -> dict[str, Any]:
    """Train one network and judge it; ``trial.csv`` and ``trial.json`` say how it went."""
    import torch
    from lightning.pytorch import seed_everything

    from fusionconv.study.augment_pairs import augmentation_of
    from fusionconv.study.every_epoch import EveryEpoch
    from fusionconv.study.module import StudyModule
    from fusionconv.study.networks import frozen_modules, frozen_parameters
    from fusionconv.study.saved import save_network
    from fusionconv.study.training import make_trainer, quiet

    arm, settings = run.arm.with_options(chosen), replace(settings, **_only_settings(chosen))
    folder.mkdir(parents=True, exist_ok=True)
    if read_json(folder / "began.json") != {"key": run.key}:  # what a killed run of other facts left is no beginning
        for name in ("last.ckpt", "best.ckpt", "metrics.csv"):
            (folder / name).unlink(missing_ok=True)
        write_json(folder / "began.json", {"key": run.key})
    seed = run.seed + 10_000_019 * number
    with quiet():
        seed_everything(seed, workers=True, verbose=False)
        network = make_network(arm, data, settings)
        controls: Mapping[str, Any] = control_rows_of(data, settings, run.control_seed) if arm.takes_covariates else {}
        frozen = frozen_modules(network, settings.freeze)
        later = frozen_parameters(network, settings.freeze) if settings.unfreeze_epoch is not None else ()
        module = StudyModule(network, data, settings, arm.takes_covariates, seed, controls, frozen, later)
        validates = bool(len(data.frames["val"])) and not data.task.absent(data.targets["val"])

        def save(one: nn.Module, where: Path, threshold: float = 0.5) -> None:
            save_network(one, where, arm, data, settings, threshold)

        each = [EveryEpoch(folder, save)] if settings.keep == "every" else []
        trainer, best = make_trainer(folder, data.task, settings, validates, f"{run.name}", progress, each)
        augment = augmentation_of(settings.augment, data)
        rank = (trainer.global_rank, trainer.world_size)
        loaders: Any = [
            data.loader(part, settings.batch_size, train=part == "train", augment=augment, workers=settings.workers,
                        seed=seed, epoch=_epochs_done(folder), rank=rank, patch=settings.part)
            for part in ("train", *(["val"] if validates else []))
        ]  # fmt: skip
        last = folder / "last.ckpt"
        if settings.tensorboard and trainer.is_global_zero and not last.is_file():
            from fusionconv.study.board import draw_graph

            few = [data.tables["train"].ids[n] for n in range(2)]
            draw_graph(trainer.loggers[-1], network, data.batch("train", few), arm.takes_covariates)
        with _memory_errors(settings):
            val = loaders[1] if validates else None
            trainer.fit(module, loaders[0], val, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        best_epoch = trainer.current_epoch - 1
        if best is not None and best.best_model_path:
            found = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            module.load_state_dict(found["state_dict"])
            best_epoch = int(found["epoch"])
        frames, threshold, losses = [], 0.5, {}
        for part in ("val", "test"):
            if not len(data.frames[part]):
                continue
            module.controls = dict(controls) if part == "test" else {}
            if part == "test" and module.images is not None:
                module.images.begin_test(folder, settings.keep_images)
            loader = data.loader(part, settings.batch_size, workers=settings.workers, rank=rank)
            trainer.test(module, loader, verbose=False)
            assert module.predictions is not None
            frames.append(module.predictions.assign(part=part))
            losses[part] = module.mean_loss
        if module.images is not None and trainer.is_global_zero:
            module.images.write_overlays(folder)
        if frames and frames[0]["part"].iloc[0] == "val":
            threshold = choose_threshold(frames[0], data, settings)
        elif isinstance(settings.threshold, float):
            threshold = settings.threshold
        predictions = pd.concat([data.task.decide(f, threshold) for f in frames], ignore_index=True)
    val = predictions[predictions["part"] == "val"]
    outcome = {
        "key": run.key, "val": {"loss": losses["val"], **data.task.measure(val)} if len(val) else {},
        "threshold": threshold,
        "epochs": trainer.current_epoch, "best_epoch": best_epoch, **count_parameters(network),
        "hardware": hardware(trainer.strategy.root_device, trainer.world_size),
    }  # fmt: skip
    if trainer.is_global_zero:
        if settings.keep != "none":
            save(network, folder / "model", threshold)
        write_csv(folder / "trial.csv", predictions)
        write_json(folder / "trial.json", outcome)
    return outcome


def make_network(arm: Arm, data: FoldData, settings: Settings) -> nn.Module:
    """The arm's network, new; all arms of a run's seed have the same plain weights."""
    from fusionconv.study.networks import build_network, freeze

    assert data.store is not None
    network = build_network(
        settings.network, num_outputs=data.task.num_outputs, in_channels=data.store.array.shape[1],
        image_size=settings.part or data.store.options.shape, options=settings.network_options,
        pretrained=settings.pretrained, weights=settings.weights, head=settings.head,
    )  # fmt: skip
    if settings.freeze:
        freeze(network, settings.freeze)  # before the surgery: what covariates bring is always trained
    return build_arm(arm, network, data.num_covariates)


def control_rows_of(data: FoldData, settings: Settings, seed: int) -> dict[str, dict[str, Any]]:
    """What is given in place of the test covariates: other subjects' rows, several times, and the training mean."""
    import torch

    if settings.controls < 1 or data.encoder is None:
        return {}
    from fusionconv.evaluation import control_rows

    test, train = data.tables["test"], data.tables["train"]
    true, groups = test.covariates.numpy(), data.frames["test"]["subject"].to_numpy()
    rows = {
        f"permuted-{number}": control_rows(true, "permuted", groups=groups, seed=seed + number)
        for number in range(settings.controls)
    }
    rows["constant"] = np.broadcast_to(train.covariates.numpy().mean(0), true.shape)
    return {
        name: dict(zip(test.ids, torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32)), strict=True))
        for name, values in rows.items()
    }


def choose_threshold(val: pd.DataFrame, data: FoldData, settings: Settings) -> float:
    """The threshold of the positive class: as set, or the one of the best balanced accuracy on validation rows."""
    if settings.threshold != "validation":
        return float(settings.threshold)
    if data.task.NAME != "binary" or val["target"].nunique() < 2:
        return 0.5
    from sklearn.metrics import roc_curve

    wrong, right, thresholds = roc_curve(val["target"], val["probability"], drop_intermediate=False)
    best = int(np.argmax(right - wrong))
    return float(thresholds[best]) if math.isfinite(thresholds[best]) else 0.5


def _only_settings(chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in chosen.items() if name in Settings.__dataclass_fields__}


def _epochs_done(folder: Path) -> int:
    """Whole epochs in the last checkpoint."""
    import torch

    path = folder / "last.ckpt"
    if not path.is_file():
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["epoch"]) + 1


@contextlib.contextmanager
def _memory_errors(settings: Settings) -> Iterator[None]:
    """Out of memory, said with what to do."""
    import torch

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator: can't allocate" not in str(error):
            raise
        raise StudyError(
            f"expected enough memory for batches of {settings.batch_size} images of "
            f"{' x '.join(map(str, settings.size))}, got none left; give a smaller --batch-size or --image-size, or "
            "--trainer.precision bf16-mixed"
        ) from error


def _move(source: Path, target: Path) -> None:
    if not source.exists():  # moved by a run that was killed since
        return
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(source, target)
