"""The plan of a grid: its runs and their steps, how long they may take, its settings, and a fair cut into parts."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from fusionconv.errors import TableError
from fusionconv.tabular import read_celeba_attributes, read_celeba_partition, require_columns
from recipes.celeba.grid.rows import ROWS, Row
from recipes.celeba.paths import table_path
from recipes.common.runs import RunError
from recipes.common.settings import differences

MODES = ("as_published", "corrected")
PART = ".part"  # ends the name of a file that is being written
JUDGING = 1 / 3  # an image that is judged costs about a third of one that is trained: forward only


@dataclass(frozen=True)
class Run:
    """One run: a row in a mode with a seed, its steps, and its cost in trained images."""

    row: Row
    mode: str
    seed: int
    steps: int
    cost: float
    controls: bool = True

    @property
    def name(self) -> str:
        """The run's folder, `<row>__<mode>__seed<k>`."""
        return f"{self.row.name}__{self.mode}__seed{self.seed}"

    @property
    def has_controls(self) -> bool:
        """True where the covariates are exchanged after the test: corrected, and more than one value of them."""
        return self.controls and self.mode == "corrected" and self.row.arm != "plain" and self.row.constant is None


@dataclass(frozen=True)
class Settings:
    """What all runs of a grid have in common; runs with other settings do not belong into one table."""

    image_size: int
    weights: str
    classifier_width: int
    epochs: int
    lr_scale: float
    limit: int | None
    precision: str
    options: dict[str, str]
    train_images: int
    valid_images: int
    test_images: int
    data: str  # of the files, their splits and their labels


def read_splits(root: Path, limit: int | None = None) -> tuple[dict[str, int], str]:
    """Images in each split, and a digest of the partition and the attributes; only the two tables are read."""
    folders = [folder for folder in (root / "celeba", root) if any(folder.glob("list_eval_partition.*"))]
    if not folders:
        raise TableError(
            f"--root {root}: expected list_eval_partition.txt (or .csv) in it or in {root / 'celeba'}, and found "
            "neither. `python -m recipes.celeba verify --root DIR` says what is there."
        )
    attributes = read_celeba_attributes(table_path(folders[0], "list_attr_celeba"))
    partition = read_celeba_partition(table_path(folders[0], "list_eval_partition"))
    require_columns(attributes, ["Attractive", "Male", "Young", "Smiling", "High_Cheekbones"])
    lacking = partition.index.difference(attributes.index)
    if len(lacking):
        raise TableError(
            f"{len(lacking):,d} files of the partition have no attributes, such as {lacking[0]}: expected both tables "
            "from one edition of CelebA."
        )
    counts = {split: int((partition == split).sum()) for split in ("train", "valid", "test")}
    if empty := [split for split, count in counts.items() if not count]:
        raise TableError(
            f"the partition in {folders[0]} has no image in {', '.join(empty)} ({counts}); the grid trains on train, "
            "chooses on valid and reports on test. Is it the partition of this set?"
        )
    digest = hashlib.sha256()
    digest.update(partition.to_csv().encode())
    digest.update(attributes.loc[partition.index].to_numpy().tobytes())
    if limit is not None:
        counts = {split: min(count, limit) for split, count in counts.items()}
    return counts, digest.hexdigest()[:16]


def make_runs(
    rows: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    control_seeds: int | None = None,
) -> list[Run]:
    """All runs of these rows, modes and seeds; a first seed of every row comes before any second one.

    Only runs of the first ``control_seeds`` seeds exchange the covariates after the test (None: all of them).
    """
    runs = []
    for seed in seeds:
        for name in rows:
            row = ROWS[name]
            for mode in modes:
                if mode not in row.modes:
                    continue
                steps = math.ceil(settings.train_images / row.batch_size) * settings.epochs
                judged = (settings.epochs + 1) * settings.valid_images
                if mode == "corrected":
                    judged += settings.test_images
                controls = control_seeds is None or seed < control_seeds
                run = Run(row, mode, seed, steps, 0.0, controls)
                if run.has_controls:
                    k = len(row.covariates)
                    judged += settings.test_images * (4 + (k if k > 1 else 0))
                cost = settings.epochs * settings.train_images + JUDGING * judged
                runs.append(Run(row, mode, seed, steps, cost, controls))
    return runs


def cut(runs: Sequence[Run], part: int, parts: int) -> list[Run]:
    """The runs of part ``part`` of ``parts`` (from 1), in the order of ``runs``; the costs of the parts are alike.

    Longest first, each to the part that has least to do: the same cut on every machine.
    """
    loads = [0.0] * parts
    mine = set()
    for run in sorted(runs, key=lambda run: (-run.cost, run.name)):
        least = loads.index(min(loads))
        loads[least] += run.cost
        if least == part - 1:
            mine.add(run.name)
    return [run for run in runs if run.name in mine]


