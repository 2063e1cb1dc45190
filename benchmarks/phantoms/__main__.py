"""python -m benchmarks.phantoms: every way to fuse on six tasks with known answers; docs/results/phantoms.md."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.phantoms.training import Budget, Setting

PAGE = Path("docs/results/phantoms.md")

DESCRIPTION = """\
Train every method at every position on the phantoms (benchmarks/phantoms/tasks.py) and compare it with the best that
can be reached. Results are appended to DIR/results-1.jsonl; a setting that stands there is skipped, so that a run that
was stopped goes on where it was. At the end, and with --table alone, the page and its figures are written from the
stored results: docs/results/phantoms.md for the full form, DIR/phantoms.md for the quick one.
"""
EXAMPLES = """\
examples:
  python -m benchmarks.phantoms --quick                     a few arms, two seeds: 2.5 minutes on a slow core
  python -m benchmarks.phantoms                             everything, one thread: about 50 minutes of processor time
  python -m benchmarks.phantoms --part 1/2 & python -m benchmarks.phantoms --part 2/2      the same on two cores
  python -m benchmarks.phantoms --only 'selection 2-D, (hybrid|film)' --out runs/trial
  python -m benchmarks.phantoms --table                     the page from stored results
"""


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.phantoms",
        None,
        DESCRIPTION,
        EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the quick form")
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: runs/phantoms, or runs/phantoms-quick")
    parser.add_argument("--seeds", metavar="N", type=int, help="networks of each setting (default 5; quick: 2)")
    parser.add_argument(
        "--steps", metavar="N", type=int, help="Adam steps; selection takes 10/3 of them (default 300; quick: 150)"
    )
    parser.add_argument(
        "--covariate-lr", choices=("scaled", "rows", "same"), default="scaled",
        help="rate of the covariate parameters (default scaled: that of fusionconv.param_groups)",
    )  # fmt: skip
    parser.add_argument(
        "--covariate-decay", metavar="X", type=float, default=0.0, help="their weight decay (default 0)"
    )
    parser.add_argument("--part", metavar="k/n", default="1/1", help="every n-th setting from the k-th on")
    parser.add_argument("--only", metavar="REGEX", default="", help="only settings whose name matches; see --list")
    parser.add_argument("--list", action="store_true", help="list the settings and stop")
    parser.add_argument("--table", action="store_true", help="only write the page from the stored results")
    parser.add_argument("--page", metavar="FILE", type=Path, help="where the page goes")
    options = parser.parse_args(argv)

    found = re.fullmatch(r"(\d+)/(\d+)", options.part)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        parser.error(f"--part must be k/n with 1 <= k <= n, such as 1/2, got {options.part!r}")
    part, parts = int(found[1]), int(found[2])
    for name in ("seeds", "steps"):
        value, least = getattr(options, name), {"seeds": 2, "steps": 1}[name]
        if value is not None and value < least:
            parser.error(
                f"--{name} must be at least {least}, got {value}" + "; an interval needs two" * (name == "seeds")
            )

    from benchmarks.phantoms import plan
    from benchmarks.phantoms.page import write
    from benchmarks.phantoms.store import read

    budget = plan.QUICK if options.quick else plan.FULL
    if options.seeds:
        budget = replace(budget, seeds=options.seeds)
    if options.steps:
        budget = replace(budget, steps=options.steps, steps_selection=10 * options.steps // 3)
    budget = replace(budget, covariate_lr=options.covariate_lr, covariate_decay=options.covariate_decay)
    everything = plan.quick() if options.quick else plan.full()
    try:
        chosen = [setting for setting in everything if re.search(options.only, setting.key)]
    except re.error as error:
        parser.error(f"--only must be a regular expression, got {options.only!r} ({error})")
    if not chosen:
        parser.error(f"--only {options.only!r} matches none of the {len(everything)} settings; --list lists them")
    if options.list:
        print("\n".join(setting.key for setting in chosen))
        return 0
    folder = options.out or Path("runs/phantoms-quick" if options.quick else "runs/phantoms")
    if not options.table:
        _run(chosen[part - 1 :: parts], budget, folder, part)
    stored = read(folder)
    records = [stored[setting.key] for setting in everything if setting.key in stored]
    if not records:
        parser.error(f"{folder} holds no results yet; run without --table first")
    page = options.page or (folder / "phantoms.md" if options.quick else PAGE)
    missing = [setting.key for setting in everything if setting.key not in stored]
    write(page, records, "python -m benchmarks.phantoms" + " --quick" * options.quick, missing)
    print(f"wrote {page}: {len(records)} of {len(everything)} settings have a result")
    return 0


def _run(chosen: list[Setting], budget: Budget, folder: Path, part: int) -> None:
    """Train what has no result yet, one setting after the other."""
    import torch
    from tqdm import tqdm

    from benchmarks.phantoms.plan import work
    from benchmarks.phantoms.store import append, read
    from benchmarks.phantoms.training import train

    torch.set_num_threads(1)  # the networks are too small to share
    done = read(folder)
    for record in done.values():
        for name in ("seeds", "covariate_lr", "covariate_decay"):
            if record.get(name) != getattr(budget, name):
                raise SystemExit(
                    f"{folder} holds results of {name} {record.get(name)}, this run has {getattr(budget, name)}; give "
                    "another --out"
                )
    todo = [setting for setting in chosen if setting.key not in done]
    layout = "{percentage:3.0f}% |{bar}| {elapsed}, {remaining} left, {desc}"
    with tqdm(total=sum(work(s, budget) for s in todo), bar_format=layout, disable=None) as bar:
        for setting in todo:
            bar.set_description_str(setting.key)
            append(folder, part, train(setting, budget))
            bar.update(work(setting, budget))


if __name__ == "__main__":
    sys.exit(main())
