"""The command reproduce: the study's rows (rows.csv), in both modes, with several seeds, as runs of two studies.

OUT/corrected and OUT/as_published are folders of `fusionconv.study`: an arm for each row, a run for each seed. The same
command again goes on where it was; a run that fails (a loss that is no number) is noted, and the others go on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from fusionconv.errors import FusionError, StudyError
from fusionconv.study.files import read_json, write_json
from recipes.celeba.files import study_table
from recipes.celeba.training import CONFIGS, ROOT, make_study

MODES = ("as_published", "corrected")
CONFIG = {"as_published": "as-published.yaml", "corrected": "default.yaml"}
JUDGING = 1 / 3  # an image that is judged costs about a third of one that is trained: forward only
OPTIONS: dict[str, tuple[Any, str]] = {
    **ROOT,
    "out": ("runs/grid", "folder of the grid"),
    "rows": (["all"], "all, matched, groups or names of rows; --dry-run lists them"),
    "modes": (list(MODES), "as_published, corrected or both"),
    "seeds": (5, "how many: 0, 1, ..."),
    "part": ("1/1", "do the K-th of N parts of like cost; machines may share --out"),
    "budget_hours": (float, "of this call: start no run that would end later (the first is begun in any case)"),
    "dry_run": (False, "print the plan and stop; reads the tables only"),
    "retry_failed": (False, "try runs again that have failed"),
    "classifier_width": (4096, "of VGG16's hidden Linear layers"),
    "lr_scale": (1.0, "every row's rate times this, for short runs on few images"),
    "covariate_lr": ("scaled", "of V in the corrected rows: scaled, or same as W's; as published it is W's"),
}


@dataclass(frozen=True)
class Row:
    """A row of the study's table, as in rows.csv."""

    row: str
    title: str
    group: str
    method: str
    layer: int | None
    options: tuple[tuple[str, int], ...]
    covariates: tuple[str, ...]
    lr: float
    batch_size: int
    baseline: str | None
    matched: bool
    logged: tuple[float, ...]
    printed: tuple[str, ...]
    note: str

    @property
    def modes(self) -> tuple[str, ...]:
        """In which it can be run: rows of the group `controls` are not the study's."""
        return ("corrected",) if self.group == "controls" else MODES

    def arm(
        self, mode: str, lr_scale: float = 1.0, classifier_width: int = 4096, covariate_lr: str = "scaled"
    ) -> dict[str, Any]:
        """The arm of a study; as published V has W's rate, and with several covariates none: it was never trained."""
        rate = self.lr * lr_scale
        arm: dict[str, Any] = {"name": self.row, "arm": "image", "lr": rate, "batch_size": self.batch_size}
        if self.method == "image":
            return arm
        arm |= {"covariates": list(self.covariates), **dict(self.options)}
        if mode == "corrected":
            where = "last" if self.method == "concat" else self.layer
            return arm | {"arm": self.method, "where": where, "covariate_lr": covariate_lr}
        arm["covariate_lr"] = 0.0 if len(self.covariates) > 1 else rate
        return arm | {"arm": "hybrid@features.published", "init": "kaiming",
                      "network_options": {"classifier_width": classifier_width, "layer": self.layer}}  # fmt: skip


@cache
def read_rows(path: Path = Path(__file__).parent / "rows.csv") -> dict[str, Row]:
    """The 34 rows, in the table's order: what is trained, and what was published of it (accuracies on validation)."""
    rows = {}
    for said in pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records"):
        pairs = (pair.split("=") for pair in said["options"].split())
        rows[said["row"]] = Row(
            **{name: said[name] for name in ("row", "title", "group", "method", "note")},
            layer=int(said["layer"]) if said["layer"] else None,
            options=tuple((name, int(value)) for name, value in pairs),
            covariates=tuple(said["covariates"].split()), lr=float(said["lr"]), batch_size=int(said["batch_size"]),
            baseline=said["baseline"] or None, matched=said["matched"] == "yes",
            logged=tuple(map(float, said["logged"].split())), printed=tuple(said["printed"].split()),
        )  # fmt: skip
    return rows


def choose_rows(asked: Sequence[str]) -> list[Row]:
    """Rows by `all`, `matched`, names of groups or of rows, in the table's order."""
    rows = read_rows()
    groups = list(dict.fromkeys(row.group for row in rows.values()))
    chosen = set()
    for word in map(str, asked):
        found = [r.row for r in rows.values() if word in ("all", r.row, r.group) or (word == "matched" and r.matched)]
        if not found:
            raise StudyError(f"--rows: expected all, matched, a group ({', '.join(groups)}) or rows among "
                             f"{', '.join(rows)}, got {word!r}")  # fmt: skip
        chosen |= set(found)
    return [row for row in rows.values() if row.row in chosen]