def choose_rows(asked: Sequence[str]) -> list[str]:
    """Names of rows, from `all`, `matched`, names of groups or of rows, in the table's order."""
    chosen = set()
    groups = {row.group for row in ROWS.values()}
    for word in asked:
        if word == "all":
            chosen |= set(ROWS)
        elif word == "matched":
            chosen |= {name for name, row in ROWS.items() if row.matched}
        elif word in ROWS:
            chosen.add(word)
        elif word in groups:
            chosen |= {name for name, row in ROWS.items() if row.group == word}
        else:
            raise RunError(
                f"--rows {word}: there is no such row. Expected all, matched, a group ({', '.join(sorted(groups))}) or "
                f"rows among: {', '.join(ROWS)}."
            )
    return [name for name in ROWS if name in chosen]


def claim(out: Path, settings: Settings, write: bool = True) -> None:
    """Make ``out`` the folder of a grid with these settings; refuse one of a grid with other settings."""
    path = out / "plan.json"
    mine = asdict(settings)
    if path.is_file():
        try:
            its = json.loads(path.read_text(encoding="utf-8"))["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} is no plan of a grid ({error!r}): it was damaged. Give another --out, or put the file back."
            ) from None
        differs = differences(its, mine)
        if differs:
            raise RunError(
                f"{out} holds the results of another grid ({'; '.join(differs)}); figures of two settings do not "
                "belong into one table. Give another --out, or the settings of that grid."
            )
    elif out.is_dir() and any(not path.name.endswith(PART) for path in out.iterdir()):  # another part is just beginning
        raise RunError(
            f"{out} is not empty and holds no plan.json, so it is not the folder of a grid. Give a new one with --out."
        )
    elif write:
        out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"settings": mine}, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file at once or not at all."""
    part = path.with_name(f"{path.name}.{uuid4().hex}{PART}")  # its own: parts of a grid, on any node, share a folder
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def read_result(out: Path, run: Run) -> dict[str, Any] | None:
    """The result of a run that is finished or has failed; None for one that is still to do."""
    path = out / run.name / "result.json"
    return _read(path) if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RunError(f"{path} is no JSON: it was damaged. Delete it to have the run done again.") from None
    return result


def every_result(out: Path) -> list[dict[str, Any]]:
    """The results of all runs in the folder, those of other parts and rows too."""
    return [_read(path) for path in sorted(out.glob("*/result.json"))]


def seconds_per_cost(results: Sequence[dict[str, Any]]) -> float | None:
    """Seconds a trained image, judging included, in the runs that are finished; None before the first."""
    done = [r for r in results if r.get("status") == "finished" and r.get("cost") and r.get("wall_seconds")]
    if not done:
        return None
    return float(sum(r["wall_seconds"] for r in done) / sum(r["cost"] for r in done))


def duration(seconds: float | None) -> str:
    """Such as 3:25 h, or "not known"."""
    if seconds is None:
        return "not known"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 60 else f"{seconds:.0f} s"


def table(runs: Sequence[Run], results: dict[str, dict[str, Any]], speed: float | None) -> str:
    """The plan as text: one line a row and mode, and totals."""
    frame = pd.DataFrame(
        {
            "row": run.row.name,
            "mode": run.mode,
            "steps": run.steps,
            "cost": run.cost,
            "status": results.get(run.name, {}).get("status", "to do"),
        }
        for run in runs
    )
    lines = [f"{'row':26s} {'mode':13s} {'steps a run':>12s} {'runs':>5s} {'done':>5s} {'failed':>6s} {'a run':>10s}"]
    for (row, mode), group in frame.groupby(["row", "mode"], sort=False):
        done, failed = (int((group["status"] == status).sum()) for status in ("finished", "failed"))
        time = duration(speed * group["cost"].iloc[0]) if speed else "not known"
        lines.append(
            f"{row:26s} {mode:13s} {group['steps'].iloc[0]:12,d} {len(group):5d} {done:5d} {failed:6d} {time:>10s}"
        )
    left = frame[frame["status"] == "to do"]
    lines.append(
        f"{len(frame)} runs, {frame['steps'].sum():,d} steps; {len(left)} runs to do, {left['steps'].sum():,d} steps, "
        f"time: {duration(speed * left['cost'].sum() if speed else None)}"
        + ("" if speed else " before the first run is finished")
    )
    return "\n".join(lines)
