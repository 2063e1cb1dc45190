"""Runs as independent tasks: parts, processes, clusters; killed and stopped. Runs are stand-ins, which count executions."""

import io
import json
import os
import shutil
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


# ---- processes that die ----

ROOT = Path(__file__).parents[2]


def started(out, call="t.go(out, jobs=1)"):
    """A process of its own that launches; its standard error is in OUT/stderr."""
    code = (  # a shell's background jobs ignore Ctrl-C, and so would what they start
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"import logging, tests.study.test_launch as t; logging.basicConfig(level='INFO'); out = {str(out)!r}; {call}"
    )
    with (Path(out) / "stderr").open("ab") as errors:
        return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=errors, start_new_session=True)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def order(out, run, what):
    path = Path(out) / f"{run.arm.name}-{run.fold}.{what}"
    path.touch()
    return path


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def pids(out):
    return {int(line.split()[2]) for line in (Path(out) / "executions").read_text().splitlines()}


def count(out):
    done = executions(out)
    return {name: done.count(name) for name in done}


@pytest.mark.parametrize("at", [0, 3, 5])
def test_sigkill_loses_at_most_the_run_in_progress(tmp_path, at):
    runs = plan(tmp_path)
    hold = order(tmp_path, runs[at], "hold")
    process = started(tmp_path)
    until(lambda: len(executions(tmp_path)) == at + 1)
    process.kill()
    process.wait()
    assert [run.done for run in runs] == [n < at for n in range(len(runs))]
    hold.unlink()  # the lock of the killed process is there, and harmless
    go(tmp_path, runs)
    assert all(run.done for run in runs)
    assert count(tmp_path) == {(r.arm.name, r.fold): 1 + (n == at) for n, r in enumerate(runs)}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_the_main_process_and_finished_runs_stay(tmp_path, how):
    runs = plan(tmp_path)
    holds = [order(tmp_path, runs[n], "hold") for n in (2, 4)]
    process = started(tmp_path, "t.go(out, jobs=2)")
    until(lambda: len(executions(tmp_path)) == 5)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)  # as a terminal does at Ctrl-C
    process.wait(120)  # a busy machine may take its time
    until(lambda: not any(alive(pid) for pid in pids(tmp_path)), 10)
    done = [run.done for run in runs]
    assert done == [True, True, False, True, False, False]
    if how == signal.SIGINT:
        assert "KeyboardInterrupt" in (tmp_path / "stderr").read_text()
        assert "Process SpawnProcess" not in (tmp_path / "stderr").read_text()
    for path in holds:
        path.unlink()
    assert len(go(tmp_path, runs)) == 6
    assert count(tmp_path) == {(r.arm.name, r.fold): 1 + (n in (2, 4)) for n, r in enumerate(runs)}


def test_a_killed_worker_is_replaced_and_takes_no_other_run_with_it(tmp_path, caplog):
    runs = plan(tmp_path)
    order(tmp_path, runs[1], "once")
    hold = order(tmp_path, runs[0], "hold")  # in progress while the other process is killed
    results = []
    for result in launch(runs, tmp_path, jobs=2, do=do_named, progress=False):
        results.append(result)
        if (result["arm"], result["fold"]) == ("arm1", "fold0"):
            hold.unlink()
    assert len(results) == len(runs)
    assert count(tmp_path) == {(r.arm.name, r.fold): 1 + (n == 1) for n, r in enumerate(runs)}
    assert len(pids(tmp_path)) == 3
    assert "arm1 fold0: its process was killed; the run is done again" in caplog.text


def test_a_worker_that_is_killed_each_time_is_an_error_that_names_the_run(tmp_path):
    runs = plan(tmp_path)
    order(tmp_path, runs[3], "die")
    with pytest.raises(StudyError, match=r"arm1 fold1: expected .* got it killed twice.*; give"):
        go(tmp_path, runs, jobs=2)
    assert count(tmp_path)["arm1", "fold1"] == 2
    assert all(run.done for run in runs[:2])


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_says_its_run_and_ends_the_others(tmp_path, jobs):
    runs = plan(tmp_path)
    order(tmp_path, runs[2], "fail")
    order(tmp_path, runs[3], "hold")
    with pytest.raises(StudyError, match=r"^arm0 fold1: expected a loss, got NaN$"):
        go(tmp_path, runs, jobs=jobs)
    assert [run.done for run in runs[2:]] == [False] * 4
    assert runs[1].done or jobs == 2  # with two, what was in progress is stopped
    assert not any(alive(pid) for pid in pids(tmp_path) - {os.getpid()})


