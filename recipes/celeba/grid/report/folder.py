"""Grid: a folder of runs as `reproduce` leaves it, read and checked, with what has failed or is not finished."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from recipes.celeba.grid.rows import ROWS, Row
from recipes.common.runs import RunError

NAME = re.compile(r"(?P<row>.+)__(?P<mode>as_published|corrected)__seed(?P<seed>\d+)")
SPLITS = {"as_published": ("valid",), "corrected": ("valid", "test")}  # that a finished run has judged
JUDGED = {"as_published": "valid", "corrected": "test"}  # the split that a mode is reported on

# What all runs of a grid have in common; the rows differ in the rest. (section of config.yaml, key)
SETTINGS = (
    ("data", "image_size"), ("data", "limit"), ("data", "target"), ("model", "weights"), ("model", "classifier_width"),
    ("trainer", "max_epochs"), ("trainer", "precision"),
)  # fmt: skip


def short(row: Row) -> str:
    """A row's title, its three covariates in one word."""
    return row.title.replace("Smiling, Young, High_Cheekbones", "trio")


@dataclass(frozen=True)
class GridRun:
    """A finished run: one row, one mode, one seed."""

    folder: Path
    row: Row
    mode: str
    seed: int
    result: dict[str, Any]  # result.json
    config: dict[str, Any]  # config.yaml
    judged: dict[str, dict[str, Any]]  # split -> results-<split>.json
    predictions: dict[str, pd.DataFrame]  # split -> predictions-<split>.csv by file, in the files' order
    controls: pd.DataFrame | None  # controls-test.csv by file
    curves: pd.DataFrame | None  # metrics.csv

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.folder.name

    @property
    def rate(self) -> float | None:
        """Training images a second; None where it was not written."""
        known = self.result.get("images_per_second")
        return None if known is None else float(known)

    def right(self, split: str) -> pd.Series:
        """1.0 where the prediction is the target, by file."""
        table = self.predictions[split]
        return (table["prediction"] == table["target"]).astype(float)


@dataclass(frozen=True)
class Grid:
    """All runs of a folder; `of` gives those of a row."""

    folder: Path
    rows: Mapping[str, Row]
    runs: list[GridRun]
    failed: dict[str, str]  # name of a run -> why there are no figures of it
    plan: dict[str, Any]  # plan.json
    covariates_only: pd.DataFrame | None  # covariates-only.csv
    settings: dict[str, Any] = field(default_factory=dict)  # of SETTINGS, the same in all runs
    people: pd.Series | None = None  # who is on each judged image, by file; None where that is not known

    def of(self, row: str, mode: str) -> list[GridRun]:
        """The finished runs of a row in one mode, by seed."""
        return sorted((r for r in self.runs if (r.row.name, r.mode) == (row, mode)), key=lambda run: run.seed)

    def target(self, split: str) -> pd.Series | None:
        """The true classes of a split by file; None where no run has judged it."""
        return next((r.predictions[split]["target"] for r in self.runs if split in r.predictions), None)

    def who(self, files: pd.Index) -> np.ndarray | None:
        """Who is on these images, for resampling people; None where that is not known, and images are resampled."""
        return None if self.people is None else self.people.loc[files].to_numpy()

    @property
    def splits(self) -> dict[str, int]:
        """How many images each judged split has."""
        counts = {split: self.target(split) for split in ("valid", "test")}
        return {split: len(target) for split, target in counts.items() if target is not None}


