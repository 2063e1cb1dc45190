"""in_processes: tasks in worker processes of this machine; a process that dies takes no other with it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from fusionconv.errors import StudyError

if TYPE_CHECKING:
    from fusionconv.study.launch import Task
    from fusionconv.study.runs import Run

__all__ = ["in_processes"]

log = logging.getLogger("fusionconv.study")


def in_processes(tasks: Sequence[Task], jobs: int) -> Generator[tuple[Run, dict[str, Any]]]:
    """Do the tasks, ``jobs`` at the same time; yields each result as it ends.

    A task whose process is killed is done again, once. When one fails, or at Ctrl-C, the processes are stopped: runs
    that are finished are whole, the others go on from their last epoch next time.

    Raises:
        StudyError: a task's process was killed twice, or no process can be started. What a task raises.
    """
    waiting, again = deque(tasks), set[str]()
    slots = [_Slot(number, jobs) for number in range(min(jobs, len(tasks)))]
    running: dict[Future[dict[str, Any]], tuple[_Slot, Task]] = {}
    try:
        while waiting or running:
            busy = [slot for slot, _ in running.values()]
            for slot in slots:
                if waiting and slot not in busy:
                    task = waiting.popleft()
                    running[slot.start(task)] = (slot, task)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, task = running.pop(future)
                name = task.run.name
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    slot.renew()
                    if name in again:
                        raise StudyError(
                            f"{name}: expected its process to end, got it killed twice, as when memory is short; give "
                            "fewer --jobs or a smaller --batch-size (what is finished is kept)"
                        ) from error
                    again.add(name)
                    log.warning("%s: its process was killed; the run is done again", name)
                    waiting.appendleft(task)
                else:
                    yield task.run, result
    finally:
        for slot in slots:
            slot.stop()


class _Slot:
    """Place for one worker process, which does one task after another; a new one takes the place of one that died."""

    def __init__(self, number: int, jobs: int) -> None:
        self.number, self.jobs = number, jobs
        self.pool: ProcessPoolExecutor | None = None
        self.ours: Connection | None = None
        self.ready: Future[int] | None = None

    def start(self, task: Task) -> Future[dict[str, Any]]:
        if self.pool is None:
            context = multiprocessing.get_context("spawn")
            theirs, self.ours = context.Pipe(duplex=False)
            self.pool = ProcessPoolExecutor(1, context, _begin, (theirs, _device(self.number), _threads(self.jobs)))
            self.ready = self.pool.submit(os.getpid)
            theirs_is_sent = self.pool.submit(task)
            theirs.close()
            return theirs_is_sent
        return self.pool.submit(task)

    def renew(self) -> None:
        """The process died. One that never began will not begin the next time either."""
        began = self.ready is not None and self.ready.done() and self.ready.exception() is None
        self.stop()
        if not began:
            raise StudyError(
                "jobs: expected worker processes to start, got one that died at its start (its message is above); a "
                "script of your own needs `if __name__ == '__main__':` around what it does, or give --jobs 1"
            )

    def stop(self) -> None:
        """End the process at once, whatever it does."""
        if self.pool is not None:
            assert self.ours is not None
            self.ours.close()
            self.pool.shutdown(wait=True, cancel_futures=True)
        self.pool = self.ours = self.ready = None


def _begin(theirs: Connection, device: str | None, threads: int) -> None:
    """In the worker: end when the other end of the pipe is closed, as it is when the main process dies."""

    def watch() -> None:
        try:
            theirs.recv_bytes()
        finally:
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends the others
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is imported


def _threads(jobs: int) -> int:
    """Of each process, so that together they have as many as there are cores."""
    return max(1, (os.cpu_count() or 1) // jobs)


def _device(number: int) -> str | None:
    """The GPU of a slot, where there are several: each process sees one."""
    if "torch" not in sys.modules:
        return None
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))
    names = visible.split(",")
    return names[number % len(names)]