def test_a_script_without_main_guard_is_told_so(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.study.test_launch import go\n"
                      f"go({str(tmp_path)!r}, jobs=2)\n")  # fmt: skip
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr.splitlines()[-1]
    assert not executions(tmp_path)


# ---- two processes, one run ----


def test_a_run_that_two_processes_were_given_is_done_once(tmp_path):
    runs = plan(tmp_path)
    hold = order(tmp_path, runs[0], "hold")
    both = [started(tmp_path), started(tmp_path)]
    until(lambda: executions(tmp_path))
    until(lambda: b"arm0 fold0: another process is doing this run; waiting" in (tmp_path / "stderr").read_bytes())
    assert len(executions(tmp_path)) == 1
    hold.unlink()
    assert [process.wait(60) for process in both] == [0, 0]
    assert count(tmp_path) == {(r.arm.name, r.fold): 1 for r in runs}


def test_the_second_goes_on_where_the_first_is_killed(tmp_path):
    runs = plan(tmp_path, 1, 1)
    hold = order(tmp_path, runs[0], "hold")
    first = started(tmp_path, "t.go(out, t.plan(out, 1, 1))")
    until(lambda: executions(tmp_path))
    second = started(tmp_path, "t.go(out, t.plan(out, 1, 1))")
    time.sleep(2)
    first.kill()
    until(lambda: len(executions(tmp_path)) == 2)
    hold.unlink()
    assert second.wait(60) == 0
    first.wait()
    assert runs[0].done


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_processes_that_train_one_run_together_do_not_wait_for_each_other(tmp_path, monkeypatch, name):
    run = plan(tmp_path)[0]

    def together():
        monkeypatch.setenv(name, "1")
        inner = once(run, lambda: {"key": "k", "who": "rank 1"})
        monkeypatch.delenv(name)
        return inner

    assert once(run, together) == {"key": "k", "who": "rank 1"}


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    run = plan(tmp_path)[0]
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StudyError, match=r"expected a folder that can be written, got .*; give another --out"):
        once(run, lambda: {})


# ---- what is asked ----