@dataclass(frozen=True)
class Planned:
    """A row in a mode with a seed, and its cost in trained images."""

    row: Row
    mode: str
    seed: int
    cost: float

    def folder(self, out: Path) -> Path:
        """Where its run of the engine is."""
        return out / self.mode / "runs" / self.row.row / ("split" + (f"-seed{self.seed}" if self.seed else ""))


def plan(rows: Sequence[Row], modes: Sequence[str], seeds: int, images: dict[str, int], epochs: int) -> list[Planned]:
    """All runs; a first seed of every row comes before any second one."""
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise StudyError(f"--modes: expected as_published or corrected, got {unknown[0]!r}")
    runs = []
    for seed in range(seeds):
        for row in rows:
            for mode in modes:
                if mode in row.modes:
                    judged = (epochs + 1) * images["valid"] + (mode == "corrected") * images["test"]
                    runs.append(Planned(row, mode, seed, epochs * images["train"] + JUDGING * judged))
    if not runs:
        raise StudyError(
            "expected a run, got none: rows of the group controls are corrected only; give --modes corrected"
        )
    return runs


def cut(runs: Sequence[Planned], part: str) -> list[Planned]:
    """The runs of part K of N, in the order of ``runs``; the parts cost alike, and are the same on every machine.

    Longest first, each to the part that has least to do.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", part)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise StudyError(f"--part: expected K/N with 1 <= K <= N, such as 3/8, got {part!r}")
    number, count = int(found[1]), int(found[2])
    loads, mine = [0.0] * count, set()
    for run in sorted(runs, key=lambda r: (-r.cost, r.row.row, r.mode, r.seed)):
        least = loads.index(min(loads))
        loads[least] += run.cost
        if least == number - 1:
            mine.add(run)
    return [run for run in runs if run in mine]


# ---- the command ----


def reproduce(words: list[str]) -> int:
    """Plan and run; exit code 1 where a run has failed."""
    said, own = options(words)
    out, faces = Path(own["out"]), study_table(own["root"])
    share = min(1.0, said["limit"] / faces["person"].nunique()) if said.get("limit") else 1.0
    images = {split: round(share * int((faces["split"] == split).sum())) for split in ("train", "valid", "test")}
    rows = choose_rows(own["rows"])
    whole = plan(rows, own["modes"], own["seeds"], images, int(said.get("epochs", 1)))
    runs = cut(whole, own["part"])
    failed = {run: text for run in runs if (text := failure(run, out)) is not None and not own["retry_failed"]}
    print(table(runs, out, failed, images), flush=True)
    if own["dry_run"]:
        return 0
    work([run for run in runs if run not in failed], whole, said, own, failed)
    for run, text in failed.items():
        print(f"failed: {run.mode} {run.row.row} seed {run.seed}: {text}")
    if failed:
        print("they are skipped from now on; --retry-failed tries them again")
    return int(bool(failed))


def options(words: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was said of the studies' settings, and the options of `reproduce`."""
    from fusionconv.study.command_line import parse

    given = parse("reproduce", words, OPTIONS, settings=True, program="python -m recipes.celeba")
    said = {name: value for name, value in given.settings.items() if name not in OPTIONS}
    if given.own["covariate_lr"] not in ("scaled", "same"):
        raise StudyError(f"--covariate-lr: expected scaled or same, got {given.own['covariate_lr']!r}")
    fixed = {"target", "covariates", "lr", "batch_size", "network", "network_options", "split_column",
             "schedule", "optimizer", "normalize", "freeze", "loss", "head", "select"}  # fmt: skip
    if taken := sorted(fixed & said.keys()):
        raise StudyError(
            f"expected rows as rows.csv has them, got --{taken[0].replace('_', '-')}; leave it out, or train a row of "
            "your own by fit"
        )
    return said, given.own


