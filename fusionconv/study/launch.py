"""launch: runs are independent tasks; here one after another, in processes of this machine, or on a cluster."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fusionconv.errors import FusionError, LeakageWarning, SplitWarning, StudyError, TableWarning

if TYPE_CHECKING:
    from fusionconv.study.runs import Run

__all__ = ["Task", "launch", "once", "part_of"]

log = logging.getLogger("fusionconv.study")

LAUNCHERS = ("local", "ray", "slurm")
_AnyRun = TypeVar("_AnyRun", bound="Run")


# ---- which runs ----


def part_of(runs: Sequence[_AnyRun], part: str) -> list[_AnyRun]:
    """The runs of part K of N, such as ``"2/3"``: the same on every machine, every run in one part.

    Up to as many parts as there are folds, a part has whole folds: the arms that are compared are trained on one
    machine. More parts than folds cut the folds: a part has neighbours of the plan, as many as any other, or one more.

    Args:
        runs: the whole plan, fold by fold, also the runs that are done.
        part: ``"K/N"``, with K from 1 to N.

    Raises:
        StudyError: no such part; more parts than runs.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", part) if isinstance(part, str) else None
    if match is None:
        raise StudyError(f"part: expected K/N, such as 2/3 for the second of three parts, got {part!r}")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise StudyError(
            f"part: expected a number from 1 to that of parts, got {number} of {count}; give 1/{max(count, 1)} to "
            f"{max(count, 1)}/{max(count, 1)}"
        )
    if count > max(len(runs), 1):
        raise StudyError(f"part: expected at most {len(runs)} parts, one for each run, got {count}; give fewer")
    folds = list(dict.fromkeys(run.fold for run in runs))
    if count <= len(folds):
        mine = {fold for at, fold in enumerate(folds) if at * count // len(folds) == number - 1}
        return [run for run in runs if run.fold in mine]
    return [run for at, run in enumerate(runs) if at * count // len(runs) == number - 1]


# ---- one run, once ----


def once(run: Run, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The run's result: what it left, or what ``do`` makes. Only one process at a time does a run; the others wait.

    Raises:
        StudyError: the folder holds a result of other settings, or cannot be written.
    """
    if run.done:
        return _result(run)
    with _alone(run):
        return _result(run) if run.done else do()


def _result(run: Run) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    return result


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """The lock of a run's folder. The system frees it when its process ends, however it ends."""
    from filelock import FileLock, Timeout

    if any(os.environ.get(name, "0") not in ("", "0") for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")):
        yield  # a process that trains this run together with the one that holds the lock
        return
    lock = FileLock(run.folder / ".lock")
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        said = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=5, poll_interval=0.2)
            except Timeout:
                if not said:
                    log.info("%s: another process is doing this run; waiting for its result", run.name)
                said = True
    except NotImplementedError:
        log.warning("%s: this file system has no locks; give each machine another --part", run.folder)
    except OSError as error:
        raise StudyError(
            f"{run.folder}: expected a folder that can be written, got {error.strerror}; give another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Task:
    """A run for another process: called there, it does the run by its name, once."""

    run: Run
    do: Callable[[str, str, str, int], dict[str, Any]]
    out: str
    folder: str  # relative paths of the study start here

    def __call__(self) -> dict[str, Any]:
        """Do the run; returns its result."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        if self.folder not in sys.path:
            sys.path.append(self.folder)  # networks that are named package.module:function
        run = self.run
        with _naming(run), warnings.catch_warnings():
            for said_before in (LeakageWarning, SplitWarning, TableWarning):  # by the process that launches
                warnings.simplefilter("ignore", said_before)
            return once(run, lambda: self.do(self.out, run.arm.name, run.fold, run.number))


@contextlib.contextmanager
def _naming(run: Run) -> Iterator[None]:
    """Errors say which run they are of."""
    try:
        yield
    except FusionError as error:
        if run.name in str(error):
            raise
        raise type(error)(f"{run.name}: {error}") from error


# ---- all runs ----


def launch(
    runs: Sequence[Run], out: Path, launcher: str = "local", jobs: int = 1, *, do: Callable[..., dict[str, Any]],
    progress: bool = True, options: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Do the runs; yields the result of each as it ends. A run that is done is never done again.

    Args:
        runs: which.
        out: the folder of the study.
        launcher: ``local``: on this machine; ``ray``; ``slurm``.
        jobs: runs at the same time.
        do: with ``local`` and one job ``do(run, progress)``; else a function of a module, which other processes can
            import: ``do(out, arm, fold, number)``.
        progress: one bar over the runs, with the time that is left.
        options: of Ray or Slurm.

    Raises:
        StudyError: an unknown launcher or option; a run whose process was killed twice; what a run raises.
    """
    if launcher not in LAUNCHERS:
        raise StudyError(f"launcher: expected {', '.join(LAUNCHERS[:-1])} or {LAUNCHERS[-1]}, got {launcher!r}")
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise StudyError(f"jobs: expected a whole number from 1, got {jobs!r}")
    options = dict(options or {})
    if launcher == "local" and options:
        raise StudyError(f"launcher_options: expected none with launcher local, got {', '.join(options)}; give "
                         "--launcher ray or slurm, or leave them out")  # fmt: skip
    return _launch(list(runs), out, launcher, jobs, do, progress, options)


def _here(
    runs: Sequence[Run], do: Callable[..., dict[str, Any]], progress: bool
) -> Generator[tuple[Run, dict[str, Any]]]:
    """One run after another in this process."""
    for run in runs:
        with _naming(run):
            result = once(run, functools.partial(do, run, progress))
        yield run, result


def _launch(
    runs: list[Run], out: Path, launcher: str, jobs: int, do: Callable[..., dict[str, Any]], progress: bool,
    options: dict[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    from tqdm import tqdm

    results: Generator[tuple[Run, dict[str, Any]]]
    if not runs:
        return
    if launcher == "local" and jobs == 1:
        results = _here(runs, do, progress)
    else:
        tasks = [Task(run, do, str(Path(out).resolve()), os.getcwd()) for run in runs]
        if launcher == "local":
            from fusionconv.study.processes import in_processes

            results = in_processes(tasks, jobs)
        else:
            from fusionconv.study.clusters import in_ray, in_slurm

            results = (in_ray if launcher == "ray" else in_slurm)(tasks, jobs, options)
    with (
        contextlib.closing(results),
        tqdm(total=len(runs), desc="runs", unit="run", smoothing=0, disable=None if progress else True) as bar,
    ):
        for run, result in results:
            if result.get("key") != run.key:
                raise StudyError(
                    f"{run.name}: expected a result by the settings, rows and images of this study, got one of others; "
                    "the process that did it read another table, other images or has another version of fusionconv"
                )
            bar.update()
            yield result