@pytest.mark.parametrize(
    ("launcher", "jobs", "options", "said"),
    [
        ("dask", 1, {}, r"launcher: expected local, ray or slurm, got 'dask'"),
        ("", 1, {}, r"launcher: expected"),
        ("local", 0, {}, r"jobs: expected a whole number from 1, got 0"),
        ("local", -2, {}, r"jobs: expected"),
        ("local", 1.5, {}, r"jobs: expected"),
        ("local", True, {}, r"jobs: expected"),
        ("local", "two", {}, r"jobs: expected"),
        ("local", 2, {"partition": "gpu"}, r"launcher_options: expected none with launcher local, got partition"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_any_run(tmp_path, launcher, jobs, options, said):
    with pytest.raises(StudyError, match=said):
        launch(plan(tmp_path), tmp_path, launcher, jobs, do=do_run, options=options)
    assert not executions(tmp_path)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_result_of_other_settings_is_refused(tmp_path, jobs):
    run = Toy(Named("arm0"), "fold0", 0, tmp_path / "runs/arm0/fold0", key="another table")
    with pytest.raises(
        StudyError, match=r"arm0 fold0: expected a result by the settings, rows and images of this study"
    ):
        go(tmp_path, [run], jobs=jobs)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_counts_runs_where_there_is_a_terminal(tmp_path, monkeypatch, progress, terminal):
    errors = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    list(launch(plan(tmp_path), tmp_path, do=do_run, progress=progress))
    assert ("6/6" in errors.getvalue()) == (progress and terminal)


def test_no_runs_start_nothing(tmp_path):
    for launcher in ("local", "ray", "slurm"):
        assert list(launch([], tmp_path, launcher, 2, do=do_named)) == []


# ---- a study ----


@pytest.mark.slow
def test_a_study_by_processes_and_parts_is_the_study(tmp_path, small):
    from fusionconv.study import Study

    arms, whole, cut = ["covariates", "hybrid@first"], tmp_path / "whole", tmp_path / "cut"
    Study(**small | {"epochs": 1}).compare(arms, out=whole, progress=False, report=False)
    Study(**small | {"epochs": 1}).compare(arms, out=cut, progress=False, report=False, part="1/2", jobs=2)
    assert sorted(p.name for p in cut.glob("runs/*/*")) == 2 * ["repeat0-fold0"]
    assert not (cut / "results.csv").exists()
    with pytest.raises(StudyError, match=r"overwrite: expected part 1/1, got 2/2"):
        Study(**small | {"epochs": 1}).compare(arms, out=cut, part="2/2", overwrite=True)
    before = {p: p.stat().st_mtime_ns for p in cut.glob("runs/*/*/result.json")}
    Study(**small | {"epochs": 1}).compare(arms, out=cut, progress=False, report=False, part="2/2")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    for name in ("results.csv", "predictions.csv", "comparisons.csv"):
        assert (whole / name).read_text() == (cut / name).read_text()


def test_a_second_machine_may_begin_before_the_first_has_written_its_study(tmp_path):
    from fusionconv.study.folder import claim

    for name in ("log.txt", ".write-0123"):
        (tmp_path / name).touch()
        claim(tmp_path, overwrite=False)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StudyError, match=r"out: expected a new folder or one of a comparison"):
        claim(tmp_path, overwrite=False)


# ---- Slurm, by submitit's executor for this machine ----


@pytest.fixture
def submitit():
    module = pytest.importorskip("submitit", reason="submitit (fusionconv[slurm]) is not installed")
    return module


def test_jobs_do_each_run_once(tmp_path, submitit):
    runs = plan(tmp_path, 2, 1)
    results = go(tmp_path, runs, launcher="slurm", time="0:05:00", executor="local", gpus=0, partition="any")
    assert {r["fold"] for r in results} == {"fold0", "fold1"}
    assert count(tmp_path) == {("arm0", "fold0"): 1, ("arm0", "fold1"): 1}
    assert os.getpid() not in pids(tmp_path)


def test_a_killed_job_is_sent_again_once(tmp_path, submitit, monkeypatch):
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    runs = plan(tmp_path, 2, 1)
    order(tmp_path, runs[0], "once")
    assert len(go(tmp_path, runs, launcher="slurm", time=5, executor="local", gpus=0)) == 2
    assert count(tmp_path) == {("arm0", "fold0"): 2, ("arm0", "fold1"): 1}
    runs = plan(tmp_path / "dies", 1, 1)
    (tmp_path / "dies").mkdir()
    order(tmp_path / "dies", runs[0], "die")
    with pytest.raises(StudyError, match=r"arm0 fold0: expected its process to end, got it killed each time"):
        go(tmp_path / "dies", runs, launcher="slurm", time=5, executor="local", gpus=0)
    assert count(tmp_path / "dies") == {("arm0", "fold0"): 2}


def test_a_job_s_error_is_the_run_s(tmp_path, submitit):
    runs = plan(tmp_path, 1, 1)
    order(tmp_path, runs[0], "fail")
    with pytest.raises(StudyError, match=r"^arm0 fold0: expected a loss, got NaN$"):
        go(tmp_path, runs, launcher="slurm", time=5, executor="debug", gpus=0)


def test_a_job_that_is_stopped_in_time_goes_on_later(tmp_path, submitit):
    from fusionconv.study.clusters import _Job
    from fusionconv.study.launch import Task

    job = _Job(Task(plan(tmp_path, 1, 1)[0], do_named, str(tmp_path), str(tmp_path)))
    queued = submitit.core.utils.DelayedSubmission(job)._checkpoint_function()
    assert queued is not None
    assert queued.function == job


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "expected the time of each run, got none"),
        ({"time": "4:00"}, "got 4:00"),
        ({"time": "soon"}, "got soon"),
        ({"time": 0}, "expected some time"),
        ({"time": True}, "got True"),
        ({"time": -5}, "got -5"),
        ({"time": 1.5}, "got 1.5"),
        ({"time": 5, "gpus": "two"}, "expected a number from 0 for gpus, got 'two'"),
        ({"time": 5, "gpus": -1}, "expected a number from 0 for gpus"),
        ({"time": 5, "memory": "nan"}, "expected a number from 0 for memory"),
        ({"time": 5, "colour": "red"}, "got .*time=5, colour=red"),
        ({"time": 5, "executor": "lsf"}, "got executor=lsf, time=5"),
    ],
)
def test_wrong_options_of_slurm_are_refused(tmp_path, submitit, options, said):
    with pytest.raises(StudyError, match=rf"^launcher_options: .*{said}"):
        go(tmp_path, launcher="slurm", **{"executor": "debug", **options})
    assert not executions(tmp_path)


@pytest.mark.skipif(shutil.which("srun") is not None, reason="there is Slurm")
def test_no_slurm_is_said(tmp_path, submitit):
    with pytest.raises(StudyError, match=r"launcher slurm: expected a machine from which jobs can be sent.*; start it"):
        go(tmp_path, launcher="slurm", time=5)