def settings_of(mode: str, said: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The study of a mode: its YAML, and what was said."""
    import yaml

    settings = yaml.safe_load((CONFIGS / CONFIG[mode]).read_text(encoding="utf-8"))
    settings.pop("arms")
    network = "as_published" if mode == "as_published" else "vgg16_bn"
    return {**settings, "lr": 1e-5, "seeds": own["seeds"], "network": f"recipes.celeba.vgg:{network}",
            "network_options": {"classifier_width": own["classifier_width"]},
            "cache": str(Path(own["out"]) / "cache"), **said}  # fmt: skip


def work(
    runs: Sequence[Planned], whole: Sequence[Planned], said: dict[str, Any], own: dict[str, Any],
    failed: dict[Planned, str],
) -> None:  # fmt: skip
    """Do the runs that are not done, as long as the budget lasts, and write the engine's tables."""
    from fusionconv.study.comparison import Comparison
    from fusionconv.study.launch import launch

    started, out = time.perf_counter(), Path(own["out"])
    begun = {mode: begin(mode, whole, said, own) for mode in MODES if any(run.mode == mode for run in runs)}
    new = set()
    for run in runs:
        study, found = begun[run.mode]
        engine = found[run.row.row, run.seed]
        if engine.done:
            continue
        speed, spent = seconds_per_cost(out), time.perf_counter() - started
        if own["budget_hours"] is not None and spent + (speed or 0.0) * run.cost > 3600 * own["budget_hours"]:
            print(f"the budget of {own['budget_hours']:g} hours is used up; the same command goes on")
            break
        print(f"{run.mode} {run.row.row} seed {run.seed}: about {duration(speed and speed * run.cost)}", flush=True)
        note = run.folder(out) / "failed.json"
        try:
            for result in launch([engine], out / run.mode, do=study.do):
                value = result["metrics"][result["main"]]
                new.add(run.mode)
                print(f"  {result['main']} {value:.4f} ({result['seconds']:.0f} s)", flush=True)
            note.unlink(missing_ok=True)
        except (FusionError, RuntimeError, OSError) as error:  # a loss that is no number, memory, disk
            failed[run] = f"{type(error).__name__}: {error}"
            write_json(note, {"reason": failed[run]})
    for mode in sorted(new):
        Comparison(out / mode).summarise()
        print(f"wrote the tables of {out / mode}")


def begin(mode: str, runs: Sequence[Planned], said: dict[str, Any], own: dict[str, Any]) -> tuple[Any, dict[Any, Any]]:
    """The study of a mode, and its runs by row and seed: the same for all parts; rows of earlier calls stay in it."""
    from fusionconv.study.study import Study

    place = Path(own["out"]) / mode
    names = {run.row.row for run in runs if run.mode == mode}
    if (place / "study.yaml").is_file():
        names |= {arm.name for arm in Study.open(place)[1]}
    arms = [
        row.arm(mode, own["lr_scale"], own["classifier_width"], own["covariate_lr"])
        for row in read_rows().values()
        if row.row in names
    ]
    study = make_study(settings_of(mode, said, own), own["root"], place)
    return study, {(run.arm.name, run.number): run for run in study.begin(arms, out=place)}


def failure(run: Planned, out: Path) -> str | None:
    """Why a run has failed; None for one that has not."""
    folder = run.folder(out)
    if (folder / "result.json").is_file():
        return None
    return (read_json(folder / "failed.json") or {}).get("reason")


def seconds_per_cost(out: Path) -> float | None:
    """Seconds a trained image, judging included, in the runs that are finished; None before the first."""
    seconds = cost = 0.0
    for path in out.glob("*/runs/*/*/result.json"):
        result = read_json(path) or {}
        counts = result["counts"]
        seconds += result["seconds"]
        cost += (result["epochs"] or 0) * counts["train"] + JUDGING * (counts.get("val", 0) + counts.get("test", 0))
    return seconds / cost if cost else None


def duration(seconds: float | None) -> str:
    """Such as 3:25 h, or "an unknown time"."""
    if seconds is None:
        return "an unknown time"
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if seconds >= 60 else f"{seconds:.0f} s"


def table(runs: Sequence[Planned], out: Path, failed: dict[Planned, str], images: dict[str, int]) -> str:
    """The plan as text: a line for each row and mode, and how long the whole takes."""
    speed = seconds_per_cost(out)
    frame = pd.DataFrame(
        {"row": run.row.row, "mode": run.mode, "runs": 1, "done": (run.folder(out) / "result.json").is_file(),
         "failed": run in failed, "steps a run": -(-images["train"] // run.row.batch_size), "cost": run.cost}
        for run in runs
    )  # fmt: skip
    left = frame.loc[~frame["done"] & ~frame["failed"], "cost"].sum()
    groups = frame.groupby(["row", "mode"], sort=False)
    shown = groups[["runs", "done", "failed"]].sum().join(groups["steps a run"].first()).reset_index()
    return (
        f"{out}: images {images}\n{shown.to_string(index=False)}\n{len(frame)} runs, {int(frame['done'].sum())} done; "
        f"time for the others: {duration(speed and speed * left)}"
    )
