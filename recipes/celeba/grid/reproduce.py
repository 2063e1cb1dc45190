"""The command reproduce: every row of the study's table, both modes, several seeds; a stopped grid goes on."""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from pathlib import Path
from typing import Any

from recipes.celeba.grid.plan import (
    MODES,
    Run,
    Settings,
    choose_rows,
    claim,
    cut,
    duration,
    every_result,
    make_runs,
    read_result,
    read_splits,
    seconds_per_cost,
    table,
)
from recipes.common.runs import RunError

EXAMPLES = """
examples:
  reproduce --root DIR --dry-run                      what would be run, from the two tables alone
  reproduce --root DIR --rows matched --seeds 3 --budget-hours 8
  CUDA_VISIBLE_DEVICES=2 ... reproduce --root DIR --part 3/8     an eighth on the third GPU; one --out for all parts
  reproduce --root DIR --image-size 64 --classifier-width 512 --weights vgg16.pt --limit 2000       a small machine
The same command again goes on where it was stopped, also after a kill. Finished runs are skipped.
"""


def main(argv: list[str]) -> None:
    """Plan and run. Exit code 1 when a run failed."""
    options = _options(argv)
    rows = choose_rows(options.rows)
    counts, digest = read_splits(options.root, options.limit)
    settings = Settings(
        image_size=options.image_size, weights=_named(options.weights), classifier_width=options.classifier_width,
        epochs=options.epochs, lr_scale=options.lr_scale, limit=options.limit, precision=options.precision,
        options={key: value for key, value in options.set.items() if not key.startswith(WITHOUT_EFFECT)},
        train_images=counts["train"], valid_images=counts["valid"], test_images=counts["test"], data=digest,
    )  # fmt: skip
    runs = make_runs(rows, options.modes, range(options.seeds), settings, options.control_seeds)
    if not runs:
        raise RunError(
            f"no run: none of the rows {', '.join(rows)} is run in the mode {' or '.join(options.modes)}. Rows of the "
            "group `controls` are corrected only."
        )
    runs = cut(runs, *options.part)
    if not runs:
        print(f"Part {options.part[0]} of {options.part[1]} has no run: there are fewer runs than parts.")
        return
    out: Path = options.out
    claim(out, settings, write=not options.dry_run)
    results = {run.name: result for run in runs if (result := read_result(out, run))}
    if options.retry_failed:
        results = {name: result for name, result in results.items() if result["status"] == "finished"}
    print(
        f"{out}: images {counts}; {settings.image_size} px, weights {settings.weights}, "
        f"part {options.part[0]} of {options.part[1]}"
    )
    print(table(runs, results, seconds_per_cost(every_result(out))), flush=True)
    if not options.dry_run:
        failed = work(runs, results, settings, options)
        if failed:
            print(f"{len(failed)} runs failed:")
            for name, result in failed.items():
                print(f"  {name}: {result['reason']}")
            print("They are skipped from now on; --retry-failed tries them again.")
            raise SystemExit(1)


