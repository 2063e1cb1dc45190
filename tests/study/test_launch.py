"""Runs as independent tasks: parts, processes, clusters; killed and stopped. Runs are stand-ins, which count executions."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusionconv.errors import StudyError
from fusionconv.study.launch import launch, once, part_of


@dataclass(frozen=True)
class Named:
    name: str


@dataclass(frozen=True)
class Toy:
    """What launch needs of a run."""

    arm: Named
    fold: str
    number: int
    folder: Path
    key: str = "k"

    @property
    def name(self):
        return f"{self.arm.name} {self.fold}"

    @property
    def done(self):
        return (self.folder / "result.json").is_file()


def plan(out, folds=3, arms=2):
    return [Toy(Named(f"arm{a}"), f"fold{f}", 0, Path(out) / "runs" / f"arm{a}" / f"fold{f}")
            for f in range(folds) for a in range(arms)]  # fmt: skip


def do_named(out, arm, fold, number):
    """A run that counts itself; a file `OUT/ARM-FOLD.WHAT` says what happens to it."""
    folder = Path(out) / "runs" / arm / fold
    folder.mkdir(parents=True, exist_ok=True)
    with (Path(out) / "executions").open("a") as file:
        file.write(f"{arm} {fold} {os.getpid()}\n")
    order = Path(out) / f"{arm}-{fold}"
    if order.with_suffix(".die").exists() or (
        order.with_suffix(".once").exists() and executions(out).count((arm, fold)) == 1
    ):
        os.kill(os.getpid(), signal.SIGKILL)
    if order.with_suffix(".fail").exists():
        raise StudyError("expected a loss, got NaN")
    while order.with_suffix(".hold").exists():
        time.sleep(0.02)
    result = {"arm": arm, "fold": fold, "number": number, "key": "k", "pid": os.getpid()}
    (folder / "part").write_text(json.dumps(result))
    os.replace(folder / "part", folder / "result.json")
    return result


def do_run(run, progress):
    return do_named(run.folder.parents[2], run.arm.name, run.fold, run.number)


def executions(out):
    path = Path(out) / "executions"
    return [tuple(line.split()[:2]) for line in path.read_text().splitlines()] if path.exists() else []


def go(out, runs=None, jobs=1, launcher="local", **options):
    runs = plan(out) if runs is None else runs
    alone = launcher == "local" and jobs == 1
    return list(
        launch(runs, Path(out), launcher, jobs, do=do_run if alone else do_named, progress=False, options=options)
    )


@pytest.mark.parametrize(("folds", "arms"), [(1, 1), (1, 5), (2, 3), (3, 2), (5, 4), (15, 7)])
def test_parts_are_a_partition_and_have_whole_folds_where_they_can(tmp_path, folds, arms):
    runs = plan(tmp_path, folds, arms)
    for count in range(1, len(runs) + 1):
        parts = [part_of(runs, f"{k}/{count}") for k in range(1, count + 1)]
        assert [run for part in parts for run in part] == runs
        assert all(parts)
        where = [{run.fold for run in part} for part in parts]
        if count <= folds:
            assert sum(map(len, where)) == folds
            assert max(map(len, where)) - min(map(len, where)) <= 1
        else:
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "part", ["", "2", "0/3", "4/3", "-1/3", "1/0", "0/0", "1/2/3", "a/b", "1.0/2", "1/7", 2, None, 0.5]
)
def test_wrong_parts_are_refused(tmp_path, part):
    with pytest.raises(StudyError, match=r"part: expected .* got"):
        part_of(plan(tmp_path), part)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_run_is_done_once_and_never_again(tmp_path, jobs):
    runs = plan(tmp_path)
    results = go(tmp_path, runs, jobs)
    assert sorted((r["arm"], r["fold"]) for r in results) == sorted((r.arm.name, r.fold) for r in runs)
    assert len({r["pid"] for r in results}) == jobs
    assert (os.getpid() in {r["pid"] for r in results}) == (jobs == 1)
    assert sorted(executions(tmp_path)) == sorted((r.arm.name, r.fold) for r in runs)
    assert len(go(tmp_path, runs, jobs)) == len(runs)
    assert len(executions(tmp_path)) == len(runs)
