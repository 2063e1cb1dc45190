"""in_ray and in_slurm: tasks on the machines of a cluster, which share the study's folder."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionconv.errors import FusionError, StudyError

if TYPE_CHECKING:
    from fusionconv.study.launch import Task
    from fusionconv.study.runs import Run

__all__ = ["in_ray", "in_slurm", "minutes_of"]

log = logging.getLogger("fusionconv.study")


def _tried(task: Task) -> dict[str, Any] | FusionError:
    """On the cluster: the task's result, or its error as it is (clusters put theirs around it)."""
    try:
        return task()
    except FusionError as error:
        return error


def _twice(task: Task, error: BaseException, more: str) -> StudyError:
    return StudyError(
        f"{task.run.name}: expected its process to end, got it killed each time ({_first_line(error)}), as when memory "
        f"is short; {more} or a smaller --batch-size (what is finished is kept)"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# ---- Ray ----

RAY_OPTIONS = {
    "address": "of a cluster that runs; default: the variable RAY_ADDRESS, else a cluster made on this machine",
    "num_cpus": "of each run; default 1",
    "num_gpus": "of each run; default 1 where the cluster has GPUs",
    "max_retries": "so often is a run done again whose worker was killed; default 3",
}


def in_ray(tasks: Sequence[Task], jobs: int, options: Mapping[str, Any]) -> Generator[tuple[Run, dict[str, Any]]]:
    """Do the tasks as Ray's; yields each result as it ends. A task whose worker or machine dies is done elsewhere.

    Args:
        tasks: which.
        jobs: at most so many at the same time; 1: as many as there is room for.
        options: ``address``, ``num_cpus``, ``num_gpus``, ``max_retries``.

    Raises:
        StudyError: no Ray, no cluster, an unknown option, or a task's worker was killed each time.
    """
    given = _numbers(options, RAY_OPTIONS, "ray", ("num_cpus", "num_gpus", "max_retries"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", "3")  # else without end, where a run needs more memory than there is
    try:
        import ray
    except ImportError as error:
        raise StudyError(
            "launcher ray: expected Ray to be installed, got none; pip install 'fusionconv[ray]', or --launcher local"
        ) from error
    ours = not ray.is_initialized()
    if ours:
        _start_ray(given.get("address"))
    running: dict[Any, Task] = {}
    try:
        room = ray.cluster_resources()
        need = {"CPU": given.get("num_cpus", 1), "GPU": given.get("num_gpus", 1 if room.get("GPU", 0) >= 1 else 0)}
        if short := [f"{count:g} {name} for each run" for name, count in need.items() if count > room.get(name, 0)]:
            raise StudyError(
                f"launcher_options: expected a run to fit into the cluster, which has {room.get('CPU', 0):g} CPU and "
                f"{room.get('GPU', 0):g} GPU, got {', '.join(short)}; give a smaller num_cpus or num_gpus"
            )
        remote = ray.remote(_tried).options(
            num_cpus=need["CPU"], num_gpus=need["GPU"], max_retries=int(given.get("max_retries", 3)),
            retry_exceptions=False,
        )  # fmt: skip
        waiting = deque(tasks)
        while waiting or running:
            while waiting and (jobs == 1 or len(running) < jobs):
                task = waiting.popleft()
                running[remote.remote(task)] = task
            ended, _ = ray.wait(list(running), num_returns=1)
            for ref in ended:
                task = running.pop(ref)
                try:
                    result = ray.get(ref)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:
                    raise _twice(task, error, "give more num_cpus, so that fewer run at the same time,") from error
                if isinstance(result, FusionError):
                    raise result
                yield task.run, result
    finally:
        if ours:
            ray.shutdown()  # and what still runs
        else:
            for ref in running:
                ray.cancel(ref, force=True)


def _start_ray(address: str | None) -> None:
    """Join a cluster, or make one here."""
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or "local"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == "local":
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StudyError(
            f"launcher ray: expected a cluster at {address}, got none ({_first_line(error)}); start it with `ray start "
            "--head`, or leave out its address and the variable RAY_ADDRESS for a cluster on this machine"
        ) from error


# ---- Slurm ----

SLURM_OPTIONS = {
    "time": "of each run: minutes, H:MM:SS or D-HH:MM:SS (needed)",
    "partition": "where jobs wait",
    "gpus": "of each run; default 1",
    "cpus": "of each run",
    "memory": "of each run, in GB",
    "executor": "slurm; or local or debug, to try it without Slurm",
}


def in_slurm(
    tasks: Sequence[Task], jobs: int, options: Mapping[str, Any], *, poll: float = 2.0
) -> Generator[tuple[Run, dict[str, Any]]]:
    """Do the tasks as jobs of Slurm (submitit); yields each result as it ends.

    A job that reaches its time or is preempted is put back into the queue and goes on from its last epoch; one that is
    killed is sent again, once. When one fails, or at Ctrl-C, the other jobs are cancelled.

    Args:
        tasks: which.
        jobs: at most so many at the same time; 1: as many as Slurm gives.
        options: ``time``, ``partition``, ``gpus``, ``cpus``, ``memory``, ``executor``, and other parameters of
            submitit's Slurm executor, such as ``account``, ``qos`` and ``constraint``.
        poll: seconds between two looks at the jobs.

    Raises:
        StudyError: no submitit, no Slurm, an unknown option, or a job was killed twice.
    """
    try:
        from submitit.core.utils import FailedJobError, UncompletedJobError
    except ImportError as error:
        raise StudyError(
            "launcher slurm: expected submitit to be installed, got none; pip install 'fusionconv[slurm]', or "
            "--launcher local"
        ) from error
    executor = _executor(Path(tasks[0].out) / "slurm", jobs, options)
    jobs_of: dict[Any, Task] = {}
    again: set[str] = set()
    try:
        with executor.batch():
            sent = [executor.submit(_Job(task)) for task in tasks]
        jobs_of = dict(zip(sent, tasks, strict=True))
        log.info("%d jobs; their output is in %s", len(tasks), executor.folder)
        while jobs_of:
            for job in [job for job in jobs_of if job.done()]:
                task = jobs_of.pop(job)
                failed = job.exception()
                if isinstance(failed, FailedJobError):
                    raise StudyError(
                        f"{task.run.name}: expected the job {job.job_id} to end well, got an error; its output is in "
                        f"{job.paths.stderr}: {str(failed).strip()}"
                    )
                if isinstance(failed, UncompletedJobError):
                    if task.run.name in again:
                        raise _twice(task, failed, "give more memory") from failed
                    again.add(task.run.name)
                    log.warning("%s: its job was killed; the run is sent again", task.run.name)
                    jobs_of[executor.submit(_Job(task))] = task
                    continue
                if failed is not None:
                    raise failed
                result = job.result()
                if isinstance(result, FusionError):
                    raise result
                yield task.run, result
            if jobs_of:
                time.sleep(poll)
    finally:
        for job in jobs_of:
            job.cancel(check=False)


@dataclass(frozen=True)
class _Job:
    """What a job does. submitit asks for its ``checkpoint`` before the job's time is over, and queues that."""

    task: Task

    def __call__(self) -> dict[str, Any] | FusionError:
        return _tried(self.task)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _executor(folder: Path, jobs: int, options: Mapping[str, Any]) -> Any:
    import submitit

    given = dict(options)
    if "time" not in given:
        raise StudyError("launcher_options: expected the time of each run, got none; give time=MINUTES or time=H:MM:SS")
    numbers = _numbers({k: given.pop(k) for k in ("gpus", "cpus", "memory") if k in given}, SLURM_OPTIONS, "slurm")
    named: dict[str, Any] = {
        "name": "fusionconv", "timeout_min": minutes_of(given.pop("time")), "mem_gb": numbers.get("memory"),
        "gpus_per_node": int(numbers.get("gpus", 1)),
        "cpus_per_task": int(numbers["cpus"]) if "cpus" in numbers else None,
    }  # fmt: skip
    cluster = str(given.pop("executor", "slurm"))
    if jobs > 1:
        given.setdefault("array_parallelism", jobs)
    own = {name if name.startswith("slurm_") else f"slurm_{name}": value for name, value in given.items()}
    try:
        executor = submitit.AutoExecutor(folder=folder / "%j", cluster=cluster)
        executor.update_parameters(**named, **own)
    except RuntimeError as error:
        raise StudyError(
            f"launcher slurm: expected a machine from which jobs can be sent, got one without ({_first_line(error)}); "
            "start it on a login node, or give --launcher local"
        ) from error
    except (NameError, AssertionError, ValueError, TypeError) as error:
        raise StudyError(
            f"launcher_options: expected {', '.join(SLURM_OPTIONS)} or other parameters of submitit's Slurm executor, "
            f"got {', '.join(f'{k}={v}' for k, v in options.items())} ({_first_line(error)})"
        ) from error
    return executor


def minutes_of(said: Any) -> int:
    """Slurm's ways to say a time, in whole minutes: minutes, H:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS.

    Slurm reads 4:00 as four minutes and many people as four hours, so that it is refused.

    Raises:
        StudyError: another text, or no time at all.

    Example:
        >>> minutes_of(90), minutes_of("2:30:00"), minutes_of("1-12")
        (90, 150, 2160)
    """
    text = str(said).strip()
    match = re.fullmatch(r"(\d+)|(\d+):(\d\d):(\d\d)|(\d+)-(\d\d?)(?::(\d\d))?(?::(\d\d))?", text)
    if match is None or isinstance(said, bool):
        raise StudyError(f"launcher_options: expected time as minutes, H:MM:SS or D-HH:MM:SS, got {text}")
    minutes, hours, mins, secs, days, dhours, dmins, dsecs = (int(part or 0) for part in match.groups())
    seconds = 60 * (minutes + mins + dmins + 60 * (hours + dhours + 24 * days)) + secs + dsecs
    if not seconds:
        raise StudyError(f"launcher_options: expected some time for each run, got {text}")
    return -(-seconds // 60)


def _numbers(
    options: Mapping[str, Any], known: Mapping[str, str], launcher: str, numbers: Sequence[str] | None = None
) -> dict[str, Any]:
    """The options, those that are numbers as such."""
    if unknown := [name for name in options if name not in known]:
        raise StudyError(
            f"launcher_options: expected {', '.join(known)} with launcher {launcher}, got {', '.join(unknown)}"
        )
    given: dict[str, Any] = {}
    for name, value in options.items():
        if numbers is not None and name not in numbers:
            given[name] = str(value)
            continue
        try:
            given[name] = float(value) if not isinstance(value, bool) else -1.0
        except (TypeError, ValueError):
            given[name] = -1.0
        if not 0 <= given[name] < float("inf"):
            raise StudyError(f"launcher_options: expected a number from 0 for {name}, got {value!r}")
    return given
