"""One run of the grid: fit (or go on), validate, test, controls; its result.json, and results.csv of all runs."""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fusionconv.errors import FusionError
from fusionconv.study.environment import hardware, versions
from recipes.celeba import training
from recipes.celeba.grid.controls import write_controls
from recipes.celeba.grid.plan import Run, Settings, every_result, write_text
from recipes.common.checkpoint import open_checkpoint, read_note
from recipes.common.checkpoint_io import write_whole
from recipes.common.environment import PeakMemory, commit
from recipes.common.runs import RunFolder

PACKAGES = ("torch", "torchvision", "lightning", "numpy", "scikit-learn", "fusionconv")
FOR_JUDGING = (
    "state_dict",
    "hyper_parameters",
    "pytorch-lightning_version",
    "epoch",
    "global_step",
    "fusionconv_celeba",
)


@dataclass(frozen=True)
class Place:
    """Where a grid is run and how: what no figure depends on, and the options of --set."""

    out: Path
    root: Path
    weights: str
    num_workers: int | None
    keep: str
    options: dict[str, str]


def fit_options(run: Run, settings: Settings, place: Place) -> list[str]:
    """The options of `fit` for a run: its row's YAML, and what the grid says."""
    options = [
        f"--config={run.row.config}", f"--experiment={run.name}", f"--root_dir={place.out}",
        f"--seed_everything={run.seed}",
        f"--model.mode={run.mode}", f"--model.weights={place.weights}",
        f"--model.classifier_width={settings.classifier_width}",
        f"--data.root={place.root}", f"--data.image_size={settings.image_size}",
        f"--trainer.max_epochs={settings.epochs}", f"--trainer.precision={settings.precision}", "--trainer.devices=1",
    ]  # fmt: skip
    if settings.lr_scale != 1:
        options.append(f"--model.lr={run.row.lr * settings.lr_scale:g}")
    if settings.limit is not None:
        options.append(f"--data.limit={settings.limit}")
    if place.num_workers is not None:
        options.append(f"--data.num_workers={place.num_workers}")
    return options + [f"--{key}={value}" for key, value in place.options.items()]


def do_run(run: Run, settings: Settings, place: Place) -> dict[str, Any]:
    """Train and judge one run, and write its result.json: of status finished, or failed with the reason."""
    folder = RunFolder(place.out, run.name)
    device = _device(place.options)
    memory, started, fit_seconds = PeakMemory(device), time.perf_counter(), 0.0
    options = fit_options(run, settings, place)
    where = [f"--experiment={run.name}", f"--root_dir={place.out}"]
    resumed = folder.checkpoint("last").is_file()
    result: dict[str, Any] = {
        "run": run.name, "row": run.row.name, "mode": run.mode, "seed": run.seed, "steps": run.steps, "cost": run.cost,
        "resumed": resumed, **commit(), "versions": versions(*PACKAGES), "hardware": hardware(device),
        "threads": torch.get_num_threads(), "settings": asdict(settings),
    }  # fmt: skip
    try:
        try:
            training.fit([*options, *(["--resume"] if resumed else ["--overwrite"] if folder.is_taken() else [])])
        finally:
            fit_seconds = time.perf_counter() - started
        training.validate(where)
        if run.mode == "corrected":
            training.test(where)
        if run.has_controls:
            write_controls(folder, str(place.root), run.seed, device)
        result |= {"status": "finished", "reason": None}
    except (FusionError, RuntimeError, OSError) as error:  # a loss that is no number, memory, disk, a damaged image
        result |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    wall = time.perf_counter() - started
    last = folder.checkpoint("last")
    if last.is_file():
        result |= _training_speed(last)
        wall += max(0.0, result["fit_seconds"] - fit_seconds)  # what was trained before a kill
    result |= {
        "wall_seconds": wall,
        "peak_memory_bytes": memory.read(),
        "peak_memory_of": memory.kind,
        "metrics": {split: _metrics(folder, split) for split in ("valid", "test")},
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.path.mkdir(parents=True, exist_ok=True)  # a fit that was refused leaves none
    write_text(folder.path / "result.json", json.dumps(result, indent=2) + "\n")
    if result["status"] == "finished":
        _keep(folder, place.keep)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return result


def _device(options: dict[str, str]) -> torch.device:
    """Where Lightning trains with these options, on one device."""
    asked = options.get("trainer.accelerator", "auto")
    return torch.device("cuda" if torch.cuda.is_available() and asked in ("auto", "gpu", "cuda") else "cpu")


def _training_speed(last: Path) -> dict[str, float | None]:
    """Images a second in training alone, and the seconds of the fit with its validations, all sessions together."""
    try:
        checkpoint = open_checkpoint(last)
        note, speed = read_note(checkpoint, "celeba"), checkpoint["callbacks"]["ExactResume"]
    except (FusionError, KeyError):
        return {"images_per_second": None, "fit_seconds": 0.0}
    rate = speed["images"] / speed["seconds"] if speed["seconds"] else None
    return {"images_per_second": rate, "fit_seconds": float(note["history"]["seconds"])}


def _metrics(folder: RunFolder, split: str) -> dict[str, Any] | None:
    path = folder.path / f"results-{split}.json"
    if not path.is_file():
        return None
    judged = json.loads(path.read_text(encoding="utf-8"))
    keys = ("num_images", "majority_accuracy", "confusion")
    return {**judged["metrics"], **{key: judged[key] for key in keys}, "skipped": len(judged["skipped"])}


def _keep(folder: RunFolder, keep: str) -> None:
    """Of a finished run: all checkpoints, the best one's weights, or none."""
    if keep == "all":
        return
    folder.checkpoint("last").unlink(missing_ok=True)
    best = folder.checkpoint("best")
    if keep == "none":
        best.unlink(missing_ok=True)
        return
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    if "optimizer_states" in checkpoint:  # Adam's are twice the weights
        write_whole({key: checkpoint[key] for key in FOR_JUDGING if key in checkpoint}, best)


def collect(out: Path) -> pd.DataFrame:
    """``results.csv`` of every run in ``out`` that has a result, a row each; returned as a frame."""
    rows = []
    for result in every_result(out):
        row = {key: value for key, value in result.items() if not isinstance(value, dict)}
        row |= {f"version_{key}": value for key, value in result["versions"].items()}
        for split, metrics in result["metrics"].items():
            row |= {f"{split}_{key}": value for key, value in (metrics or {}).items() if key != "confusion"}
        rows.append(row)
    frame = pd.DataFrame(rows)
    if len(frame):
        write_text(out / "results.csv", frame.to_csv(index=False))
    return frame


def speed_of(results: Sequence[dict[str, Any]]) -> float:
    """Mean training speed of the finished runs, images a second; NaN before the first."""
    rates = [r["images_per_second"] for r in results if r.get("status") == "finished" and r.get("images_per_second")]
    return sum(rates) / len(rates) if rates else math.nan