def work(
    runs: list[Run], results: dict[str, dict[str, Any]], settings: Settings, options: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Do the runs that have no result yet, as long as the budget lasts; returns the failed ones."""
    from recipes.celeba.data import CelebAData  # these bring Lightning: after the plan is printed
    from recipes.celeba.grid.controls import write_covariates_only
    from recipes.celeba.grid.one_run import Place, collect, do_run, speed_of

    started, out = time.perf_counter(), options.out
    data = {"root": str(options.root), "image_size": settings.image_size, "limit": settings.limit}
    data["on_error"] = settings.options.get("data.on_error", "fail")
    for stage in ("fit", "test"):  # half a set stops the grid here, not each of its runs
        CelebAData(**data).setup(stage)
    sets = sorted({run.row.covariates for run in runs if run.row.arm != "plain" and run.row.constant is None})
    write_covariates_only(out, sets, data)
    place = Place(out, options.root, options.weights, options.workers, options.keep, options.set)
    for number, run in enumerate(runs, start=1):
        if run.name in results:
            continue
        speed = seconds_per_cost(every_result(out))
        left = sum(other.cost for other in runs if other.name not in results)
        spent = time.perf_counter() - started
        if options.budget_hours is not None and spent + (speed or 0.0) * run.cost > 3600 * options.budget_hours:
            print(f"\nThe budget of {options.budget_hours:g} hours is used up: {run.name} would take about "
                  f"{duration(speed * run.cost if speed else None)}, and {duration(spent)} are gone.")  # fmt: skip
            break
        about, in_all = (duration(speed * cost if speed else None) for cost in (run.cost, left))
        print(f"\n=== run {number} of {len(runs)}: {run.name}, {run.steps:,d} steps", flush=True)
        print(f"    time for it: {about}; for all that is left: {in_all}", flush=True)
        results[run.name] = do_run(run, settings, place)
        result = results[run.name]
        collect(out)
        if result["status"] == "failed":
            print(f"=== failed: {result['reason']}")
    collect(out)
    rate = speed_of(list(results.values()))
    to_do = sum(run.name not in results for run in runs)
    print(f"\n{len(runs) - to_do} of {len(runs)} runs have a result, {to_do} are to do; {rate:.1f} training images/s")
    print(f"Table: {out / 'results.csv'}")
    return {name: result for name, result in results.items() if result["status"] == "failed"}


def _named(weights: str) -> str:
    """A file of weights by its name and contents: where it lies is not a setting."""
    if weights in ("imagenet", "none"):
        return weights
    with Path(weights).open("rb") as file:
        return f"{Path(weights).name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected K/N with 1 <= K <= N, such as 3/8, came {text!r}")
    return int(found[1]), int(found[2])


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or key.startswith("-"):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, such as model.strategy=grouped, came {text!r}")
    return key, value


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, came {text!r}")
    return int(text)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.celeba reproduce",
        description="Run the study's table: each row as published and corrected, with several seeds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder that holds celeba/ (or is it)")
    add("--out", type=Path, default=Path("runs/grid"), help="folder of the grid (%(default)s)")
    add("--rows", nargs="+", default=["all"], help="all, matched, groups or names of rows, see --dry-run (all)")
    add("--modes", nargs="+", choices=MODES, default=list(MODES), help="(both)")
    add("--seeds", type=_count, default=5, help="how many: 0, 1, ... (%(default)s)")
    add("--part", type=_part, default=(1, 1), metavar="K/N", help="only the K-th of N parts of like cost")
    add(
        "--budget-hours",
        type=float,
        help="of this call; start no run that would end later (the first is begun in any case)",
    )
    add("--dry-run", action="store_true", help="print the plan and stop; reads the two tables only")
    add("--retry-failed", action="store_true", help="try runs again that have failed")
    add("--image-size", type=_count, default=224, help="pixels (%(default)s, the study's)")
    add("--weights", default="imagenet", help="imagenet, none or a file, as for fit (%(default)s)")
    add("--classifier-width", type=_count, default=4096, help="of the hidden Linear layers (%(default)s, VGG16's)")
    add("--epochs", type=_count, default=1, help="(%(default)s, the study's)")
    add("--lr-scale", type=float, default=1.0, help="every row's rate times this, for short runs on few images (1)")
    add("--control-seeds", type=_count, help="exchange covariates at test only in the first so many seeds (all)")
    add("--limit", type=_count, help="only the first so many images of each split")
    add("--precision", default="32-true", help="Lightning's: 32-true, bf16-mixed, ... (%(default)s)")
    add("--workers", type=int, help="processes that decode images (up to 8, one per core)")
    add("--keep", choices=["all", "best", "none"], default="best",
        help="checkpoints of finished runs: best keeps the weights of the best one (%(default)s)")  # fmt: skip
    add("--set", type=_setting, nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="more options for every fit, such as trainer.accelerator=cpu; settings of the grid too")  # fmt: skip
    options = parser.parse_args(argv)
    options.set = dict(options.set)
    taken = [key for key in options.set if key in RESERVED or key.startswith("trainer.limit_")]
    if taken:
        raise RunError(
            f"--set {taken[0]}: reproduce sets this itself ({RESERVED.get(taken[0], '--limit')}); a row is what its "
            "YAML says."
        )
    if options.weights not in ("imagenet", "none") and not Path(options.weights).is_file():
        raise RunError(f"--weights should be imagenet, none or a file, and {options.weights!r} is no file.")
    return options


# What changes no figure may differ from one call to the next.
WITHOUT_EFFECT = ("trainer.enable_", "save_every_minutes")

RESERVED = {
    "experiment": "the run's name", "root_dir": "--out", "config": "the row", "seed_everything": "--seeds",
    "resume": "by itself", "overwrite": "by itself", "ckpt_path": "by itself",
    "model.arm": "the row", "model.mode": "--modes", "model.lr": "the row and --lr-scale", "model.layer_idx": "the row",
    "model.method": "the row", "model.method_options": "the row", "model.weights": "--weights",
    "model.classifier_width": "--classifier-width", "data.batch_size": "the row", "data.covariates": "the row",
    "data.constant": "the row", "data.target": "the study", "data.root": "--root", "data.limit": "--limit",
    "data.image_size": "--image-size", "data.num_workers": "--workers", "trainer.max_epochs": "--epochs",
    "trainer.precision": "--precision", "trainer.devices": "one; cut the grid with --part",
    "trainer.max_steps": "--epochs", "trainer.min_epochs": "--epochs", "trainer.overfit_batches": "--limit",
    "trainer.accumulate_grad_batches": "the row's batch size", "trainer.fast_dev_run": "--limit",
    "data.fold": "the official split", "data.folds": "the official split",
    "trainer": "give its keys one by one", "model": "give its keys one by one", "data": "give its keys one by one",
}  # fmt: skip
