"""python -m benchmarks.zoo: fuse_into tried on the networks of torchvision, timm, MONAI; docs/compatibility.md."""

from __future__ import annotations

import argparse
import gc
import importlib
import re
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.zoo.case import Case

LIBRARIES = ("torchvision", "timm", "monai")
PAGE = Path("docs/compatibility.md")

DESCRIPTION = """\
Fuse the first, a middle and the last convolution of every network in the catalogue and check the result against the
plain network (what is checked stands at the top of docs/compatibility.md). Results are appended to
FOLDER/results.jsonl; a network that stands there is skipped, so that a stopped sweep goes on where it was. At the end,
and with --table alone, docs/compatibility.md is written from the stored results.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.zoo                                        everything: about an hour on one core
  python -m benchmarks.zoo --only '^resnet' --library torchvision --output runs/zoo-resnets
  python -m benchmarks.zoo --only densenet --fresh                try these again
  python -m benchmarks.zoo --list                                 what the catalogue holds
  python -m benchmarks.zoo --table                                the page from stored results

The exit code is 1 if a network failed a check.
"""


def catalogue(libraries: list[str]) -> list[Case]:
    """The cases of ``libraries``, in turn, so that a sweep that stops has some of each; large networks last."""
    turns: list[tuple[bool, float, Case]] = []
    for name in libraries:
        cases = importlib.import_module(f"benchmarks.zoo.{name}_networks").cases()
        turns += [(case.large, i / len(cases), case) for i, case in enumerate(cases)]
    return [case for _, _, case in sorted(turns, key=lambda turn: turn[:2])]


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError inside the block after ``seconds`` of this process's time (where the system can tell)."""
    if not hasattr(signal, "SIGPROF"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def run(case: Case, seconds: int) -> dict[str, Any]:
    """Check one network within a time limit."""
    from benchmarks.zoo.checks import check

    started = time.process_time()
    try:
        with time_limit(seconds):
            return check(case)
    except (TimeoutError, MemoryError) as error:
        record = {"library": case.library, "group": case.group, "name": case.name, "note": case.note}
        return record | {
            "status": "error",
            "reason": f"{type(error).__name__}: {error}",
            "passed": [],
            "layers": [],
            "figures": {},
            "remarks": [],
            "seconds": round(time.process_time() - started, 1),
        }
    finally:
        gc.collect()


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.zoo", None, DESCRIPTION, EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", action="append", choices=LIBRARIES, help="only this library (may be repeated)")
    parser.add_argument("--only", metavar="REGEX", default="", help="only networks whose name matches")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=Path("runs/zoo"), help="default: runs/zoo")
    parser.add_argument("--fresh", action="store_true", help="try again what is stored already")
    parser.add_argument(
        "--timeout", type=int, metavar="S", default=900, help="processor seconds for one network (default 900)"
    )
    parser.add_argument("--list", action="store_true", help="list the networks and stop")
    parser.add_argument("--table", action="store_true", help="only write the page from the stored results")
    parser.add_argument("--page", metavar="FILE", type=Path, default=PAGE, help=f"default: {PAGE}")
    options = parser.parse_args(argv)

    from benchmarks.zoo.store import append, read
    from benchmarks.zoo.table import page

    try:
        pattern = re.compile(options.only)
    except re.error as error:
        parser.error(f"--only must be a regular expression, got {options.only!r} ({error})")
    cases = catalogue(options.library or list(LIBRARIES))
    chosen = [case for case in cases if pattern.search(case.name)]
    if not chosen:
        parser.error(f"--only {options.only!r} matches none of the {len(cases)} networks; --list lists them")
    if options.list:
        print("\n".join(case.key for case in chosen))
        return 0
    if not options.table:
        _sweep(chosen, options.output, options.fresh, options.timeout, append, read)
    stored = read(options.output)
    everything = catalogue(list(LIBRARIES))
    records = [stored[case.key] for case in sorted(everything, key=_place) if case.key in stored]
    if not records:
        parser.error(f"{options.output} holds no results yet; run without --table first")
    missing = [case.key for case in everything if case.key not in stored]
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(page(records, missing), encoding="utf-8")
    print(f"wrote {options.page}: {len(records)} of {len(everything)} networks have a result")
    failed = [case.key for case in chosen if stored.get(case.key, {}).get("status") == "fail"]
    print(f"failed: {', '.join(failed)}" if failed else "no network failed a check")
    return 1 if failed else 0


def _place(case: Case) -> tuple[int, str, str]:
    return LIBRARIES.index(case.library), case.group, case.name


def _sweep(chosen: list[Case], folder: Path, fresh: bool, seconds: int, append: Any, read: Any) -> None:
    import torch
    from tqdm import tqdm

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # other libraries' notes on their own networks
    done = {} if fresh else read(folder)
    bar = tqdm([case for case in chosen if case.key not in done], unit="network", disable=None)
    for case in bar:
        bar.set_description(case.name)
        record = run(case, seconds)
        append(folder, record)
        if record["status"] != "pass":
            tqdm.write(f"{record['status']}: {case.key}: {record['reason']}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