def read_grid(folder: str | Path, rows: Mapping[str, Row] = ROWS) -> Grid:
    """Read a folder of runs.

    Args:
        folder: what `reproduce --out` wrote: ``<row>__<mode>__seed<k>/``, plan.json, covariates-only.csv.
        rows: the rows of the study.

    Raises:
        RunError: there is no run in the folder; a run is of no row of this grid; runs differ in their settings or
            judged different images; a result does not fit its predictions.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}. Give the one that `reproduce --out` wrote.")
    named = {path: match for path in sorted(folder.iterdir()) if path.is_dir() and (match := NAME.fullmatch(path.name))}
    if not named:
        raise RunError(
            f"expected folders <row>__<mode>__seed<k>/ in {folder}, as `python -m recipes.celeba reproduce --out "
            f"{folder}` writes them, and found none. Run it first, or give its folder."
        )
    if unknown := sorted({match["row"] for match in named.values()} - set(rows)):
        raise RunError(
            f"{folder} is a folder of another grid: it has runs of {', '.join(unknown)}, and the rows of this one "
            f"are {', '.join(rows)}. Give the folder of this grid, or move these runs away."
        )
    runs, failed = [], {}
    for path, match in named.items():
        found = _read_run(path, rows[match["row"]], match["mode"], int(match["seed"]))
        if isinstance(found, str):
            failed[path.name] = found
        else:
            runs.append(found)
    settings = _same_settings(runs)
    for split in ("valid", "test"):
        _same_images([run for run in runs if split in run.predictions], split)
    table = folder / "covariates-only.csv"
    return Grid(
        folder=folder,
        rows=rows,
        runs=runs,
        failed=failed,
        plan=_json(folder / "plan.json"),
        covariates_only=pd.read_csv(table) if table.is_file() else None,
        settings=settings,
    )


def _read_run(folder: Path, row: Row, mode: str, seed: int) -> GridRun | str:
    """The run, or the reason why there are no figures of it."""
    result = _json(folder / "result.json")
    if result.get("status") == "failed":
        return "failed: " + str(result.get("reason") or "no reason was written").splitlines()[0]
    needed = ["result.json", "config.yaml", *(f"{kind}-{split}.{end}" for split in SPLITS[mode]
                               for kind, end in (("results", "json"), ("predictions", "csv")))]  # fmt: skip
    if absent := [name for name in needed if not (folder / name).is_file()]:
        return f"not finished: it lacks {', '.join(absent)}"
    claimed = {key: result[key] for key in ("row", "mode", "seed") if key in result}
    expected = {"row": row.name, "mode": mode, "seed": seed}
    if any(expected[key] != value for key, value in claimed.items()):
        raise RunError(f"{folder}/result.json is of {claimed}; its folder's name says {expected}. Was it renamed?")
    predictions = {split: pd.read_csv(folder / f"predictions-{split}.csv", index_col="file").sort_index()
                   for split in SPLITS[mode]}  # fmt: skip
    judged = {split: _json(folder / f"results-{split}.json") for split in SPLITS[mode]}
    for split, table in predictions.items():
        accuracy = float((table["prediction"] == table["target"]).mean())
        if abs(accuracy - judged[split]["metrics"]["accuracy"]) > 1e-4:
            raise RunError(
                f"{folder}: results-{split}.json says accuracy {judged[split]['metrics']['accuracy']:.4f}, and "
                f"predictions-{split}.csv has {accuracy:.4f}. They are of different evaluations: judge the run again."
            )
    run = GridRun(
        folder=folder,
        row=row,
        mode=mode,
        seed=seed,
        result=result,
        config=yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
        judged=judged,
        predictions=predictions,
        controls=_controls(folder / "controls-test.csv", predictions.get("test")),
        curves=pd.read_csv(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else None,
    )
    _is_its_row(run)
    return run


def _is_its_row(run: GridRun) -> None:
    """Refuse a run that was trained in another way than its row says."""
    row, scale = run.row, run.result.get("settings", {}).get("lr_scale", 1.0)
    lr = row.lr if scale == 1 else float(f"{row.lr * scale:g}")  # as `reproduce` gives it to `fit`
    expected = {
        "model": {"arm": row.arm, "mode": run.mode, "lr": lr},
        "data": {"batch_size": row.batch_size, "covariates": list(row.covariates), "constant": row.constant},
    }
    if row.arm != "plain":
        expected["model"] |= {"layer_idx": row.layer_idx, "method": row.method}
    wrong = []
    for section, settings in expected.items():
        came = run.config.get(section, {})
        wrong += [f"{key} {came[key]!r}, not {value!r}" for key, value in settings.items()
                  if key in came and came[key] != value]  # fmt: skip
    if wrong:
        raise RunError(
            f"{run.folder} is not a run of the row {run.row.name}: its config.yaml has {'; '.join(wrong)}. Move it "
            "away, and run `reproduce` for the row."
        )


def _controls(path: Path, predictions: pd.DataFrame | None) -> pd.DataFrame | None:
    """controls-test.csv, after a look whether its column `true` is what the tested checkpoint said."""
    if not path.is_file() or predictions is None:
        return None
    table = pd.read_csv(path, index_col="file").sort_index()
    if not table.index.equals(predictions.index):
        raise RunError(f"{path} has other images than predictions-test.csv beside it. Make the controls again.")
    apart = float(((table["true"] > 0.5) != (predictions["prediction"] == 1)).mean())
    if apart > 0.005:  # rounding may move a few images over one half
        raise RunError(
            f"{path}: its column 'true' answers differently from predictions-test.csv on {apart:.1%} of the images. "
            "The controls are of another checkpoint: make them again."
        )
    return table


def _same_settings(runs: list[GridRun]) -> dict[str, Any]:
    """What SETTINGS say, which all runs must share."""
    first: dict[str, Any] = {}
    for number, run in enumerate(runs):
        own = {key: run.config.get(section, {}).get(key) for section, key in SETTINGS}
        own["weights"] = Path(str(own["weights"])).name  # a path is of the machine, and may differ between machines
        # All that `reproduce` knows, a digest of the data among it.
        own |= {f"grid's {key}": value for key, value in run.result.get("settings", {}).items()}
        if not number:
            first = own
        if own != first:
            apart = "; ".join(
                f"{key} {own.get(key)!r} and {first.get(key)!r}"
                for key in {**first, **own}
                if own.get(key) != first.get(key)
            )
            raise RunError(f"{run.folder} is of another grid than {runs[0].folder}: {apart}. Report each by itself.")
    return first


def _same_images(runs: list[GridRun], split: str) -> None:
    for run in runs[1:]:
        a, b = runs[0].predictions[split]["target"], run.predictions[split]["target"]
        apart = a.index.symmetric_difference(b.index)
        if len(apart):
            raise RunError(
                f"{runs[0].folder} and {run.folder} judged different {split} images ({len(apart)} are in one only, "
                f"such as {apart[0]}), so they cannot be compared. Judge both on the same data."
            )
        if not a.equals(b):
            raise RunError(f"{runs[0].folder} and {run.folder} have different targets for the same {split} images.")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON ({error}). Was the run cut off while it was written?") from None
    return found