def test_what_slurm_is_asked(tmp_path, submitit, monkeypatch):
    from fusionconv.study.clusters import _executor

    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: f"/usr/bin/{name}")
    options = {"time": "1-02:30:00", "partition": "gpu", "gpus": 2, "cpus": 8, "memory": 32, "account": "lab"}
    executor = _executor(tmp_path, 4, options)
    text = executor._executor._make_submission_file_text("run", "0")
    for line in ("time=1590", "partition=gpu", "gpus-per-node=2", "cpus-per-task=8", "mem=32GB", "account=lab"):
        assert f"#SBATCH --{line}\n" in text
    assert executor._executor.parameters["array_parallelism"] == 4


@pytest.mark.parametrize(
    ("said", "minutes"),
    [(1, 1), ("90", 90), ("0:00:30", 1), ("2:30:00", 150), ("100:00:00", 6000), ("1-0", 1440), ("1-12", 2160), ("2-03:30", 3090),
     ("0-00:00:01", 1), ("1-00:00:59", 1441)],
)  # fmt: skip
def test_times_are_slurm_s(said, minutes):
    from fusionconv.study.clusters import minutes_of

    assert minutes_of(said) == minutes


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_a_launcher_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, launcher):
    for name in ("ray", "submitit", "submitit.core.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        StudyError, match=rf"launcher {launcher}: expected .* got none; pip install 'fusionconv\[{launcher}\]'"
    ):
        go(tmp_path, launcher=launcher)


# ---- Ray ----


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one processor each, as far as Ray is concerned."""
    pytest.importorskip("ray", reason="Ray (fusionconv[ray]) is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.mark.slow
def test_ray_does_a_killed_worker_s_run_elsewhere(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    runs = plan(tmp_path, 2, 2)
    order(tmp_path, runs[0], "once")
    holds = [order(tmp_path, runs[1], "hold")]  # on the other worker at that time
    results = []
    for result in launch(runs, tmp_path, "ray", do=do_named, progress=False):
        results.append((result["arm"], result["fold"]))
        if results[-1] == ("arm0", "fold0"):
            holds.pop().unlink()
    assert sorted(results) == sorted((r.arm.name, r.fold) for r in runs)
    assert count(tmp_path) == {(r.arm.name, r.fold): 1 + (n == 0) for n, r in enumerate(runs)}
    killed, done = [int(line.split()[2]) for line in (tmp_path / "executions").read_text().splitlines()
                    if line.startswith("arm0 fold0")]  # fmt: skip
    assert killed != done
    assert go(tmp_path, runs, launcher="ray")
    assert len(executions(tmp_path)) == 5


@pytest.mark.slow
def test_ray_s_errors_are_the_runs(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    runs = plan(tmp_path, 1, 2)
    order(tmp_path, runs[0], "fail")
    with pytest.raises(StudyError, match=r"^arm0 fold0: expected a loss, got NaN$"):
        go(tmp_path, runs, launcher="ray")
    (tmp_path / "dies").mkdir()
    dying = plan(tmp_path / "dies", 1, 1)
    order(tmp_path / "dies", dying[0], "die")
    with pytest.raises(StudyError, match=r"^arm0 fold0: expected its process to end, got it killed each time"):
        go(tmp_path / "dies", dying, launcher="ray", max_retries=1)
    assert count(tmp_path / "dies") == {("arm0", "fold0"): 2}
    with pytest.raises(StudyError, match=r"expected a run to fit into the cluster.*got 3 CPU for each run"):
        go(tmp_path, runs, launcher="ray", num_cpus=3)


@pytest.mark.slow
def test_ray_on_this_machine_alone(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray (fusionconv[ray]) is not installed")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    runs = plan(tmp_path, 1, 2)
    assert len(go(tmp_path, runs, launcher="ray", num_gpus=0)) == 2
    assert count(tmp_path) == {("arm0", "fold0"): 1, ("arm1", "fold0"): 1}
    import ray

    assert not ray.is_initialized()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus": 1}, "expected address, num_cpus, num_gpus, max_retries with launcher ray, got gpus"),
        ({"num_cpus": "many"}, "expected a number from 0 for num_cpus, got 'many'"),
        ({"num_gpus": -1}, "expected a number from 0 for num_gpus, got -1"),
    ],
)
def test_wrong_options_of_ray_are_refused(tmp_path, options, said):
    with pytest.raises(StudyError, match=said):
        go(tmp_path, launcher="ray", **options)
